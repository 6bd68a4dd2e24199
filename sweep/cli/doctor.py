"""`sweep doctor`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli.options import JsonOption, SetOption, StorageOption
from sweep.storage.default import DEFAULT_STORAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sweep.doctor.check import Check


def doctor(
    study: Annotated[
        str | None,
        typer.Argument(metavar="[STUDY]", help="Look at this study too: its model, data, reward and device."),
    ] = None,
    storage: StorageOption = DEFAULT_STORAGE,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Only machine, versions and the study, without imports; print what is wrong."),
    ] = False,
    overrides: SetOption = [],  # noqa: B006 - typer reads the default, nothing changes it
    as_json: JsonOption = False,
) -> None:
    """Look at this machine, its packages and a study, and say what would keep a sweep from working.

    One line per check: ok, warning (it works, with less than it could) or fault (a study would fail), and what to do.
    Heavy packages are imported in child processes, so that a crash is one more line; that takes about half a minute.
    Exits with 2 where there is a fault.

    With `--json`, a list of objects: name, status, found, remedy.

    Examples: `sweep doctor`, `sweep doctor my_study.toml`, `sweep doctor --quick my_study.toml`
    """
    from sweep.doctor.check import Status

    done = []
    for check in _checks(study, storage, overrides, quick=quick):
        done.append(check)
        if not as_json and not (quick and check.status is not Status.FAULT):
            _print(check)
    faults = sum(check.status is Status.FAULT for check in done)
    if as_json:
        typer.echo(json.dumps([check.as_json() for check in done], indent=2))
    elif not quick:
        warnings = sum(check.status is Status.WARNING for check in done)
        typer.echo(
            f"{len(done)} checks: {faults} fault{'s' * (faults != 1)}, {warnings} warning{'s' * (warnings != 1)}"
        )
    elif not faults:
        typer.echo("nothing that would keep a study from running here (sweep doctor looks at more)")
    if faults:
        raise typer.Exit(2)


def _checks(study: str | None, storage: str, overrides: list[str], *, quick: bool) -> Iterator[Check]:
    import sys
    from pathlib import Path

    from sweep.doctor.gpu import gpu_checks
    from sweep.doctor.machine import machine_checks
    from sweep.doctor.outside import outside_checks
    from sweep.doctor.packages import import_checks, version_checks
    from sweep.doctor.storage import storage_checks
    from sweep.doctor.study import study_checks

    yield from machine_checks(Path(sys.prefix))
    yield from version_checks()
    if not quick:
        yield from gpu_checks()
        yield from storage_checks(storage)
        yield from outside_checks()
    if study is not None:
        yield from study_checks(study, overrides, quick=quick)
    # Imports last, for they take half a minute: what is wrong elsewhere is told before.
    if not quick:
        yield from import_checks()


def _print(check: Check) -> None:
    from rich.console import Console
    from rich.text import Text

    from sweep.doctor.check import Status
    from sweep.text import printable

    styles = {Status.OK: "green", Status.WARNING: "yellow", Status.FAULT: "bold red"}
    line = Text.assemble((f"{check.status.value:<8}", styles[check.status]), f"{check.name}: {printable(check.found)}")
    if check.remedy:
        line.append(f"; {printable(check.remedy)}")
    Console(highlight=False).print(line, soft_wrap=True)
