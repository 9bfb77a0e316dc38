"""The live lab: controls around the pictures of `viz`. Nothing else of the kit imports ipywidgets."""
from .controls import FigureControl, epoch_slider, eps_slider, temperature_slider

__all__ = ["FigureControl", "epoch_slider", "eps_slider", "temperature_slider"]
