"""Longer ladders for a study that is stored."""

from __future__ import annotations

from contextlib import ExitStack

from sweep.confirmation.extension import Extension, plan_extension
from sweep.running.recipe import settle
from sweep.storage.database import log_folder, open_storage, open_study
from sweep.storage.ladders import lengthen
from sweep.storage.schema import as_declared
from sweep.storage.writer import sole_writer
from sweep.study.file import StudyFile


def extend_study(config: StudyFile, *, storage: str, dry_run: bool) -> Extension:
    """Makes a stored study's ladders longer.

    Args:
        config: The study with its longer ladders, as it was read.
        storage: Where it is stored, a SQLAlchemy URL.
        dry_run: Only say what it would bring.

    Raises:
        StudyMismatchError: where anything else differs, or a ladder would lose a rung.
        UsageError: where no ladder gains one.
        StorageError: where another process runs it.
    """
    opened = open_storage(storage, create=False, curves=False)
    study = open_study(opened, config.study.name)
    extension = plan_extension(study, settle(as_declared(study, config), study))
    if dry_run:
        return extension
    with ExitStack() as held:
        writers = [
            held.enter_context(sole_writer(opened, name, logs=log_folder(storage, name)))
            for name in (study.study_name, *([extension.confirmation] if extension.confirmation else []))
        ]
        study = open_study(writers[0].storage, study.study_name)
        writers[0].claim(study)
        # Somebody may have gone on with it until just now.
        extension = plan_extension(study, extension.config)
        lengthen(writers[0].storage.engine, study, extension.config, extension.before, generation=extension.generation)
    return extension
