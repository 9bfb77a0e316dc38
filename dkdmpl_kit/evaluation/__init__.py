"""Rankings under the re-identification protocol, and when a match is believed."""

from dkdmpl_kit.evaluation.answers import Answers, search
from dkdmpl_kit.evaluation.distances import distance_groups
from dkdmpl_kit.evaluation.ranking import (
    RankingResult,
    evaluate_ranking,
    ranked_gallery,
    top_matches,
)
from dkdmpl_kit.evaluation.reranking import Reranking, reranked_distances
from dkdmpl_kit.evaluation.thresholds import (
    MatchCurve,
    OpenSet,
    check_threshold,
    match_curve,
    match_curve_within,
    open_set,
    outliers_apart,
)

__all__ = [
    "Answers",
    "MatchCurve",
    "OpenSet",
    "RankingResult",
    "Reranking",
    "check_threshold",
    "distance_groups",
    "evaluate_ranking",
    "match_curve",
    "match_curve_within",
    "open_set",
    "outliers_apart",
    "ranked_gallery",
    "reranked_distances",
    "search",
    "top_matches",
]
