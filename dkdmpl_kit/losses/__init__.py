"""The losses of DKD-MPL, their teachers and anchors, the rivals' objectives, and the
theory.
"""

from dkdmpl_kit.losses.dkdmpl import (
    SKD_DIVERGENCES,
    DKDMPLLoss,
    anchor_features,
    carry_posterior,
    cluster_contrast_loss,
    dkdmpl_loss,
    gkd_loss,
    mixed_target,
    positive_anchors,
    skd_loss,
    teacher_logits,
)

__all__ = [
    "anchor_features",
    "carry_posterior",
    "cluster_contrast_loss",
    "dkdmpl_loss",
    "DKDMPLLoss",
    "gkd_loss",
    "mixed_target",
    "positive_anchors",
    "SKD_DIVERGENCES",
    "skd_loss",
    "teacher_logits",
]
