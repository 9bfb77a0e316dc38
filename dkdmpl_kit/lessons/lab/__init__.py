"""The live lab: controls around the pictures of `viz`. Nothing else of the kit imports
ipywidgets.
"""

from dkdmpl_kit.lessons.lab.controls import FigureControl, eps_slider
from dkdmpl_kit.lessons.lab.explorer import ClusterExplorer
from dkdmpl_kit.lessons.lab.losslab import LossLab
from dkdmpl_kit.lessons.lab.monitor import TrainingMonitor
from dkdmpl_kit.lessons.lab.noiselens import NoiseLens
from dkdmpl_kit.lessons.lab.player import EpochPlayer
from dkdmpl_kit.lessons.lab.ranking import RankingBrowser

__all__ = [
    "ClusterExplorer",
    "EpochPlayer",
    "FigureControl",
    "LossLab",
    "NoiseLens",
    "RankingBrowser",
    "TrainingMonitor",
    "eps_slider",
]
