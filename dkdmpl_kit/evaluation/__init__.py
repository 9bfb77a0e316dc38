"""Rankings under the re-identification protocol."""

from dkdmpl_kit.evaluation.ranking import (
    evaluate_ranking,
    ranked_gallery,
    top_matches,
)

__all__ = [
    "evaluate_ranking",
    "ranked_gallery",
    "top_matches",
]
