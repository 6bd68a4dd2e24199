"""Reading a study that was run before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import optuna

StoredStudyArgument = Annotated[
    str,
    typer.Argument(metavar="STUDY", help="The study's name in storage, or the .toml file it was run from."),
]


def stored_name(study: str) -> str:
    """The name in storage of a study that was named, or whose file was.

    Raises:
        StudyFileError: where a file was named that cannot be read.
    """
    from sweep.study.reading import load_study

    return load_study(study).study.name if Path(study).suffix == ".toml" else study


def open_stored(study: str, storage: str) -> optuna.Study:
    """The stored study.

    Raises:
        StorageError: where the storage or the study does not exist.
        StudyFileError: where a file was named that cannot be read.
    """
    from sweep.storage.database import open_storage, open_study

    name = stored_name(study)  # a file that is not there comes before a storage that is not
    return open_study(open_storage(storage, create=False), name)


def chosen_study(search: optuna.Study, *, confirm: bool) -> optuna.Study:
    """A stored search, or its confirmation.

    Raises:
        BadParameter: where it has none yet.
    """
    from sweep.confirmation.naming import confirmation_study

    if not confirm:
        return search
    if (confirmation := confirmation_study(search)) is None:
        raise typer.BadParameter(f"study {search.study_name!r} has no confirmation yet")
    return confirmation
