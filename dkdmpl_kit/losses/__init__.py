"""The losses of DKD-MPL, their teachers and anchors, the rivals' objectives, and the theory."""

from dkdmpl_kit.losses.anchors import SKD_ANCHORS, anchor_features, positive_anchors
from dkdmpl_kit.losses.dkdmpl import (
    SKD_DIVERGENCES,
    DKDMPLLoss,
    cluster_contrast_loss,
    dkdmpl_loss,
    gkd_loss,
    mixed_target,
    skd_loss,
)
from dkdmpl_kit.losses.teachers import GKD_TEACHERS, carry_posterior, teacher_logits

__all__ = [
    "DKDMPLLoss",
    "GKD_TEACHERS",
    "SKD_ANCHORS",
    "SKD_DIVERGENCES",
    "anchor_features",
    "carry_posterior",
    "cluster_contrast_loss",
    "dkdmpl_loss",
    "gkd_loss",
    "mixed_target",
    "positive_anchors",
    "skd_loss",
    "teacher_logits",
]
