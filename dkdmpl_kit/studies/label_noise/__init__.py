"""How much label noise each loss bears: a small head on frozen features, trained on
true labels made wrong on purpose.

A head (linear layer, BNNeck, L2) on features of an encoder that does not move: a cell
takes seconds, so that rates, kinds of noise, methods and seeds can be crossed. It is
not a training of the whole encoder, and there is no clustering in it. Identities are
used to make the noisy labels and to measure; the head sees nothing but the noisy
labels, fixed for the run.
"""

from dkdmpl_kit.studies.label_noise.experiment import cells, run
from dkdmpl_kit.studies.label_noise.features import VIEWS, FrozenFeatures, frozen_features
from dkdmpl_kit.studies.label_noise.findings import (
    agreement,
    by_rate,
    findings,
    gains,
    margins_and_gains,
    write_exhibits,
)
from dkdmpl_kit.studies.label_noise.training import Head, noisy_labels, train_cell

__all__ = [
    "agreement",
    "by_rate",
    "cells",
    "findings",
    "frozen_features",
    "FrozenFeatures",
    "gains",
    "Head",
    "margins_and_gains",
    "noisy_labels",
    "run",
    "train_cell",
    "VIEWS",
    "write_exhibits",
]
