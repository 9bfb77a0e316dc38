"""Every picture of the kit: arrays in, a matplotlib `Figure` out.

No function here opens a window, keeps global state or computes a result: each draws what it is given. A figure
shows itself once as the last expression of a notebook cell, with or without `%matplotlib inline`, and headless under
papermill. Where true identities are unknown (`None`), the figure says so in a sentence instead of failing.
"""
from __future__ import annotations

from dkdmpl_kit.viz.curves import distance_groups, distance_histograms, eps_curve, training_curves
from dkdmpl_kit.viz.diagrams import loop_diagram
from dkdmpl_kit.viz.labels import gradient_bars, label_views, softmax_entropy, temperature_curves
from dkdmpl_kit.viz.maps import feature_map, feature_maps, jaccard_matrix, similarity_heatmap, umap_layout
from dkdmpl_kit.viz.noise import (
                                  break_even_curve,
                                  camera_error_maps,
                                  cause_effects,
                                  change_curves,
                                  margin_gain,
                                  noise_curves,
                                  noise_panels,
                                  reliability_diagrams,
                                  suspicion_curves,
)
from dkdmpl_kit.viz.pictures import cluster_gallery, contact_sheet, ranking_grid
from dkdmpl_kit.viz.results import cosine_table, error_kinds_bars, label_targets, paired_differences, result_bars
from dkdmpl_kit.viz.style import (
                                  METHOD_COLOURS,
                                  METHOD_LABELS,
                                  PALETTE,
                                  VIEW_COLOURS,
                                  VIEW_LABELS,
                                  KitFigure,
                                  figure_png,
                                  save_figure,
)
from dkdmpl_kit.viz.theory import bound_slack, break_even_map, label_triangle, limit_curves

__all__ = [
    "KitFigure", "METHOD_COLOURS", "METHOD_LABELS", "PALETTE", "VIEW_COLOURS", "VIEW_LABELS", "bound_slack",
    "break_even_curve", "break_even_map", "camera_error_maps", "cause_effects", "change_curves", "cluster_gallery",
    "contact_sheet", "cosine_table", "distance_groups", "distance_histograms", "eps_curve", "error_kinds_bars", "feature_map",
    "feature_maps", "figure_png", "gradient_bars", "jaccard_matrix", "label_targets", "label_triangle", "label_views",
    "limit_curves", "loop_diagram", "margin_gain", "noise_curves", "noise_panels", "paired_differences",
    "ranking_grid", "reliability_diagrams", "result_bars", "save_figure", "similarity_heatmap", "softmax_entropy",
    "suspicion_curves", "temperature_curves", "training_curves", "umap_layout",
]
