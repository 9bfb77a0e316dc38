"""Build and run the kit's notebooks; their pages are in `pages.py`.

1. A notebook's source is `notebooks/NN_name.py` (jupytext `py:percent`);
   `build_notebooks` makes `NN_name.ipynb` of it, the same bytes each time, without
   outputs. Edit the source, build, commit both: a test fails when they differ. The
   notebook that a grid's cell runs (`notebooks/cell/one_run`) is built with them, but
   is not part of the course.
2. `run_notebooks` executes them through papermill, each in its own process, with this
   very Python as the kernel and the notebook's folder as the working directory.
   Parameters override the cell tagged `parameters`; an unknown name is an error before
   anything runs. In the notebook a tuple is a list, and a Path an absolute string.
3. `OUT/notebooks` then holds `NAME.ipynb` (executed), `NAME.html` and `notebooks.json`
   (seconds, parameters, errors). One that fails or is interrupted leaves
   `NAME.failed.ipynb` to look at, and nothing under its final name.
"""

from dkdmpl_kit.studies.notebooks.batch import run_notebooks
from dkdmpl_kit.studies.notebooks.building import build_notebooks
from dkdmpl_kit.studies.notebooks.process import (
    NotebookFailed,
    NotebookRun,
    read_records,
    run_notebook,
)
from dkdmpl_kit.studies.notebooks.sources import (
    CELL,
    KERNELSPEC,
    check_parameters,
    default_folder,
    notebook_parameters,
    notebook_tool,
    select_notebooks,
)

__all__ = [
    "build_notebooks",
    "CELL",
    "check_parameters",
    "default_folder",
    "KERNELSPEC",
    "notebook_parameters",
    "notebook_tool",
    "NotebookFailed",
    "NotebookRun",
    "read_records",
    "run_notebook",
    "run_notebooks",
    "select_notebooks",
]
