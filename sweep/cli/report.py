"""`sweep report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep.cli.options import DEFAULT_STORAGE, StorageOption
from sweep.cli.stored import StoredStudyArgument, open_stored, stored_confirmation


def report(
    study: StoredStudyArgument,
    storage: StorageOption = DEFAULT_STORAGE,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("report.html"),
) -> None:
    """Write a stored study's report: one HTML file that opens offline."""
    from sweep.errors import StudyFileError
    from sweep.report.page import report_html

    stored = open_stored(study, storage)
    html = report_html(stored, stored_confirmation(stored))
    try:
        output.write_text(html, encoding="utf-8")
    except OSError as error:
        raise StudyFileError(f"--output {output}: cannot be written: {error.strerror}") from error
    typer.echo(f"wrote {output} ({output.stat().st_size / 2**20:.1f} MiB)")
