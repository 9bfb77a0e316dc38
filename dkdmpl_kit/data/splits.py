"""Which split a picture belongs to where nothing but its folders tells, and how texts
become the numbers of identities and cameras.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from dkdmpl_kit.data.decoding import holds_several
from dkdmpl_kit.data.files import SEVERAL, Remark, file_of, printable
from dkdmpl_kit.data.records import ReIDDataset
from dkdmpl_kit.errors import KitError

# endings of formats that often hold several pictures: their heads are read
MAY_HOLD_SEVERAL = (".gif", ".webp", ".apng", ".tif", ".tiff", ".avif", ".avifs", ".mpo")
POSSIBLY_SEVERAL = re.compile(rf"(?i){'|'.join(map(re.escape, MAY_HOLD_SEVERAL))}")
# what folders of a plain folder of crops may be called; case does not count
SPLIT_OF_FOLDER = {
    "train": "train",
    "training": "train",
    "bounding_box_train": "train",
    "image_train": "train",
    "query": "query",
    "queries": "query",
    "probe": "query",
    "image_query": "query",
    "gallery": "gallery",
    "test": "gallery",
    "testing": "gallery",
    "bounding_box_test": "gallery",
    "image_test": "gallery",
}
# a test folder may hold a query folder; other splits within splits are contradictions
HOLDS_QUERIES = ("test", "testing", "bounding_box_test", "image_test")
HELD_OUT = ("val", "valid", "validation")  # neither trained on nor measured on


def marks_of(folders: Iterable[str]) -> dict[str, str]:
    """{word, as written: split} of all parts of the folders' paths that name a split, or
    "val" for what is held out.
    """
    words = {part for folder in folders for part in folder.split("/")}
    known = SPLIT_OF_FOLDER | dict.fromkeys(HELD_OUT, "val")
    return {word: known[word.lower()] for word in sorted(words) if word.lower() in known}


def split_of(root: Path, picture: str, marks: dict[str, str], cure: str = "") -> str:
    """The split of a picture, by the folders on its path; KitError where they name none,
    or two. cure: what else its sentence advises.
    """
    words = [part for part in picture.split("/")[:-1] if part in marks]
    splits = list(dict.fromkeys(marks[word] for word in words))
    if not splits or "val" in splits:
        held_out = "" if not splits else f", and {words[0]} is not one of them"
        named = ", ".join(word for word in marks if marks[word] != "val")
        raise KitError(
            f"{printable(root / picture)} lies outside the folders that make the splits "
            f"({named or 'train, query, gallery, test'}){held_out}; move or remove it{cure}."
        )
    if splits == ["gallery", "query"] and words[0].lower() in HOLDS_QUERIES:
        return "query"
    if len(splits) > 1:
        raise KitError(
            f"{printable(root / picture)} lies in folders of two splits "
            f"({', '.join(words)}); rename or move one of them{cure}."
        )
    return splits[0]


def codes_of(texts: list[str]) -> dict[str, int]:
    """{text: 0 ... n-1} in sorted order of the texts; equal ones share a code.

    Equal are numbers of the same value (0065 and 65), and texts whose letters Unicode
    can write in two ways. Where all are numbers they are sorted by value: camera 10
    comes after camera 2.
    """
    numbers = all(text.isdecimal() for text in texts)
    codes = {}
    code_of_key = {}
    for text in sorted(set(texts), key=lambda text: (int(text) if numbers else 0, text)):
        key = int(text) if text.isdecimal() else unicodedata.normalize("NFC", text)
        codes[text] = code_of_key.setdefault(key, len(code_of_key))
    return codes


def names_of(codes: Mapping[str, int]) -> dict[int, str]:
    """{number: text} of `codes_of`; of several texts the first in sorted order."""
    return {codes[text]: text for text in sorted(codes, reverse=True)}


def with_queries(dataset: ReIDDataset) -> ReIDDataset:
    """Make queries of a test folder: the first picture of each identity in each camera.

    The gallery keeps them, as the protocol leaves out pictures of the query's own
    identity and camera. Where cameras are unknown the first picture of each identity
    with two or more becomes a query and leaves the gallery. Where identities are
    unknown there is no query.
    """
    groups = defaultdict(list)
    for image in dataset.gallery:
        if image.pid is not None:
            groups[image.pid, image.camid].append(image)
    query = tuple(
        group[0] for group in groups.values() if group[0].camid is not None or len(group) > 1
    )
    taken = {image.path for image in query if image.camid is None}
    gallery = tuple(image for image in dataset.gallery if image.path not in taken)
    return replace(dataset, query=query, gallery=gallery)


def several_in(dataset: ReIDDataset) -> list[Remark]:
    """A remark for each file of the data set that holds several pictures."""
    # most pictures have another ending, and need no look at the disk
    names = [path for path in dataset.paths() if POSSIBLY_SEVERAL.search(path.name)]
    files = sorted({file_of(path) for path in names})
    return [
        Remark(dataset.relative(file), SEVERAL, read=True)
        for file in files
        if file.suffix.lower() in MAY_HOLD_SEVERAL and holds_several(file)
    ]
