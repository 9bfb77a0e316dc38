"""The guard: a state is kept where pictures held out of the training say that it is surely
better, else the start is.
"""

from __future__ import annotations

import numpy as np
import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise.evidence import Evidence
from dkdmpl_kit.training.guard import MOST_HELD_OUT, held_out, hopeless, judged, verdict


def seen(mixing, stability, mutual=0.5, n=400):
    """Evidence with these means: every picture has its own value around them."""
    spread = np.linspace(-0.2, 0.2, n)
    made = [None if mean is None else mean + spread for mean in (mixing, stability, mutual)]
    return Evidence(made[0], made[1], made[0], made[2])


def apart(across, mixing, stability=0.5, n=60):
    """Evidence of known cameras from arrays (n,), or from one value for all."""
    made = [np.broadcast_to(value, n) for value in (mixing, stability, across)]
    return Evidence(made[0], made[1], made[2], np.full(n, 0.5))


def test_the_best_of_the_surely_better_states_is_kept():
    found = verdict(judged([seen(0.4, 0.3), seen(0.5, 0.4), seen(0.6, 0.5), seen(0.5, 0.4)]))
    assert found.epoch == 2
    assert "epoch 2 of 3" in found.sentence
    assert "across goes from 0.400 to 0.600" in found.sentence


def test_without_known_cameras_the_start_is_kept_and_the_reason_said():
    found = verdict(judged([seen(None, 0.3), seen(None, 0.9)]))
    assert found.epoch == 0 and "fewer than two cameras are known" in found.sentence
    assert not hopeless(judged([seen(None, 0.9), *[seen(None, 0.1)] * 3]))


def test_of_states_that_cannot_be_told_apart_the_last_one_is_kept():
    rng = np.random.default_rng(0)
    draws = [np.clip(rng.normal(mean, 0.3, 300), 0, 1) for mean in (0.3, 0.57, 0.56, 0.45)]
    mixing = np.arange(4) / 10 + 0.3
    found = verdict(judged([apart(a, m, n=300) for a, m in zip(draws, mixing)]))
    assert [state.better for state in found.judged] == [False, True, True, True]
    assert found.epoch == 2


def test_a_later_state_within_the_interval_needs_no_sure_rise_of_its_own_but_its_mixing():
    sides = np.tile([-1.0, 1.0], 30)
    start, best, late = 0.4 + 0 * sides, 0.6 + 0.4 * sides, 0.54 + 0.9 * sides
    states = [apart(a, m) for a, m in ((start, 0.4), (best, 0.5), (late, 0.5))]
    found = verdict(judged(states))
    assert [state.better for state in found.judged] == [False, True, False]
    assert found.epoch == 2
    states[2] = apart(late, 0.4)
    assert verdict(judged(states)).epoch == 1
    assert verdict(judged([states[0], apart(late, 0.5)])).epoch == 0


def test_a_state_that_is_worse_is_never_kept():
    found = verdict(judged([seen(0.4, 0.3), seen(0.3, 0.9)]))
    assert found.epoch == 0
    assert found.sentence.startswith("Kept the start: no epoch of 1 is surely better across")


def test_a_change_within_its_interval_keeps_the_start():
    rng = np.random.default_rng(0)
    start = Evidence(*rng.random((4, 50)))
    now = Evidence(*rng.random((4, 50)))
    assert verdict(judged([start, now])).epoch == 0


def test_mixing_that_does_not_surely_rise_forbids_a_state_and_is_named():
    assert verdict(judged([apart(0.3, 0.4), apart(0.5, 0.42)])).epoch == 1
    for mixing in (0.4, 0.35):
        found = verdict(judged([apart(0.3, 0.4), apart(0.5, mixing)]))
        assert found.epoch == 0
        assert f"mixing goes from 0.400 to {mixing:.3f}" in found.sentence


def test_what_is_recorded_alone_decides_nothing():
    fallen = judged([seen(0.4, 0.3, 0.9), seen(0.5, 0.1, 0.1)])
    assert verdict(fallen).epoch == 1
    assert fallen[1].changes["mutual"][2] < 0 and fallen[1].changes["stability"][2] < 0
    assert verdict(judged([seen(0.4, 0.3, 0.1), seen(0.4, 0.9, 0.9)])).epoch == 0


def test_three_states_that_are_surely_worse_end_the_training():
    start, worse, better = seen(0.4, 0.3), seen(0.3, 0.4), seen(0.5, 0.2)
    assert not hopeless(judged([start, worse, worse]))
    assert hopeless(judged([start, better, worse, worse, worse]))
    assert not hopeless(judged([start, worse, worse, better]))


def test_the_start_alone_is_kept_and_none_is_refused():
    assert (
        verdict(judged([seen(0.4, 0.3)])).sentence == "Kept the start: nothing was trained."
    )
    with pytest.raises(KitError, match="start"):
        judged([])


def test_a_record_is_plain_numbers():
    import json

    found = verdict(judged([seen(0.4, 0.3), seen(0.5, 0.4)])).record()
    again = json.loads(json.dumps(found))
    assert again["chosen_epoch"] == 1 and again["states"][1]["better"] is True


def test_whole_clusters_are_held_out_and_at_most_a_fifth_of_the_pictures():
    labels = np.repeat(np.arange(-5, 20), 4).clip(-1)  # 20 outliers, 20 clusters of four
    apart = held_out(labels)
    for cluster in range(20):
        assert len(set(apart[labels == cluster])) == 1
    assert 12 <= apart.sum() <= 20
    assert 0 < apart[labels < 0].sum() < 20  # outliers go one by one
    assert (held_out(labels, seed=1) != apart).any()
    assert held_out(np.full(20_000, -1)).sum() == MOST_HELD_OUT
    assert not held_out(np.zeros(9, int)).any()  # one cluster cannot be shared out
