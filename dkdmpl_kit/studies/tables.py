"""Tables and pages: how a measure is written, tables as Markdown, and the templates of
the HTML pages.
"""

from __future__ import annotations

import base64
import functools
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from dkdmpl_kit.studies.pages import POLICY

PERCENT = {  # measures that are shares: shown in percent, under these names
    "map": "mAP",
    "rank1": "Rank-1",
    "rank5": "Rank-5",
    "rank10": "Rank-10",
    "minp": "mINP",
    "ari": "ARI",
    "nmi": "NMI",
    "purity": "purity",
    "outlierfraction": "outliers",
    "outliers": "outliers",
}
TITLES = PERCENT | {"nclusters": "clusters"}
MISSING = "–"  # what was not measured


def _key(name: Any) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def is_share(name: Any) -> bool:
    """Whether a measure is a share between 0 and 1 (mAP, say), shown in percent."""
    return _key(name) in PERCENT


def title_of(name: Any) -> str:
    """What a reader calls a measure ("rank1" is Rank-1); other names stay as they are."""
    return TITLES.get(_key(name), str(name))


def text_of(value: Any) -> str:
    """A value as text: itself, or as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def cell_text(value: Any, name: Any = "") -> str:
    """A value as the text of a cell in the column `name`: shares in percent, other
    floats with four digits, a dash for what was not measured.
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return MISSING
    if not isinstance(value, float):
        return text_of(value)
    if is_share(name) and abs(value) <= 1:
        return f"{100 * value:.1f}"
    return f"{value:.4g}"


def head_text(name: Any, values: pd.Series) -> str:
    """A column's head: the measure's title, with % where its cells are in percent."""
    numbers = any(isinstance(value, float) or "±" in str(value) for value in values)
    return title_of(name) + (" %" if is_share(name) and numbers else "")


def table(columns, rows) -> pd.DataFrame:
    """Rows under columns, each value as it was given: None stays None, an int an int."""
    return pd.DataFrame(list(rows), columns=list(columns), dtype=object)


def markdown(table: pd.DataFrame) -> str:
    """A table of texts and numbers as Markdown; its index is left out."""
    lines = [list(table.columns), *table.itertuples(index=False)]
    head, *body = ("| " + " | ".join(map(str, line)) + " |" for line in lines)
    rule = "|" + "---|" * len(table.columns)
    return "\n".join([head, rule, *body])


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": 1, "b": {"c": 2}} -> {"a": 1, "b.c": 2}; the timings of a probe (`tried`)
    are left out.
    """
    found: dict[str, Any] = {}
    for key, item in value.items():
        if key == "tried":
            continue
        if isinstance(item, Mapping):
            found |= flat(item, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = item
    return found


def render(template: str, **values: Any) -> str:
    """The HTML that a file of templates/ makes of `values`; all of them are escaped,
    except what is markupsafe's Markup already.
    """
    return _templates().get_template(template).render(**values)


@functools.cache
def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("dkdmpl_kit.studies"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals["policy"] = Markup(POLICY)
    templates.filters |= {
        "cell": cell_text,
        "head": head_text,
        "base64": lambda data: base64.b64encode(data).decode(),
    }
    templates.tests["share"] = is_share
    return templates
