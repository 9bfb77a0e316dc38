"""dkdmpl_kit: dual knowledge distillation on multiview pseudo labels, as a research and
teaching kit.

The submodules are the interface (`dkdmpl_kit.data`, `dkdmpl_kit.losses`, ...): this
file imports none of them, so that `import dkdmpl_kit` is instant.
"""

import os as _os
from pathlib import Path as _Path


def _compiled_code_needs_a_folder() -> None:
    """Tell numba where compiled loops may be kept, where it would find no place: in
    containers the code is often read-only, and there may be no home folder.

    Without a place it fails at import. The folder is this user's alone, as numba runs
    what lies there; where that cannot be, a new one lasts as long as the process.
    """
    code = _Path(__file__).parent
    caches = _Path(_os.environ.get("XDG_CACHE_HOME") or _os.path.expanduser("~/.cache"))
    nearest = next(path for path in (caches, *caches.parents) if path.exists())
    home = caches.is_absolute() and _os.access(nearest, _os.W_OK)
    if "NUMBA_CACHE_DIR" in _os.environ or _os.access(code, _os.W_OK) or home:
        return
    import tempfile

    user = _os.getuid() if hasattr(_os, "getuid") else "user"
    own = _Path(tempfile.gettempdir()) / f"dkdmpl-kit-{user}"
    try:
        own.mkdir(mode=0o700, exist_ok=True)
        about = own.lstat()
        private = about.st_uid == user and about.st_mode & 0o7777 == 0o700
    except OSError:
        private = False
    _os.environ["NUMBA_CACHE_DIR"] = str(own if private else tempfile.mkdtemp())


_compiled_code_needs_a_folder()
__version__ = "0.3.0"
