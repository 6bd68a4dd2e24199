"""`sweep report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep.cli.options import PriceOption, StorageOption, an_html_file, not_an_option
from sweep.cli.stored import StoredStudyArgument, open_stored
from sweep.storage.default import DEFAULT_STORAGE


def report(
    study: StoredStudyArgument,
    storage: StorageOption = DEFAULT_STORAGE,
    output: Annotated[Path, typer.Option("--output", "-o", callback=an_html_file, help="The file to write.")] = Path(
        "report.html"
    ),
    png: Annotated[
        Path | None,
        typer.Option(
            "--png",
            metavar="FOLDER",
            callback=not_an_option,
            help="Write every figure as a PNG file too. Needs Chrome or Chromium.",
        ),
    ] = None,
    notebook: Annotated[
        Path | None,
        typer.Option(
            "--notebook",
            metavar="FILE",
            callback=not_an_option,
            help="Write an executed Jupyter notebook (.ipynb) too.",
        ),
    ] = None,
    price: PriceOption = None,
) -> None:
    """Write a stored study's report: one HTML file that opens offline.

    `--png` needs the extra `png` (kaleido) and a browser, `--notebook` the extra `notebook`. Where one is missing the
    HTML file is still written, and the exit code is 2.

    Examples: `sweep report tiny`, `sweep report tiny --png figures --notebook report.ipynb`,
    `sweep report tiny --price 2.5`
    """
    from sweep.html_report.contents import read_report
    from sweep.html_report.page import write_page

    stored = open_stored(study, storage)
    contents = read_report(stored)
    write_page(contents, output, price=price)
    typer.echo(f"wrote {output} ({output.stat().st_size / 2**20:.1f} MiB)")
    if png is not None:
        from sweep.html_report.images import write_images

        figures = contents.figures()
        write_images(figures, png)
        typer.echo(f"wrote {len(figures)} figures to {png}")
    if notebook is not None:
        from sweep.html_report.notebook import write_notebook

        write_notebook(notebook, storage=storage, study=stored.study_name)
        typer.echo(f"wrote {notebook}")
