"""The picture that the course follows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.example import running_example

SOFT = csr_array(
    np.array(
        [
            [0.9, 0.1, 0.0],
            [0.3, 0.7, 0.0],
            [0.6, 0.1, 0.3],
            [0.0, 0.5, 0.5],
            [0.4, 0.0, 0.6],
        ]
    )
)
LABELS = np.array([0, 1, 0, -1, 2])


def test_with_the_truth_it_is_the_wrong_label_of_which_the_soft_label_knows_most():
    star = np.array([0, 1, 2, 1, 0])  # pictures 2 and 4 are wrong: 0.3 and 0.4 on the truth
    assert running_example(SOFT, LABELS, star) == 4
    star[4] = -1
    assert running_example(SOFT, LABELS, star) == 2


def test_without_truth_or_wrong_labels_it_is_the_picture_that_leans_most_to_another_cluster():
    assert running_example(SOFT, LABELS) == 4
    assert running_example(SOFT, LABELS, LABELS) == 4
    assert running_example(SOFT, LABELS, np.full(5, -1)) == 4
    nothing_on_the_truth = np.array([2, 1, 0, -1, 2])
    assert running_example(SOFT, LABELS, nothing_on_the_truth) == 4


def test_of_equal_pictures_it_is_the_first_and_outliers_alone_are_refused():
    even = csr_array(np.full((3, 2), 0.5))
    assert running_example(even, np.array([0, 1, 0])) == 0
    assert running_example(csr_array(np.eye(3)), np.array([0, 1, 2])) == 0
    with pytest.raises(KitError, match="No picture is in a cluster"):
        running_example(even, np.array([-1, -1, -1]))
