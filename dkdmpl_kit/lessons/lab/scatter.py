"""The map of tens of thousands of points: jupyter-scatter, with the kit's colours and
nothing of pandas on the way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import to_rgba

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.viz.clusters import MAP_COLOURS


def point_map(xy: np.ndarray, *, height: int = 460) -> Any:
    """A jupyter-scatter widget of the points xy (N, 2) that pans, zooms, lassoes and
    tells what is hovered and selected.

    Its traits `hovering` (an index or None) and `selection` (indices) are what to
    observe. The script comes with the package: nothing is loaded from a network.
    KitError: not installed.
    """
    try:
        import jscatter  # about a second: only when a map is wanted
    except ImportError as error:
        raise KitError(
            "The cluster explorer needs jupyter-scatter: pip install jupyter-scatter."
        ) from error
    middle = (xy.max(axis=0) + xy.min(axis=0)) / 2
    # one scale for both axes: a circle stays round
    reach = max(float(np.abs(xy - middle).max()), 1e-9)
    unit = ((xy - middle) / reach).astype(np.float32)
    plot = jscatter.Scatter(
        x=unit[:, 0],
        y=unit[:, 1],
        x_scale=(-1.05, 1.05),
        y_scale=(-1.05, 1.05),
        height=height,
        axes=False,
        legend=False,
        tooltip=False,
        background_color="#FFFFFF",
        opacity=0.85,
        opacity_unselected=0.3,
        size=3 if len(xy) > 20_000 else 5,
    )
    widget = plot.widget
    widget.color = [list(to_rgba(colour)) for colour in MAP_COLOURS]
    widget.color_scale = "categorical"
    widget.color_domain = {str(place): place for place in range(len(MAP_COLOURS))}
    recolour(widget, np.zeros(len(xy)))
    widget.color_by = "valueA"
    return widget


def recolour(widget: Any, codes: np.ndarray) -> None:
    """Give the points new places (N,) in `MAP_COLOURS`; view, selection and the points'
    order stay.
    """
    points = np.array(widget.points, np.float32)
    points[:, 2] = codes
    widget.prevent_filter_reset = widget.non_spatial_points_update = True
    widget.points = points
