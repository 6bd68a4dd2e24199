"""The command line: its subcommands, and the one place where errors become exit codes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer

from sweep.cli import (
    add,
    confirm,
    copy,
    dashboard,
    doctor,
    drop,
    export,
    extend,
    init,
    log,
    lora,
    plan,
    reference,
    report,
    run,
    show,
    studies,
    trials,
    try_reward,
    verdict,
)
from sweep.errors import StorageError, SweepError
from sweep.text import printable

USAGE, INTERRUPTED = 2, 130

EPILOG = (
    "Exit codes: 0 done, 2 usage or study file, 3 study in storage does not match, 4 storage, "
    "5 every trial failed or a fault stopped the study, 6 the Ray cluster, 130 interrupted."
)

RESUMABLE = ("run", "confirm", "verdict", "reference")
"""Commands that go on where they were interrupted."""

USAGE_ERROR: Any = typer.BadParameter.__bases__[0]
"""What typer raises for any mistake on the command line; it has no public name of its own."""

app = typer.Typer(
    name="sweep",
    help="Find the smallest LoRA rank that is as good as the best one for your GRPO run.\n\n"
    "Start with `sweep studies`, then `sweep verdict tiny`.",
    epilog=EPILOG,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Start": (studies.studies, init.init, plan.plan, lora.lora, try_reward.try_reward, doctor.doctor),
    "Run": (verdict.verdict, run.run, confirm.confirm, reference.reference, extend.extend, add.add, drop.drop),
    "Read": (show.show, trials.trials, log.log, report.report, dashboard.dashboard),
    "Take away": (export.export, copy.copy),
}
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(command.__name__.replace("_", "-"), rich_help_panel=panel)(command)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rank-sweep {version('rank-sweep')}")
        raise typer.Exit


@app.callback()
def top(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """What belongs to no subcommand."""


def main() -> None:
    """Runs the command line and exits with a documented code."""
    # Schedulers and `timeout` ask with SIGTERM: stop as for Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # Typer turns Ctrl-C into an exit code of its own.
        code = app(args=sys.argv[1:] or ["--help"], standalone_mode=False) or 0
    except USAGE_ERROR as error:
        given = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        named = any(given == command.name for command in app.registered_commands)
        _fail(f"{error.format_message()} (see `sweep {given + ' ' if named else ''}--help`)", USAGE)
    except SweepError as error:
        _fail(str(error), error.exit_code)
    except Exception as error:
        # Known by name: to import either would make every command slow.
        if not type(error).__module__.startswith(("sqlalchemy.", "optuna.")):
            raise
        _fail(f"the storage failed: {str(error).splitlines()[0]}", StorageError.exit_code)
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code == INTERRUPTED:
        # An impatient second Ctrl-C would end this in a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        again = " Run the same command again to continue." if command in RESUMABLE else ""
        _fail(f"Interrupted.{again}", INTERRUPTED)
    sys.exit(code)


def _fail(message: str, exit_code: int) -> NoReturn:
    sys.stderr.write("".join(f"sweep: {line}\n" for line in printable(message).splitlines()))
    sys.exit(exit_code)
