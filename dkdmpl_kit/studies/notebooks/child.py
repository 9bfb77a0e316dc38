"""`python -m dkdmpl_kit.studies.notebooks.child REQUEST`: execute one notebook and
export its page; why a cell failed goes to the file `reason` beside REQUEST.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path

from dkdmpl_kit.experiment import read_json
from dkdmpl_kit.studies.notebooks.sources import KERNELSPEC, notebook_tool, papermill_path


def main(request_path: Path) -> int:
    """Execute what `process.run_notebook` asks for; the exit status."""
    request = read_json(request_path)
    papermill = notebook_tool("papermill")
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    source = Path(request["source"])
    if _has_solutions(source):
        os.environ["DKDMPL_SOLUTIONS"] = "1"  # its own solutions must pass its checks
    try:
        notebook = papermill.execute_notebook(
            papermill_path(source),
            papermill_path(request["target"]),
            request["parameters"],
            kernel_name=KERNELSPEC["name"],
            language="python",
            cwd=source.parent,
            execution_timeout=request["cell_timeout_s"],
        )
    except papermill.PapermillExecutionError as error:
        lines = error.evalue.strip().splitlines()
        reason = f"{error.ename}: {lines[-1] if lines else ''}"
    except CellTimeoutError:
        reason = f"the cell took more than {request['cell_timeout_s']:g} s"
    except DeadKernelError:
        reason = "its Python died (out of memory, or a crash in compiled code)"
    else:
        from dkdmpl_kit.studies.pages import export_html

        Path(request["page"]).write_text(export_html(notebook, source), encoding="utf-8")
        return 0
    (request_path.parent / "reason").write_text(reason[:400])
    return 1


def _end_with_parent(scratch: Path) -> None:
    """Wait for the end of standard input, which the parent keeps open as long as it
    lives; then end, and with this process its kernel and the parent's `scratch` folder.
    """
    while os.read(0, 4096):
        pass
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)


def _has_solutions(source: Path) -> bool:
    cells = read_json(source)["cells"]
    return any("solution" in cell["metadata"].get("tags", []) for cell in cells)


if __name__ == "__main__":
    asked = Path(sys.argv[1])
    threading.Thread(target=_end_with_parent, args=(asked.parent,), daemon=True).start()
    sys.exit(main(asked))
