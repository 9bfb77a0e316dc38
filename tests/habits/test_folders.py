"""Folders and names as people have them: every file is accounted for, and nothing becomes
training data, a query or a second person without a word.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from trees import write

from dkdmpl_kit.cli import main
from dkdmpl_kit.data import check_dataset, read_dataset
from dkdmpl_kit.data.files import expanded, list_folder, printable
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import Config, open_dataset

MARKET = (
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0065_c6s2_000001_00.jpg",
    "query/0001_c1s1_001051_00.jpg",
    "bounding_box_test/0001_c2s1_000001_00.jpg",
)


def refusal(name: str, root: Path, **more) -> str:
    with pytest.raises(KitError) as error:
        read_dataset(name, root, **more)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")
    return str(error.value)


def names(images) -> list[str]:
    return [image.path.name for image in images]


# ---- every file is accounted for

FOLDER = st.sampled_from(["a", "b", "train", "Test", "query", "gallery", ".git", "__MACOSX"])
FILE = st.sampled_from(
    "1.jpg 2.JPG 3.tif 4.heic 5.gif notes.txt Thumbs.db .hidden.jpg pipe.jpg pipe dangling "
    "dangling.png loop loop.jpg up here aside".split()
)
TREE = st.lists(
    st.tuples(st.lists(FOLDER, max_size=3).map(tuple), FILE), max_size=14, unique=True
)


def plant(root: Path, tree) -> None:
    """Make the files, pipes and links of a random tree."""
    for folders, name in tree:
        folder = root.joinpath(*folders)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        if name.startswith("pipe"):
            os.mkfifo(path)
        elif name.startswith("dangling"):
            path.symlink_to("gone")
        elif name.startswith("loop"):
            path.symlink_to(name)
        elif name in ("up", "here", "aside"):
            target = {"up": root.parent, "here": folder, "aside": root / "a"}[name]
            path.symlink_to(target, target_is_directory=True)
        else:
            path.write_bytes(b"x")


def on_disk(root: Path) -> set[str]:
    """What lies in the folder, links to folders as one thing, and nothing followed."""
    found = set()
    for here, folders, files in os.walk(root):
        linked = [name for name in folders if os.path.islink(os.path.join(here, name))]
        for name in [*files, *linked]:
            found.add(os.path.relpath(os.path.join(here, name), root))
    return found


def accounted(name: str, account: Counter, links: set[str]) -> int:
    """How often a file is in the account: itself, in a folder that is left out as a whole,
    or, for a link that was followed, by what lies behind it.
    """
    whole = sum(account[f"{name[:end]}/"] for end, c in enumerate(name) if c == "/")
    return account[name] + whole + (name in links)


@given(tree=TREE)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_every_file_of_a_random_tree_is_read_or_left_out_with_a_reason(
    tmp_path_factory, tree
):
    root = tmp_path_factory.mktemp("tree")
    plant(root, tree)
    there = list_folder(root, deep=True)
    account = Counter([*there.pictures, *(remark.name for remark in there.remarks)])
    followed = {name for name in there.folders if (root / name).is_symlink()}
    for name in on_disk(root):
        assert accounted(name, account, followed) == 1, name
    assert max(account.values(), default=1) == 1
    assert all(remark.why for remark in there.remarks)
    try:
        dataset = read_dataset("folder", root)
    except KitError as error:
        assert str(error).endswith(".") and "\n" not in str(error)
        return
    read = dataset.account()
    assert sorted(read.pop("read")) == sorted(there.pictures)
    left_out = {name for reason in read.values() for name in reason}
    assert left_out >= {remark.name for remark in there.remarks}


@given(tree=TREE)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_every_file_around_a_market_is_accounted_for(tmp_path_factory, tree):
    root = write(tmp_path_factory.mktemp("market"), *MARKET)
    # "query" is a folder of the layout: strays in it are another test
    plant(root, [item for item in tree if item[0][:1] != ("query",)])
    account = read_dataset("market1501", root).account()
    counted = Counter(name for reason in account.values() for name in reason)
    for name in on_disk(root):
        whole = Counter(counted)
        if (root / name).is_symlink() and (root / name).is_dir():
            whole[name] += whole[f"{name}/"]
        assert accounted(name, whole, set()) == 1, name


def test_the_summary_and_the_check_say_what_is_left_out_and_why(tmp_path, capsys):
    root = write(
        tmp_path, "1.jpg", "2.heic", "notes.txt", "more.txt", ".DS_Store", "film.mp4"
    )
    os.mkfifo(root / "pipe")
    (root / "link").symlink_to("gone")
    said = (
        "1 files read\n"
        "left out: 1 a link to nothing (link)\n"
        "left out: 1 a pipe (pipe)\n"
        "left out: 1 hidden (.DS_Store)\n"
        "left out: 2 in a format that is not read: convert to JPEG or PNG (2.heic, film.mp4)\n"
        "left out: 2 no picture (more.txt, notes.txt)"
    )
    dataset = read_dataset("folder", root)
    assert dataset.summary().endswith(said)
    assert said in check_dataset(dataset, progress=False).text()
    assert main(["data", "check", "folder", str(root), "--quiet"]) == 0
    assert said in capsys.readouterr().out


def test_what_a_market_leaves_out_is_named_with_its_reason(tmp_path):
    root = write(
        tmp_path,
        *MARKET,
        "bounding_box_train/-1_c1s1_000001_00.jpg",
        "bounding_box_train/0000_c1s1_000001_00.jpg",
        "bounding_box_train/within/0009_c1s1_000001_00.jpg",
        "gt_bbox/0001_c1s1_000001_00.jpg",
        "stray.jpg",
        "readme.txt",
    )
    account = read_dataset("market1501", root).account()
    assert sorted(account.pop("read")) == sorted(MARKET)
    assert account == {
        "junk (identity -1)": ("bounding_box_train/-1_c1s1_000001_00.jpg",),
        "background (identity 0) outside the gallery": (
            "bounding_box_train/0000_c1s1_000001_00.jpg",
        ),
        "in a folder within": ("bounding_box_train/within/",),
        "outside the folders of market1501": ("gt_bbox/", "stray.jpg"),
        "no picture": ("readme.txt",),
    }


# ---- links and folders that never end


def test_links_among_folders_that_lead_everywhere_end_soon(tmp_path):
    """Nine folders, each with a link to each: followed without a limit, 9! ways."""
    folders = [tmp_path / "root" / f"f{i}" for i in range(9)]
    for folder in folders:
        write(folder, "1.jpg")
    for folder in folders:
        for other in folders:
            (folder / f"to-{other.name}").symlink_to(other, target_is_directory=True)
    there = list_folder(tmp_path / "root", deep=True)
    assert {name for name in there.pictures if "to-" not in name} == {
        f"f{i}/1.jpg" for i in range(9)
    }
    assert len(there.pictures) <= 9 + 9 * 8
    assert {remark.why for remark in there.remarks} == {
        "a link to a folder above",
        "a link to a folder that is read already",
    }


def test_a_link_to_the_whole_disk_is_named_and_not_followed(tmp_path):
    root = write(tmp_path / "root", "1.jpg")
    (root / "disk").symlink_to("/")
    assert read_dataset("folder", root).account()["a link to a folder above"] == ("disk",)


def test_a_folder_behind_a_link_is_read(tmp_path):
    write(tmp_path / "elsewhere", "1.jpg", "deep/2.jpg")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "train").symlink_to(tmp_path / "elsewhere")
    assert names(read_dataset("folder", tmp_path / "root").train) == ["1.jpg", "2.jpg"]


# ---- folders that make splits


@pytest.mark.parametrize(
    ("train", "test"),
    [("Train", "Test"), ("TRAIN", "TEST"), ("training", "testing"), ("train", "Gallery")],
)
def test_splits_are_found_however_their_folders_are_written(tmp_path, train, test):
    dataset = read_dataset("folder", write(tmp_path, f"{train}/1.jpg", f"{test}/2.jpg"))
    assert names(dataset.train) == ["1.jpg"] and names(dataset.gallery) == ["2.jpg"]


@pytest.mark.parametrize("probe", ["query", "Query", "queries", "Probe"])
def test_queries_are_found_however_their_folder_is_written(tmp_path, probe):
    dataset = read_dataset("folder", write(tmp_path, f"{probe}/1.jpg", "gallery/2.jpg"))
    assert names(dataset.query) == ["1.jpg"] and names(dataset.gallery) == ["2.jpg"]


@pytest.mark.parametrize("val", ["val", "Val", "valid", "validation"])
@pytest.mark.parametrize("beside", ["train/1.jpg", "images/1.jpg"])
def test_a_folder_val_never_becomes_training_data_without_a_word(tmp_path, val, beside):
    root = write(tmp_path, beside, f"{val}/2.jpg")
    sentence = refusal("folder", root)
    assert "lies outside the folders that make the splits" in sentence
    assert val in sentence or "images/1.jpg" in sentence


def test_a_test_folder_may_hold_its_queries_and_its_gallery(tmp_path):
    root = write(tmp_path, "train/1.jpg", "test/query/2.jpg", "test/gallery/3.jpg")
    dataset = read_dataset("folder", root)
    assert names(dataset.query) == ["2.jpg"] and names(dataset.gallery) == ["3.jpg"]


@pytest.mark.parametrize(
    "trap", ["train/test", "query/gallery", "gallery/query", "train/Query"]
)
def test_a_split_within_another_split_is_refused(tmp_path, trap):
    root = write(tmp_path, "train/1.jpg", "query/2.jpg", "gallery/3.jpg", f"{trap}/4.jpg")
    sentence = refusal("folder", root)
    assert "lies in folders of two splits" in sentence and f"{trap}/4.jpg" in sentence


@pytest.mark.parametrize("sub", ["test", "query", "gallery", "train", "val"])
def test_a_gallery_to_rank_may_have_sub_folders_of_any_name(tmp_path, sub):
    root = write(tmp_path, "1.jpg", f"{sub}/2.jpg")
    dataset = read_dataset("folder", root, splits=False)
    assert names(dataset.train) == ["1.jpg", "2.jpg"] and not dataset.query + dataset.gallery


# ---- identities and cameras as files name them

PATTERN = r"(?P<pid>[^_/]+)_c(?P<camid>\d+)"


def test_0065_and_65_are_one_person_and_camera_02_is_camera_2(tmp_path):
    root = write(tmp_path, "0065_c2.jpg", "65_c02.jpg", "7_c10.jpg", "00007_c010.jpg")
    train = read_dataset("folder", root, pattern=PATTERN).train
    assert {(image.path.name, image.pid, image.camid) for image in train} == {
        ("0065_c2.jpg", 1, 0),
        ("65_c02.jpg", 1, 0),
        ("7_c10.jpg", 0, 1),
        ("00007_c010.jpg", 0, 1),
    }


def test_a_name_whose_letters_unicode_writes_in_two_ways_is_one_person(tmp_path):
    root = write(tmp_path, "Jos\u00e9_c1.jpg", "Jose\u0301_c2.jpg", "Josef_c1.jpg")
    train = read_dataset("folder", root, pattern=PATTERN).train
    assert len({image.pid for image in train}) == 2


def test_identities_of_20_digits_are_refused_where_they_are_numbers_and_read_where_names(
    tmp_path,
):
    long = "12345678901234567890"
    stray = f"bounding_box_train/{long}_c1s1_000001_00.jpg"
    sentence = refusal("market1501", write(tmp_path / "a", *MARKET, stray))
    assert long in sentence and "18 digits" in sentence
    camera = f"query/0001_c{long}s1_000001_00.jpg"
    assert "18 digits" in refusal("market1501", write(tmp_path / "b", *MARKET, camera))
    zeros = "bounding_box_train/000000000000000000000007_c1s1_000001_00.jpg"
    train = read_dataset("market1501", write(tmp_path / "c", *MARKET, zeros)).train
    assert 7 in {image.pid for image in train}
    own = write(tmp_path / "d", f"{long}_c1.jpg", f"{long}1_c1.jpg")
    assert [i.pid for i in read_dataset("folder", own, pattern=PATTERN).train] == [1, 0]


def test_camera_0_is_told_that_cameras_start_at_1(tmp_path):
    root = write(tmp_path, *MARKET, "query/0001_c0s1_000001_00.jpg")
    sentence = refusal("market1501", root)
    assert "0001_c0s1_000001_00.jpg has the camera 0" in sentence and "start at 1" in sentence


def test_messages_call_identities_what_the_files_call_them(tmp_path):
    root = write(tmp_path / "m", *MARKET, "query/0065_c1s1_000001_00.jpg")
    found = check_dataset(read_dataset("market1501", root), progress=False)
    assert "1 identity both in train and in query or gallery: 0065" in found.problems
    own = write(tmp_path / "o", "train/anna_c1.jpg", "train/zoe_c1.jpg", "test/zoe_c2.jpg")
    found = check_dataset(read_dataset("folder", own, pattern=PATTERN), progress=False)
    assert "1 identity both in train and in query or gallery: zoe" in found.problems


def test_test_identities_of_msmt17_keep_the_names_of_their_files(tmp_path):
    root = write(
        tmp_path,
        "bounding_box_train/0000_c1_0003.jpg",
        "query/0000_c15_0001.jpg",
        "bounding_box_test/0000_c14_0002.jpg",
    )
    dataset = read_dataset("msmt17", root)
    assert dataset.query[0].pid == 1 and dataset.identity(1) == dataset.identity(0) == "0000"


# ---- names that are not text, and names that write on the screen


def strange(root: Path) -> Path:
    """Pictures whose names are not UTF-8, or hold a line end and a colour of a terminal."""
    root.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 8)).save(root / "good.png")
    content = (root / "good.png").read_bytes()
    for name in (b"caf\xe9.png", b"two\nlines.png", b"\x1b[31mred.png"):
        with open(os.path.join(os.fsencode(root), name), "wb") as file:
            file.write(content)
    with open(os.path.join(os.fsencode(root), b"half\xff.png"), "wb") as file:
        file.write(content[:40])
    return root


def test_names_are_shown_in_one_line_without_a_traceback(tmp_path):
    assert printable("caf\udce9 two\nlines \x1b[31m \u202e é") == (
        r"caf\xe9 two\nlines \x1b[31m \u202e é"
    )
    found = check_dataset(read_dataset("folder", strange(tmp_path / "a")), progress=False)
    assert found.problems == (r"1 unreadable picture: half\xff.png",)
    assert found.text().isascii() and "\x1b" not in found.text()


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_a_strict_terminal_gets_a_sentence_too(tmp_path, encoding):
    root = strange(tmp_path / "caf\udce9")
    command = [sys.executable, "-m", "dkdmpl_kit.cli", "data", "check", "folder", str(root)]
    run = subprocess.run(
        command, env=os.environ | {"PYTHONIOENCODING": encoding}, capture_output=True
    )
    assert run.returncode == 2 and b"Traceback" not in run.stderr
    assert rb"half\xff.png" in run.stderr and b"4 files read" not in run.stdout


def test_a_mapped_file_of_pixels_may_have_pictures_of_any_name(tmp_path):
    from dkdmpl_kit.data import ImageStore

    root = strange(tmp_path / "a")
    paths = [image.path for image in read_dataset("folder", root).train]
    paths = [path for path in paths if not path.name.startswith("half")]
    store = ImageStore(
        paths, 8, 4, progress=False, memory_limit_mb=0, cache_dir=tmp_path / "cache"
    )
    assert len(store) == 4 and not store.pixels.any()


# ---- the home folder


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_a_tilde_is_the_home_folder_and_never_a_folder_of_that_name(home):
    assert expanded("~/x") == home / "x" and expanded("a/~") == Path("a/~")
    with pytest.raises(KitError, match="~nobody-here/x starts with ~"):
        expanded("~nobody-here/x")
    write(home / "crops", "1.jpg")
    assert read_dataset("folder", "~/crops").root == home / "crops"


def test_settings_that_are_paths_know_the_home_folder(home):
    config = Config(out_dir="~/runs", data_root="~/crops", weights="~/w.pth")
    assert config.out_dir == str(home / "runs")
    assert config.data_root == str(home / "crops") and config.weights == str(home / "w.pth")
    assert config.replace(out_dir="~").out_dir == str(home)
    with pytest.raises(KitError, match="starts with ~"):
        Config(out_dir="~nobody-here/runs")


def test_rendered_pictures_go_to_the_home_folder(home):
    tiny = {"n_train_ids": 2, "n_test_ids": 2, "n_cameras": 2, "images_per_camera": 2}
    dataset = open_dataset(Config(data_root="~/rendered", **tiny))
    assert dataset.root == home / "rendered"
    assert not (home.parent / "~").exists()


def test_every_command_knows_the_home_folder(home, capsys):
    write(home / "crops", "1.jpg")
    assert main(["data", "check", "folder", "~/crops"]) == 0
    assert main(["data", "check", "--data", "folder", "--data-root", "~/crops"]) == 0
    assert main(["report", "~/runs"]) == 2
    assert str(home / "runs") in capsys.readouterr().err
    out = "--out=~/rendered"
    assert main(["data", "render", "--layout", "market1501", "--preset", "smoke", out]) == 0
    assert (home / "rendered" / "query").is_dir() and not (home.parent / "~").exists()


def test_every_subcommand_expands_what_it_is_given():
    """Over the parser: a new flag needs nobody to remember this."""
    import argparse

    from dkdmpl_kit.cli import build_parser
    from dkdmpl_kit.cli.shared import at_home

    def leaves(parser):
        below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if not below:
            yield parser
        for action in below:
            for sub in action.choices.values():
                yield from leaves(sub)

    checked = 0
    for parser in leaves(build_parser()):
        for action in parser._actions:
            if action.dest.startswith("set_") or action.nargs == 0 or action.choices:
                continue
            kind = action.type or str
            if kind not in (str, Path):
                continue
            args = argparse.Namespace(**{action.dest: [kind("~/x")]})
            at_home(args)
            assert getattr(args, action.dest) == [kind(os.path.expanduser("~/x"))]
            checked += 1
    assert checked > 15


# ---- the sheet, and notebooks that run in a folder of their own


def test_the_sheet_of_a_ranking_does_not_become_a_picture_of_the_gallery(tmp_path, capsys):
    root = write(tmp_path / "gallery", "1.jpg", "deep/2.jpg")
    query = write(tmp_path, "query.jpg") / "query.jpg"
    (tmp_path / "linked").symlink_to(root / "deep")
    command = ["rank", "--query", str(query), "--gallery", str(root), "--quiet"]
    for place in (root / "sheet.png", root / "deep" / "s.png", tmp_path / "linked" / "s.png"):
        assert main([*command, "--sheet", str(place)]) == 2
        assert "lies in the gallery" in capsys.readouterr().err
    assert not list(root.rglob("*.png"))


def test_the_current_folder_as_gallery_keeps_its_pictures_to_itself(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(write(tmp_path, "1.jpg", "2.jpg"))
    assert main(["rank", "--query", "1.jpg", "--gallery", ".", "--quiet"]) == 2
    assert "--sheet ranking.png lies in the gallery" in capsys.readouterr().err


def test_a_gallery_of_broken_links_and_pipes_is_named_or_ranked_without_them(
    tmp_path, capsys
):
    root = write(tmp_path / "gallery", "1.jpg")
    (root / "2.jpg").symlink_to("2.jpg")
    (root / "3.jpg").symlink_to("gone")
    os.mkfifo(root / "4.jpg")
    query = write(tmp_path, "query.jpg") / "query.jpg"
    sheet = ["--sheet", str(tmp_path / "sheet.png"), "--preset", "smoke", "--quiet"]
    command = ["rank", "--gallery", str(root), *sheet, "--query"]
    assert main([*command, str(query)]) == 2
    assert "2.jpg cannot be read (a link that leads back" in capsys.readouterr().err
    assert main([*command, str(query), "--skip-corrupt"]) == 0
    assert "3 unreadable pictures left out" in capsys.readouterr().out
    assert main([*command, str(root / "2.jpg"), "--skip-corrupt"]) == 2
    assert "cannot be read (a link that leads back" in capsys.readouterr().err


def test_a_gallery_with_a_folder_test_is_ranked_whole(tmp_path, capsys):
    root = write(tmp_path / "gallery", "1.jpg", "test/2.jpg", "Query/3.jpg", "val/4.jpg")
    query = write(tmp_path, "query.jpg") / "query.jpg"
    command = ["rank", "--preset", "smoke", "--query", str(query), "--gallery", str(root)]
    assert main([*command, "--sheet", str(tmp_path / "sheet.png"), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("1.jpg", "2.jpg", "3.jpg", "4.jpg"))


def test_paths_given_to_notebooks_are_meant_from_the_folder_of_the_command(
    tmp_path, monkeypatch
):
    from dkdmpl_kit.studies import notebooks, report

    given = {}
    monkeypatch.setattr(
        notebooks, "run_notebooks", lambda *_, parameters, **__: given.update(parameters)
    )
    monkeypatch.setattr(report, "write_report", lambda out: out)
    monkeypatch.chdir(tmp_path)
    flags = ["-p", "data_root", "crops", "-p", "out_dir", "mine", "-p", "seed", "3"]
    assert main(["notebooks", "run", "01_data", *flags]) == 0
    assert given["data_root"] == str(tmp_path / "crops")
    assert given["out_dir"] == str(tmp_path / "mine") and given["seed"] == 3
