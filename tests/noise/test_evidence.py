"""Criteria that need no identities: equal to their definitions, and moved by what they
claim to see.
"""

from __future__ import annotations

import numpy as np
import pytest
from reference import noise as naive

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise.evidence import PARTITIONS, compare, evidence


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def people(seed=0, n=40, dims=32, cameras=2, person=1.0, camera=0.0, each=4):
    """Features of people seen by cameras: a part of the person, of the camera, and noise."""
    rng = np.random.default_rng(seed)
    pids = np.repeat(np.arange(n), each)
    camids = np.tile(np.arange(each) % cameras, n)
    noise = rng.normal(size=(n * each, dims))
    parts = person * rng.normal(size=(n, dims))[pids]
    return unit(parts + camera * rng.normal(size=(cameras, dims))[camids] + noise), camids


def halves(dims):
    generator = np.random.default_rng(0)
    orders = [generator.permutation(dims) for _ in range(PARTITIONS)]
    return [tuple(part.tolist() for part in np.array_split(o, 2)) for o in orders]


@pytest.mark.parametrize("known", ["all", "some", "none"])
def test_it_equals_the_naive_loops(known):
    features, camids = people(n=12, dims=10, cameras=3, each=3)
    camids[{"all": [], "some": [3, 4, 20], "none": slice(None)}[known]] = -1
    groups = np.full(len(camids), -1)
    groups[[0, 1, 5, 6]] = [0, 0, 1, 1]
    found = evidence(features, camids, groups=groups)
    mixing, stability, across, mutual = naive.evidence(
        features.tolist(), camids.tolist(), groups.tolist(), halves=halves(10)
    )
    if known != "none":
        assert found.mixing == pytest.approx(mixing)
        assert found.across == pytest.approx(across)
    else:
        assert found.mixing is None and mixing is None and found.across is None
        assert found.means()["mixing"] is None
    assert found.stability == pytest.approx(stability)
    assert found.mutual == pytest.approx(mutual)


def test_a_camera_that_leaves_its_trace_lowers_mixing():
    plain, camids = people()
    traced, _ = people(camera=2.0)
    assert evidence(plain, camids).means()["mixing"] == pytest.approx(1, abs=0.15)
    change, low, high = compare(
        evidence(traced, camids).mixing, evidence(plain, camids).mixing
    )
    assert low <= change <= high < -0.2


def test_more_of_the_person_raises_stability():
    vague, camids = people(person=0.5)
    clear, _ = people(person=2.0)
    change, low, _ = compare(
        evidence(clear, camids).stability, evidence(vague, camids).stability
    )
    assert low > 0.1


def test_of_one_burst_no_picture_is_the_neighbour_of_another():
    features, camids = people(n=10, person=0)  # nothing but noise, and one frame twice
    features[1] = features[0]
    alone = np.full(len(camids), -1)
    together = alone.copy()
    together[:2] = 0
    unknown = np.full_like(camids, -1)
    assert evidence(features, unknown, groups=alone).stability[0] == 1
    assert evidence(features, unknown, groups=together).stability[0] < 1


def test_many_pictures_are_asked_in_part_and_few_are_refused():
    features, camids = people(n=600)
    assert len(evidence(features, camids).stability) == 2000
    with pytest.raises(KitError, match="at least four"):
        evidence(features[:3], camids[:3])


def test_an_interval_holds_the_mean_and_shrinks_with_more_pictures():
    rng = np.random.default_rng(0)
    change = rng.normal(0.1, 1, 4000)
    mean, low, high = compare(change, np.zeros(4000))
    assert mean == pytest.approx(change.mean()) and low < mean < high
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(4000), rel=0.1)
    few = compare(change[:100], np.zeros(100))
    assert few[2] - few[1] > 3 * (high - low)
