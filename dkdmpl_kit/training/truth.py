"""Where true identities live: measuring, and nothing else."""

from __future__ import annotations

import numpy as np

from dkdmpl_kit.data import ReIDDataset, arrays_of
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation import evaluate_ranking
from dkdmpl_kit.experiment import Config
from dkdmpl_kit.losses.rulers import rulers
from dkdmpl_kit.models import Encoder
from dkdmpl_kit.noise import cluster_agreement, soft_label_mass, true_clusters
from dkdmpl_kit.training import processes
from dkdmpl_kit.training.extraction import extract, open_store
from dkdmpl_kit.training.probe import Probe

MASSES = ("truth", "siblings", "strangers", "sibling_lift")
RULERS = ("l1", "brier", "log")
UNMEASURED = {"mAP": None, "rank1": None, "mINP": None}


class Monitor:
    """The only holder of true identities: nothing that it returns reaches the loss, the
    labels or the sampler.
    """

    def __init__(self, config: Config, dataset: ReIDDataset) -> None:
        self.pids = arrays_of(dataset.train)[1]
        self.config = config
        self.splits = (dataset.query, dataset.gallery)
        self.stores = None
        self.blind = _why_blind(dataset)

    def agreement(self, labels: np.ndarray) -> dict:
        """ARI, NMI and purity of labels (N,) against the true identities, None where
        those are unknown.
        """
        found = cluster_agreement(labels, self.pids)
        return {"ari": found.ari, "nmi": found.nmi, "purity": found.purity}

    def teacher(self, probe: Probe, labels: np.ndarray) -> dict:
        """Where the mass of the teacher's soft labels lies, of the batches that `probe` saw,
        and whether they lie nearer to the truth than the hard ones in P2's three rulers;
        labels: (N,). None values without a teacher, or without identities.
        """
        mass = gains = None
        if probe.soft and (self.pids >= 0).any():
            e = np.concatenate(probe.soft)
            seen = np.concatenate(probe.seen)
            mass = soft_label_mass(e, seen, labels, self.pids)
            truth = true_clusters(labels, self.pids)[seen]
            known = (truth >= 0) & (labels[seen] >= 0)
            weight = self.config.gkd_weight
            if known.any():
                gains = rulers(e[known], labels[seen][known], truth[known], weight)
        named = {f"teacher_{name}": mass and getattr(mass, name) for name in MASSES}
        return named | {f"{name}_gain": gains and getattr(gains, name) for name in RULERS}

    def ranking_if_due(self, encoder: Encoder, epoch: int) -> dict:
        """`ranking` every `evaluate_every` epochs and in the last one; else None values."""
        last = epoch + 1 == self.config.epochs
        if last or (epoch + 1) % self.config.evaluate_every == 0:
            return self.ranking(encoder)
        return dict(UNMEASURED)

    def ranking(self, encoder: Encoder) -> dict:
        """mAP, Rank-1 and mINP of the query and gallery splits; None where there are
        none or nothing can be matched.

        Of several processes all must call it: features are extracted in shares, the
        first one ranks.
        """
        if self.blind:
            return dict(UNMEASURED)
        config = self.config
        if self.stores is None:
            self.stores = [open_store(config, arrays_of(split)[0]) for split in self.splits]
        query, gallery = (extract(config, encoder, store) for store in self.stores)
        (_, query_pids, query_cams), (_, gallery_pids, gallery_cams) = (
            arrays_of(s) for s in self.splits
        )
        result = processes.once(
            evaluate_ranking,
            query,
            gallery,
            query_pids,
            gallery_pids,
            query_cams,
            gallery_cams,
        )
        return {"mAP": result.mAP, "rank1": result.cmc[1], "mINP": result.mINP}


def _why_blind(dataset: ReIDDataset) -> str | None:
    """The sentence that says why no ranking can be measured on this data set, or None
    where it can.
    """
    if not dataset.query or not dataset.gallery:
        return "no query or gallery split with known identities: rankings are not measured"
    seen: dict[int, set[int]] = {}
    for image in dataset.gallery:
        seen.setdefault(image.pid, set()).add(image.camid)
    if any(
        seen.get(image.pid, set()) - ({image.camid} if image.camid is not None else set())
        for image in dataset.query
        if image.pid is not None  # nobody's picture matches nobody's
    ):
        return None
    return (
        "nothing can be matched: no query has a picture from another camera in the gallery, "
        "so rankings are not measured"
    )


def reference_labels(config: Config, dataset: ReIDDataset) -> np.ndarray | None:
    """What `fit(reference_labels=...)` takes for this method: `identity_labels`, or None."""
    return identity_labels(dataset) if config.method == "supervised" else None


def identity_labels(dataset: ReIDDataset) -> np.ndarray:
    """(N,) int64: true identities as labels from 0, for the supervised reference row.

    Called by who asks for the supervised reference row, never by the training. KitError
    where a training picture has no identity.
    """
    pids = arrays_of(dataset.train)[1]
    if (pids < 0).any():
        raise KitError(
            "method=supervised needs the identity of every training picture, and this data "
            "set lacks some."
        )
    return np.unique(pids, return_inverse=True)[1].astype(np.int64)
