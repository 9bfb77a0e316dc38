"""The explorer's pictures: one colouring for the live map and the paper one, rows of
thumbnails, what is left out.
"""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from dkdmpl_kit import viz
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.viz.clusters import (
    COLOURINGS,
    MAP_COLOURS,
    MAP_SENTENCE,
    label_rows,
    thinned,
)
from dkdmpl_kit.viz.maps import ERROR_LOOK
from dkdmpl_kit.viz.pictures import identity_marks
from dkdmpl_kit.viz.style import CYCLE, PALETTE


def colours(kind, values):
    return [MAP_COLOURS[code] for code in viz.map_colours(kind, values)[0]]


def picture(value):
    return np.full((3, 8, 4), value, np.uint8)


def test_a_labels_colour_follows_its_number_and_outliers_are_grey():
    found = colours("label", [0, 6, 7, -1, 13])
    assert found == [CYCLE[0], CYCLE[6], CYCLE[0], PALETTE["outlier"], CYCLE[6]]
    assert [text for _, text in viz.map_colours("label", [0, 1, -1])[1]] == [
        "2 clusters, a colour each",
        "outlier (1)",
    ]


def test_more_groups_than_colours_are_said_to_repeat():
    legend = viz.map_colours("label", np.arange(8))[1]
    assert legend == [(CYCLE[0], "8 clusters in 7 colours, which repeat")]
    assert viz.map_colours("identity", np.arange(7))[1] == [
        (CYCLE[0], "7 identities, a colour each")
    ]
    assert viz.map_colours("camera", np.arange(8))[1] == [
        (CYCLE[0], "8 cameras in 7 colours, which repeat")
    ]


def test_cameras_are_named_from_one_and_unknown_ones_are_grey():
    codes, legend = viz.map_colours("camera", [3, 0, -1])
    assert [MAP_COLOURS[c] for c in codes] == [CYCLE[1], CYCLE[0], PALETTE["outlier"]]
    assert legend == [
        (CYCLE[0], "camera 1"),
        (CYCLE[1], "camera 4"),
        (PALETTE["outlier"], "unknown (1)"),
    ]


def test_kinds_of_error_wear_the_colours_of_the_other_maps():
    kinds = np.array(["right", "merged", "split", "outlier", "unknown", "right"])
    assert colours("error", kinds) == [PALETTE[ERROR_LOOK[kind][0]] for kind in kinds]
    legend = dict(map(reversed, viz.map_colours("error", kinds)[1]))
    assert legend["right (33%)"] == PALETTE["right"]
    assert len(legend) == 5
    assert [text for _, text in viz.map_colours("outlier", [4, -1, -1])[1]] == [
        "clustered (1)",
        "outlier (2)",
    ]
    assert colours("outlier", [4, -1]) == [CYCLE[0], PALETTE["outlier"]]


def test_epochs_take_a_scale_from_early_to_late_and_never_is_grey():
    found = colours("change", [0, 1, 2, 3])
    assert found == [PALETTE["outlier"], *MAP_COLOURS[-8:-5]]
    codes, legend = viz.map_colours("change", np.arange(41))
    assert sorted(set(codes.tolist())) == [0, *range(len(MAP_COLOURS) - 8, len(MAP_COLOURS))]
    assert (np.diff(codes[1:]) >= 0).all()
    assert [text for _, text in legend][:2] == ["never changed (1)", "epoch 1 to 5 (5)"]
    assert viz.map_colours("change", [0, 0])[1] == [(PALETTE["outlier"], "never changed (2)")]


def test_an_unknown_colouring_names_the_known_ones():
    with pytest.raises(KitError, match=", ".join(COLOURINGS)):
        viz.map_colours("colour", [0])


def test_the_paper_map_has_the_live_maps_colours_its_numbers_and_the_sentence():
    xy, labels = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 9 - 1
    kinds = np.where(labels < 0, "outlier", np.where(labels == 3, "merged", "right"))
    figure = viz.explorer_maps(xy, labels, kinds, summary="8 clusters")
    for ax, kind, values in zip(figure.axes, ("label", "error"), (labels, kinds)):
        drawn = {}
        for points in ax.collections:
            faces = np.broadcast_to(points.get_facecolors(), (len(points.get_offsets()), 4))
            drawn |= {
                tuple(at): to_hex(face).upper()
                for at, face in zip(points.get_offsets().tolist(), faces)
            }
        assert drawn == {
            tuple(at): colour.upper()
            for at, colour in zip(xy.tolist(), colours(kind, values))
        }
        assert ax.get_title(loc="left") == COLOURINGS[kind]
    note = figure.get_supxlabel().replace("\n", " ")
    assert note.startswith("8 clusters. ")
    assert MAP_SENTENCE in note
    assert "repeat with another shape" in note


def test_the_paper_map_says_what_is_unknown_and_what_is_left_out():
    figure = viz.explorer_maps(
        np.random.default_rng(0).random((20, 2)), np.zeros(20, int), None, limit=5
    )
    assert "True identities are not known" in figure.axes[1].texts[0].get_text().replace(
        "\n", " "
    )
    assert sum(len(points.get_offsets()) for points in figure.axes[0].collections) == 5
    assert "Shown: 5 of 20 pictures" in figure.get_supxlabel().replace("\n", " ")
    assert (
        "No pictures" in viz.explorer_maps(np.empty((0, 2)), []).axes[0].texts[0].get_text()
    )


def test_thinning_keeps_all_of_a_few_and_a_sorted_sample_of_many():
    np.testing.assert_array_equal(thinned(5, 5), np.arange(5))
    few = thinned(1000, 100)
    assert len(few) == len(set(few.tolist())) == 100
    assert (np.diff(few) > 0).all()
    assert few.max() < 1000
    assert 400 < few.mean() < 600
    np.testing.assert_array_equal(few, thinned(1000, 100))


def test_a_hovered_picture_comes_back_from_its_png():
    original = np.random.default_rng(0).integers(256, size=(3, 9, 5)).astype(np.uint8)
    for given in (original, original.transpose(1, 2, 0)):
        back = np.asarray(Image.open(io.BytesIO(viz.picture_png(given))))
        np.testing.assert_array_equal(back, original.transpose(1, 2, 0))


def test_rows_show_their_pictures_names_and_marks_up_to_the_columns():
    rows = [
        {
            "name": "first",
            "pictures": [picture(10), picture(20), picture(30)],
            "colours": ["red"] * 3,
            "marks": "abc",
        },
        {"name": "second", "pictures": [picture(40)]},
    ]
    ax = viz.picture_rows(rows, title="Rows", columns=2).axes[0]
    canvas = ax.images[0].get_array()
    assert {10, 20, 40} <= set(np.unique(canvas))
    assert 30 not in canvas
    texts = [text.get_text() for text in ax.texts]
    assert "first" in texts
    assert "second" in texts
    assert {"a", "b"} <= set(texts)
    assert "c" not in texts
    assert [to_hex(p.get_edgecolor()) for p in ax.patches] == ["#ff0000"] * 2 + [
        PALETTE["outlier"].lower()
    ]


def test_a_picture_that_cannot_be_read_leaves_a_marked_place():
    ax = viz.picture_rows(
        [{"name": "row", "pictures": [None, picture(10)], "marks": "ab"}], title=""
    ).axes[0]
    assert {"gone", "b"} <= {text.get_text() for text in ax.texts}
    assert 225 in ax.images[0].get_array()
    for rows in (
        [],
        [{"name": "row", "pictures": [None]}],
        [{"name": "row", "pictures": []}],
    ):
        assert "no pictures" in viz.picture_rows(rows, title="").axes[0].texts[0].get_text()


def test_a_selection_is_sorted_by_cluster_and_says_what_it_leaves_out():
    labels = np.array([2, 2, 2, 5, 5, -1, -1, -1, -1, 8])
    kinds = np.array(
        ["right", "merged", "split", "right", "right", *["outlier"] * 4, "unknown"]
    )
    rows, note = label_rows(np.arange(9), labels, kinds, columns=2)
    assert [row["name"] for row in rows] == [
        "outliers\n4 selected",
        "cluster 2\n3 selected",
        "cluster 5\n2 selected",
    ]
    np.testing.assert_array_equal(rows[1]["indices"], [0, 1])
    assert rows[1]["marks"] == ["✓", "M"]
    assert rows[1]["colours"] == [
        PALETTE["right"],
        PALETTE["merged"],
    ]
    assert note.startswith("Shown are 6 of 9 pictures, from 3 of 3 groups. ")
    rows, note = label_rows([9, 3], labels, max_rows=1)
    assert len(rows) == 1
    assert "from 1 of 2 groups" in note
    assert "not known" in note
    assert "marks" not in rows[0]
    assert label_rows([], labels)[0] == []
    with pytest.raises(KitError, match="outside the 10 pictures"):
        label_rows([10], labels)


def test_letters_name_an_identity_throughout_the_most_frequent_of_the_first_group_a():
    pids = np.array([7, 3, 7, 3, 3, 1, -1])
    (first, letters), (_, below) = identity_marks([[0, 1, 2], [3, 5, 6]], pids)
    assert letters == ["A", "B", "A"]
    assert below == ["B", "C", "?"]
    assert first == [CYCLE[0], CYCLE[1], CYCLE[0]]
    assert identity_marks([[0]], None) == [([PALETTE["outlier"]], [""])]
