"""A person's corrections: read from a table, refused in one sentence, kept by clustering
and by every epoch of a training.
"""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from dkdmpl_kit.data import TrainingImages
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import preset
from dkdmpl_kit.training import cluster_epoch, constraints_of, continued, fit, load_encoder
from dkdmpl_kit.training.checkpoint import load_epoch
from dkdmpl_kit.training.corrections import (
    Correction,
    names_below,
    read_corrections,
    track_groups,
    write_corrections,
)

NAMES = [f"p/{letter}.jpg" for letter in "abcdefg"]
A, B, C, D, E, F, G = range(7)
TABLE = "path,cluster,camera\n" + "".join(
    f"{name},{cluster},1\n" for name, cluster in zip(NAMES, (0, 0, 0, 1, 1, 2, -1))
)


@pytest.fixture
def said(tmp_path):
    """Write a table of corrections beside labels.csv, and read it."""
    (tmp_path / "labels.csv").write_text(TABLE)

    def read(*rows: str, head: str = "correction,action,path,cluster", names=NAMES, root=""):
        (tmp_path / "c.csv").write_text("\n".join([head, *rows]) + "\n")
        return read_corrections(tmp_path / "c.csv", names, root)

    return read


def groups(constraints):
    return [group.tolist() for group in constraints.together]


def pairs(constraints):
    return [tuple(side.tolist() for side in pair) for pair in constraints.apart]


def test_clusters_and_pictures_are_merged(said):
    found = said("1,merge,,0", "1,merge,,1", "2,Merge,./p/f.jpg,", "2,merge,p/g.jpg,")
    assert groups(found) == [[A, B, C, D, E], [F, G]] and not found.apart
    assert found.named == (
        "correction 1 (rows 2 and 3 of c.csv)",
        "correction 2 (rows 4 and 5 of c.csv)",
    )


def test_a_split_leaves_those_that_it_does_not_name(said):
    found = said("1,split,p/a.jpg,0", "1,split,p/b.jpg,", "2,split,p/d.jpg,")
    assert groups(found) == [[A, B], [D]] and pairs(found) == [([A, B], [C]), ([D], [E])]


def test_what_is_different_is_each_row_or_each_side(said):
    assert pairs(said("x,different,,0", "x,different,,1")) == [([A, B, C], [D, E])]
    found = said("1,different,p/a.jpg,", "1,different,p/b.jpg,", "1,different,p/d.jpg,")
    assert pairs(found) == [([A], [B]), ([A], [D]), ([B], [D])]
    found = said(
        "1,different,p/a.jpg,,left",
        "1,different,p/b.jpg,,left",
        "1,different,p/d.jpg,,",
        head="correction,action,path,cluster,side",
    )
    assert pairs(found) == [([A, B], [D])]


def test_rows_of_labels_csv_may_be_copied_whole(said):
    head = "correction,action," + "path,cluster,camera,similarity,suspect,note"
    found = said("1,split,p/a.jpg,0,1,0.9,true,not him", head=head)
    assert pairs(found) == [([A], [B, C])]


def test_other_labels_and_whole_paths_can_be_named(said, tmp_path):
    (tmp_path / "old").mkdir()
    # two of its pictures are gone since
    (tmp_path / "old" / "l.csv").write_text("path,cluster\np/a.jpg,7\np/x.jpg,7\np/b.jpg,7\n")
    head = "correction,action,path,cluster,labels"
    found = said("1,merge,,7,old/l.csv", "1,merge,,2,", head=head)
    assert groups(found) == [[A, B, F]]
    found = said(f"1,merge,{tmp_path}/p/a.jpg,", "1,merge,p\\b.jpg,", root=tmp_path)
    assert groups(found) == [[A, B]]


def test_a_table_without_rows_says_nothing(said):
    found = said()
    assert not found.together and not found.apart


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["1,merge,p/z.jpg,"], "row 2 of c.csv names p/z.jpg, which is not one of the 7"),
        (["1,merge,,9"], "names cluster 9, and .*labels.csv has no such cluster"),
        (["1,merge,,-1"], "names cluster -1"),
        (["1,merge,,x"], "cluster 'x' must be a whole number"),
        (["1,join,p/a.jpg,"], "action 'join': it must be merge, split or different"),
        ([",merge,p/a.jpg,"], "no number in the column correction"),
        (["1,merge,,"], "names neither a path nor a cluster"),
        (["1,merge,p/a.jpg,"], "merges a single picture"),
        (["1,different,p/a.jpg,"], r"has 1 side\(s\)"),
        (
            ["1,merge,p/a.jpg,", "1,split,p/b.jpg,"],
            "row 3 of c.csv is a split in correction 1",
        ),
        (["1,split,,0"], "splits a whole cluster"),
        (["1,split,p/g.jpg,"], "which is an outlier"),
        (["1,split,p/f.jpg,"], "splits all of a cluster off"),
        (["1,split,p/a.jpg,1"], "is in cluster 1, and .*labels.csv says 0"),
        (
            ["1,merge,p/a.jpg,", "1,merge,p/d.jpg,", "2,different,,0", "2,different,,1"],
            r"correction 1 \(rows 2 and 3 of c.csv\) and correction 2 \(rows 4 and 5 of "
            r"c.csv\) contradict each other",
        ),
        (["1,different,p/a.jpg,", "1,different,,0"], "not the same as itself"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(said, rows, words):
    with pytest.raises(KitError, match=words) as caught:
        said(*rows)
    assert "\n" not in str(caught.value)


def test_columns_and_files_that_are_not_there(said, tmp_path):
    with pytest.raises(KitError, match="no column 'cluster'"):
        said(head="correction,action,path")
    with pytest.raises(KitError, match="'who', which means nothing here"):
        said(head="correction,action,path,cluster,who")
    with pytest.raises(KitError, match="has a side, which only the action different"):
        said("1,merge,p/a.jpg,,x", head="correction,action,path,cluster,side")
    with pytest.raises(KitError, match="There are no corrections"):
        read_corrections(tmp_path / "none.csv", NAMES)
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(KitError, match="speaks of clusters, and there is no .*labels.csv"):
        said("1,merge,,0", "1,merge,,1")
    assert groups(said("1,merge,p/a.jpg,", "1,merge,p/b.jpg,")) == [[A, B]]


def test_what_is_written_is_read(tmp_path):
    names = ["=a.jpg", "b, c.jpg", "d.jpg", "e.jpg"]
    corrections = [
        Correction("merge", ((names[0], "", ""), (names[1], "", ""))),
        Correction(
            "different", ((names[0], "", "1"), (names[1], "", "1"), (names[2], "", "2"))
        ),
    ]
    path = write_corrections(tmp_path / "c.csv", corrections)
    assert "\n1,merge,./=a.jpg," in path.read_text()
    found = read_corrections(path, names)
    assert groups(found) == [[0, 1]] and pairs(found) == [([0, 1], [2])]
    labelled = write_corrections(tmp_path / "l.csv", corrections, labels="other.csv")
    assert labelled.read_text().startswith("correction,action,path,cluster,side,labels\n")


def test_the_pictures_of_a_track_are_one(tmp_path):
    tracks = np.array([3, -1, 3, 0, 5, 0, -1])
    assert [group.tolist() for group in track_groups(tracks)] == [[D, F], [A, C]]
    assert track_groups(None) == [] == track_groups(np.full(3, -1))
    paths = tuple(tmp_path / name for name in NAMES)
    images = TrainingImages(paths, np.zeros(7, np.int64), tracks)
    found = constraints_of(preset("smoke"), tmp_path, images)
    assert groups(found) == [[D, F], [A, C]]
    assert constraints_of(preset("smoke"), tmp_path, TrainingImages(paths, tracks)) is None
    (tmp_path / "c.csv").write_text(
        "correction,action,path,cluster\n1,different,p/a.jpg,\n1,different,p/c.jpg,\n"
    )
    config = preset("smoke", corrections=str(tmp_path / "c.csv"))
    with pytest.raises(
        KitError, match="the pictures of track 3 and correction 1 .*contradict"
    ):
        constraints_of(config, tmp_path, images)


# --- in a training ---


def names_of(dataset):
    return names_below(dataset.unlabelled().paths, dataset.root)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_config, tiny_dataset):
    """A run with a correction of each kind and a track, and what they say."""
    out = tmp_path_factory.mktemp("corrected")
    names = names_of(tiny_dataset)
    pids = [image.pid for image in tiny_dataset.train]
    first = [i for i, pid in enumerate(pids) if pid == pids[0]]
    other = next(i for i, pid in enumerate(pids) if pid != pids[0])
    (out / "labels.csv").write_text(f"path,cluster\n{names[first[0]]},0\n{names[other]},0\n")
    rows = [f"1,merge,{names[i]}," for i in first]
    rows += [f"2,split,{names[other]},0"]
    text = "\n".join(["correction,action,path,cluster", *rows]) + "\n"
    (out / "corrections.csv").write_text(text)
    last = len(names) - 1
    train = list(tiny_dataset.train)
    for i in (last - 1, last):
        train[i] = dataclasses.replace(train[i], track=4)
    dataset = dataclasses.replace(tiny_dataset, train=tuple(train))
    config = tiny_config.replace(
        out_dir=str(out),
        corrections=str(out / "corrections.csv"),
        gkd_teacher="vote",
        epochs=2,
        iterations=1,
    )
    result = fit(config, dataset, progress=False)
    return config, dataset, result, (first, other, [last - 1, last])


def test_every_epoch_keeps_to_corrections_and_tracks(trained):
    config, dataset, result, (first, other, track) = trained
    for epoch, record in enumerate(result.history):
        labels, _ = load_epoch(result.run_dir / "epochs" / f"epoch_{epoch:03d}.npz")
        assert len(set(labels[first])) == 1 and labels[first[0]] >= 0
        assert labels[other] != labels[first[0]]
        assert len(set(labels[track])) == 1 and labels[track[0]] >= 0
        # the record is of what was trained on
        assert record["n_clusters"] == labels.max() + 1
        assert record["outlier_fraction"] == pytest.approx((labels < 0).mean())
        sizes = np.bincount(labels[labels >= 0])
        assert record["largest_share"] == pytest.approx(sizes.max() / len(labels))


def test_soft_labels_are_of_the_corrected_clusters(trained):
    config, dataset, *_ = trained
    images = dataset.unlabelled()
    constraints = constraints_of(config, dataset.root, images)
    features = np.random.default_rng(0).normal(size=(len(images), 8)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    found = cluster_epoch(config.replace(eps=0.75), features, images.camids, constraints)
    assert found.soft.shape == (len(images), found.n_clusters)
    with pytest.raises(KitError, match="must be read before clustering"):
        cluster_epoch(config, features, images.camids)


def test_a_run_keeps_its_corrections_wherever_their_file_goes(trained, tmp_path):
    config, dataset, result, (first, *_) = trained
    kept = result.run_dir / "corrections.json"
    names = names_of(dataset)
    assert groups(read_corrections(kept, names))[0] == first
    record = json.loads((result.run_dir / "config.json").read_text())
    assert re.fullmatch("[0-9a-f]{16}", record["corrections_fingerprint"])
    gone = config.replace(corrections=str(tmp_path / "gone.csv"))
    assert fit(gone, dataset, resume=True, progress=False).final == result.final
    assert load_encoder(result.run_dir)[0].corrections == str(kept.absolute())
    assert continued(result.run_dir, epochs=3).corrections == str(kept.absolute())
    with pytest.raises(KitError, match="There are no corrections"):
        fit(gone.replace(run_name="fresh"), dataset, progress=False)
    assert not gone.replace(run_name="fresh").run_dir.exists()
    (tmp_path / "other.csv").write_text(
        f"correction,action,path,cluster\n1,merge,{names[0]},\n1,merge,{names[1]},\n"
    )
    other = config.replace(corrections=str(tmp_path / "other.csv"))
    with pytest.raises(KitError, match="other corrections"):
        fit(other, dataset, resume=True, progress=False)
    with pytest.raises(KitError, match="other corrections"):
        fit(config.replace(corrections=""), dataset, resume=True, progress=False)
    kept.with_name("damaged.json").write_text('{"source": "", "together": [3], "apart": []}')
    with pytest.raises(KitError, match="does not fit these training pictures"):
        read_corrections(kept.with_name("damaged.json"), names)


def test_true_identities_are_not_corrected(trained):
    config, dataset, *_ = trained
    labels = np.arange(len(dataset.train)) % 3
    with pytest.raises(KitError, match="corrections are of pseudo labels"):
        fit(config.replace(method="supervised"), dataset, reference_labels=labels)


def test_without_corrections_nothing_changes(tiny_config):
    features = np.eye(6, dtype=np.float32)[[0, 0, 0, 0, 1, 1, 1, 1]]
    camids = np.zeros(8, np.int64)
    config = tiny_config.replace(k1=4, k2=1)
    plain = cluster_epoch(config, features, camids)
    assert plain.labels.tolist() == [0] * 4 + [1] * 4
