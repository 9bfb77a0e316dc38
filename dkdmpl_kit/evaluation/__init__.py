"""Rankings under the re-identification protocol."""

from dkdmpl_kit.evaluation.distances import distance_groups
from dkdmpl_kit.evaluation.ranking import (
    RankingResult,
    evaluate_ranking,
    ranked_gallery,
    top_matches,
)
from dkdmpl_kit.evaluation.reranking import Reranking, reranked_distances

__all__ = [
    "RankingResult",
    "Reranking",
    "distance_groups",
    "evaluate_ranking",
    "ranked_gallery",
    "reranked_distances",
    "top_matches",
]
