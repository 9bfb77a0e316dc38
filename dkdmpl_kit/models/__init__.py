"""The encoder: pictures in, rows of norm 1 out."""

from dkdmpl_kit.models.encoder import (
    PRECISIONS,
    Encoder,
    GeM,
    autocast,
    build_encoder,
    extract_features,
)
from dkdmpl_kit.models.weights import BUNDLED_BACKBONE

__all__ = [
    "autocast",
    "build_encoder",
    "BUNDLED_BACKBONE",
    "Encoder",
    "extract_features",
    "GeM",
    "PRECISIONS",
]
