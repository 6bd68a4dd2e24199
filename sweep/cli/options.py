"""Arguments and options that several subcommands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def not_an_option(value: Path | None) -> Path | None:
    """A path that was given; `--png --notebook` would take the second for the first one's value.

    Raises:
        BadParameter: where it starts like an option.
    """
    if value is not None and str(value).startswith("-"):
        raise typer.BadParameter(f"{value} looks like an option; give a path (./{value} if you mean that)")
    return value


def an_html_file(value: Path) -> Path:
    """Where a report may go: before hours of trials are run for it, and never over a storage.

    Raises:
        BadParameter: where it ends as no HTML file.
    """
    not_an_option(value)
    if value.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"{value}: the report is HTML; allowed: a name that ends in .html")
    return value


def with_workers(overrides: list[str], workers: str | None, ray: str | None, *, without_token: bool) -> list[str]:
    """Overrides of a study file with `--workers`, `--ray` and `--ray-without-token` among them."""
    given = [f"run.workers={workers}"] if workers is not None else []
    given += [f'run.ray="{ray}"'] if ray is not None else []
    return [*overrides, *given, *(["run.ray_without_token=true"] if without_token else [])]


def a_price(value: float | None) -> float | None:
    """A price, checked before hours of trials are run for a report that could not be written.

    Raises:
        UsageError: where it is no amount.
    """
    from sweep.answer.spending import check_price

    check_price(value)
    return value


StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="A shipped study's name (see `sweep studies`) or a .toml file.")
]
StorageOption = Annotated[
    str,
    typer.Option(
        "--storage",
        metavar="URL",
        envvar="SWEEP_STORAGE",
        show_envvar=False,
        help="Where studies are stored: an Optuna storage URL.",
    ),
]
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one key of the study file; may be repeated."),
]
WorkersOption = Annotated[
    str | None,
    typer.Option(
        "--workers",
        metavar="N|auto",
        help="Worker processes that run trials at the same time, instead of the study's `run.workers`. "
        "auto: one per GPU, or one on a processor.",
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="auto|ADDRESS",
        help="Run the workers on the machines of a Ray cluster, one per GPU: `auto` for the one this machine is in.",
    ),
]
RayWithoutTokenOption = Annotated[
    bool,
    typer.Option("--ray-without-token", help="Use a Ray cluster that asks for no token: anybody can run code there."),
]
PriceOption = Annotated[
    float | None,
    typer.Option(
        "--price",
        metavar="MONEY",
        callback=a_price,
        help="What a device hour costs, in any currency: plan and report add it up.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
