"""The controls: a moved slider calls the function and redraws; an error is seen, kept,
and can be raised.
"""

from __future__ import annotations

import base64

import ipywidgets
import numpy as np
import pytest

from dkdmpl_kit import viz
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.lab import FigureControl, eps_slider

XY = np.random.default_rng(0).normal(size=(20, 2))


def bars(height):
    return viz.result_bars({"dkdmpl": [height]})


def height_of(control):
    return control.figure.axes[0].patches[0].get_height()


def fails_above_one(height):
    if height > 1:
        raise RuntimeError("too <high>")
    return bars(height)


def test_moving_the_slider_redraws_the_png_from_the_new_value():
    control = FigureControl(bars, height=(0.0, 2.0, 0.1, 0.5))
    before = bytes(control.image.value)
    assert before.startswith(b"\x89PNG")
    assert height_of(control) == 0.5
    control.value = 1.2
    assert np.isclose(height_of(control), 1.2)
    assert bytes(control.image.value) != before
    control.sliders["height"].value = 0.3
    assert np.isclose(height_of(control), 0.3)
    assert control.error is None


def test_several_sliders_have_a_value_by_name_and_kinds_by_their_numbers():
    control = FigureControl(
        lambda a, b: bars(a + b), a=(0, 5, 1, 1), b=ipywidgets.FloatSlider(value=0.5, max=3)
    )
    assert isinstance(control.sliders["a"], ipywidgets.IntSlider)
    control.value = {"a": 3, "b": 0.25}
    assert control.value == {"a": 3, "b": 0.25}
    assert height_of(control) == 3.25
    with pytest.raises(KitError, match="no slider 'c'; there are: a, b"):
        control.value = {"c": 1}


def test_an_error_while_moving_is_shown_kept_and_raised_on_request_and_the_old_picture_stays():
    control = FigureControl(fails_above_one, height=(0.0, 2.0, 0.1, 0.5))
    before = bytes(control.image.value)
    control.value = 1.5
    assert isinstance(control.error, RuntimeError)
    assert bytes(control.image.value) == before
    assert height_of(control) == 0.5
    assert "RuntimeError: too &lt;high&gt;" in control.status.value
    with pytest.raises(RuntimeError, match="too <high>"):
        control.check()
    control.value = 0.7
    control.check()
    assert control.error is None
    assert control.status.value == ""
    assert np.isclose(height_of(control), 0.7)


def test_an_error_in_the_first_drawing_is_raised_at_once():
    with pytest.raises(RuntimeError, match="too <high>"):
        FigureControl(fails_above_one, height=(0.0, 2.0, 0.1, 1.5))


def test_a_function_that_returns_no_figure_is_an_error():
    with pytest.raises(KitError, match="returned NoneType"):
        FigureControl(lambda height: None, height=(0.0, 1.0, 0.1, 0.5))


def test_controls_without_sliders_or_with_unclear_ones_are_refused():
    with pytest.raises(KitError, match="no sliders"):
        FigureControl(bars)
    with pytest.raises(KitError, match="slider 'height'"):
        FigureControl(bars, height=(0, 1))


def test_viewers_without_widgets_get_the_picture():
    control = FigureControl(bars, height=(0.0, 2.0, 0.1, 0.5))
    bundle = control._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert base64.b64decode(bundle["image/png"]) == bytes(control.image.value)


def test_the_eps_slider_reclusters_and_tells_the_summary():
    seen = []

    def recluster(eps):
        seen.append(eps)
        labels = np.where(np.arange(20) < 20 * eps, 0, -1)
        return labels, {
            "n_clusters": 1,
            "ari": None,
            "outlier_fraction": float((labels < 0).mean()),
        }

    control = eps_slider(recluster, lambda labels: viz.feature_map(XY, labels), value=0.6)
    assert control.figure.axes[0].get_xlabel() == "1 cluster, 8 outliers (40%, grey)"
    control.value = 0.8
    assert np.allclose(seen, [0.6, 0.8])
    assert control.figure.axes[0].get_xlabel() == "1 cluster, 4 outliers (20%, grey)"
    assert (
        control.status.value
        == "eps 0.800 · n clusters 1 · ari unknown · outlier fraction 0.200"
    )
