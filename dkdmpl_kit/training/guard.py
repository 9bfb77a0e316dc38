"""A guard without truth: which state of a training to keep, its start among them.

What it looks at are pictures that are held out of the training, as many as a fifth of all:
what trains makes its own pictures agree with its labels, right or wrong, and only others
tell. Where cameras are known, a state is kept whose `across` and whose `mixing`
(`noise.evidence`) surely rose there; where they are not, one whose `stability` rose by a
clear margin; else the start is. Criteria and margin come from measurements (docs/adapt.md,
"What the guard watches"). `mutual` is recorded and decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise.evidence import Evidence, compare

HELD_OUT = 0.2  # of the pictures, and no more than
MOST_HELD_OUT = 1000
MARGIN = 0.15  # of the start's stability: its least sure rise where cameras are unknown
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
    and 95 % interval. criterion: which one judges, "across" where cameras are known, else
    "stability". mixed: mixing surely rose, or cameras are unknown. better: that, and the
    criterion surely rose, stability by `MARGIN`. worse: the criterion surely fell.
    """

    epoch: int
    means: dict[str, float | None]
    changes: dict[str, tuple[float, float, float]]
    criterion: str
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
    before = start.means()
    states = [judged_state(0, before, {}, before)]
    for epoch, now in enumerate(later, 1):
        means = now.means()
        changes = {
            name: compare(getattr(now, name), getattr(start, name))
            for name, value in means.items()
            if value is not None
        }
        states.append(judged_state(epoch, means, changes, before))
    return tuple(states)


def judged_state(
    epoch: int,
    means: dict[str, float | None],
    changes: dict[str, tuple[float, float, float]],
    start: dict[str, float | None],
) -> StateJudged:
    """The state after `epoch` epochs by its means, their changes (mean, low, high) and the
    start's means: the guard's rule.
    """
    criterion = "stability" if start["across"] is None else "across"
    if epoch == 0:
        return StateJudged(
            0, means, changes, criterion, mixed=True, better=False, worse=False
        )
    _, low, high = changes[criterion]
    least = MARGIN * start["stability"] if criterion == "stability" else 0
    mixed = "mixing" not in changes or changes["mixing"][1] > 0
    better = mixed and low > least
    return StateJudged(epoch, means, changes, criterion, mixed, better, worse=high < 0)


def hopeless(states: Sequence[StateJudged]) -> bool:
    """Whether to stop: the last three states are surely worse than the start."""
    last = states[1:][-WORSE_IN_A_ROW:]
    return len(last) == WORSE_IN_A_ROW and all(state.worse for state in last)


def verdict(states: Sequence[StateJudged]) -> Verdict:
    """The state to keep: where one is surely better than the start, the last one whose
    criterion lies within the interval of the best of these, else the start.
    """
    if len(states) == 1:
        return Verdict(0, "Kept the start: nothing was trained.", tuple(states))
    start, name = states[0], states[0].criterion
    better = [state for state in states if state.better]
    best = max(better or states[1:], key=lambda state: state.means[name])
    # of states that cannot be told apart the last one: the rate has fallen the furthest
    level = start.means[name] + best.changes[name][1]
    for state in states[1:] if better else ():
        if state.mixed and state.means[name] >= level:
            best = state
    rises = " and ".join(
        f"{criterion} goes from {start.means[criterion]:.3f} to {best.means[criterion]:.3f} "
        f"(change {best.changes[criterion][1]:+.3f} to {best.changes[criterion][2]:+.3f})"
        for criterion in (("stability",) if name == "stability" else ("across", "mixing"))
    )
    if better:
        sentence = (
            f"Kept the encoder after epoch {best.epoch} of {states[-1].epoch}: on pictures "
            f"held out of the training {rises}."
        )
        return Verdict(best.epoch, sentence, tuple(states))
    asked = f"more stable by {MARGIN:.0%}" if name == "stability" else "better across cameras"
    sentence = (
        f"Kept the start: no epoch of {states[-1].epoch} is surely {asked}; on pictures held out "
        f"of the training, in epoch {best.epoch}, {rises}."
    )
    return Verdict(0, sentence, tuple(states))
