"""Corrections by lasso, without a browser: what is said, the file, and the clustering that
keeps to it.
"""

from __future__ import annotations

import numpy as np
import pytest
from lessons.lab.test_explorer import FEATURES, XY, N, by_hand, same_partition

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.lab import ClusterExplorer
from dkdmpl_kit.lessons.lab.correcting import CorrectionFile, said_of
from dkdmpl_kit.training.corrections import read_corrections

NAMES = [f"p/{i}.jpg" for i in range(N)]
LABELS = np.array([0, 0, 0, 1, 1, -1])


def rows(*selected, saying):
    return [
        (c.action, [(int(name[2:-4]), side) for name, _, side in c.rows])
        for c in said_of(saying, np.array(selected), LABELS, NAMES)
    ]


def test_what_a_selection_says():
    assert rows(0, 3, 5, saying="one") == [("merge", [(0, ""), (3, ""), (5, "")])]
    apart = ("different", [(1, "leave"), (0, "stay"), (2, "stay")])
    assert rows(1, 5, saying="split") == [apart]
    assert rows(0, 1, saying="split")[0] == ("merge", [(0, ""), (1, "")])
    assert rows(0, 1, saying="different") == [("different", [(0, ""), (1, "")])]
    sides = [(0, "cluster 0"), (1, "cluster 0"), (3, "cluster 1"), (5, "")]
    assert rows(0, 1, 3, 5, saying="different") == [("different", sides)]


@pytest.mark.parametrize(
    ("selected", "saying", "words"),
    [
        ([0], "one", '"these are one" is said of two pictures or more'),
        ([], "different", '"not the same" is said of two'),
        ([5], "split", "nothing to split off"),
        ([3, 4], "split", "nothing to split off"),
        ([0, 1], "both", "saying='both' is not known"),
    ],
)
def test_a_selection_that_says_nothing(selected, saying, words):
    with pytest.raises(KitError, match=words):
        said_of(saying, np.array(selected, int), LABELS, NAMES)


def test_the_file_grows_shrinks_and_is_gone_on_with(tmp_path):
    path = tmp_path / "c.csv"
    file = CorrectionFile(path, NAMES[:6])
    assert file.constraints is None and str(file).startswith("0 corrections in ")
    file.say("one", np.array([3, 5]), LABELS)
    file.say("split", np.array([0, 1]), LABELS)
    assert len(file.corrections) == 3
    with pytest.raises(KitError, match="contradict each other"):
        file.say("one", np.array([1, 2]), LABELS)
    again = CorrectionFile(path, NAMES[:6])
    read = read_corrections(path, NAMES[:6])
    assert again.corrections == file.corrections
    assert again.constraints.fingerprint() == file.constraints.fingerprint()
    assert read.fingerprint() == file.constraints.fingerprint()
    file.undo()
    assert [c.action for c in file.corrections] == ["merge"]
    file.undo()
    assert file.constraints is None and path.read_text().count("\n") == 1
    with pytest.raises(KitError, match="no correction to take back"):
        file.undo()


def test_a_file_that_speaks_of_clusters_is_refused(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("correction,action,path,cluster\n1,merge,,0\n1,merge,,1\n")
    with pytest.raises(KitError, match="row 2 of c.csv names a cluster"):
        CorrectionFile(path, NAMES)
    with pytest.raises(KitError, match=".csv"):
        CorrectionFile(tmp_path / "c.txt", NAMES)


def test_the_buttons_of_the_explorer_write_what_its_clustering_keeps_to(tmp_path):
    path = tmp_path / "c.csv"
    lab = ClusterExplorer(
        XY, FEATURES, k1=12, k2=4, names=NAMES, corrections=str(path), pictures=None
    )
    lab.check()
    before = lab.labels.copy()
    assert same_partition(before, by_hand())
    one, other = np.unique(before[before >= 0])[:2]
    lasso = np.flatnonzero(np.isin(before, (one, other)))
    lab.map.selection = lasso.astype(np.uint32)
    lab.sayings["one"].click()
    lab.check()
    assert len(set(lab.labels[lasso].tolist())) == 1
    assert "1 correction in " in lab.told.value
    assert lab.summary.n_clusters == len(np.unique(before[before >= 0])) - 1
    # a contradiction is a sentence, and changes nothing
    lab.map.selection = lasso[:2].astype(np.uint32)
    lab.sayings["different"].click()
    assert "contradict each other" in lab.status.value and len(lab.said.corrections) == 1
    with pytest.raises(KitError):
        lab.check()
    lab.map.selection = lasso[:3].astype(np.uint32)
    lab.sayings["undo"].click()
    lab.check()
    assert same_partition(lab.labels, before)
    lab.sayings["split"].click()
    lab.check()
    assert (
        lab.labels[lasso[0]]
        not in lab.labels[np.setdiff1d(np.flatnonzero(before == before[lasso[0]]), lasso[:3])]
    )
    # the sliders keep to it
    lab.eps.value = 0.7
    lab.check()
    found = read_corrections(path, NAMES)
    for pair in found.apart:
        assert not (set(lab.labels[pair[0]]) & set(lab.labels[pair[1]])) - {-1}


def test_a_cluster_that_is_open_can_be_said_to_be_one(tmp_path):
    lab = ClusterExplorer(
        XY, FEATURES, k1=12, k2=4, names=NAMES, corrections=str(tmp_path / "c.csv")
    )
    lab.cluster.value = int(lab.labels.max())
    members = np.flatnonzero(lab.labels == lab.labels.max())
    lab.sayings["one"].click()
    lab.check()
    assert [
        int(name[2:-4]) for name, _, _ in lab.said.corrections[0].rows
    ] == members.tolist()


def test_without_a_file_or_names_nothing_is_written():
    lab = ClusterExplorer(XY, FEATURES, k1=12, k2=4)
    assert lab.said is None
    assert not [box for box in lab.children if lab.told in getattr(box, "children", ())]
    with pytest.raises(KitError, match="need the names"):
        ClusterExplorer(XY, FEATURES, corrections="c.csv").check()
    with pytest.raises(KitError, match="lengths differ|names 3"):
        ClusterExplorer(XY, FEATURES, corrections="c.csv", names=NAMES[:3]).check()
