"""The command line: its subcommands, and the one place where errors become exit codes."""

from __future__ import annotations

import signal
import sys

import typer

from sweep.cli import report, run, show, studies
from sweep.errors import SweepError

INTERRUPTED = 130

EPILOG = (
    "Exit codes: 0 done, 2 usage or study file, 3 study in storage does not match, 4 storage, "
    "5 every trial failed or a fault stopped the study, 130 interrupted."
)

app = typer.Typer(
    name="sweep",
    help="Find the smallest LoRA rank that is as good as the best one for your GRPO run.\n\n"
    "Start with `sweep studies`, then `sweep run tiny`, `sweep show tiny` and `sweep report tiny`.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for command in (run.run, show.show, report.report, studies.studies):
    app.command(no_args_is_help=command is not studies.studies)(command)


def main() -> None:
    """Runs the command line and exits with a documented code."""
    try:
        app(standalone_mode=True)
    except SweepError as error:
        sys.stderr.write("".join(f"sweep: {line}\n" for line in str(error).splitlines()))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stderr.write("sweep: interrupted; the same command goes on from here\n")
        sys.exit(INTERRUPTED)
