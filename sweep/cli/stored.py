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


def open_stored(study: str, storage: str, *, of_adapters: bool = True) -> optuna.Study:
    """The stored study.

    Args:
        study: Its name or its file.
        storage: Where.
        of_adapters: Whether one that holds full fine-tuning beside another is refused.

    Raises:
        StorageError: where the storage or the study does not exist, or is none of adapters.
        StudyFileError: where a file was named that cannot be read.
    """
    from sweep.errors import StorageError
    from sweep.storage.database import open_storage, open_study
    from sweep.storage.reference import SUFFIX, is_reference

    name = stored_name(study)  # a file that is not there comes before a storage that is not
    stored = open_study(open_storage(storage, create=False), name)
    if of_adapters and is_reference(stored.user_attrs):
        beside = name.removesuffix(SUFFIX)
        raise StorageError(f"study {name!r} holds full fine-tuning beside {beside!r}: name that one")
    return stored


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
