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


def test_the_most_stable_of_the_surely_better_states_is_kept():
    found = verdict(judged([seen(0.4, 0.3), seen(0.5, 0.4), seen(0.5, 0.5), seen(0.6, 0.4)]))
    assert found.epoch == 2
    assert "epoch 2 of 3" in found.sentence and "from 0.300 to 0.500" in found.sentence


def test_of_states_that_cannot_be_told_apart_the_last_one_is_kept():
    rng = np.random.default_rng(0)
    draws = [np.clip(rng.normal(mean, 0.3, 300), 0, 1) for mean in (0.3, 0.57, 0.56, 0.45)]
    found = verdict(judged([Evidence(None, draw, None, draw) for draw in draws]))
    assert [state.better for state in found.judged] == [False, True, True, True]
    assert found.epoch == 2


def test_a_later_state_within_the_interval_needs_no_margin_of_its_own_but_its_mixing():
    rng = np.random.default_rng(0)
    start, best, late = (np.clip(rng.normal(m, 0.3, 60), 0, 1) for m in (0.4, 0.62, 0.56))
    mixing = np.full(60, 0.4)
    states = [
        Evidence(mixing + step, stability, None, mixing)
        for step, stability in ((0, start), (0.1, best), (0.1, late))
    ]
    found = verdict(judged(states))
    assert [state.better for state in found.judged] == [False, True, False]
    assert found.epoch == 2
    states[2] = Evidence(mixing, late, None, mixing)
    assert verdict(judged(states)).epoch == 1
    assert verdict(judged([states[0], Evidence(mixing + 0.1, late, None, mixing)])).epoch == 0


def test_a_state_that_is_less_stable_is_never_kept():
    found = verdict(judged([seen(0.4, 0.3), seen(0.9, 0.25)]))
    assert found.epoch == 0 and found.sentence.startswith("Kept the start: no epoch of 1")


def test_a_small_rise_is_not_enough_however_sure():
    half = np.full(500, 0.5)
    steady = [Evidence(None, np.full(500, value), None, half) for value in (0.4, 0.45)]
    found = verdict(judged(steady))
    assert found.judged[1].changes["stability"] == pytest.approx((0.05, 0.05, 0.05))
    assert found.epoch == 0 and "surely more stable by 15%" in found.sentence
    steady[1] = Evidence(None, np.full(500, 0.47), None, half)
    assert verdict(judged(steady)).epoch == 1


def test_a_change_within_its_interval_keeps_the_start():
    rng = np.random.default_rng(0)
    start = Evidence(*rng.random((4, 50)))
    now = Evidence(*rng.random((4, 50)))
    assert verdict(judged([start, now])).epoch == 0


def test_mixing_that_does_not_surely_rise_forbids_a_state_and_is_named():
    assert verdict(judged([seen(0.4, 0.3), seen(0.42, 0.5)])).epoch == 1
    for mixing in (0.4, 0.35):
        found = verdict(judged([seen(0.4, 0.3), seen(mixing, 0.5)]))
        assert found.epoch == 0
        assert f"mixing does not surely rise (0.400 to {mixing:.3f})" in found.sentence
    assert verdict(judged([seen(None, 0.3), seen(None, 0.5)])).epoch == 1  # not known


def test_what_is_recorded_alone_decides_nothing():
    fallen = judged([seen(0.4, 0.3, 0.9), seen(0.5, 0.5, 0.1)])
    assert verdict(fallen).epoch == 1 and fallen[1].changes["mutual"][2] < 0
    assert verdict(judged([seen(0.1, 0.3, 0.1), seen(0.9, 0.3, 0.9)])).epoch == 0


def test_three_states_that_are_surely_worse_end_the_training():
    start, worse, better = seen(0.4, 0.3), seen(0.4, 0.2), seen(0.5, 0.4)
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
