"""The loop, and what surrounds it."""

from dkdmpl_kit.training.loop import (
    FitResult,
    Monitor,
    assess_untrained,
    cluster_epoch,
    extract,
    fit,
    learning_rate,
    load_encoder,
    new_state,
    resolve_auto,
    train_epoch,
)

__all__ = [
    "assess_untrained",
    "cluster_epoch",
    "extract",
    "fit",
    "FitResult",
    "learning_rate",
    "load_encoder",
    "Monitor",
    "new_state",
    "resolve_auto",
    "train_epoch",
]
