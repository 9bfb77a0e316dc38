"""Every picture of the kit: arrays in, a matplotlib `Figure` out.

No function here opens a window, keeps global state or computes a result: each draws
what it is given. A figure shows itself once as the last expression of a notebook cell,
with or without `%matplotlib inline`, and headless under papermill. Where true
identities are unknown (`None`), the figure says so in a sentence instead of failing.
"""

from __future__ import annotations

from dkdmpl_kit.viz.clusters import explorer_maps, map_colours, picture_png, picture_rows
from dkdmpl_kit.viz.curves import (
    ADDS_NOTHING,
    DISTILLATION,
    distance_histograms,
    eps_curve,
    training_curves,
)
from dkdmpl_kit.viz.diagrams import loop_diagram
from dkdmpl_kit.viz.epochs import epoch_frame, epoch_strip, hardest_pictures, live_curves
from dkdmpl_kit.viz.flows import alluvial
from dkdmpl_kit.viz.guard import criteria_against_gain, guard_curve
from dkdmpl_kit.viz.labels import (
    gradient_bars,
    label_views,
    temperature_curves,
)
from dkdmpl_kit.viz.losslab import loss_lab
from dkdmpl_kit.viz.maps import (
    feature_map,
    feature_maps,
    jaccard_matrix,
)
from dkdmpl_kit.viz.noise import (
    camera_error_maps,
    camera_error_rates,
    change_curves,
    margin_gain,
    mass_balance_bars,
    noise_panels,
    reliability_diagrams,
    repaired_and_spoilt,
    suspicion_curves,
)
from dkdmpl_kit.viz.pairs import (
    factor_map,
    noise_response_curves,
    pair_cause_bars,
    pair_pictures,
)
from dkdmpl_kit.viz.pictures import cluster_gallery, contact_sheet, ranking_grid
from dkdmpl_kit.viz.rankings import activation_pairs, query_distances
from dkdmpl_kit.viz.results import (
    cosine_table,
    error_kinds_bars,
    label_targets,
    paired_differences,
    result_bars,
)
from dkdmpl_kit.viz.style import (
    METHOD_COLOURS,
    PALETTE,
    VIEW_COLOURS,
    VIEW_LABELS,
    KitFigure,
    figure_png,
    save_figure,
)
from dkdmpl_kit.viz.theory import (
    bound_slack,
    label_triangle,
    limit_curves,
    ruler_gains,
)
from dkdmpl_kit.viz.thresholds import match_rates

__all__ = [
    "ADDS_NOTHING",
    "DISTILLATION",
    "KitFigure",
    "METHOD_COLOURS",
    "PALETTE",
    "VIEW_COLOURS",
    "VIEW_LABELS",
    "activation_pairs",
    "alluvial",
    "bound_slack",
    "camera_error_maps",
    "camera_error_rates",
    "change_curves",
    "cluster_gallery",
    "contact_sheet",
    "cosine_table",
    "criteria_against_gain",
    "distance_histograms",
    "epoch_frame",
    "epoch_strip",
    "eps_curve",
    "error_kinds_bars",
    "explorer_maps",
    "factor_map",
    "feature_map",
    "feature_maps",
    "figure_png",
    "gradient_bars",
    "guard_curve",
    "hardest_pictures",
    "jaccard_matrix",
    "label_targets",
    "label_triangle",
    "label_views",
    "limit_curves",
    "live_curves",
    "loop_diagram",
    "loss_lab",
    "map_colours",
    "margin_gain",
    "mass_balance_bars",
    "match_rates",
    "noise_panels",
    "noise_response_curves",
    "pair_cause_bars",
    "pair_pictures",
    "paired_differences",
    "picture_png",
    "picture_rows",
    "query_distances",
    "ranking_grid",
    "reliability_diagrams",
    "repaired_and_spoilt",
    "result_bars",
    "ruler_gains",
    "save_figure",
    "suspicion_curves",
    "temperature_curves",
    "training_curves",
]
