"""`sweep studies`."""

from __future__ import annotations

import json
from typing import Any

import typer

from sweep.cli.options import JsonOption, StorageOption
from sweep.storage.default import DEFAULT_STORAGE


def studies(storage: StorageOption = DEFAULT_STORAGE, as_json: JsonOption = False) -> None:
    """List the studies that come with the project, and how far each has been run in this storage.

    Examples: `sweep studies`, `sweep studies --storage sqlite:///elsewhere.db`
    """
    from sweep.storage.address import sqlite_path
    from sweep.storage.database import open_storage
    from sweep.study.reading import load_study, shipped_studies

    path = sqlite_path(storage)
    stored: dict[str, int] = {}
    if path is None or path.is_file():
        import optuna

        from sweep.search.schedule import ended_trials

        opened = open_storage(storage, create=False)
        for name in optuna.study.get_all_study_names(opened):
            stored[name] = len(ended_trials(optuna.load_study(study_name=name, storage=opened)))
    rows: list[dict[str, Any]] = []
    for name, file in shipped_studies().items():
        config = load_study(str(file))
        rows.append(
            {
                "study": name,
                "trials": config.search.trials,
                "ended": stored.pop(config.study.name, 0),
                "description": config.study.description,
                "file": str(file),
            }
        )
    rows += [
        {"study": name, "trials": None, "ended": ended, "description": "in storage only", "file": None}
        for name, ended in sorted(stored.items())
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sweep.text import printable

    table = Table("study", "trials", "ended here", "what it is")
    for row in rows:
        cells = (row["study"], str(row["trials"] or ""), str(row["ended"]), row["description"])
        # A storage from elsewhere names its studies as it likes.
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console().print(table)
