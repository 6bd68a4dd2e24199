"""`sweep verdict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep.cli.options import (
    PriceOption,
    RayOption,
    RayWithoutTokenOption,
    SetOption,
    StorageOption,
    StudyArgument,
    WorkersOption,
    an_html_file,
    with_workers,
)
from sweep.storage.default import DEFAULT_STORAGE


def verdict(
    study: StudyArgument,
    storage: StorageOption = DEFAULT_STORAGE,
    output: Annotated[
        Path, typer.Option("--output", "-o", callback=an_html_file, help="Where to write the report.")
    ] = Path("report.html"),
    workers: WorkersOption = None,
    ray: RayOption = None,
    ray_without_token: RayWithoutTokenOption = False,
    price: PriceOption = None,
    overrides: SetOption = [],  # noqa: B006 - typer reads the default, nothing changes it
) -> None:
    """Run whatever a study still lacks of search, confirmation and report, and end with the verdict.

    The same as `sweep run`, `sweep confirm` and `sweep report`, one after the other. What is stored already is not run
    again. Ctrl-C stops it; run the same command again to continue.

    Examples: `sweep verdict tiny`, `sweep verdict my_study.toml --set verdict.seeds=12 -o mine.html --price 2.5`
    """
    from rich.console import Console

    from sweep.html_report.contents import open_report
    from sweep.html_report.page import write_page
    from sweep.running.recipe import run_confirmation, run_search
    from sweep.study.reading import load_study
    from sweep.terminal.tables import study_table
    from sweep.terminal.verdict import verdict_report

    config = load_study(study, with_workers(overrides, workers, ray, without_token=ray_without_token))
    console = Console(highlight=False)
    console.print(study_table(run_search(config, storage=storage, console=console)))
    confirmed, summary = run_confirmation(config, storage=storage, seeds=None, console=console)
    # First: whatever a page may lack, nobody waits hours for nothing.
    console.print(verdict_report(confirmed, summary))
    typer.echo(f"wrote {write_page(open_report(storage, config.study.name), output, price=price)}")
