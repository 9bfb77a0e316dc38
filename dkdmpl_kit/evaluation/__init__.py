"""Rankings under the re-identification protocol."""

from dkdmpl_kit.evaluation.distances import distance_groups
from dkdmpl_kit.evaluation.ranking import (
    RankingResult,
    evaluate_ranking,
    ranked_gallery,
    top_matches,
)

__all__ = [
    "RankingResult",
    "distance_groups",
    "evaluate_ranking",
    "ranked_gallery",
    "top_matches",
]
