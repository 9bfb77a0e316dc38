"""Settings are chosen on identities of the training split: the test split stays unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from dkdmpl_kit.cli import main
from dkdmpl_kit.data import ReIDDataset, ReIDImage, hold_out
from dkdmpl_kit.errors import KitError


def identities(images):
    return {image.pid for image in images}


@pytest.fixture
def held(tiny_dataset, tmp_path):
    return hold_out(tiny_dataset, tmp_path / "tune", share=0.4, seed=1)


def test_every_training_picture_is_there_once_and_nothing_of_the_test_split(
    held, tiny_dataset
):
    theirs = sorted(image.path.resolve() for image in tiny_dataset.train)
    assert sorted(image.path.resolve() for image in held.images()) == theirs
    assert len(identities(held.query)) == 4 and len(identities(held.train)) == 6
    assert not identities(held.train) & identities(held.query + held.gallery)


def test_a_query_is_one_picture_of_each_camera_and_can_be_matched_from_another(held):
    asked = [(image.pid, image.camid) for image in held.query]
    assert len(asked) == len(set(asked))
    for pid, camid in asked:
        assert any(x.pid == pid and x.camid != camid for x in held.gallery)


def test_the_identities_and_cameras_are_those_of_the_files(held, tiny_dataset):
    known = {image.path.resolve(): (image.pid, image.camid) for image in tiny_dataset.train}
    for image in held.images():
        named = int(held.identity(image.pid)), image.camid
        assert named == known[image.path.resolve()]


def test_the_seed_decides_who_is_held_out(tiny_dataset, tmp_path):
    names = {
        seed: sorted(
            path.name
            for path in hold_out(tiny_dataset, tmp_path / f"{turn}", seed=seed).paths()
        )
        for turn, seed in ((0, 0), (1, 1))
    }
    again = sorted(path.name for path in hold_out(tiny_dataset, tmp_path / "2").paths())
    assert names[0] == again != names[1]


def picture(tmp_path, pid, camid, number):
    path = tmp_path / "crops" / f"{pid}-{camid}-{number}.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    return ReIDImage(path, pid, camid)


def test_an_identity_of_one_camera_is_never_asked_for(tmp_path):
    both = [picture(tmp_path, pid, camid, 0) for pid in (0, 1) for camid in (0, 1)]
    lone = [picture(tmp_path, pid, 0, n) for pid in range(2, 8) for n in (0, 1)]
    crops = ReIDDataset("crops", tmp_path, tuple(both + lone), (), ())
    found = hold_out(crops, tmp_path / "out", share=0.75, seed=2)
    assert {int(found.identity(image.pid)) for image in found.query} <= {0, 1}
    assert found.query and len(identities(found.query + found.gallery)) == 6
    nobody = ReIDDataset("crops", tmp_path, tuple(lone), (), ())
    with pytest.raises(KitError, match="seen by two cameras"):
        hold_out(nobody, tmp_path / "none", share=0.5)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("share", "sentence"), [(1.5, "between 0 and 1"), (0.05, "fewer than two on one side")]
)
def test_a_share_that_cannot_be_taken_is_one_sentence(
    share, sentence, tiny_dataset, tmp_path
):
    with pytest.raises(KitError, match=sentence):
        hold_out(tiny_dataset, tmp_path / "out", share=share)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_is_left_as_it_is(tiny_dataset, tmp_path):
    with pytest.raises(KitError, match="already there"):
        hold_out(tiny_dataset, tmp_path)


def test_unknown_identities_cannot_be_divided(tmp_path):
    blind = ReIDDataset("crops", tmp_path, (ReIDImage(Path("a.png"), None, 0),), (), ())
    with pytest.raises(KitError, match="no known identity"):
        hold_out(blind, tmp_path / "out")


def test_the_command_writes_the_folder_and_says_how_to_read_it(
    tiny_dataset, tmp_path, capsys
):
    out = tmp_path / "tune"
    command = ["data", "holdout", "synthetic", str(tiny_dataset.root), "--out", str(out)]
    assert main([*command, "--share", "0.4"]) == 0
    said = capsys.readouterr().out
    assert f"--data folder --data-root {out}" in said and "(?P<pid>" in said
    assert sorted(path.name for path in out.iterdir()) == ["gallery", "query", "train"]
