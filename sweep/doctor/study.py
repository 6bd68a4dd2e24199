"""Whether what a study names is there: its model, data and reward, and a device that it can run on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from objectives.memory.config_files import BROUGHT
from objectives.tasks.user_files import own_references
from sweep.doctor.check import Check, fault, ok, warning
from sweep.doctor.gpu_study import gpu_study_checks
from sweep.doctor.packages import IMPORT_S
from sweep.errors import StudyFileError
from sweep.preflight.checks import check_device, check_generator, check_study
from sweep.preflight.model import check_model, check_weights
from sweep.study.file import StudyFile
from sweep.study.reading import load_study

IMPORT = (
    "import sys\n"
    "from pathlib import Path\n"
    "from objectives.errors import TaskError\n"
    "from objectives.user_code.modules import load_reference\n"
    "try:\n"
    "    load_reference(sys.argv[1], [Path(folder) for folder in sys.argv[2:]])\n"
    "except TaskError as error:\n"
    "    sys.exit(f'TaskError: {error}')\n"
)


def study_checks(study: str, overrides: list[str], *, quick: bool = False) -> Iterator[Check]:
    """Looks at a study: its file, model, data and device, and the user's code, imported in a child process.

    Args:
        study: A shipped study's name or a file's path.
        overrides: `section.key=value` each.
        quick: Leave the imports out: they take as long as the user's modules do.
    """
    try:
        config = load_study(study, overrides)
    except StudyFileError as error:
        yield fault("study", str(error).splitlines()[0], "`sweep studies` lists the shipped ones")
        return
    yield ok("study", config.study.name)
    yield _model(config)
    try:
        check_study(config)
        check_generator(config)
        yield ok("task", f"{config.task.name}: its data and code are there")
    except StudyFileError as error:
        yield fault("task", str(error), f"mend it in {study}")
    try:
        check_device(config)
        yield ok("device", "as the study needs")
    except StudyFileError as error:
        yield fault("device", str(error), f"mend it in {study}, or go where there is one")
    yield from gpu_study_checks(config)
    for reference in () if quick else own_references(config.task):
        yield _import(reference, config.code_folders, config.model.path)


def _model(config: StudyFile) -> Check:
    name = config.model.name
    try:
        check_model(name, config.model.path)
        check_weights(name, config.model.path)
    except StudyFileError as error:
        mend = "run that, or name another model" if name in BROUGHT else "name a folder, a hub id or a shipped model"
        return fault("model", str(error), mend)
    if Path(config.model.path).expanduser().is_dir():
        return ok("model", f"{name}, a local folder")
    from huggingface_hub import try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return ok("model", f"{name}, in the hub's cache")
    return warning("model", f"{name} is not in the hub's cache", "the first run downloads it")


def _import(reference: str, folders: tuple[Path, ...], model: str) -> Check:
    try:
        child = subprocess.run(
            [sys.executable, "-c", IMPORT, reference, *map(str, folders)],
            capture_output=True,
            text=True,
            timeout=IMPORT_S,
            check=False,
            # As in a worker: code may want the model's tokenizer when it is imported.
            env={**os.environ, "SWEEP_MODEL": model},
        )
    except subprocess.TimeoutExpired:
        return fault(f"import {reference}", f"not done after {IMPORT_S} s", "importing it should only define functions")
    if child.returncode == 0:
        return ok(f"import {reference}", "imports")
    said = child.stderr.strip().splitlines()[-1:] or [f"ended with exit code {child.returncode}"]
    return fault(f"import {reference}", said[0].removeprefix("TaskError: "), "mend that module")
