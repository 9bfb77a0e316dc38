"""The checks of notebook 01."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, cdist, from_numpy

from dkdmpl_kit.lessons.exercises import Test, exercises, value


def checks(
    cameras: np.ndarray,
    colours: np.ndarray,
    camids: np.ndarray,
    small: Tensor,
    pairs: np.ndarray,
) -> Callable[[int, Any], bool]:
    """The farthest of `cameras` (C,) by mean `colours` (C, 3), 0 to 255; the mean pixel
    distance of `pairs` (n, n) bool of pictures `small` (n, 3 p), 0 to 1, of cameras camids
    (n,) without their cameras' colours; a pattern for file names.
    """
    return exercises(
        {
            1: _farthest(cameras, colours) if len(cameras) > 1 else None,
            2: _balanced(cameras, colours, camids, small, pairs) if pairs.any() else None,
            3: _pattern,
        }
    )


def _farthest(cameras: np.ndarray, colours: np.ndarray) -> Test:
    gap = {
        (a, b): float(np.linalg.norm(colours[i] - colours[j]))
        for i, a in enumerate(cameras.tolist())
        for j, b in enumerate(cameras.tolist())
        if a < b
    }
    most = max(gap.values())

    def test(answer: Any) -> str:
        given = np.asarray(answer)
        if given.shape != (2,) or given.dtype.kind not in "iu":
            return "give two entries of `cameras`, which are whole numbers."
        pair = tuple(sorted(given.tolist()))
        if np.isclose(gap.get(pair, -1), most):
            return ""
        if np.isclose(gap.get((pair[0] - 1, pair[1] - 1), -1), most):
            return "the right two, counted from 1; `cameras` counts from 0."
        if pair not in gap:
            return (
                "give two different entries of `cameras`: they count from 0, file names "
                "and tables from 1."
            )
        return f"they are {gap[pair]:.1f} grey levels apart, and another two differ more."

    return test


def _balanced(
    cameras: np.ndarray,
    colours: np.ndarray,
    camids: np.ndarray,
    small: Tensor,
    pairs: np.ndarray,
) -> Test:
    pixels = small.shape[1] // 3
    mean = from_numpy(colours[np.searchsorted(cameras, camids)] / 255).float()  # (n, 3)
    in_place = mean.repeat_interleave(pixels, dim=1)
    root = small.shape[1] ** 0.5

    def distance(pictures: Tensor, among: np.ndarray = pairs) -> float:
        return float((cdist(pictures, pictures) / root).numpy()[among].mean())

    right = small - in_place
    ready = distance(right)
    others = ~pairs & ~np.eye(len(small), dtype=bool)
    mistakes = {
        "it is the distance before: nothing was subtracted.": distance(small),
        "the mean colours were added; subtract them.": distance(small + in_place),
        "the pictures in `small` go from 0 to 1, the mean colours from 0 to 255.": (
            distance(small - 255 * in_place)
        ),
        "one mean for all three colours was subtracted; each colour has its own.": (
            distance(small - mean.mean(dim=1, keepdim=True))
        ),
        "the colours are in the wrong places: in `small` stand all red values first, then "
        "all green, then all blue ones.": distance(small - mean.repeat(1, pixels)),
        "divide by the square root of the number of values, as section 6 does.": ready * root,
        "the mean is taken over other pairs than *same person, other camera*.": (
            distance(right, others) if others.any() else ready
        ),
    }
    return value(ready, mistakes=mistakes)


def _pattern(answer: Any) -> str:
    for camera, person, frame in (("03", "0042", 7), ("11", "7", 123), ("1", "1501", 0)):
        name = f"c{camera}-P{person}-frame{frame}.jpg"
        found = re.search(answer, name)
        if not found:
            return f"it does not match {name}."
        if set(found.groupdict()) != {"pid", "camid"}:
            return "it must have exactly the named groups (?P<pid>...) and (?P<camid>...)."
        taken = found["pid"], found["camid"]
        if not all(text and text.isdigit() for text in taken) or tuple(map(int, taken)) != (
            int(person),
            int(camera),
        ):
            return f"in {name} it takes {taken[0]} for the identity and {taken[1]} for the camera."
    return ""
