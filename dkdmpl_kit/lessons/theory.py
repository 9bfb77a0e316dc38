"""What notebook 08 needs around its propositions: batches as training draws them, autograd as
the judge of a formula, invented worlds with a known truth, and the error of a mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array
from torch import Tensor

from dkdmpl_kit.clustering import rows_of
from dkdmpl_kit.data import pk_batches
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.lessons.views import student_views
from dkdmpl_kit.losses import dkdmpl_loss, teacher_logits
from dkdmpl_kit.losses.theory import softened_error_bound, softened_gradient, softened_limit
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.training.seeds import generator_for

TOLERANCE = 1e-6  # of a formula in 64 bits: a larger difference is not rounding
Loss = Callable[[Tensor], Tensor]


def drawn_batches(
    stage: Stage, encoder: torch.nn.Module, labels: np.ndarray, count: int = 6
) -> tuple[list[np.ndarray], list[Tensor]]:
    """Batches as training draws them from hard labels (N,): the pictures' indices (B,), and
    the student's features (B, d) of them in float64, rows of norm 1.
    """
    config = stage.config
    draws = generator_for(config.seed, 0, "theory")
    batches = pk_batches(
        labels,
        stage.camids,
        clusters_per_batch=config.batch_clusters,
        images_per_cluster=config.batch_images,
        iterations=count,
        sampler=config.sampler if stage.has_cameras else "random",
        generator=draws,
    )
    pictures, features = [], []
    encoder = encoder.cpu().train()
    with torch.no_grad():
        for batch in batches:
            seen = student_views(stage, batch, draws)
            pictures.append(batch)
            features.append(F.normalize(encoder(seen).double(), dim=1))
    return pictures, features


def random_case(generator: torch.Generator, rows: int = 64, clusters: int = 12) -> dict:
    """Random logits "l", "t", "l_a" (rows, clusters) and labels "y" (rows,)."""
    case = {
        name: 3 * torch.randn(rows, clusters, generator=generator, dtype=torch.float64)
        for name in ("l", "t", "l_a")
    }
    return {**case, "y": torch.randint(clusters, (rows,), generator=generator)}


def random_clusters(generator: torch.Generator, count: int = 300) -> list[Tensor]:
    """Logits (n, 12) of 2 to 8 members each, from nearly even labels to nearly certain ones."""
    sizes = torch.randint(2, 9, (count,), generator=generator).tolist()
    spreads = torch.logspace(-1, 1, count).tolist()
    return [
        spread * torch.randn(n, 12, generator=generator, dtype=torch.float64)
        for n, spread in zip(sizes, spreads)
    ]


def gradient_of(loss: Loss, logits: Tensor) -> Tensor:
    """What autograd says of d loss(logits) / d logits, of the shape of logits."""
    leaf = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf), leaf)[0]


def loss_of(
    case: Mapping[str, Tensor],
    gkd_weight: float,
    skd_weight: float = 0.0,
    divergence: str = "kl",
) -> Loss:
    """The kit's own loss of a case, as a function of the student's logits; the teacher's
    and the anchor's are held still.
    """
    return lambda logits: (
        dkdmpl_loss(
            logits,
            case["y"],
            teacher_logits=case["t"],
            anchor_logits=case["l_a"],
            gkd_weight=gkd_weight,
            skd_weight=skd_weight,
            divergence=divergence,
        ).total
    )


def worst(a: object, b: object) -> float:
    """The largest difference of two tensors; AssertionError above `TOLERANCE`."""
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    difference = float((a - b).abs().max())
    if not difference < TOLERANCE:
        raise AssertionError(f"the formula is off by {difference:.2e}")
    return difference


def descent(loss: Loss, logits: Tensor, steps: int = 600, rate: float = 0.5) -> Tensor:
    """Gradient descent on one row of logits (1, K): q after every step, (steps + 1, K)."""
    seen = [logits.softmax(1)]
    for _ in range(steps):
        logits = logits - rate * gradient_of(loss, logits)
        seen.append(logits.softmax(1))
    return torch.cat(seen)


def approach(student: Tensor, teacher: Tensor, temperatures: np.ndarray) -> dict[str, object]:
    """How P5's gradient comes near its limit, over temperatures (n,), for logits (B, K).

    "norms", "distance", "bound": (n,), the mean norm of the gradient, and the median over
    rows of its distance from the limit and of P5's bound, both relative to the limit's size.
    "limit": the mean norm of the limit. "near": the temperature from which on the distance
    is at most 0.1; None where the last is still further away.
    """
    limit = softened_limit(student, teacher)
    size = limit.abs().sum(1)
    rows = []
    for temperature in temperatures.tolist():
        gradient = softened_gradient(student, teacher, temperature)
        distance = (gradient - limit).abs().sum(1) / size
        bound = softened_error_bound(student, teacher, temperature) / size
        rows.append([float(gradient.norm(dim=1).mean()), distance.median(), bound.median()])
    norms, distance, bound = np.array(rows, dtype=float).T
    outside = np.flatnonzero(~(distance <= 0.1))
    first = outside[-1] + 1 if len(outside) else 0
    return {
        "norms": norms,
        "distance": distance,
        "bound": bound,
        "limit": float(limit.norm(dim=1).mean()),
        "near": float(temperatures[first]) if first < len(temperatures) else None,
    }


def invented_worlds(
    generator: torch.Generator,
) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """{name: (e (n, K), y (n,), truth (n,))}: teacher, hard labels and true clusters.

    "30 % wrong": the teacher knows something of the truth and something of the label.
    "calibrated": the truth is drawn from the teacher's own probabilities, and the label is
    its favourite.
    """
    truth = torch.randint(12, (800,), generator=generator)
    shift = torch.randint(1, 12, (800,), generator=generator)
    labels = (truth + (torch.rand(800, generator=generator) < 0.3) * shift) % 12
    logits = 1.5 * torch.randn(800, 12, generator=generator, dtype=torch.float64)
    knowing = (logits + 1.5 * F.one_hot(truth, 12) + 3 * F.one_hot(labels, 12)).softmax(1)
    honest = 1.5 * torch.randn(5000, 6, generator=generator, dtype=torch.float64)
    honest = honest.softmax(1)
    drawn = torch.multinomial(honest, 1, generator=generator)[:, 0]
    return {
        "30 % wrong": (knowing, labels, truth),
        "calibrated": (honest, honest.argmax(1), drawn),
    }


def teachers_of(
    stage: Stage,
    memory: ClusterMemory,
    features: Tensor,
    soft: csr_array,
    labels: np.ndarray,
    pictures: np.ndarray,
) -> dict[str, Tensor]:
    """{"sample", "vote": e (n, K)} of training pictures (n,) by index: the default teacher,
    and the clustering's soft labels (N, K) of `views.soft_labels_of`. features (N, d).
    """
    logits = teacher_logits(
        "sample",
        centroids=memory.centroids,
        features=features[pictures],
        temperature=stage.config.teacher_temperature,
    )
    vote = torch.from_numpy(rows_of(soft, pictures, labels)).double()
    return {"sample": logits.double().softmax(1), "vote": vote / vote.sum(1, keepdim=True)}


def mean_and_error(values: object, groups: np.ndarray) -> np.ndarray:
    """(2, k): mean of values (n, k), and its standard error when the rows of one group (n,)
    count as one draw (a person's pictures are not independent).
    """
    values = np.asarray(values, dtype=float)
    mean = values.mean(0)
    member = np.unique(groups, return_inverse=True)[1]
    sums = np.zeros((member.max() + 1, values.shape[1]))
    np.add.at(sums, member, values - mean)
    return np.stack([mean, np.sqrt(np.square(sums).sum(0)) / len(values)])


def verdict_of(mean: float, error: float) -> str:
    """ "nearer" or "further" (from the truth), or "undecided": a gain within two standard
    errors of 0, or one that rounds to 0.000.
    """
    if abs(mean) <= 2 * error or abs(mean) < 0.0005:
        return "undecided"
    return "nearer" if mean > 0 else "further"


def verdicts(
    found: Mapping[str, np.ndarray],
) -> tuple[dict[str, list[str]], str]:
    """{teacher: (2, 3)}, means and errors by l1, Brier, log, as words {teacher: [3]} and as a
    sentence with the numbers.
    """
    words, said = {}, []
    for name, (means, errors) in found.items():
        pairs = list(zip(means.tolist(), errors.tolist()))
        words[name] = [verdict_of(mean, error) for mean, error in pairs]
        numbers = ", ".join(
            f"{word} ({mean:+.4f} ± {2 * error:.4f})"
            for word, (mean, error) in zip(words[name], pairs)
        )
        agree = "they agree" if len(set(words[name])) == 1 else "they do not agree"
        said.append(f"`{name}` {numbers}: {agree}")
    return words, "; ".join(said) + "."


def ruler_title(name: str, rulers: Tensor) -> str:
    """The heading of a label: its name, and its l1, Brier and log (3,) to the truth."""
    numbers = "ℓ1 {:.2f}, Brier {:.2f}, log {:.2f}".format(*rulers.tolist())
    return f"{name}\n{numbers}".replace("inf", "∞")
