"""`sweep init`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from sweep.cli.options import not_an_option
from sweep.errors import UsageError

IMPORT_S = 300


def init(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="[SOURCE]", help="A notebook (.ipynb) or script (.py) that trains with TRL."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="The model: a hub id or a folder. With a source, it replaces the source's."),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Without a source: a file, a hub id, or module:function.")
    ] = None,
    reward: Annotated[
        list[str], typer.Option("--reward", help="Without a source: module:function; may be repeated.")
    ] = [],  # noqa: B006 - typer reads the default, nothing changes it
    max_lora_rank: Annotated[
        int, typer.Option("--max-lora-rank", min=1, max=512, help="Without a source: the highest rank.")
    ] = 64,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Without a source: GRPO steps per trial.")] = 100,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", callback=not_an_option, help="The folder to write. Default: the source's name."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Plan the study and import its code, in child processes.")
    ] = False,
) -> None:
    """Make a study from a notebook or script that trains with TRL, or from a model and a data set.

    The source is read, never run. What is written is a new folder: `study.toml`, in which every value says where it
    comes from, with ladders around their rank and learning rate; `task.py`, the part of their code that rewards and
    training rows need; and `REPORT.md`: what was carried over, what was changed, what a study cannot say, and what to
    check by hand.

    A source that uses images, tools or environments is refused, in one line.

    Examples: `sweep init my_grpo.ipynb`, `sweep init --model Qwen/Qwen3-0.6B --data rows.jsonl --reward rewards:right`
    """
    if source is not None:
        if data or reward:
            raise UsageError("--data and --reward are for a study without a source; give one or the other")
        folder, files, notes = _from_source(source, model)
    else:
        folder, files, notes = _from_options(model, data, reward, max_lora_rank, steps)
    from sweep.init.folder import write_folder

    folder = output or folder
    write_folder(folder, files)
    typer.echo(f"wrote {folder}: {', '.join(files)}")
    for note in notes:
        typer.echo(f"look at: {note}")
    if check:
        _check(folder)
    _say_next(folder)


def _from_source(source: Path, model: str | None) -> tuple[Path, dict[str, str], tuple[str, ...]]:
    from sweep.init.convert import convert

    converted = convert(source, model=model)
    draft = converted.draft
    unsaid = (f"{len(draft.unsaid)} settings could not be said: {'; '.join(draft.unsaid)}",) if draft.unsaid else ()
    return Path(source.stem), converted.files, (*converted.look_at, *unsaid)


def _from_options(
    model: str | None, data: str | None, rewards: list[str], max_lora_rank: int, steps: int
) -> tuple[Path, dict[str, str], tuple[str, ...]]:
    from sweep.init.folder import study_toml
    from sweep.init.options import draft_from_options

    if model is None and data is None and not rewards and sys.stdin.isatty():
        typer.echo("Five questions; Ctrl-C leaves.")
        model = typer.prompt("model (a hub id or a folder)")
        data = typer.prompt("training prompts (a .jsonl, .csv or .parquet file, or a hub id)")
        rewards = typer.prompt("reward functions (module:function, separated by blanks)").split()
        max_lora_rank = typer.prompt("max_lora_rank, the engine's ceiling", default=max_lora_rank, type=int)
        steps = typer.prompt("GRPO steps of a trial", default=steps, type=int)
    if not (model and data and rewards):
        raise UsageError(
            "init needs a notebook or script, or all of --model, --data and --reward (see `sweep init --help`)"
        )
    draft = draft_from_options(model=model, data=data, rewards=rewards, max_lora_rank=max_lora_rank, steps=steps)
    return Path(str(draft.get("study", "name"))), {"study.toml": study_toml(draft, source="a few options")}, ()


def _check(folder: Path) -> None:
    """Plans the study and imports its code.

    Raises:
        UsageError: where one of them fails.
    """
    study = folder / "study.toml"
    steps = {"`sweep plan`": [sys.executable, "-m", "sweep", "plan", str(study)]}
    if (folder / "task.py").exists():
        steps["importing task.py"] = [sys.executable, "-c", "import task"]
    for name, command in steps.items():
        # With -c, Python looks for modules in the folder that it is started in.
        cwd = folder if command[-1] == "import task" else None
        try:
            done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=IMPORT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise UsageError(f"{folder}: {name} was not done after {IMPORT_S} s") from error
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise UsageError(f"{folder}: {name} failed: {said[-1].removeprefix('sweep: ')}")
        typer.echo(f"{name}: ok")


def _say_next(folder: Path) -> None:
    import shlex

    study = shlex.quote(str(folder / "study.toml"))
    typer.echo("next:")
    for command, why in (
        (f"sweep plan {study}", "what will be searched, what fits"),
        (f"sweep try-reward {study}", "does the reward give GRPO anything to learn from?"),
        (f"sweep verdict {study}", "search, confirmation and report"),
    ):
        typer.echo(f"  {command}    # {why}")
