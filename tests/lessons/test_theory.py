"""What notebook 08 needs around its propositions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dkdmpl_kit.lessons.theory import (
    approach,
    descent,
    gradient_of,
    invented_worlds,
    loss_of,
    mean_and_error,
    random_case,
    random_clusters,
    ruler_title,
    verdict_of,
    verdicts,
    worst,
)


def dice() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_autograd_and_the_descent_find_the_mixed_label():
    case = random_case(dice(), rows=3, clusters=4)
    expected = (case["l"].softmax(1) - torch.nn.functional.one_hot(case["y"], 4)) / 3
    worst(gradient_of(loss_of(case, 0.0), case["l"]), expected)
    with pytest.raises(AssertionError, match="off by"):
        worst(gradient_of(loss_of(case, 0.5), case["l"]), expected)
    one = {name: x[:1] for name, x in case.items()}
    one["t"] = one["t"] / 10
    path = descent(loss_of(one, 1.0), one["l"] / 10, steps=400)
    assert path.shape == (401, 4)
    target = (torch.nn.functional.one_hot(one["y"], 4) + one["t"].softmax(1)) / 2
    torch.testing.assert_close(path[-1:], target, atol=1e-4, rtol=0)


def test_the_difference_of_what_is_not_a_number_is_no_agreement():
    with pytest.raises(AssertionError):
        worst([float("nan")], [0.0])


def test_the_approach_to_the_limit_by_hand():
    # K = 2, l = (2, 0), t = (0, 0): G_1 = (.381, -.381), the limit is (.5, -.5)
    student, teacher = torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2)
    found = approach(student.double(), teacher.double(), np.array([1.0, 4.0, 100.0]))
    assert found["limit"] == pytest.approx(0.5**0.5)
    assert found["norms"][0] == pytest.approx(0.3808 * 2**0.5, abs=1e-4)
    np.testing.assert_allclose(found["distance"][:2], [0.2384, 0.0203], atol=1e-3)
    np.testing.assert_allclose(found["bound"], [1.0, 0.25, 0.01])
    assert found["near"] == 4.0
    assert approach(student.double(), teacher.double(), np.array([0.1, 1.0]))["near"] is None


def test_the_invented_worlds_are_what_they_are_called():
    worlds = invented_worlds(dice())
    e, labels, truth = worlds["30 % wrong"]
    assert float((labels != truth).double().mean()) == pytest.approx(0.3, abs=0.05)
    e, labels, truth = worlds["calibrated"]
    sure = e.amax(1)
    assert (labels == e.argmax(1)).all()
    for low in (0.3, 0.5, 0.7):
        bin_ = (sure > low) & (sure <= low + 0.2)
        right = (labels == truth)[bin_].double().mean()
        assert float(right) == pytest.approx(float(sure[bin_].mean()), abs=0.05)
    sizes = {len(x) for x in random_clusters(dice())}
    assert sizes == set(range(2, 9))


def test_pictures_of_one_group_count_as_one_draw():
    values = np.array([[1.0], [1.0], [0.0], [0.0]])
    mean, error = mean_and_error(values, np.arange(4))
    assert (mean[0], error[0]) == (0.5, pytest.approx(0.25))
    mean, error = mean_and_error(values, np.array([7, 7, 3, 3]))
    assert (mean[0], error[0]) == (0.5, pytest.approx(2**0.5 / 4))


def test_a_gain_within_two_errors_or_of_three_zeros_gets_no_verdict():
    assert verdict_of(0.1, 0.04) == "nearer"
    assert verdict_of(-0.1, 0.04) == "further"
    assert verdict_of(0.1, 0.06) == "undecided"
    assert verdict_of(0.0004, 0.0) == "undecided"


def test_verdicts_are_words_and_a_sentence_with_the_numbers():
    found = {
        "sample": np.array([[0.0, 0.0002, -0.1], [0.0, 0.0, 0.01]]),
        "vote": np.array([[0.1, 0.2, 0.3], [0.01, 0.01, 0.01]]),
    }
    words, sentence = verdicts(found)
    assert words == {"sample": ["undecided", "undecided", "further"], "vote": ["nearer"] * 3}
    assert sentence == (
        "`sample` undecided (+0.0000 ± 0.0000), undecided (+0.0002 ± 0.0000), further "
        "(-0.1000 ± 0.0200): they do not agree; `vote` nearer (+0.1000 ± 0.0200), nearer "
        "(+0.2000 ± 0.0200), nearer (+0.3000 ± 0.0200): they agree."
    )


def test_a_heading_has_the_rulers_and_infinity_as_a_sign():
    title = ruler_title("hard label", torch.tensor([2.0, 2.0, float("inf")]))
    assert title == "hard label\nℓ1 2.00, Brier 2.00, log ∞"
