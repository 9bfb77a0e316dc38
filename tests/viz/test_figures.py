"""The pictures: what stands in them, what they say where nothing is known, and how they
show themselves.
"""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from dkdmpl_kit import viz
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import METHOD_LABELS

PNG = b"\x89PNG\r\n\x1a\n"
RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (12, 3, 16, 8), dtype=np.uint8)
PIDS = np.repeat([3, 5, 9], 4)
CAMIDS = np.tile([0, 1, 0, 1], 3)


def texts(figure) -> str:
    """All words of a figure, on one line."""
    figure.draw_without_rendering()
    found = [t.get_text() for t in figure.findobj(matplotlib.text.Text)]
    return " ".join(" ".join(found).split())


def frames(ax) -> list[str]:
    return [to_hex(p.get_edgecolor()).upper() for p in ax.patches if isinstance(p, Rectangle)]


def softmax(x):
    e = np.exp(x - np.max(x))
    return e / e.sum()


# ---------------------------------------------------------------- style, display,
# saving


def test_the_palette_keeps_its_fixed_meanings():
    assert {name: viz.METHOD_COLOURS[name] for name in list(viz.METHOD_COLOURS)[:6]} == {
        "untrained": "#999999",
        "cluster_contrast": "#0072B2",
        "gkd": "#E69F00",
        "skd": "#009E73",
        "dkdmpl": "#D55E00",
        "supervised": "#666666",
    }
    assert set(viz.METHOD_COLOURS) == set(METHOD_LABELS)
    assert viz.VIEW_COLOURS == {
        "hard": "#000000",
        "e": "#E69F00",
        "q": "#0072B2",
        "a": "#009E73",
        "r3": "#CC79A7",
    }
    assert (
        viz.PALETTE["right"],
        viz.PALETTE["wrong"],
        viz.PALETTE["junk"],
        viz.PALETTE["outlier"],
    ) == ("#009E73", "#D55E00", "#999999", "#BBBBBB")


def test_every_public_name_is_there():
    assert all(hasattr(viz, name) for name in viz.__all__)


def test_a_dark_theme_of_the_notebook_does_not_reach_the_picture():
    plain = viz.figure_png(viz.result_bars({"dkdmpl": [0.5, 0.6]}, title="Result"))
    with matplotlib.rc_context(
        {
            "figure.facecolor": "black",
            "axes.facecolor": "black",
            "text.color": "white",
            "savefig.facecolor": "black",
            "xtick.labelcolor": "white",
            "font.size": 4,
        }
    ):
        dark = viz.figure_png(viz.result_bars({"dkdmpl": [0.5, 0.6]}, title="Result"))
        assert matplotlib.rcParams["font.size"] == 4
    assert dark == plain


def test_drawing_leaves_the_callers_settings_alone():
    before = dict(matplotlib.rcParams)
    viz.figure_png(viz.eps_curve([0.5], [3], [0.1]))
    assert dict(matplotlib.rcParams) == before


NOTEBOOK = """
import sys, nbformat
from nbclient import NotebookClient
cells = [
    "import numpy as np\\nfrom dkdmpl_kit import viz\\nviz.eps_curve([0.5], [3], [0.1])",
    "figure = viz.eps_curve([0.5], [3], [0.1])\\nNone",
    "import matplotlib.pyplot as plt\\nplt.style.use('dark_background')\\nviz.eps_curve([0.5], [3], [0.1])",
    "%matplotlib inline\\nviz.eps_curve([0.5], [3], [0.1])",
]
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
NotebookClient(book, timeout=60, kernel_name="python3").execute()
for cell in book.cells:
    print(sum("image/png" in output.get("data", {}) for output in cell.outputs), len(cell.outputs))
"""


def test_an_executed_notebook_shows_each_figure_exactly_once():
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:4] == ["1 1", "0 0", "1 1", "1 1"]


def test_a_saved_figure_has_its_record_beside_it_and_leaves_nothing_else(tmp_path):
    figure = viz.result_bars({"dkdmpl": [0.5]})
    record = {
        "seed": np.int64(3),
        "eps": 0.6,
        "values": np.array([1, 2]),
        "data": "abc",
        "where": tmp_path / "x",
    }
    path = viz.save_figure(figure, tmp_path / "new" / "bars.png", metadata=record)
    assert path.read_bytes().startswith(PNG)
    assert json.loads(path.with_suffix(".json").read_text()) == {
        "seed": 3,
        "eps": 0.6,
        "values": [1, 2],
        "data": "abc",
        "where": str(tmp_path / "x"),
    }
    assert sorted(p.name for p in path.parent.iterdir()) == ["bars.json", "bars.png"]


def test_saving_the_same_figure_twice_gives_the_same_bytes(tmp_path):
    one, two = (
        viz.save_figure(viz.result_bars({"gkd": [0.5]}), tmp_path / f"{k}.png", metadata={})
        for k in "ab"
    )
    assert one.read_bytes() == two.read_bytes()


def test_saving_refuses_other_formats_and_metadata_that_is_not_json(tmp_path):
    figure = viz.result_bars({"gkd": [0.5]})
    with pytest.raises(KitError, match="must end in .png"):
        viz.save_figure(figure, tmp_path / "a.pdf", metadata={})
    with pytest.raises(KitError, match="cannot be written as JSON"):
        viz.save_figure(figure, tmp_path / "a.png", metadata={"x": object()})
    (tmp_path / "file").write_text("")
    with pytest.raises(KitError, match="Cannot write"):
        viz.save_figure(figure, tmp_path / "file" / "a.png", metadata={})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


# ---------------------------------------------------------------- pictures


def test_the_contact_sheet_puts_each_picture_at_its_identity_and_camera():
    figure = viz.contact_sheet(PICTURES, rows=PIDS, columns=CAMIDS)
    image = figure.axes[0].images[0].get_array()
    corner = np.argwhere(
        (image[:, :, None] == PICTURES[4].transpose(1, 2, 0)[0, 0]).all(-1).any(-1)
    )
    assert len(corner)  # identity 5, camera 0: second row, first column
    row, column = corner[0]
    assert np.array_equal(
        image[row : row + 16, column : column + 8], PICTURES[4].transpose(1, 2, 0)
    )
    assert 16 < row < 32
    assert column < 8
    words = texts(figure)
    assert all(
        part in words
        for part in ("identity 3", "identity 5", "identity 9", "camera 1", "camera 2")
    )
    assert "camera 0" not in words


def test_the_contact_sheet_takes_either_layout_and_tensors():
    one = viz.contact_sheet(PICTURES, rows=PIDS).axes[0].images[0].get_array()
    two = (
        viz.contact_sheet(PICTURES.transpose(0, 2, 3, 1), rows=PIDS)
        .axes[0]
        .images[0]
        .get_array()
    )
    three = (
        viz.contact_sheet(torch.from_numpy(PICTURES), rows=PIDS).axes[0].images[0].get_array()
    )
    assert np.array_equal(one, two)
    assert np.array_equal(one, three)


def test_the_contact_sheet_says_that_identities_are_unknown():
    figure = viz.contact_sheet(PICTURES, frames=["#0072B2"] + [None] * 11)
    assert "True identities are not known" in texts(figure)
    assert frames(figure.axes[0]) == ["#0072B2"]


def test_an_empty_contact_sheet_says_so():
    assert "No pictures to show" in texts(viz.contact_sheet(PICTURES[:0]))


def test_pictures_of_a_wrong_shape_type_or_number_are_refused():
    with pytest.raises(KitError, match=r"shape \(12, 16, 8\)"):
        viz.contact_sheet(PICTURES[:, 0])
    with pytest.raises(KitError, match="float64"):
        viz.contact_sheet(PICTURES / 255.0)
    with pytest.raises(KitError, match="lengths differ"):
        viz.contact_sheet(PICTURES, rows=PIDS[:3])


def test_the_ranking_marks_right_wrong_and_junk_by_colour_and_by_sign():
    matches, junk = (
        np.array([[True, False, True], [False, False, True]]),
        np.zeros((2, 3), bool),
    )
    junk[0, 2] = True
    figure = viz.ranking_grid(
        PICTURES[:2], PICTURES[:6].reshape(2, 3, 3, 16, 8), matches, junk
    )
    right, wrong, grey = viz.PALETTE["right"], viz.PALETTE["wrong"], viz.PALETTE["junk"]
    assert frames(figure.axes[0]) == [
        "#000000",
        right,
        wrong,
        grey,
        "#000000",
        wrong,
        wrong,
        right,
    ]
    assert [t.get_text() for t in figure.axes[0].texts if t.get_text() in "✓✗–"] == list(
        "✓✗–✗✗✓"
    )
    assert "1 of 2 first places are right" in texts(figure)


def test_the_ranking_of_unknown_identities_marks_nothing_and_says_why():
    figure = viz.ranking_grid(PICTURES[:1], PICTURES[None, :4], None)
    assert frames(figure.axes[0]) == ["#000000"]
    assert "True identities are not known" in texts(figure)


def test_the_ranking_handles_no_queries_and_refuses_marks_of_a_wrong_shape():
    assert "No queries" in texts(viz.ranking_grid(PICTURES[:0], PICTURES[:0][None][:0], None))
    with pytest.raises(KitError, match="junk has shape"):
        viz.ranking_grid(PICTURES[:1], PICTURES[None, :4], np.ones((1, 4)), np.ones((1, 3)))


def row(cluster, text, *images):
    return SimpleNamespace(cluster=cluster, text=text, images=np.array(images))


def test_the_gallery_frames_each_rows_identities_and_leaves_outliers_grey():
    rows = [row(0, "purest:\ncluster 0", 0, 1, 2), row(-1, "outliers:\n2", 10, 11)]
    pids = np.where(np.arange(12) == 1, 9, 7)
    pids[2] = -1
    figure = viz.cluster_gallery(PICTURES, rows, pids)
    names = [t.get_text() for t in figure.axes[0].texts if "\n" in t.get_text()]
    assert names == ["purest:\ncluster 0", "outliers:\n2"]
    marks = [t.get_text() for t in figure.axes[0].texts if len(t.get_text()) == 1]
    assert marks == ["A", "B", "?"]
    assert frames(figure.axes[0])[-3:] == [viz.PALETTE["outlier"]] * 3


def test_the_gallery_calls_the_first_identity_of_a_row_a_even_where_it_is_not_the_smallest():
    pids = np.array([9, 9, 7, 7] * 3)
    figure = viz.cluster_gallery(PICTURES, [row(0, "a\nb", 0, 1, 2, 3)], pids)
    marks = [t.get_text() for t in figure.axes[0].texts if len(t.get_text()) == 1]
    assert marks == ["A", "A", "B", "B"]


def test_the_gallery_says_what_is_unknown_or_missing():
    words = texts(viz.cluster_gallery(PICTURES, [row(0, "largest:", 0, 1)], np.full(12, -1)))
    assert "True identities are not known" in words
    assert "No clusters" in texts(viz.cluster_gallery(PICTURES, [row(-1, "outliers:", 1)]))
    assert "No pictures" in texts(viz.cluster_gallery(PICTURES, []))


# ---------------------------------------------------------------- maps and matrices


def test_a_map_draws_outliers_in_grey_and_clusters_in_different_looks():
    xy, labels = RNG.normal(size=(40, 2)), np.arange(40) % 20 - 1
    ax = viz.feature_map(xy, labels, title="Here").axes[0]
    assert to_hex(ax.collections[0].get_facecolor()[0]).upper() == viz.PALETTE["outlier"]
    assert len(ax.collections[0].get_offsets()) == 2
    looks = {
        (tuple(c), shape)
        for shape, points in enumerate(ax.collections[1:])
        for c in points.get_facecolor()
    }
    assert len(looks) == 19
    assert ax.get_xlabel() == "19 clusters, 2 outliers (5%, grey)"


def test_maps_stand_side_by_side_in_rows_with_their_titles():
    xy = RNG.normal(size=(12, 2))
    row = [
        {"xy": xy, "colour_by": PIDS, "kind": "identity", "title": "identity"},
        {"xy": xy, "colour_by": CAMIDS, "kind": "camera", "title": "camera"},
        {"xy": xy, "colour_by": None, "kind": "identity", "title": "unknown"},
    ]
    figure = viz.feature_maps([row, row], row_labels=("before", "after"))
    assert len(figure.axes) == 6
    assert [ax.get_title(loc="left") for ax in figure.axes[:3]] == [
        "identity",
        "camera",
        "unknown",
    ]
    assert [figure.axes[0].get_ylabel(), figure.axes[3].get_ylabel()] == ["before", "after"]
    assert [t.get_text() for t in figure.axes[1].get_legend().get_texts()] == [
        "camera 1",
        "camera 2",
    ]
    assert "not known" in figure.axes[2].get_xlabel()
    assert len(viz.feature_maps(row).axes) == 3


def test_a_map_of_errors_names_their_shares():
    words = texts(
        viz.feature_map(
            np.zeros((4, 2)), np.array(["right", "right", "merged", "outlier"]), kind="error"
        )
    )
    assert "right (50%)" in words
    assert "(25%)" in words
    assert "identity unknown" not in words


@pytest.mark.parametrize("labels", [np.full(5, -1), np.zeros(5, int), np.zeros(0, int)])
def test_maps_of_no_cluster_one_cluster_and_no_picture_are_drawn(labels):
    assert viz.figure_png(viz.feature_map(np.zeros((len(labels), 2)), labels)).startswith(PNG)


def test_unknown_kinds_of_maps_are_refused_by_name():
    with pytest.raises(KitError, match="cluster, identity, camera, error"):
        viz.feature_map(np.zeros((2, 2)), [0, 1], kind="colour")
    with pytest.raises(KitError, match="no panels"):
        viz.feature_maps([])


def test_the_jaccard_matrix_sorts_rows_by_label_and_names_the_outliers():
    far, labels = np.arange(16.0).reshape(4, 4) / 15, np.array([1, -1, 0, 1])
    ax = viz.jaccard_matrix(far, labels=labels).axes[0]
    order = [1, 2, 0, 3]
    assert np.array_equal(ax.images[0].get_array(), far[np.ix_(order, order)])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["outliers", "0", "1"]
    given = viz.jaccard_matrix(far, order=[3, 2, 1, 0]).axes[0].images[0].get_array()
    assert np.array_equal(given, far[::-1, ::-1])


def test_pairs_that_a_sparse_jaccard_matrix_does_not_store_stay_white():
    stored = sp.csr_array(np.array([[0.0, 0.4], [0.4, 0.0]]))
    figure = viz.jaccard_matrix(stored)
    assert np.isnan(np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)).sum() == 2
    assert "50% of pairs" in texts(figure)
    border = viz.jaccard_matrix(stored, labels=[0, 1]).axes[0].lines[0]
    assert border.get_color() == viz.PALETTE["light"]
    border = viz.jaccard_matrix(1 - np.eye(2), labels=[0, 1]).axes[0].lines[0]
    assert border.get_color() == "white"
    with pytest.raises(KitError, match="too many to draw"):
        viz.jaccard_matrix(sp.csr_array((5000, 5000)))
    with pytest.raises(KitError, match="not square"):
        viz.jaccard_matrix(np.zeros((2, 3)))
    with pytest.raises(KitError, match="1 labels for 2 rows"):
        viz.jaccard_matrix(np.zeros((2, 2)), labels=[1])


# ---------------------------------------------------------------- labels


def test_the_views_of_a_label_are_bars_in_their_colours_with_the_others_summed():
    e, q, a = (softmax(RNG.normal(size=12)) for _ in range(3))
    figure = viz.label_views(5, e, q, a, (e + q + a) / 3, top=4, picture=PICTURES[0])
    picture, ax = figure.axes
    assert np.array_equal(picture.images[0].get_array(), PICTURES[0].transpose(1, 2, 0))
    assert [to_hex(bars[0].get_facecolor()).upper() for bars in ax.containers[:4]] == [
        viz.VIEW_COLOURS[k] for k in ("e", "q", "a", "r3")
    ]
    shown = [int(t.get_text()) for t in ax.get_xticklabels()[:4]]
    assert shown[0] == 5
    assert ax.get_xticklabels()[4].get_text() == "others"
    heights = [bar.get_height() for bar in ax.containers[1]]
    assert np.allclose(heights, [*q[shown], 1 - q[shown].sum()])
    assert [bar.get_height() for bar in ax.containers[4]] == [1.0]


def test_the_views_title_tells_whether_they_agree():
    sharp, other = np.array([0.9, 0.05, 0.05]), np.array([0.1, 0.8, 0.1])
    assert "All views name the same cluster" in texts(viz.label_views(0, sharp, sharp, sharp))
    assert "name 2 different clusters" in texts(viz.label_views(0, sharp, other, sharp))


def test_the_views_of_an_outlier_of_one_cluster_and_of_nothing():
    assert "no hard label" in texts(viz.label_views(-1, [0.5, 0.5], None, None))
    assert viz.figure_png(viz.label_views(0, [1.0], [1.0], [1.0])).startswith(PNG)
    with pytest.raises(KitError, match="hard label 3 does not fit 2 clusters"):
        viz.label_views(3, [0.5, 0.5], None, None)
    with pytest.raises(KitError, match="no view"):
        viz.label_views(0, None, None, None)


def test_temperature_curves_draw_the_median_entropy_and_the_labels():
    entropy = RNG.uniform(size=(6, 7))
    label = softmax(RNG.normal(size=5))
    marks = {"tau": 0.5, "tau_t": 0.3}
    figure = viz.temperature_curves(
        np.geomspace(0.01, 1, 6), entropy, {0.5: label, 0.3: label}, marks=marks
    )
    left, right = figure.axes
    assert np.allclose(left.lines[0].get_ydata(), np.median(entropy, axis=1))
    assert np.allclose(right.lines[0].get_ydata(), np.sort(label)[::-1])
    assert [line.get_label() for line in right.lines] == ["0.5", "0.3"]
    with pytest.raises(KitError, match="lengths differ"):
        viz.temperature_curves([0.1], entropy, {0.1: label})
    with pytest.raises(KitError, match="one picture's label"):
        viz.temperature_curves([0.1], [[0.3]], {})


def test_the_gradient_bars_are_student_minus_target():
    q, r = softmax(RNG.normal(size=6)), softmax(RNG.normal(size=6))
    ax = viz.gradient_bars(q, r, hard=2, top=6).axes[0]
    shown = [int(t.get_text()) for t in ax.get_xticklabels()]
    assert np.allclose([b.get_height() for b in ax.containers[0]], (q - np.eye(6)[2])[shown])
    assert np.allclose([b.get_height() for b in ax.containers[1]], (q - r)[shown])
    with pytest.raises(KitError, match="lengths differ"):
        viz.gradient_bars(q, r[:3])


def test_gradients_towards_several_targets_stand_side_by_side_in_the_colours_of_their_views():
    q, a, r = (softmax(RNG.normal(size=6)) for _ in range(3))
    ax = viz.gradient_bars(q, {"q − a": a, "q − r": r}, views={"q − a": "a"}, top=6).axes[0]
    shown = [int(t.get_text()) for t in ax.get_xticklabels()]
    for bars, target, view in zip(ax.containers, (a, r), ("a", "r3")):
        assert np.allclose([b.get_height() for b in bars], (q - target)[shown])
        assert to_hex(bars[0].get_facecolor()) == viz.VIEW_COLOURS[view].lower()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["q − a", "q − r"]
    with pytest.raises(KitError, match="lengths differ"):
        viz.gradient_bars(q, {"one": r[:3]})


# ---------------------------------------------------------------- curves and results


def history(shift, epochs=4):
    return [
        {
            "epoch": i,
            "mAP": 0.1 * i + shift if i % 2 else None,
            "ari": None,
            "n_clusters": 5 + i,
            "loss": 4.0 - i,
        }
        for i in range(epochs)
    ]


def test_training_curves_draw_mean_and_range_over_seeds_and_skip_what_was_not_measured():
    figure = viz.training_curves(
        {"cluster_contrast": [history(0.0), history(0.2, 2)], "dkdmpl": history(0.3)},
        references={"n_clusters": 8},
    )
    ax = figure.axes[0]
    assert [to_hex(line.get_color()).upper() for line in ax.lines] == ["#0072B2", "#D55E00"]
    assert list(ax.lines[0].get_xdata()) == [1, 3]
    assert np.allclose(ax.lines[0].get_ydata(), [0.2, 0.3])
    band = ax.collections[0].get_paths()[0].vertices
    assert np.isclose(band[:, 1].min(), 0.1)
    assert np.isclose(band[:, 1].max(), 0.3)
    assert sorted(t.get_text() for t in figure.legends[0].get_texts()) == [
        "DKD-MPL",
        "cluster contrast (2 seeds)",
        "reference value",
    ]
    assert "ARI (1 = true partition): not measured" in texts(figure)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "mAP (0 to 1)")


def test_what_the_distillations_add_is_drawn_on_the_whole_scale():
    records = [
        {"epoch": 0, "gkd_cosine": 0.99, "skd_cosine": -0.2, "teacher_own_mass": 0.98},
        {"epoch": 1, "gkd_cosine": 1.0, "skd_cosine": 0.3, "teacher_own_mass": 0.99},
    ]
    figure = viz.training_curves(
        {"dkdmpl": records}, metrics=viz.DISTILLATION, references=viz.ADDS_NOTHING
    )
    gkd, skd, own, _ = figure.axes
    assert gkd.get_ylim() == own.get_ylim() == (0, 1.05)
    assert skd.get_ylim()[0] < -0.2 and skd.get_ylim()[1] == 1.05


def test_training_curves_take_unknown_methods_and_empty_histories():
    figure = viz.training_curves(
        {"js": history(0.0), "kl": history(0.1)}, metrics=("loss", "my_metric")
    )
    assert len({line.get_color() for line in figure.axes[0].lines}) == 2
    assert "my metric: not measured" in texts(figure)
    assert texts(viz.training_curves({"dkdmpl": []})).count("not measured") == 4
    with pytest.raises(KitError, match="no metrics"):
        viz.training_curves({}, metrics=())


def test_the_eps_curve_has_a_sentence_in_place_of_an_unknown_ari():
    full = viz.eps_curve(
        [0.4, 0.6], [9, 4], [0.5, 0.1], [0.2, None], chosen=0.6, n_identities=8
    )
    assert list(full.axes[0].lines[0].get_ydata()) == [9, 4]
    assert "eps (Jaccard distance)" in texts(full)
    assert "8 identities" in texts(full)
    assert "ARI cannot be measured" in texts(viz.eps_curve([0.4], [0], [1.0]))
    both = viz.eps_curve([0.4, 0.6], [9, 4], [0.5, 0.1], [0.2, 0.4], [0.1, 0.3])
    assert list(both.axes[2].lines[1].get_ydata()) == [0.1, 0.3]
    assert "right labels (share of all pictures)" in texts(both)
    with pytest.raises(KitError, match="lengths differ"):
        viz.eps_curve([0.4, 0.5], [1], [0.1])


def test_the_distance_histogram_states_the_overlap_and_the_missing_group():
    words = texts(viz.distance_histograms([], np.linspace(0, 1, 50), np.linspace(0, 1, 50)))
    assert "100% overlap" in words
    assert "No pairs: same identity, same camera" in words
    assert "(50 pairs)" in words
    assert "0% overlap" in texts(viz.distance_histograms([0.1], [0.2, 0.3], [0.8, 0.9]))
    assert "True identities are not known" in texts(viz.distance_histograms(None, None, None))


def test_result_bars_show_the_mean_every_seed_and_the_pairs():
    figure = viz.result_bars(
        {
            "cluster_contrast": [0.4, 0.6],
            "gkd": [0.5, 0.7],
            "untrained": 0.2,
            "supervised": None,
        }
    )
    ax = figure.axes[0]
    assert np.allclose([bar.get_height() for bar in ax.patches], [0.5, 0.6, 0.2])
    assert to_hex(ax.patches[1].get_facecolor()).upper() == "#E69F00"
    assert np.allclose(np.asarray(ax.collections[0].get_offsets())[:, 1], [0.4, 0.6])
    assert [tuple(line.get_ydata()) for line in ax.lines] == [(0.4, 0.5), (0.6, 0.7)]
    assert "true identities not measured" in texts(figure)
    assert "untrained 1 seed" in texts(figure)
    assert "No results" in texts(viz.result_bars({}))


def test_paired_differences_show_zero_the_mean_and_an_interval_from_three_seeds_on():
    figure = viz.paired_differences(
        {"gkd": [1.0, 2.0, 3.0], "skd": [-1.0, 1.0], "dkdmpl": []},
        {"gkd": 2.484, "skd": 12.7, "dkdmpl": None},
    )
    ax, words = figure.axes[0], texts(figure)
    assert list(ax.lines[0].get_xdata()) == [0, 0]
    assert "mean +2.00, above 0 in 3 of 3 95 % interval ±2.48" in words
    assert "mean +0.00, above 0 in 1 of 2" in words
    assert words.count("interval") == 1
    assert "no pairs" in words
    assert "interval" not in texts(viz.paired_differences({"gkd": [1.0, 2.0, 3.0]}))
    assert "No pairs of runs" in texts(viz.paired_differences({}))


def test_error_kinds_are_stacked_shares_from_words_or_counts():
    words = np.array(["right", "right", "split", "outlier", "unknown"])
    ax = viz.error_kinds_bars([words, {"merged": 3, "right": 1}], epochs=[4, 5]).axes[0]
    heights = {
        bars.get_label().split(":")[0]: [bar.get_height() for bar in bars]
        for bars in ax.containers
    }
    assert heights == {
        "right": [0.5, 0.25],
        "split": [0.25, 0],
        "merged": [0, 0.75],
        "outlier": [0.25, 0],
    }
    assert np.isclose(ax.patches[0].get_x() + ax.patches[0].get_width() / 2, 4)
    assert "True identities are not known" in texts(viz.error_kinds_bars(None))
    assert "No epochs" in texts(viz.error_kinds_bars([]))


def test_a_few_groups_stand_out_of_a_map_and_all_others_are_grey():
    some = np.array([3, 3, -1, -1, 8])
    figure = viz.feature_map(np.arange(10.0).reshape(5, 2), some, kind="some")
    (ax,) = figure.axes
    assert [len(c.get_offsets()) for c in ax.collections] == [2, 3]
    assert ax.get_xlabel() == "grey: all others"


def test_a_pair_is_shown_once_and_each_view_has_two_maps_beside_it():
    maps = {"untrained": (np.eye(4), np.eye(4)), "trained": (-np.eye(4), np.ones((2, 2)))}
    figure = viz.activation_pairs(
        *PICTURES[:2], maps, scores={"untrained": 0.5, "trained": 1}
    )
    heads = [ax.get_title("left") for ax in figure.axes]
    assert heads == [
        "query",
        "gallery",
        "untrained\nsimilarity 0.50",
        "",
        "trained\nsimilarity 1.00",
        "",
    ]


def test_distances_without_a_list_are_curves_alone():
    groups = (RNG.random(9), RNG.random(9), RNG.random(30))
    figure = viz.query_distances({"a": (groups, [], []), "b": (groups, [0.2], ["right"])})
    assert [len(ax.lines) for ax in figure.axes] == [0, 1]
    assert "in this list: right" in texts(figure)


def test_a_map_says_that_colours_repeat_only_where_they_do():
    xy = np.arange(20.0).reshape(10, 2)
    few, many = np.arange(10) % 7, np.arange(10)
    assert "repeat" not in viz.feature_map(xy, few).get_supxlabel()
    assert "repeat" in viz.feature_map(xy, many).get_supxlabel()
    assert "repeat" not in viz.feature_map(xy, None).get_supxlabel()
    panels = [{"xy": xy, "colour_by": groups} for groups in (few, many)]
    assert "repeat" in viz.feature_maps(panels).get_supxlabel()
    kinds = {"xy": xy, "colour_by": np.array(["right"] * 10), "kind": "error"}
    assert "repeat" not in viz.feature_maps([panels[0], kinds]).get_supxlabel()
