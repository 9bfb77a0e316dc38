"""A guard without truth: which state of a training to keep, its start among them.

What it looks at are pictures that are held out of the training, as many as a fifth of all:
what trains makes its own pictures agree with its labels, right or wrong, and only others
tell. A state is kept where its `stability` (`noise.evidence`) rose there by a clear margin
and, where cameras are known, its `mixing` surely rose, else the start is. Criteria and
margins come from measurements (docs/adapt.md, "What the guard watches"). `across` and
`mutual` are recorded and decide nothing: they rose where cameras or makes of vehicles
were learnt as one, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise.evidence import Evidence, compare

HELD_OUT = 0.2  # of the pictures, and no more than
MOST_HELD_OUT = 1000
MARGIN = 0.15  # of the start's stability, by which it must rise at least, surely
WORSE_IN_A_ROW = 3  # states surely worse than the start, after which training is stopped


def held_out(labels: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """(N,) bool: the pictures to hold out, by the start's pseudo labels (N,), -1 for
    outliers.

    Whole clusters, and outliers one by one, drawn until a fifth of the pictures or 1,000
    are held out: a picture of a known cluster would be judged with its mates in training.
    """
    labels = np.asarray(labels)
    alone = labels.max(initial=-1) + 1 + np.arange(len(labels))
    groups = np.unique(np.where(labels < 0, alone, labels), return_inverse=True)[1]
    wanted = min(HELD_OUT * len(labels), MOST_HELD_OUT)
    drawn = np.random.default_rng(seed).permutation(groups.max(initial=-1) + 1)
    sizes = np.bincount(groups)[drawn]
    chosen = drawn[np.cumsum(sizes) <= wanted]
    return np.isin(groups, chosen)


@dataclass(frozen=True)
class StateJudged:
    """One state against the start. changes: {criterion: (mean, low, high)}, its change
    and 95 % interval. mixed: mixing surely rose, or cameras are unknown. better: that,
    and stability surely rose by `MARGIN`. worse: stability surely fell.
    """

    epoch: int
    means: dict[str, float | None]
    changes: dict[str, tuple[float, float, float]]
    mixed: bool
    better: bool
    worse: bool


@dataclass(frozen=True)
class Verdict:
    """epoch: the state to keep, as the number of epochs it was trained; 0: the start.
    sentence: which and why. judged: every state, in order.
    """

    epoch: int
    sentence: str
    judged: tuple[StateJudged, ...]

    def record(self) -> dict:
        """For a file."""
        states = [vars(state) for state in self.judged]
        return {"chosen_epoch": self.epoch, "why": self.sentence, "states": states}


def judged(found: Sequence[Evidence]) -> tuple[StateJudged, ...]:
    """Each state's evidence against that of the first one, the start."""
    if not found:
        raise KitError("The guard needs the evidence of the start at least.")
    return tuple(_judged(epoch, now, found[0]) for epoch, now in enumerate(found))


def _judged(epoch: int, now: Evidence, start: Evidence) -> StateJudged:
    means = now.means()
    if epoch == 0:
        return StateJudged(0, means, {}, mixed=True, better=False, worse=False)
    changes = {
        name: compare(getattr(now, name), getattr(start, name))
        for name, value in means.items()
        if value is not None
    }
    _, low, high = changes["stability"]
    before = start.means()
    mixed = "mixing" not in changes or changes["mixing"][1] > 0
    better = mixed and low > MARGIN * before["stability"]
    return StateJudged(epoch, means, changes, mixed, better, worse=high < 0)


def hopeless(states: Sequence[StateJudged]) -> bool:
    """Whether to stop: the last three states are surely worse than the start."""
    last = states[1:][-WORSE_IN_A_ROW:]
    return len(last) == WORSE_IN_A_ROW and all(state.worse for state in last)


def verdict(states: Sequence[StateJudged]) -> Verdict:
    """The state to keep: where one is surely better than the start, the last one whose
    stability lies within the interval of the most stable of these, else the start.
    """
    if len(states) == 1:
        return Verdict(0, "Kept the start: nothing was trained.", tuple(states))
    better = [state for state in states if state.better]
    epochs = states[-1].epoch
    best = max(better or states[1:], key=lambda state: state.means["stability"])
    before = states[0].means["stability"]
    # of states that cannot be told apart the last one: the rate has fallen the furthest
    level = before + best.changes["stability"][1]
    for state in states[1:] if better else ():
        if state.mixed and state.means["stability"] >= level:
            best = state
    mean, low, high = best.changes["stability"]
    rise = (
        f"stability goes from {before:.3f} to {before + mean:.3f} (change {low:+.3f} to "
        f"{high:+.3f})"
    )
    if better:
        sentence = (
            f"Kept the encoder after epoch {best.epoch} of {epochs}: on pictures held out of "
            f"the training {rise}."
        )
        return Verdict(best.epoch, sentence, tuple(states))
    sentence = (
        f"Kept the start: no epoch of {epochs} is surely more stable by {MARGIN:.0%} on pictures "
        f"held out of the training; in the best one, epoch {best.epoch}, {rise}"
    )
    if low > MARGIN * before:
        mixed = states[0].means["mixing"], best.means["mixing"]
        sentence += f", but mixing does not surely rise ({mixed[0]:.3f} to {mixed[1]:.3f})"
    return Verdict(0, sentence + ".", tuple(states))
