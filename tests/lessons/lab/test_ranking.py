"""RankingBrowser: every control moved, its lists and its figures looked into."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation import evaluate_ranking
from dkdmpl_kit.lessons.lab import RankingBrowser


class Pictures:
    """A store of flat pictures, whose red channel is their index; `broken` cannot be
    read.
    """

    def __init__(self, count, broken=()):
        self.count, self.broken = count, set(broken)

    def batch(self, indices):
        indices = torch.as_tensor(np.asarray(indices))
        if self.broken & set(indices.tolist()):
            raise KitError("picture 3.png cannot be read (OSError).")
        return indices.to(torch.uint8)[:, None, None, None].expand(len(indices), 3, 16, 8)


def unit(rng, *shape):
    x = rng.normal(size=shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture
def parts():
    """Six queries of three identities in two cameras, thirty gallery pictures; the
    second view is the better one.
    """
    rng = np.random.default_rng(0)
    query_pids, gallery_pids = np.arange(6) % 3, np.arange(30) % 3
    centres = unit(rng, 3, 8)
    bad = unit(rng, 6, 8), unit(rng, 30, 8)
    good = [
        c + 0.6 * x
        for c, x in ((centres[query_pids], bad[0]), (centres[gallery_pids], bad[1]))
    ]
    good = tuple(
        (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in good
    )
    ids = dict(
        query_pids=query_pids,
        gallery_pids=gallery_pids,
        query_camids=np.arange(6) // 3,
        gallery_camids=np.arange(30) // 3 % 2,
    )
    return {"untrained": bad, "DKD-MPL": good}, ids


def browser(parts, **changes):
    views, ids = parts
    begin = {"order": "as listed", "top": 20}
    return RankingBrowser(views, Pictures(6), Pictures(30), **{**ids, **begin, **changes})


def test_it_opens_at_the_worst_query_and_says_what_to_do(parts):
    panel = browser(parts, order="", top=10)
    assert panel.query == np.nanargmin(panel.precision["DKD-MPL"])
    assert panel.children[0].value.startswith("<b>Task: what do the wrong pictures")
    assert all(len(indices) == 10 for indices, _ in panel.lists.values())
    unknown = browser(parts, order="", query_pids=None)
    assert unknown.query == 0 and "doubt" in unknown.children[0].value
    with pytest.raises(KitError, match="order 'best' is unknown; there are: as listed"):
        browser(parts, order="best")


def test_the_lists_and_the_scores_are_those_of_the_protocol(parts):
    panel = browser(parts)
    views, ids = parts
    for name, pair in views.items():
        expected = evaluate_ranking(
            *pair,
            ids["query_pids"],
            ids["gallery_pids"],
            ids["query_camids"],
            ids["gallery_camids"],
        )
        np.testing.assert_array_equal(panel.precision[name], expected.average_precision)
        indices, kinds = panel.lists[name]
        assert indices[0] == np.argmax(pair[1] @ pair[0][0])
        assert len(indices) == 20
        same, near = ids["gallery_pids"][indices] == 0, ids["gallery_camids"][indices] == 0
        np.testing.assert_array_equal(
            kinds, np.where(same & near, "junk", np.where(same, "right", "wrong"))
        )
    assert f"untrained {panel.precision['untrained'][0]:.2f}" in panel.status.value


def test_moving_to_another_query_redraws_its_list_and_its_distances(parts):
    panel = browser(parts)
    before = bytes(panel.ranking.value), bytes(panel.distances.value)
    panel.place.value = 4
    panel.check()
    assert panel.query == 4
    assert bytes(panel.ranking.value) != before[0]
    assert bytes(panel.distances.value) != before[1]
    ticks = [
        line for line in panel.distances.figure.axes[1].lines if line.get_marker() == "|"
    ]
    shown = np.sort(np.concatenate([line.get_xdata() for line in ticks]))
    query, gallery = parts[0]["DKD-MPL"]
    np.testing.assert_allclose(shown, np.sort(1 - gallery @ query[4])[:20], atol=1e-6)


def test_the_order_puts_the_lowest_precision_or_the_largest_change_first(parts):
    panel = browser(parts)
    panel.order.value = "lowest AP first"
    panel.check()
    assert panel.query == np.nanargmin(panel.precision["DKD-MPL"])
    panel.order.value = "most changed first"
    panel.check()
    assert panel.query == np.nanargmax(
        np.abs(panel.precision["DKD-MPL"] - panel.precision["untrained"])
    )


def test_the_maps_are_asked_for_the_picture_at_the_chosen_rank_of_the_last_view(parts):
    asked = []

    def look(view, query, gallery_feature, other, query_feature):
        asked.append((view, int(query[0, 0, 0]), int(other[0, 0, 0]), gallery_feature))
        return np.ones((2, 1)), np.zeros((2, 1))

    panel = browser(parts, look=look)
    assert not asked
    assert panel.activation.figure is None
    panel.maps.value = True
    panel.other.value = 3
    panel.check()
    third = int(panel.lists["DKD-MPL"][0][2])
    assert [a[:3] for a in asked[-2:]] == [("untrained", 0, third), ("DKD-MPL", 0, third)]
    np.testing.assert_array_equal(asked[-1][3], parts[0]["DKD-MPL"][1][third])
    assert "place 3 (" in panel.activation.figure.get_suptitle()
    assert (
        panel.activation.figure.axes[2].get_title("left").startswith("untrained\nsimilarity")
    )


def test_without_identities_lists_are_shown_and_nothing_is_marked(parts):
    panel = browser(parts, query_pids=None, gallery_pids=None)
    assert "identities are unknown" in panel.status.value
    assert panel.order.options == ("as listed",)
    assert set(panel.lists["untrained"][1]) == {"unknown"}
    panel.place.value = 2
    panel.check()


def test_without_cameras_nothing_is_junk_and_a_sentence_says_so(parts):
    panel = browser(parts, query_camids=None, gallery_camids=None)
    assert "cameras are unknown" in panel.status.value
    assert "junk" not in set(panel.lists["untrained"][1])


def test_a_picture_that_cannot_be_read_is_a_sentence_and_the_last_list_stays(parts):
    begin = {"order": "as listed"}
    panel = RankingBrowser(
        parts[0], Pictures(6, broken=[4]), Pictures(30), **parts[1], **begin
    )
    before = bytes(panel.ranking.value)
    panel.place.value = 4
    assert "cannot be read" in panel.status.value
    assert bytes(panel.ranking.value) == before
    with pytest.raises(KitError, match="cannot be read"):
        panel.check()
    panel.place.value = 1
    panel.check()


def test_a_gallery_smaller_than_the_list_is_shown_whole(parts):
    views = {name: (q, g[:3]) for name, (q, g) in parts[0].items()}
    ids = parts[1] | {
        "gallery_pids": parts[1]["gallery_pids"][:3],
        "gallery_camids": parts[1]["gallery_camids"][:3],
    }
    panel = RankingBrowser(views, Pictures(6), Pictures(3), **ids)
    assert len(panel.lists["untrained"][0]) == 3


def test_ids_of_another_length_are_one_sentence(parts):
    with pytest.raises(KitError, match="do not fit 30 pictures"):
        browser(parts, gallery_pids=np.zeros(29, int))
