"""A report as an executed Jupyter notebook: the shipped one, with a study's name filled in."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from sweep.errors import MissingExtraError, UsageError
from sweep.storage.address import hide_password

CELL_TIMEOUT_S = 600
QUIET = "ignore:IProgress not found"
"""tqdm, which Optuna imports, wants ipywidgets for progress bars. There are none here."""
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def write_notebook(path: Path, *, storage: str, study: str) -> None:
    """Runs the shipped notebook on a stored study, in the working folder, and writes it with its outputs.

    Raises:
        UsageError: where a package is missing, or the file cannot be written.
    """
    try:
        import ipykernel  # noqa: F401 - the kernel that runs it, in a process of its own
        import jupytext
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
        from traitlets.config import Config
    except ImportError as error:
        raise MissingExtraError(
            f"--notebook needs {error.name}, which is not installed: pip install 'rank-sweep[notebook]'"
        ) from error
    source = (files("studies") / "notebooks" / "rank_report.py").read_text(encoding="utf-8")
    notebook = jupytext.reads(source, fmt="py:percent")
    [parameters] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    parameters.source = _assignments(storage, study)
    notebook.metadata["kernelspec"] = KERNEL
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name=KERNEL["name"],
        resources={"metadata": {"path": str(Path.cwd())}},
        # Over TCP, anyone on the machine could read what the kernel is sent.
        config=Config(KernelManager={"transport": "ipc"}),
    )
    try:
        client.execute(env=os.environ | {"PYTHONWARNINGS": QUIET})
    except CellExecutionError as error:
        raise UsageError(
            f"--notebook: nothing to show of study {study!r} yet: {error.ename}: {error.evalue}"
        ) from error
    # It has run with the password, which must not be in what is written.
    parameters.source = _assignments(hide_password(storage), study)
    try:
        path.write_text(jupytext.writes(notebook, fmt="ipynb"), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--notebook {path}: cannot be written: {error.strerror}") from error


def _assignments(storage: str, study: str) -> str:
    return f"STORAGE = {storage!r}\nSTUDY = {study!r}"
