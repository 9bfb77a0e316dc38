"""The noise in pseudo labels: how much, since when, why, how to find it without the
truth, and how to make it.

Arrays in; frozen results, arrays or numbers out. Labels are (N,) with -1 for outliers,
identities (N,) with a negative number where unknown; only `quality` and `change` do
without identities.
"""

from __future__ import annotations

from dkdmpl_kit.noise.agreement import (
    ERROR_KINDS,
    CameraPairErrors,
    ClusterAgreement,
    LabelReport,
    camera_pair_errors,
    cluster_agreement,
    error_kinds,
    label_report,
    matched_labels,
    true_clusters,
)
from dkdmpl_kit.noise.causes import (
    NO_CAUSE,
    NoiseCauses,
    PairCauses,
    attributable_fraction,
    noise_causes,
    pair_causes,
    pair_factors,
    risk_ratio,
)
from dkdmpl_kit.noise.change import LabelChange, change_table, label_change, label_repairs
from dkdmpl_kit.noise.clusters import (
    ClusteringSummary,
    ClusterView,
    cluster_view,
    clustering_summary,
    kept_names,
    last_change,
)
from dkdmpl_kit.noise.gallery import GalleryRow, doubt_rows, gallery_rows
from dkdmpl_kit.noise.injection import NOISE_KINDS, NoisyLabels, inject_noise, noise_response
from dkdmpl_kit.noise.labelled import LabelTable, label_table, most_suspect
from dkdmpl_kit.noise.quality import (
    LabelQuality,
    auroc,
    centroid_silhouette,
    label_quality,
    neighbour_entropy,
    self_confidence,
    softmax_entropy,
    suspicion_curve,
    view_disagreement,
)
from dkdmpl_kit.noise.soft_labels import (
    MassBalance,
    SoftLabelMass,
    mass_balance,
    soft_label_mass,
)
from dkdmpl_kit.noise.tables import (
    OUTLIERS,
    Contingency,
    best_matching,
    cluster_means,
    contingency,
)

__all__ = [
    "ERROR_KINDS",
    "NOISE_KINDS",
    "NO_CAUSE",
    "OUTLIERS",
    "CameraPairErrors",
    "ClusterAgreement",
    "ClusterView",
    "ClusteringSummary",
    "Contingency",
    "GalleryRow",
    "LabelChange",
    "LabelQuality",
    "LabelReport",
    "LabelTable",
    "MassBalance",
    "NoiseCauses",
    "NoisyLabels",
    "PairCauses",
    "SoftLabelMass",
    "attributable_fraction",
    "auroc",
    "best_matching",
    "camera_pair_errors",
    "centroid_silhouette",
    "change_table",
    "cluster_agreement",
    "cluster_means",
    "cluster_view",
    "clustering_summary",
    "contingency",
    "doubt_rows",
    "error_kinds",
    "gallery_rows",
    "inject_noise",
    "kept_names",
    "label_change",
    "label_quality",
    "label_repairs",
    "label_report",
    "label_table",
    "last_change",
    "mass_balance",
    "matched_labels",
    "most_suspect",
    "neighbour_entropy",
    "noise_causes",
    "noise_response",
    "pair_causes",
    "pair_factors",
    "risk_ratio",
    "self_confidence",
    "soft_label_mass",
    "softmax_entropy",
    "suspicion_curve",
    "true_clusters",
    "view_disagreement",
]
