"""The loop's own loss: which views it makes, and that it is `dkdmpl_loss` of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array

from dkdmpl_kit.clustering import PseudoLabels
from dkdmpl_kit.data import ImageStore, arrays_of, to_float
from dkdmpl_kit.experiment import METHODS, OPTIONS
from dkdmpl_kit.experiment.config import SPARSE_TEACHERS
from dkdmpl_kit.losses import (
    anchor_features,
    carry_posterior,
    dkdmpl_loss,
)
from dkdmpl_kit.losses.rivals import NEEDS, refined_labels
from dkdmpl_kit.training import Run, fit, new_state
from dkdmpl_kit.training.batches import augmented
from dkdmpl_kit.training.objective import Objective, new_memory
from dkdmpl_kit.training.optimisation import needs_ema
from dkdmpl_kit.training.probe import Probe

LABELS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, -1, -1])
EARLIER = np.array([1, 1, 0, 0, 0, 0, 1, 1, 1, 0, -1, 0])
BATCH = np.array([0, 2, 3, 5, 6, 9])
# (12, 3): what a clustering might hand over; row 11 has no vote
SOFT = np.array([[0.6, 0.4, 0.0], [0.0, 0.5, 0.5], [0.1, 0.1, 0.8]])[[*range(3)] * 4]
SOFT[11] = 0.0


@pytest.fixture(scope="module")
def store(tiny_config, tiny_dataset):
    paths = arrays_of(tiny_dataset.train)[0][: len(LABELS)]
    return ImageStore(paths, tiny_config.height, tiny_config.width, progress=False)


@pytest.fixture
def made(tiny_config, tiny_dataset, store):
    """settings -> (objective, pictures of BATCH, their features z), v drawn at random."""

    def make(previous=None, labels=LABELS, **settings):
        config = tiny_config.replace(**settings)
        run = Run(config, None, tiny_dataset.unlabelled(), store)
        state = new_state(config, "cpu")
        state.previous = previous
        draws = torch.Generator().manual_seed(5)
        random = torch.Generator().manual_seed(0)
        v = F.normalize(torch.randn(len(labels), state.encoder.dim, generator=random), dim=1)
        memory = new_memory(run, v, torch.from_numpy(labels))
        soft = csr_array(SOFT) if config.teaches_sparsely else None
        pseudo = PseudoLabels(labels, int(labels.max()) + 1, 0.0, soft=soft)
        objective = Objective(run, state, memory, v, pseudo, draws, Probe())
        pictures = augmented(run, BATCH, draws)
        return objective, pictures, state.encoder(pictures).float()

    return make


def softmax(x):
    return torch.softmax(x, dim=1)


def expected_teacher(objective, v, previous):
    """e_i of METHOD.md as logits, by hand: the loop must not have a teacher of its own."""
    config = objective.run.config
    centroids = [F.normalize(v[LABELS == k].sum(0), dim=0) for k in range(3)]
    c, tau_t = torch.stack(centroids), config.teacher_temperature
    if config.gkd_teacher in SPARSE_TEACHERS:
        return torch.from_numpy(SOFT[BATCH]).float().clamp_min(1e-8).log()
    if config.gkd_teacher == "sample":
        return v[BATCH] @ c.T / tau_t
    if config.gkd_teacher == "cluster":
        return c[LABELS[BATCH]] @ c.T / tau_t
    if previous is None:
        return softmax(v[BATCH] @ c.T / tau_t).log()
    old_labels, posterior = previous
    return carry_posterior(torch.from_numpy(posterior), old_labels, LABELS)[BATCH].log()


def expected_anchor(objective, pictures, z, draws):
    """The second view's features, by hand."""
    run, state = objective.run, objective.state
    strategy = run.config.skd_anchor
    if strategy == "augmentation":
        return state.encoder(augmented(run, BATCH, draws)).float()
    if strategy == "ema":
        return state.ema(pictures).float()
    y = torch.from_numpy(LABELS[BATCH])
    cameras = torch.from_numpy(run.images.camids[BATCH])
    return anchor_features(z, y, strategy=strategy, generator=draws, cameras=cameras)


TEACHERS = [*OPTIONS["gkd_teacher"], "consensus with a past"]
PAIRS = itertools.product(TEACHERS, OPTIONS["skd_anchor"])


@pytest.mark.parametrize(
    ("teacher", "anchor", "divergence"),
    # every pair of a teacher and an anchor, and every divergence with each of them
    [
        (*pair, divergence)
        for pair, divergence in zip(PAIRS, itertools.cycle(OPTIONS["skd_divergence"]))
    ]
    + [("sample", "hardest", divergence) for divergence in OPTIONS["skd_divergence"][1:]],
)
def test_the_loops_objective_is_the_loss_of_the_method(teacher, anchor, divergence, made):
    past = None
    if teacher == "consensus with a past":
        teacher = "consensus"
        random = torch.Generator().manual_seed(1)
        past = (EARLIER, softmax(torch.randn(len(LABELS), 2, generator=random)).numpy())
    objective, pictures, z = made(
        past,
        method="dkdmpl",
        gkd_teacher=teacher,
        skd_anchor=anchor,
        skd_divergence=divergence,
        distillation_temperature=2.0,
        gkd_weight=0.7,
        skd_weight=0.4,
    )
    config, memory = objective.run.config, objective.memory
    draws = torch.Generator()
    draws.set_state(objective.draws.get_state())  # the objective draws what we draw here
    second = expected_anchor(objective, pictures, z, draws)
    expected = dkdmpl_loss(
        z @ memory.features.T / config.temperature,
        torch.from_numpy(LABELS[BATCH]),
        teacher_logits=expected_teacher(objective, objective.v, past),
        anchor_logits=second @ memory.features.T / config.temperature,
        gkd_weight=0.7,
        skd_weight=0.4,
        temperature=2.0,
        divergence=divergence,
    )
    loss = objective(BATCH, pictures, z)
    for name in ("total", "cluster_contrast", "gkd", "skd"):
        torch.testing.assert_close(
            getattr(loss, name), getattr(expected, name), rtol=1e-4, atol=1e-5, msg=name
        )
    assert loss.gkd > 0 and loss.skd > 0


def test_outliers_are_taught_by_gkd_alone_and_leave_the_memory_as_it_is(made):
    objective, pictures, _ = made(
        method="dkdmpl", gkd_teacher="vote", outliers="teach", gkd_weight=0.7, skd_weight=0.4
    )
    batch = np.array([0, 2, 3, 5, 10, 9])  # 10 is an outlier
    z = F.normalize(torch.randn(6, objective.memory.features.shape[1]), dim=1)
    z.requires_grad_()
    loss = objective(batch, pictures, z)
    known = [0, 1, 2, 3, 5]
    temperature = objective.run.config.temperature
    q = (z @ objective.memory.features.T / temperature).log_softmax(1)
    hard = -q[known, torch.from_numpy(LABELS[batch[known]])].mean()
    torch.testing.assert_close(loss.cluster_contrast, hard)
    for term, taught in ((loss.cluster_contrast, False), (loss.gkd, True), (loss.skd, False)):
        (gradient,) = torch.autograd.grad(term, z, retain_graph=True)
        assert bool(gradient[4].any()) is taught
    before = objective.memory.features.clone()
    objective.memory.remember(z[4:5].detach(), torch.tensor([10]))
    assert torch.equal(objective.memory.features, before)


def test_loss_scale_multiplies_the_whole_loss(made):
    losses = [
        objective(BATCH, pictures, z).total
        for objective, pictures, z in (
            made(method="dkdmpl", loss_scale=s) for s in (1.0, 1.75)
        )
    ]
    torch.testing.assert_close(losses[1], 1.75 * losses[0])


@pytest.mark.parametrize(
    ("method", "weights"),
    [
        ("cluster_contrast", (0, 0)),
        ("gkd", (0.7, 0)),
        ("skd", (0, 0.4)),
        ("supervised", (0, 0)),
    ],
)
def test_a_method_has_the_terms_that_its_name_says(method, weights, made):
    objective, pictures, z = made(method=method, gkd_weight=0.7, skd_weight=0.4)
    loss = objective(BATCH, pictures, z)
    assert (loss.gkd > 0, loss.skd > 0) == (weights[0] > 0, weights[1] > 0)
    torch.testing.assert_close(
        loss.total, loss.cluster_contrast + weights[0] * loss.gkd + weights[1] * loss.skd
    )


def test_every_rival_is_a_method_and_every_other_method_a_loss_of_the_kit():
    own = {"cluster_contrast", "gkd", "skd", "dkdmpl", "supervised"}
    assert set(METHODS) - set(NEEDS) == own
    assert set(NEEDS) < set(METHODS)


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(NEEDS))
def test_each_rival_trains_and_changes_the_encoder_in_its_own_way(
    method, tiny_config, tiny_dataset, tmp_path
):
    config = tiny_config.replace(method=method, out_dir=str(tmp_path), epochs=2)
    result = fit(config, tiny_dataset, progress=False)
    for record in result.history:
        assert np.isfinite(record["loss"]) and record["loss_gkd"] == record["loss_skd"] == 0
    plain = fit(config.replace(method="cluster_contrast"), tiny_dataset, progress=False)
    weight = next(p for p in result.encoder.parameters() if p.requires_grad)
    other = next(p for p in plain.encoder.parameters() if p.requires_grad)
    assert not torch.equal(weight, other)


def test_the_rivals_views_are_those_of_the_ema_encoder_without_gradient(made, store):
    objective, _, z = made(method="ice")
    views = objective.rival_views(BATCH, z)
    assert set(views) == {"z", "ema_z", "plain_z"} and views["z"] is z
    with torch.no_grad():
        plain = objective.state.ema(to_float(store.batch(BATCH)))
    torch.testing.assert_close(views["plain_z"], plain)
    assert not views["ema_z"].requires_grad
    assert not torch.equal(views["ema_z"], views["plain_z"])
    objective, _, z = made(method="mmt")
    views = objective.rival_views(BATCH, z)
    torch.testing.assert_close(
        views["ema_logits"],
        views["ema_z"] @ objective.memory.features.T / objective.run.config.temperature,
    )
    objective, _, z = made(method="rlcc")
    assert objective.rival_views(BATCH, z) == {"z": z, "carried": None}


@pytest.mark.parametrize(
    "method, anchor, expected",
    [
        ("mmt", "hardest", True),
        ("hdcpd", "hardest", True),
        ("ice", "hardest", True),
        ("rlcc", "hardest", False),
        ("spcl", "ema", False),
        ("dkdmpl", "ema", True),
        ("dkdmpl", "hardest", False),
        ("cluster_contrast", "ema", False),
    ],
)
def test_the_ema_encoder_exists_only_where_a_method_asks_for_it(
    method, anchor, expected, tiny_config
):
    assert needs_ema(tiny_config.replace(method=method, skd_anchor=anchor)) is expected


def test_rlccs_labels_are_last_epochs_refined_and_carried_over(made):
    first, _, _ = made(method="rlcc", labels=EARLIER)
    assert first.posterior is None  # there is nothing to carry yet
    tau_t = first.run.config.teacher_temperature
    own = softmax(first.v @ first.memory.centroids.T / tau_t)
    kept_labels, kept = first.state.previous
    torch.testing.assert_close(torch.from_numpy(kept), own)
    second, _, z = made(first.state.previous, method="rlcc")
    refined = refined_labels(torch.from_numpy(EARLIER), own)
    carried = carry_posterior(refined, EARLIER, LABELS)
    torch.testing.assert_close(second.posterior, carried)
    torch.testing.assert_close(second.rival_views(BATCH, z)["carried"], carried[BATCH])
    assert (second.state.previous[0] == LABELS).all()
