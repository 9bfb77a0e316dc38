"""P1 to P5: each right-hand side against autograd or an enumeration, to 1e-9 in
float64; and every mutant of one is caught.

A check takes the formulas as an argument. So the same check that passes with `theory`
must fail with a copy of it in which one operator, constant or function was changed: a
check that cannot fail proves nothing.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.losses import dkdmpl as losses
from dkdmpl_kit.losses import dkdmpl_loss, gkd_loss, positive_anchors, theory

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
SLOW = settings(max_examples=30, deadline=None, derandomize=True, database=None)
SEEDS = st.integers(0, 10_000)
WEIGHTS = st.floats(0.0, 5.0)
SCALES = st.floats(0.01, 8.0)


def draw(seed: int, *shape: int, scale: float = 2.0) -> torch.Tensor:
    return scale * torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def integers(seed: int, n: int, k: int) -> torch.Tensor:
    return torch.randint(k, (n,), generator=torch.Generator().manual_seed(seed))


def autograd(loss, logits: torch.Tensor) -> torch.Tensor:
    """Gradient of loss(logits), a scalar."""
    leaf = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf), leaf)[0]


# --- the checks: `t` holds the formulas under test
# --------------------------------------------------------------------


def check_p1_p4(t, seed: int, gkd_weight: float, skd_weight: float) -> None:
    """Value and gradient of the kit's own loss are those of the cross entropy with the
    one mixed label.
    """
    rows, k = 4, 5
    logits, teacher, anchor = (draw(seed + i, rows, k) for i in range(3))
    labels, e, a = integers(seed, rows, k), teacher.softmax(1), anchor.softmax(1)

    def kit(x):
        return dkdmpl_loss(
            x,
            labels,
            teacher_logits=teacher,
            anchor_logits=anchor,
            gkd_weight=gkd_weight,
            skd_weight=skd_weight,
            divergence="kl",
        ).total

    given_ = (logits, labels, e, a, gkd_weight, skd_weight)
    torch.testing.assert_close(
        t.mixed_gradient(*given_) / rows, autograd(kit, logits), **CLOSE
    )
    torch.testing.assert_close(t.mixed_loss(*given_).mean(), kit(logits), **CLOSE)


def check_p2(t, seed: int, gkd_weight: float, share: float, rows: int = 7) -> None:
    """E D(r) from three measured numbers equals the mean distance, row by row, written
    out in Python.
    """
    k = 4
    truth, e = integers(seed, rows, k), draw(seed, rows, k).softmax(1)
    labels = torch.where(
        torch.rand(rows, generator=torch.Generator().manual_seed(seed)) < share,
        (truth + 1) % k,
        truth,
    )
    # lists, a sum of e[y*], a count of right labels
    distances, hard_distances, mass, hits = (
        [],
        [],
        0.0,
        0,
    )
    for y, true, row in zip(labels.tolist(), truth.tolist(), e.tolist(), strict=True):
        hard = [float(y == c) for c in range(k)]
        r = [(h + gkd_weight * p) / (1 + gkd_weight) for h, p in zip(hard, row, strict=True)]
        goal = [float(true == c) for c in range(k)]
        distances.append(sum(abs(x - g) for x, g in zip(r, goal, strict=True)))
        hard_distances.append(sum(abs(x - g) for x, g in zip(hard, goal, strict=True)))
        mass, hits = mass + row[true], hits + (y == true)
    r = losses.mixed_target(labels, e, torch.zeros_like(e), gkd_weight, 0.0)
    torch.testing.assert_close(
        t.deviation(r, truth), torch.tensor(distances, dtype=torch.float64), **CLOSE
    )
    quality = t.teacher_quality(e, labels, truth)
    mean = sum(distances) / rows
    assert t.expected_deviation(*quality, gkd_weight) == pytest.approx(mean, abs=1e-9)
    assert t.expected_deviation(*quality, 0.0) == pytest.approx(
        sum(hard_distances) / rows, abs=1e-9
    )
    gain = t.break_even(*quality)
    # mean e[y*] less the accuracy of the hard label
    assert gain == pytest.approx((mass - hits) / rows, abs=1e-9)
    if gkd_weight > 0.01 and abs(gain) > 1e-6:
        # exactly when it helps, whatever the weight
        assert (gain > 0) == (mean < sum(hard_distances) / rows)


def check_p3(t, seed: int, n: int, scale: float) -> None:
    """The enumeration over all anchors, written out, against every link of the chain;
    and no link is out of order.
    """
    q = draw(seed, n, 5, scale=scale).softmax(1)
    chain = t.consistency_chain(draw(seed, n, 5, scale=scale))
    loss = pinsker = squares = 0.0
    for i, j in itertools.permutations(range(n), 2):
        loss += sum(
            a * math.log(a / b) for a, b in zip(q[i].tolist(), q[j].tolist(), strict=True)
        )
        gaps = [abs(a - b) for a, b in zip(q[i].tolist(), q[j].tolist(), strict=True)]
        pinsker += 0.5 * sum(gaps) ** 2
        squares += sum(g * g for g in gaps)
    pairs = n * (n - 1)
    assert chain["loss"] == pytest.approx(loss / pairs, rel=1e-9, abs=1e-9)
    assert chain["pinsker"] == pytest.approx(pinsker / pairs, rel=1e-9, abs=1e-9)
    # 2n/(n-1) Var, as a mean over pairs
    assert chain["sharp"] == pytest.approx(squares / pairs, rel=1e-9, abs=1e-9)
    assert chain["stated"] == pytest.approx(squares / pairs / 2, rel=1e-9, abs=1e-9)
    links = [chain[name] for name in ("loss", "pinsker", "sharp", "stated")]
    assert all(left >= right - 1e-12 for left, right in itertools.pairwise(links))


def check_p5(t, seed: int, temperature: float, scale: float) -> None:
    """The gradient at any T; its limit to 1e-6, at the T that the bound asks for; the
    bound at every T.
    """
    student, teacher = draw(seed, 3, 5, scale=scale), draw(seed + 1, 3, 5, scale=scale)

    def kit(T):
        return 3 * autograd(lambda x: gkd_loss(x, teacher, temperature=T), student)

    torch.testing.assert_close(
        t.softened_gradient(student, teacher, temperature), kit(temperature), **CLOSE
    )
    limit = t.softened_limit(student, teacher)
    for T in (temperature, 10 * temperature, 1000 * temperature):
        assert bool(
            (
                (kit(T) - limit).abs().sum(1)
                <= t.softened_error_bound(student, teacher, T) + 1e-9
            ).all()
        )
    # the bound at this T is 5e-7
    far = max(1.0, float(theory.softened_error_bound(student, teacher, 5e-7).max()))
    torch.testing.assert_close(kit(far), limit, rtol=0, atol=1e-6)


def check_by_hand(t) -> None:
    """Cases worked on paper; they pin the constants of bounds, which random cases only
    see from one side.
    """
    # 0.5 + 1 * [0.75 * 0.2 - 0.25 * 0.4]
    assert t.expected_deviation(0.25, 0.8, 0.4, 1.0) == pytest.approx(0.55)
    # 0.15 repaired, 0.05 spoilt
    assert t.break_even(0.5, 0.9, 0.3) == pytest.approx(0.1)
    assert t.deviation(torch.tensor([[0.25, 0.5, 0.25]]), torch.tensor([1])).tolist() == [1.0]
    e, ones = torch.tensor([[0.6, 0.4]]), torch.tensor([1])
    # no label is wrong: e_w stands at 0
    assert t.teacher_quality(e, ones, ones) == pytest.approx((0.0, 0.4, 0.0))
    chain = t.consistency_chain(
        torch.tensor([[0.75, 0.25], [0.25, 0.75]], dtype=torch.float64).log()
    )
    expected = {"loss": 0.5 * math.log(3), "pinsker": 0.5, "sharp": 0.5, "stated": 0.25}
    assert chain == pytest.approx(expected)
    student, teacher = torch.tensor([[0.0, 3.0, 1.0]]), torch.tensor([[2.0, 2.0, 1.0]])
    # (9 + 1) / 8
    assert t.softened_error_bound(student, teacher, 2.0).tolist() == [1.25]
    torch.testing.assert_close(
        t.softened_limit(student, teacher), torch.tensor([[-5.0, 4.0, 1.0]]) / 9
    )


# --- they hold
# --------------------------------------------------------------------------------------------------------


@given(seed=SEEDS, gkd_weight=WEIGHTS)
@SLOW
def test_p1_cluster_contrast_with_gkd_is_training_on_the_refined_label(seed, gkd_weight):
    check_p1_p4(theory, seed, gkd_weight, 0.0)


@given(seed=SEEDS, gkd_weight=WEIGHTS, share=st.floats(0.0, 1.0), rows=st.integers(1, 9))
@SLOW
def test_p2_three_numbers_tell_the_expected_deviation_and_the_break_even(
    seed, gkd_weight, share, rows
):
    check_p2(theory, seed, gkd_weight, share, rows)


@given(seed=SEEDS, n=st.integers(2, 6), scale=SCALES)
@SLOW
def test_p3_the_loss_over_all_anchors_bounds_the_variance_link_by_link(seed, n, scale):
    check_p3(theory, seed, n, scale)


@given(seed=SEEDS, gkd_weight=WEIGHTS, skd_weight=WEIGHTS)
@SLOW
def test_p4_the_whole_loss_is_training_on_one_label_of_three_views(
    seed, gkd_weight, skd_weight
):
    check_p1_p4(theory, seed, gkd_weight, skd_weight)


@given(seed=SEEDS, temperature=st.floats(0.2, 20.0), scale=SCALES)
@SLOW
def test_p5_the_softened_gradient_tends_to_centred_logits_within_its_bound(
    seed, temperature, scale
):
    check_p5(theory, seed, temperature, scale)


def test_the_cases_worked_by_hand():
    check_by_hand(theory)


# --- and the edges of what they say
# -----------------------------------------------------------------------------------


def test_the_sharp_constant_of_p3_cannot_be_improved():
    """Two clusters, nearly even labels: the loss comes as close to 2n/(n-1) Var as one
    likes.
    """
    chain = theory.consistency_chain(
        torch.tensor([[1e-3, 0.0], [0.0, 1e-3]], dtype=torch.float64)
    )
    assert 1.0 <= chain["loss"] / chain["sharp"] < 1.0 + 1e-6


def test_p3_needs_natural_logarithms_and_says_nothing_of_a_larger_base():
    """With decimal logarithms the loss is smaller by ln 10: both bounds then fail."""
    chain = theory.consistency_chain(
        torch.tensor([[1e-3, 0.0], [0.0, 1e-3]], dtype=torch.float64)
    )
    assert chain["loss"] / math.log(10) < chain["stated"]


def test_p3_does_not_hold_for_the_hardest_anchor_of_a_feature_space():
    """Least similar features need not have the least similar labels: hardest anchors
    can agree in q while q varies.
    """
    z = torch.tensor(
        [[1.0, 1, 2, 0], [1, 1, -2, 0], [1, -1, 0, 2], [1, -1, 0, -2]], dtype=torch.float64
    )
    z = torch.nn.functional.normalize(z, dim=1)
    # M sees the first two axes only
    memory = torch.tensor([[1.0, 1, 0, 0], [1, -1, 0, 0]], dtype=torch.float64)
    logits = z @ memory.T
    anchor = positive_anchors(z, torch.zeros(4, dtype=torch.long), strategy="hardest")
    hardest = losses.skd_loss(logits, logits[anchor]).item()
    assert hardest < theory.consistency_chain(logits)["stated"]


def test_p1_asks_for_a_temperature_of_one():
    logits, teacher, labels = draw(0, 4, 5), draw(1, 4, 5), integers(0, 4, 5)
    e = teacher.softmax(1)
    softened = autograd(
        lambda x: (
            dkdmpl_loss(
                x, labels, teacher_logits=teacher, skd_weight=0.0, temperature=3.0
            ).total
        ),
        logits,
    )
    assert (
        softened - theory.mixed_gradient(logits, labels, e, e, 0.5, 0.0) / 4
    ).abs().max() > 1e-3


def test_p4_asks_for_the_divergence_kl():
    logits, anchor, labels = draw(0, 4, 5), draw(1, 4, 5), integers(0, 4, 5)
    a = anchor.softmax(1)
    for divergence in ("symmetric_kl", "js"):
        grad = autograd(
            lambda x, d=divergence: (
                dkdmpl_loss(
                    x, labels, anchor_logits=anchor, gkd_weight=0.0, divergence=d
                ).total
            ),
            logits,
        )
        assert (
            grad - theory.mixed_gradient(logits, labels, a, a, 0.0, 0.5) / 4
        ).abs().max() > 1e-3


@given(seed=SEEDS)
@SLOW
def test_a_calibrated_teacher_that_backs_the_hard_label_never_passes_the_break_even(seed):
    """P(y* = k | e) = e_k and y = argmax e: the exact expectation over y* of e[y*] -
    1[y = y*] is |e|_2^2 - max e <= 0.
    """
    e = draw(seed, 1, 4).softmax(1)
    label, gain = e.argmax(1), 0.0
    for k in range(4):
        gain += e[0, k].item() * theory.break_even(
            *theory.teacher_quality(e, label, torch.tensor([k]))
        )
    assert gain == pytest.approx((e.square().sum() - e.max()).item(), abs=1e-12)
    assert gain <= 1e-12


def test_labels_that_are_all_right_or_all_wrong_leave_no_gap():
    e, truth = draw(0, 3, 4).softmax(1), torch.tensor([0, 1, 2])
    assert theory.teacher_quality(e, truth, truth)[::2] == (0.0, 0.0)
    assert theory.teacher_quality(e, truth + 1, truth)[:2] == (1.0, 0.0)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: theory.consistency_chain(torch.zeros(1, 3)), "two members"),
        (lambda: theory.consistency_chain(torch.zeros(3)), "at least one row"),
        (
            lambda: theory.softened_gradient(torch.zeros(1, 3), torch.zeros(1, 3), 0.0),
            "above 0",
        ),
        (
            lambda: theory.softened_error_bound(torch.zeros(1, 3), torch.zeros(1, 3), -1.0),
            "above 0",
        ),
        (lambda: theory.deviation(torch.zeros(2, 3), torch.tensor([0, -1])), "0..2"),
        (
            lambda: theory.teacher_quality(
                torch.zeros(2, 3), torch.tensor([0, 3]), torch.tensor([0, 1])
            ),
            "0..2",
        ),
        (
            lambda: theory.teacher_quality(
                torch.zeros(2, 3), torch.tensor([0.0, 1.0]), torch.tensor([0, 1])
            ),
            "integers",
        ),
    ],
)
def test_bad_input_is_told_in_a_sentence(call, words):
    with pytest.raises(KitError, match=words):
        call()


# --- a perturbed formula fails
# ----------------------------------------------------------------------------------------

SWAPS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
}
NAMES = {
    "softmax": "log_softmax",
    "log_softmax": "softmax",
    "square": "abs",
    "abs": "square",
    "sum": "mean",
    "mean": "sum",
    "amax": "amin",
    "amin": "amax",
    "entr": "expit",
    "symmetric_kl": "js",
}
FORMULAS = (
    "mixed_gradient",
    "mixed_loss",
    "deviation",
    "teacher_quality",
    "break_even",
    "expected_deviation",
    "consistency_chain",
    "softened_gradient",
    "softened_limit",
    "softened_error_bound",
)


def sites(tree: ast.AST):
    """(node, attribute, new value, words) of every single change; bad-input branches
    and docstrings are left alone.
    """
    if isinstance(tree, ast.If):
        return
    if isinstance(tree, ast.BinOp) and type(tree.op) in SWAPS:
        new = SWAPS[type(tree.op)]
        yield tree, "op", new(), f"{type(tree.op).__name__} -> {new.__name__}"
    elif isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        yield tree, "op", ast.UAdd(), "minus dropped"
    elif isinstance(tree, ast.Compare) and isinstance(tree.ops[0], (ast.Eq, ast.NotEq)):
        new = ast.Eq if isinstance(tree.ops[0], ast.NotEq) else ast.NotEq
        yield tree, "ops", [new()], f"-> {new.__name__}"
    elif isinstance(tree, ast.Constant) and isinstance(tree.value, float):
        yield tree, "value", tree.value + 1.0, f"{tree.value} -> {tree.value + 1.0}"
    elif isinstance(tree, ast.Constant) and tree.value in NAMES:
        yield tree, "value", NAMES[tree.value], f"{tree.value} -> {NAMES[tree.value]}"
    elif isinstance(tree, ast.Attribute) and tree.attr in NAMES:
        yield tree, "attr", NAMES[tree.attr], f"{tree.attr} -> {NAMES[tree.attr]}"
    for child in ast.iter_child_nodes(tree):
        yield from sites(child)


def mutants():
    """(words, namespace of formulas) for every single change of a formula of `theory`
    and of `losses.mixed_target`.
    """
    for module, name in [(theory, name) for name in FORMULAS] + [(losses, "mixed_target")]:
        source = inspect.getsource(getattr(module, name))
        for number in range(len(list(sites(ast.parse(source))))):
            tree = ast.parse(source)
            node, attribute, value, words = list(sites(tree))[number]
            line = node.lineno
            setattr(node, attribute, value)
            space = dict(vars(module))
            exec(compile(ast.fix_missing_locations(tree), name, "exec"), space)
            yield pytest.param(name, space[name], id=f"{name}:{line}: {words}")


def with_mutant(name: str, function) -> SimpleNamespace:
    """The formulas of `theory` with one function replaced, also where another formula
    calls it.
    """
    space = dict(vars(theory))
    source = "from __future__ import annotations\n" + "\n".join(
        inspect.getsource(getattr(theory, f)) for f in FORMULAS
    )
    exec(compile(source, "theory", "exec"), space)
    space[name] = function
    return SimpleNamespace(**{f: space[f] for f in FORMULAS})


def run_all_checks(t) -> None:
    for seed in range(3):
        check_p1_p4(t, seed, 0.7, 0.0)
        check_p1_p4(t, seed, 0.7, 1.9)
        check_p2(t, seed, 0.7, 0.5)
        check_p3(t, seed, 4, 2.0)
        check_p5(t, seed, 3.0, 2.0)
    check_by_hand(t)


def test_the_checks_pass_with_an_unchanged_copy():
    run_all_checks(with_mutant("break_even", theory.break_even))


@pytest.mark.parametrize("name, mutant", mutants())
def test_a_perturbed_formula_fails(name, mutant):
    # not any error: the mutant runs, and its number is wrong
    with pytest.raises(AssertionError):
        run_all_checks(with_mutant(name, mutant))


def test_there_are_mutants_of_every_formula():
    named = [param.values[0] for param in mutants()]
    assert set(named) == {*FORMULAS, "mixed_target"} and len(named) >= 60


def test_one_pictures_case_holds_p4_where_it_says_so_and_only_there():
    query, teacher, anchor = draw(3, 3, 7)
    for temperature, divergence, gkd_weight, exact in (
        (1.0, "kl", 0.7, True),
        (2.0, "kl", 0.7, False),
        (2.0, "kl", 0.0, True),
        (1.0, "js", 0.7, False),
        (1.0, "symmetric_kl", 0.7, False),
    ):
        case = theory.label_case(
            query,
            4,
            teacher,
            anchor,
            gkd_weight=gkd_weight,
            skd_weight=1.9,
            temperature=temperature,
            divergence=divergence,
        )
        assert case.exact is exact is torch.allclose(case.gradient, case.mixed, **CLOSE)
        assert ("ends at r3" in case.verdict) is exact
        loss = autograd(
            lambda leaf, g=gkd_weight, t=temperature, d=divergence: (
                dkdmpl_loss(
                    leaf,
                    torch.tensor([4]),
                    teacher_logits=teacher[None],
                    anchor_logits=anchor[None],
                    gkd_weight=g,
                    skd_weight=1.9,
                    temperature=t,
                    divergence=d,
                ).total
            ),
            query[None],
        )
        torch.testing.assert_close(case.gradient[None], loss, **CLOSE)
        assert case.total == pytest.approx(
            sum(value * weight for value, weight in case.losses.values()), rel=1e-12
        )
        r3 = (
            torch.eye(7, dtype=torch.float64)[4]
            + gkd_weight * teacher.softmax(0)
            + 1.9 * anchor.softmax(0)
        )
        torch.testing.assert_close(case.views["r3"], r3 / (2.9 + gkd_weight), **CLOSE)


def test_an_outliers_case_has_views_alone_and_without_an_anchor_skd_is_left_out():
    query, teacher, anchor = draw(4, 3, 5)
    case = theory.label_case(query, -1, teacher, anchor)
    assert (
        list(case.views) == ["e", "q", "a"]
        and case.losses == {}
        and case.total is case.gradient is None
    )
    assert case.verdict == "" and not case.exact
    case = theory.label_case(query, 1, teacher, skd_weight=9.0)
    assert list(case.losses) == ["L_CC", "L_GKD"] and case.exact
    torch.testing.assert_close(
        case.gradient, 1.5 * (query.softmax(0) - case.views["r3"]), **CLOSE
    )
