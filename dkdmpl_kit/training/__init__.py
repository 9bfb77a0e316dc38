"""The loop, and what surrounds it."""

from dkdmpl_kit.training.corrections import constraints_of, read_corrections
from dkdmpl_kit.training.extraction import (
    cluster_epoch,
    extract,
    neighbourhoods_of,
    resolve_auto,
)
from dkdmpl_kit.training.features import Features, embed, read_features, save_features
from dkdmpl_kit.training.loop import fit, train_epoch
from dkdmpl_kit.training.optimisation import learning_rate, new_state
from dkdmpl_kit.training.outcome import FitResult, assess_untrained, continued, load_encoder
from dkdmpl_kit.training.run import Run
from dkdmpl_kit.training.truth import Monitor, identity_labels, reference_labels

__all__ = [
    "Features",
    "FitResult",
    "Monitor",
    "Run",
    "assess_untrained",
    "cluster_epoch",
    "constraints_of",
    "continued",
    "embed",
    "extract",
    "fit",
    "identity_labels",
    "learning_rate",
    "load_encoder",
    "neighbourhoods_of",
    "new_state",
    "read_corrections",
    "read_features",
    "reference_labels",
    "resolve_auto",
    "save_features",
    "train_epoch",
]
