"""Copies of data sets as they come: each is read, or refused in one sentence."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from dkdmpl_kit.data import read_dataset, render_layout
from dkdmpl_kit.data.checking import OFFICIAL_COUNTS
from dkdmpl_kit.data.layouts import IN_NO_LIST, LAYOUTS, MSMT17
from dkdmpl_kit.data.rendering import layouts
from dkdmpl_kit.errors import KitError

OF_FOLDERS = ("market1501", "dukemtmcreid", "msmt17_reorganised", "veri776")
OF_LISTS = ("msmt17", "msmt17_v2")
LISTS = ("train", "val", "query", "gallery")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """{layout: folder} of two identities a split, two cameras, two pictures each.

    The pictures are single pixels: names and folders are all that is read here.
    """
    root = tmp_path_factory.mktemp("layouts")
    pixel = np.zeros((1, 1, 3), np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "draw_shot", lambda settings, shot: pixel)
        for layout in OFFICIAL_COUNTS:
            render_layout(
                root / layout,
                layout,
                n_train_ids=2,
                n_test_ids=2,
                n_cameras=2,
                images_per_camera=2,
                progress=False,
            )
    return {layout: root / layout for layout in OFFICIAL_COUNTS}


@pytest.fixture
def copy(rendered, tmp_path):
    return lambda layout: shutil.copytree(rendered[layout], tmp_path / layout)


def read(root: Path, layout: str | None = None):
    return read_dataset(layout or root.name, root, allow_withdrawn=True)


def rows(dataset) -> list[list[tuple]]:
    """(name without its ending, pid, camid) of each split."""
    return [
        [(image.path.stem, image.pid, image.camid) for image in split]
        for split in (dataset.train, dataset.query, dataset.gallery)
    ]


def refusal(root: Path, layout: str | None = None) -> str:
    with pytest.raises(KitError) as error:
        read(root, layout)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")
    return str(error.value)


pytestmark = pytest.mark.filterwarnings("ignore:DukeMTMC")


@pytest.mark.parametrize("layout", OFFICIAL_COUNTS)
def test_upper_case_endings_are_read(copy, rendered, layout):
    root = copy(layout)
    for path in list(root.rglob("*.jpg")):
        path.rename(path.with_suffix(".JPG"))
    assert rows(read(root)) == rows(read(rendered[layout]))
    assert all(image.path.is_file() for image in read(root).train)


@pytest.mark.parametrize("layout", OF_LISTS)
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\n\n" + text.replace("\n", "\n \n"),
        lambda text: text.rstrip(),
        lambda text: text.replace(" ", "\t"),
        lambda text: text.replace(".jpg", ".JPG"),
        lambda text: text.replace("/", "\\"),
        lambda text: "\ufeff" + text.replace("\n", "  \r\n"),
    ],
    ids=[
        "Windows line ends",
        "blank lines",
        "no last line end",
        "tabs",
        "upper case",
        "backslashes",
        "a BOM and spaces",
    ],
)
def test_list_files_that_passed_through_another_editor_are_read_as_before(
    copy, rendered, layout, change
):
    root = copy(layout)
    for part in LISTS:
        path = root / f"list_{part}.txt"
        path.write_bytes(change(path.read_text()).encode())
    dataset = read(root)
    assert rows(dataset) == rows(read(rendered[layout]))
    assert all(
        image.path.is_file() for image in dataset.train + dataset.query + dataset.gallery
    )


@pytest.mark.parametrize("layout", OF_LISTS)
def test_a_picture_that_is_in_a_list_but_not_on_disk_is_named(copy, layout):
    root = copy(layout)
    path = read(root).gallery[1].path
    path.unlink()
    sentence = refusal(root)
    assert "list_gallery.txt names 1 pictures" in sentence and path.name in sentence


def test_a_picture_that_two_lists_name_is_refused(copy):
    root = copy("msmt17")
    line = (root / "list_val.txt").read_text().splitlines()[0]
    with (root / "list_train.txt").open("a") as file:
        file.write(line + "\n")
    sentence = refusal(root)
    assert (
        "were named before" in sentence
        and line.split()[0] in sentence
        and "list_val.txt" in sentence
    )


@pytest.mark.parametrize("layout", OF_LISTS)
def test_a_picture_too_many_beside_the_lists_is_ignored_and_can_be_listed(
    copy, rendered, layout
):
    root = copy(layout)
    extra = read(root).train[0].path
    shutil.copy(extra, extra.with_name("0000_099_01_0303morning_0001_0.jpg"))
    dataset = read(root)
    assert rows(dataset) == rows(read(rendered[layout]))
    assert [Path(name).name for name in dataset.account()[IN_NO_LIST]] == [
        "0000_099_01_0303morning_0001_0.jpg"
    ]
    assert IN_NO_LIST not in read(rendered[layout]).account()


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("market1501", "0001_c2s1_000001_09.jpg"),
        ("dukemtmcreid", "0001_c2_f0000001.jpg"),
        ("msmt17_reorganised", "0001_c2_0099.jpg"),
        ("veri776", "0001_c002_00000001_0.jpg"),
    ],
)
def test_a_picture_too_many_in_a_folder_belongs_to_it_when_its_name_fits(copy, layout, name):
    root = copy(layout)
    before = read(root).train
    shutil.copy(before[0].path, before[0].path.with_name(name))
    after = read(root).train
    assert {image.path.name for image in after} - {image.path.name for image in before} == {
        name
    }
    assert next(image for image in after if image.path.name == name).camid == 1


@pytest.mark.parametrize("layout", OF_FOLDERS)
@pytest.mark.parametrize("wrong", ["IMG_0001.jpg", "0001-c2.jpg", "0001_c0s1_000001_00.jpg"])
def test_a_wrong_name_is_named_beside_a_right_one(copy, layout, wrong):
    root = copy(layout)
    path = read(root).query[0].path
    path.rename(path.with_name(wrong))
    sentence = refusal(root)
    assert (
        wrong in sentence and LAYOUTS[layout].example in sentence and "rename it" in sentence
    )


@pytest.mark.parametrize("layout", OF_FOLDERS)
def test_a_camera_0_is_told_that_cameras_start_at_1(copy, layout):
    root = copy(layout)
    path = read(root).query[0].path
    path.rename(path.with_name(re.sub(r"_c0*\d", "_c0", path.name)))
    sentence = refusal(root)
    assert "has the camera 0" in sentence and "start at 1" in sentence


@pytest.mark.parametrize(
    "line",
    [
        "0000/0000_000_00_0303morning_0001_0.jpg 0",
        "0000/0000_000_01_0303morning_0001_0.jpg",
        "0000_0.jpg 0",
        "0000/0000_000_01_0303morning_0001_0.jpg -1",
    ],
)
def test_a_line_of_another_form_is_shown_with_the_right_form(copy, line):
    root = copy("msmt17")
    with (root / "list_query.txt").open("a") as file:
        file.write(line + "\n")
    sentence = refusal(root)
    assert (
        "list_query.txt" in sentence
        and ("cameras start at 1" in sentence) == ("_00_" in line)
        and line in sentence
        and "0000/0000_000_01_0303morning_0015_0.jpg 0" in sentence
    )


def test_a_list_that_is_no_text_is_one_sentence(copy):
    root = copy("msmt17")
    text = (root / "list_query.txt").read_text()
    (root / "list_query.txt").write_bytes(text.encode("utf-16"))
    assert "list_query.txt" in refusal(root)


@pytest.mark.parametrize(
    ("layout", "part"), [(layout, part) for layout in OF_LISTS for part in LISTS]
)
def test_a_missing_list_is_named(copy, layout, part):
    root = copy(layout)
    (root / f"list_{part}.txt").unlink()
    assert f"expected the file list_{part}.txt" in refusal(root)


@pytest.mark.parametrize(
    ("layout", "folder"),
    [
        *((layout, folder) for layout in OF_FOLDERS for folder in LAYOUTS[layout].folders),
        *((layout, folder) for layout in OF_LISTS for folder in MSMT17[layout]),
    ],
)
def test_a_missing_folder_is_named(copy, layout, folder):
    root = copy(layout)
    shutil.rmtree(root / folder)
    assert f"expected the folder {folder}" in refusal(root)


def test_an_empty_list_is_an_empty_split_but_for_val(copy):
    root = copy("msmt17")
    (root / "list_val.txt").write_text("")
    assert len(read(root).train) == 2 * 2 * 2 - 2, "train alone is read: the check says so"
    (root / "list_query.txt").write_text("\n")
    assert "the query split" in refusal(root)


def test_each_copy_of_msmt17_is_recognised_and_can_be_asked_for(rendered):
    for layout in ("msmt17", "msmt17_v2", "msmt17_reorganised"):
        assert (
            read(rendered[layout], "msmt17").name
            == read(rendered[layout], layout).name
            == layout
        )
    assert "expected the folder mask_train_v2" in refusal(rendered["msmt17"], "msmt17_v2")
    assert "expected the folder train or mask_train_v2 or bounding_box_train" in refusal(
        rendered["veri776"], "msmt17"
    )


def test_two_copies_of_msmt17_in_one_folder_are_not_guessed_between(copy, rendered):
    root = copy("msmt17")
    shutil.copytree(rendered["msmt17_v2"], root, dirs_exist_ok=True)
    assert "msmt17 and msmt17_v2, whose results differ" in refusal(root)
    assert read(root, "msmt17_v2").name == "msmt17_v2"


@pytest.mark.parametrize("layout", ["msmt17", "msmt17_v2", "msmt17_reorganised"])
def test_test_identities_of_msmt17_follow_those_of_train(rendered, layout):
    """On disk both start at 0, in every copy."""
    dataset = read(rendered[layout])
    assert {image.pid for image in dataset.train} == {0, 1}
    assert (
        {image.pid for image in dataset.query}
        == {image.pid for image in dataset.gallery}
        == {2, 3}
    )


def test_the_fingerprint_knows_which_list_named_a_picture(copy):
    root = copy("msmt17")
    before = read(root).fingerprint()
    query, gallery = (
        (root / f"list_{part}.txt").read_text().splitlines() for part in ("query", "gallery")
    )
    query[0], gallery[0] = gallery[0], query[0]  # the same identity, in the same camera
    for part, lines in (("query", query), ("gallery", gallery)):
        (root / f"list_{part}.txt").write_text("\n".join(lines))
    assert read(root).fingerprint() != before
