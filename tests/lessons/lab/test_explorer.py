"""The cluster explorer without a browser: every control moved, the map's points, the
pictures and the sentences read back.
"""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import adjusted_rand_score

from dkdmpl_kit.clustering import jaccard_distances, pseudo_labels, sweep_eps
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.lab import ClusterExplorer, explorer
from dkdmpl_kit.neighbors import knn_graph
from dkdmpl_kit.noise import error_kinds
from dkdmpl_kit.viz.clusters import MAP_COLOURS, MAP_SENTENCE
from dkdmpl_kit.viz.style import CYCLE, PALETTE

N, K = 160, 10
rng = np.random.default_rng(0)
PIDS = np.arange(N) % K
FEATURES = rng.normal(size=(K, 16))[PIDS] + 0.75 * rng.normal(size=(N, 16))
FEATURES = (FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)).astype(np.float32)
XY, CAMIDS = FEATURES[:, :2], np.arange(N) // 2 % 3
EPOCHS = [PIDS, np.where(np.arange(N) < 5, -1, PIDS), np.where(np.arange(N) < 5, -1, PIDS)]


class Store:
    """Picture i is grey of value i; some cannot be read."""

    def __init__(self, broken=(), error=KitError):
        self.broken, self.error = set(broken), error

    def __len__(self):
        return N

    def batch(self, indices):
        if bad := self.broken & set(np.asarray(indices).tolist()):
            raise self.error(f"picture {min(bad)} is not there.")
        return torch.as_tensor(np.asarray(indices), dtype=torch.uint8)[
            :, None, None, None
        ].expand(-1, 3, 8, 4)


def explore(**options):
    settings = {
        "pids": PIDS,
        "camids": CAMIDS,
        "pictures": Store(),
        "epoch_labels": EPOCHS,
        "k1": 12,
        "k2": 4,
    } | options
    return ClusterExplorer(
        settings.pop("xy", XY), settings.pop("features", FEATURES), **settings
    )


@pytest.fixture(scope="module")
def shared():
    return explore()


@pytest.fixture
def lab(shared):
    """The one explorer, with every control where it started."""
    shared.cluster.value, shared.map.selection, shared.colour.value = (
        -1,
        np.array([], np.uint32),
        "label",
    )
    shared.k1.value, shared.k2.value, shared.min_samples.value, shared.eps.value = (
        12,
        4,
        4,
        0.6,
    )
    shared.map.hovering, shared.pictures = None, Store()
    shared.check()
    return shared


def codes(lab):
    return np.asarray(lab.map.points)[:, 2].astype(int)


def by_hand(eps=0.6, min_samples=4, k1=12, k2=4):
    return pseudo_labels(
        jaccard_distances(knn_graph(FEATURES, k1), k1=k1, k2=k2),
        eps=eps,
        min_samples=min_samples,
    ).labels


def same_partition(one, other):
    return ((one < 0) == (other < 0)).all() and adjusted_rand_score(one, other) == 1


def texts(figure):
    """Everything written inside and under the axes."""
    return " ".join(
        [text.get_text() for ax in figure.axes for text in ax.texts]
        + [figure.get_supxlabel().replace("\n", " ")]
    )


def test_the_first_clustering_is_the_kits_and_coloured_by_its_labels(lab):
    np.testing.assert_array_equal(explore().labels, by_hand())
    assert same_partition(lab.labels, by_hand())
    assert lab.summary.n_clusters > 4
    np.testing.assert_array_equal(
        codes(lab), np.where(lab.labels < 0, 0, 1 + lab.labels % len(CYCLE))
    )
    assert [tuple(np.round(colour, 3)) for colour in lab.map.color] == [
        (*(round(int(c[i : i + 2], 16) / 255, 3) for i in (1, 3, 5)), 1) for c in MAP_COLOURS
    ]
    assert lab.map.color_by == "valueA"
    assert MAP_SENTENCE in lab.notes.value


@pytest.mark.parametrize(
    ("control", "value"), [("eps", 0.45), ("min_samples", 9), ("k1", 20), ("k2", 1)]
)
def test_each_slider_reclusters_recolours_and_tells_the_new_numbers(lab, control, value):
    getattr(lab, control).value = value
    lab.check()
    found = by_hand(**{control: value})
    assert same_partition(lab.labels, found)
    assert not same_partition(found, by_hand())
    np.testing.assert_array_equal(
        codes(lab), np.where(lab.labels < 0, 0, 1 + lab.labels % len(CYCLE))
    )
    assert (lab.kinds == error_kinds(lab.labels, PIDS)).all()
    assert lab.status.value == str(lab.summary)
    assert "ARI" in lab.status.value
    assert "last move:" in lab.status.value
    assert lab.summary.ari == pytest.approx(
        adjusted_rand_score(PIDS[found >= 0], found[found >= 0])
    )
    assert f"{lab.summary.n_clusters} clusters" in lab.legend.value


def test_the_button_moves_eps_to_where_clusters_are_most(lab):
    expected = sweep_eps(lab.distances, min_samples=lab.min_samples.value)
    lab.eps.value = 0.7
    lab.auto.click()
    assert lab.eps.value == pytest.approx(expected.chosen)
    assert (lab.labels >= 0).sum() == (expected.labels >= 0).sum()
    alone = dict.fromkeys(("pids", "camids", "pictures", "epoch_labels"))
    few = explore(xy=XY[:5], features=FEATURES[:5], k1=5, min_samples=5, **alone)
    few.auto.click()  # five pictures are one cluster of five, or none
    assert few.eps.value == sweep_eps(few.distances, min_samples=5).chosen
    assert "one cluster" in few.status.value or "outlier" in few.status.value


def test_eps_and_min_samples_reuse_the_distances_and_k1_and_k2_do_not(lab, monkeypatch):
    asked = []

    def counted(graph, **settings):
        asked.append((settings["k1"], settings["k2"]))
        return jaccard_distances(graph, **settings)

    monkeypatch.setattr(explorer, "jaccard_distances", counted)
    monkeypatch.setattr(explorer, "knn_graph", None)  # never asked again
    lab.eps.value, lab.min_samples.value = 0.5, 5
    assert asked == []
    lab.k1.value, lab.k2.value = 3, 4
    lab.k2.value = 8
    lab.check()
    assert asked == [(3, 3), (3, 3)]  # k2 is at most k1


def test_a_cluster_keeps_its_number_and_colour_while_eps_moves_and_finds_it_again(lab):
    start, labels = codes(lab), lab.labels
    lab.eps.value = 0.5
    kept = [
        name
        for name in np.unique(labels[labels >= 0])
        if (lab.labels[labels == name] >= 0).mean() > 0.6
        and len(set(lab.labels[labels == name]) - {-1}) == 1
    ]
    assert len(kept) > 3
    for name in kept:
        assert set(lab.labels[labels == name]) - {-1} == {name}
    lab.eps.value, lab.min_samples.value = 0.1, 20
    assert lab.summary.n_clusters == 0
    assert "Every picture is an outlier: raise eps" in lab.status.value
    assert (codes(lab) == 0).all()
    lab.eps.value, lab.min_samples.value = 0.6, 4
    np.testing.assert_array_equal(lab.labels, labels)
    np.testing.assert_array_equal(codes(lab), start)


def test_one_cluster_for_all_is_said():
    lab = explore(features=np.tile(FEATURES[:1], (N, 1)))
    assert lab.summary.n_clusters == 1
    assert "one cluster: lower eps" in lab.status.value
    lab.cluster.value = 0
    lab.check()
    assert "no other cluster" in texts(lab.gallery.figure)


def test_each_colouring_shows_its_values(lab):
    shown = {
        name: (
            setattr(lab.colour, "value", name),
            lab.check(),
            [MAP_COLOURS[c] for c in codes(lab)],
        )[2]
        for _, name in lab.colour.options
    }
    assert list(shown) == ["label", "identity", "camera", "error", "outlier", "change"]
    assert shown["identity"] == [CYCLE[p % 7] for p in PIDS]
    assert shown["camera"] == [CYCLE[c] for c in CAMIDS]
    error = {
        "right": PALETTE["right"],
        "merged": PALETTE["merged"],
        "split": PALETTE["split"],
        "outlier": PALETTE["outlier"],
    }
    assert shown["error"] == [error[kind] for kind in lab.kinds]
    assert shown["outlier"] == [
        CYCLE[0] if label >= 0 else PALETTE["outlier"] for label in lab.labels
    ]
    assert set(shown["change"][:5]) == {MAP_COLOURS[-8]}
    assert set(shown["change"][5:]) == {PALETTE["outlier"]}
    assert "epoch 1 (5)" in lab.legend.value
    lab.eps.value = 0.5  # another clustering under another colouring
    assert [MAP_COLOURS[c] for c in codes(lab)] == shown["change"]


def test_a_hovered_point_shows_its_picture_and_what_is_known_of_it(lab):
    i = int(np.flatnonzero(lab.labels >= 0)[3])
    lab.map.hovering = i
    lab.check()
    assert (np.asarray(Image.open(io.BytesIO(lab.hover_picture.value))) == i).all()
    size = (lab.labels == lab.labels[i]).sum()
    for fact in (
        f"picture {i}",
        f"cluster {lab.labels[i]}, {size} pictures",
        f"identity {PIDS[i]}",
        f"camera {CAMIDS[i] + 1}",
    ):
        assert fact in lab.hover_text.value
    assert MAP_COLOURS[codes(lab)[i]] in lab.hover_picture.layout.border
    assert lab.hover_picture.layout.display == ""
    lab.map.hovering = None
    assert f"picture {i}" in lab.hover_text.value
    # what is said of it follows the clustering
    lab.min_samples.value, lab.eps.value = (
        20,
        0.1,
    )
    assert f"picture {i}</b><br>outlier<br>identity" in lab.hover_text.value
    assert PALETTE["outlier"] in lab.hover_picture.layout.border


def test_a_lasso_opens_a_gallery_of_the_selected_with_their_labels(lab):
    lab.map.selection = np.arange(20, 32, dtype=np.uint32)
    lab.check()
    np.testing.assert_array_equal(lab.selected, np.arange(20, 32))
    figure = lab.gallery.figure
    shown = set(np.unique(figure.axes[0].images[0].get_array())) - {255}
    assert len(shown) >= 6
    assert shown <= set(range(20, 32))
    assert "12 selected pictures" in figure.get_suptitle()
    names = {label for label in lab.labels[20:32] if label >= 0}
    assert any(f"cluster {name}\n" in texts(figure) for name in names)
    assert lab.gallery.layout.display == ""
    lab.eps.value = 0.3  # the gallery follows
    lab.check()
    assert lab.gallery.figure is not figure
    assert (lab.labels[20:32] < 0).sum() > 3
    assert "outliers" in texts(lab.gallery.figure)
    lab.map.selection = np.array([], np.uint32)
    assert lab.gallery.figure is None
    assert lab.gallery.layout.display == "none"


def test_a_click_opens_the_cluster_of_the_point_and_marks_its_members_on_the_map(lab):
    i = int(np.flatnonzero(lab.labels >= 0)[0])
    lab.map.selection = np.array([i], np.uint32)
    lab.check()
    name = int(lab.labels[i])
    members = np.flatnonzero(lab.labels == name)
    assert lab.view.cluster == lab.cluster.value == name
    np.testing.assert_array_equal(np.sort(lab.view.members), members)
    np.testing.assert_array_equal(lab.map.selection, members)
    assert (
        f"Cluster {name}: {len(members)} pictures · purity"
        in lab.gallery.figure.get_suptitle().replace("\n", " ")
    )
    for nearest, similarity in zip(lab.view.nearest, lab.view.similarities):
        assert f"cluster {nearest}\nsimilarity {similarity:.2f}" in texts(lab.gallery.figure)


def test_the_box_chooses_a_cluster_and_follows_it_until_it_is_no_more(lab):
    lab.eps.value = 0.1
    name = int(lab.labels.max())
    lab.cluster.value = name
    lab.check()
    assert lab.view.cluster == name
    assert len(lab.map.selection) == (lab.labels == name).sum()
    lab.cluster.value = -1
    assert lab.view is None
    assert lab.gallery.figure is None
    assert len(lab.map.selection) == 0
    lab.cluster.value = name
    lab.min_samples.value = 20
    lab.check()
    assert f"cluster {name} is no more" in lab.status.value
    assert lab.view is None
    assert lab.gallery.figure is None
    assert len(lab.map.selection) == 0
    assert lab.cluster.value == -1


def test_a_number_without_a_cluster_is_a_sentence_kept_until_something_goes_well(lab):
    lab.cluster.value = 999
    assert "no cluster 999" in lab.status.value
    with pytest.raises(KitError, match="no cluster 999 now"):
        lab.check()
    lab.map.hovering = 3
    lab.check()
    assert lab.status.value == str(lab.summary)


def test_what_a_callback_raises_is_kept_and_raised_by_check(lab):
    lab.pictures = Store(broken=range(N), error=RuntimeError)
    lab.map.hovering = 7
    assert "RuntimeError: picture 7 is not there." in lab.status.value
    with pytest.raises(RuntimeError, match="picture 7"):
        lab.check()


def test_pictures_that_cannot_be_read_are_said_and_their_places_kept(lab):
    lab.pictures = Store(broken=[40])
    lab.map.hovering = 40
    lab.check()
    assert "cannot be read: picture 40 is not there." in lab.hover_text.value
    assert lab.hover_picture.layout.display == "none"
    lab.map.hovering = 41
    assert (np.asarray(Image.open(io.BytesIO(lab.hover_picture.value))) == 41).all()
    lab.map.selection = np.array([40, 50], np.uint32)
    lab.check()
    assert "gone" in texts(lab.gallery.figure)
    assert "1 of these pictures cannot be read" in texts(lab.gallery.figure)
    lab.pictures = None
    lab.map.selection = np.array([40, 51], np.uint32)
    lab.check()
    assert "no pictures" in texts(lab.gallery.figure)


def test_without_truth_cameras_epochs_and_pictures_the_panel_says_so_and_still_clusters():
    lab = explore(pids=np.full(N, -1), camids=None, pictures=None, epoch_labels=())
    lab.check()
    assert [name for _, name in lab.colour.options] == [
        "label",
        "outlier",
    ]
    assert lab.kinds is None
    assert "Identities are unknown" in lab.notes.value
    assert "Cameras are unknown" in lab.notes.value
    assert "no pictures to look at" in lab.notes.value
    lab.eps.value = 0.5
    lab.map.hovering = 0
    lab.map.selection = np.arange(4, dtype=np.uint32)
    lab.cluster.value = int(lab.labels.max())
    lab.check()
    assert "ARI" not in lab.status.value
    assert "clusters" in lab.status.value
    assert lab.view.purity is None
    assert "True identities are not known" in texts(lab.figure()).replace("\n", " ")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"xy": XY[:-1]}, "lengths differ"),
        ({"pids": PIDS[:-1]}, "pids 159"),
        ({"camids": CAMIDS[:3]}, "camids 3"),
        ({"epoch_labels": [PIDS, PIDS[:9]]}, "epoch 1 9"),
        ({"xy": np.full((N, 2), np.nan)}, "finite positions"),
        ({"xy": FEATURES}, r"positions \(N, 2\)"),
        ({"features": np.full((N, 4), np.nan, np.float32)}, "norm 1"),
        ({"k3": 1}, "slider='k3' is not known; choose one of: eps, min_samples, k1, k2"),
    ],
)
def test_input_that_does_not_fit_is_a_sentence_in_the_panel(wrong, sentence):
    lab = explore(**wrong)
    assert list(lab.children) == [lab.status]
    assert lab.status.value
    with pytest.raises(KitError, match=sentence):
        lab.check()
    with pytest.raises(KitError, match="nothing is clustered"):
        lab.figure()


def test_one_picture_cannot_be_clustered_and_two_can():
    one = ClusterExplorer(XY[:1], FEATURES[:1])
    with pytest.raises(KitError, match="One image cannot be clustered"):
        one.check()
    two = ClusterExplorer(XY[:2], FEATURES[:2], min_samples=1)
    two.check()
    assert two.k1.value == two.k1.max == 2
    assert len(two.labels) == 2


def test_a_map_of_too_many_points_is_thinned_and_indices_still_name_the_right_pictures():
    lab = explore(max_points=60)
    lab.check()
    assert len(lab.map.points) == 60
    assert len(lab.labels) == N
    assert "shows 60 of 160 pictures" in lab.notes.value
    assert not np.array_equal(lab.map_images, np.arange(60))
    np.testing.assert_array_equal(
        codes(lab), np.where(lab.labels < 0, 0, 1 + lab.labels % 7)[lab.map_images]
    )
    lab.map.hovering = 50
    assert f"picture {lab.map_images[50]}<" in lab.hover_text.value
    place = int(np.flatnonzero(lab.labels[lab.map_images] >= 0)[-1])
    lab.map.selection = np.array([place], np.uint32)
    lab.check()
    name = lab.labels[lab.map_images[place]]
    np.testing.assert_array_equal(
        lab.map.selection, np.flatnonzero(lab.labels[lab.map_images] == name)
    )
    assert len(lab.view.members) == (lab.labels == name).sum()


def test_a_graph_may_be_given_and_bounds_k1():
    lab = explore(features=knn_graph(FEATURES, 15))
    lab.check()
    assert lab.k1.max == 15
    assert same_partition(lab.labels, by_hand())


def test_the_parts_have_names_that_stay_and_viewers_without_widgets_get_the_paper_map(lab):
    def names(widget):
        return [
            *widget._dom_classes,
            *(name for child in getattr(widget, "children", ()) for name in names(child)),
        ]

    assert {
        "dkdmpl-explorer",
        "dkdmpl-explorer-map",
        "dkdmpl-explorer-hover",
        "dkdmpl-explorer-gallery",
        "dkdmpl-eps",
        "dkdmpl-min-samples",
        "dkdmpl-k1",
        "dkdmpl-k2",
        "dkdmpl-colour",
        "dkdmpl-cluster",
    } <= set(names(lab))
    assert lab._repr_mimebundle_()["image/png"]


def test_a_missing_jupyter_scatter_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jscatter", None)
    lab = explore()
    assert "pip install jupyter-scatter" in lab.status.value
    with pytest.raises(KitError, match="jupyter-scatter"):
        lab.check()


def test_importing_the_widgets_does_not_import_jupyter_scatter():
    code = "import sys, dkdmpl_kit.lessons.lab; sys.exit('jscatter' in sys.modules or 'umap' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("pids, words", [(PIDS, "kind of error"), (None, "grow together")])
def test_it_says_its_task(pids, words):
    assert words in explore(pids=pids).children[0].value
