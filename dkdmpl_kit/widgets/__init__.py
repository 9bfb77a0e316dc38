"""The live lab: controls around the pictures of `viz`. Nothing else of the kit imports ipywidgets."""
from .controls import FigureControl, eps_slider
from .explorer import ClusterExplorer
from .losslab import LossLab
from .monitor import TrainingMonitor
from .noiselens import NoiseLens
from .player import EpochPlayer
from .ranking import RankingBrowser

__all__ = [
    "ClusterExplorer", "EpochPlayer", "FigureControl", "LossLab", "NoiseLens", "RankingBrowser", "TrainingMonitor",
    "eps_slider",
]
