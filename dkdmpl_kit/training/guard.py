"""A guard without truth: which state of a training to keep, its start among them.

What it looks at are pictures that are held out of the training, as many as a fifth of all:
what trains makes its own pictures agree with its labels, right or wrong, and only others
tell. A state is kept whose `across` and whose `mixing` (`noise.evidence`) surely rose there,
else the start is. Both need cameras: without them no criterion that was measured told good
trainings from bad ones (docs/adapt.md, "What the guard watches"), and the start is kept.
`stability` and `mutual` are recorded and decide nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise.evidence import Evidence, compare

HELD_OUT = 0.2  # of the pictures, and no more than
MOST_HELD_OUT = 1000
WITHOUT_CAMERAS = (
    "fewer than two cameras are known, and without them nothing tells whether a training "
    "helped; the trained encoder is the run in runs/training"
)
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
    and 95 % interval. mixed: mixing surely rose. better: that, and across surely rose.
    worse: across surely fell. Without known cameras none of the three.
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
    start, *later = found
    states = [judged_state(0, start.means(), {})]
    for epoch, now in enumerate(later, 1):
        means = now.means()
        changes = {
            name: compare(getattr(now, name), getattr(start, name))
            for name, value in means.items()
            if value is not None
        }
        states.append(judged_state(epoch, means, changes))
    return tuple(states)


def judged_state(
    epoch: int,
    means: dict[str, float | None],
    changes: dict[str, tuple[float, float, float]],
) -> StateJudged:
    """The state after `epoch` epochs by its means and their changes (mean, low, high): the
    guard's rule.
    """
    unknown = (0.0, 0.0, 0.0)  # the start itself, or no known cameras
    mixed = changes.get("mixing", unknown)[1] > 0
    _, low, high = changes.get("across", unknown)
    return StateJudged(epoch, means, changes, mixed, better=mixed and low > 0, worse=high < 0)


def hopeless(states: Sequence[StateJudged]) -> bool:
    """Whether to stop: the last three states are surely worse than the start."""
    last = states[1:][-WORSE_IN_A_ROW:]
    return len(last) == WORSE_IN_A_ROW and all(state.worse for state in last)


def verdict(states: Sequence[StateJudged]) -> Verdict:
    """The state to keep: where one is surely better than the start, the last one whose
    `across` lies within the interval of the best of these, else the start.
    """
    start, epochs = states[0].means, states[-1].epoch
    if epochs == 0:
        return Verdict(0, "Kept the start: nothing was trained.", tuple(states))
    if start["across"] is None:
        return Verdict(0, f"Kept the start: {WITHOUT_CAMERAS}.", tuple(states))
    better = [state for state in states if state.better]
    best = max(better or states[1:], key=lambda state: state.means["across"])
    # of states that cannot be told apart the last one: the rate has fallen the furthest
    level = start["across"] + best.changes["across"][1]
    for state in states[1:] if better else ():
        if state.mixed and state.means["across"] >= level:
            best = state
    rises = " and ".join(
        f"{name} goes from {start[name]:.3f} to {best.means[name]:.3f} (change "
        f"{best.changes[name][1]:+.3f} to {best.changes[name][2]:+.3f})"
        for name in ("across", "mixing")
    )
    if better:
        said = f"Kept the encoder after epoch {best.epoch} of {epochs}: on pictures held out of the"
        return Verdict(best.epoch, f"{said} training {rises}.", tuple(states))
    said = f"Kept the start: no epoch of {epochs} is surely better across cameras; on pictures held"
    sentence = f"{said} out of the training, in epoch {best.epoch}, {rises}."
    return Verdict(0, sentence, tuple(states))
