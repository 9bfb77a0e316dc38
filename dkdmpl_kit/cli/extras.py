"""Which extra of the installation a missing module belongs to."""

from __future__ import annotations

import re
from importlib import metadata, util

from dkdmpl_kit.errors import KitError

DISTRIBUTION = "dkdmpl-kit"
# modules whose distribution has another name, or comes with one that the extra names
NAMED_OTHERWISE = {
    "IPython": "ipykernel",
    "faiss": "faiss-gpu",
    "jscatter": "jupyter-scatter",
    "jupyter_client": "ipykernel",
    "mpl_toolkits": "matplotlib",
    "nbclient": "papermill",
    "nbformat": "nbconvert",
    "umap": "umap-learn",
}


def extra_of(module: str) -> str | None:
    """The extra that installs a top-level module, such as "notebooks"; None where no extra does."""
    wanted = NAMED_OTHERWISE.get(module, module).replace("_", "-").lower()
    for requirement in metadata.requires(DISTRIBUTION) or ():
        name = re.match(r"[A-Za-z0-9._-]+", requirement).group(0).replace("_", "-").lower()
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        if name == wanted and extra:
            return extra.group(1)
    return None


def how_to_install(module: str) -> str | None:
    """One sentence for a module that is missing; None where it belongs to no extra."""
    extra = extra_of(module)
    if extra is None:
        return None
    return f"{module} is not installed: pip install 'dkdmpl-kit[{extra}]' brings it."


def require(*modules: str) -> None:
    """KitError where a module is missing: before the work that would end in it."""
    for module in modules:
        if util.find_spec(module) is None:
            raise KitError(how_to_install(module) or f"{module} is not installed.")
