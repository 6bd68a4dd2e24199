"""`sweep.Study`: what the command line does, for whoever works in Python."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sweep.api.functions import name_functions
from sweep.api.shown import Plan, Shown, Table, Verdict
from sweep.confirmation.outcome import stored_confirmation
from sweep.errors import StorageError, StudyFileError, UsageError
from sweep.planning.whole_plan import whole_plan
from sweep.preflight.devices import planned_device
from sweep.storage.database import open_storage, open_study
from sweep.storage.default import DEFAULT_STORAGE
from sweep.storage.summary import StudySummary, summarize
from sweep.study.file import StudyFile
from sweep.study.reading import find_study, make_study, read_toml
from sweep.terminal.shown import WIDTH

if TYPE_CHECKING:
    import optuna
    import pandas as pd
    import plotly.graph_objects as go


class Study:
    """A study, and what is stored of it.

    Everything that it does is what the `sweep` command of the same name does, and either may go on with what the other
    has begun. Mistakes raise `sweep.SweepError`, with the command's own words. An interrupt loses nothing: `run` and
    `confirm` go on from there when they are called again.

    Args:
        study: A shipped study's name, the path of a `.toml` file, or a study's content as a dictionary of sections.
        storage: Where trials are stored, a SQLAlchemy URL. Default: as for the command, `rank-sweep.db` in the working
            folder, or what SWEEP_STORAGE says.
        settings: Values by `section.key`, instead of the study's own: `{"budget.steps": 40}`.

    In a dictionary and in `settings`, `task.reward` may be a function, a list or a dictionary of them, and `task.data`
    a function or rows. Functions of a notebook are sent to the worker by value, and their source is stored as a hash.

    Raises:
        StudyFileError: where the study says something that cannot be.
        UsageError: where a function cannot be sent to a worker.
    """

    def __init__(
        self,
        study: str | Path | Mapping[str, Any],
        *,
        storage: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(study, Mapping):
            content, source, folder = _copied(study), "study", Path()
        else:
            path = find_study(str(study))
            content, source, folder = read_toml(path), str(path), path.parent
        # As it was given: a plan says of each setting where it comes from.
        self._content = _copied(content)
        if not isinstance(settings, Mapping | None) or not all(isinstance(name, str) for name in settings or ()):
            raise StudyFileError(f"settings={settings!r}; allowed: a dictionary, as {{'budget.steps': 40}}")
        self._settings = dict(settings or {})
        task = content.get("task")
        given = dict(task) if isinstance(task, Mapping) else {}
        own = {name.removeprefix("task."): value for name, value in self._settings.items() if name.startswith("task.")}
        named, by_value = name_functions(given | own, (folder.absolute(), Path().absolute()))
        changed = self._settings | {f"task.{key}": named[key] for key in own}
        if isinstance(task, Mapping):
            content["task"] = {key: named[key] for key in given}
        self.config: StudyFile = make_study(content, changed, source=source, folder=folder, by_value=by_value)
        self.storage = storage or os.environ.get("SWEEP_STORAGE") or DEFAULT_STORAGE

    @property
    def name(self) -> str:
        """The study's name in storage."""
        return self.config.study.name

    def plan(self, *, device: str | None = None) -> Plan:
        """Plans the study before anything loads. See `sweep plan --help`.

        Args:
            device: A GPU to plan for, by name or memory, as `"L4"` or `"48GiB"`; default: the one here.
        """
        planned_for = planned_device(None if device is None else str(device))
        return Plan(whole_plan(self.config, self._content, self._settings, device=planned_for))

    def try_reward(self, *, prompts: int = 16, show: int = 4) -> Shown:
        """Samples the base policy and rewards it: can GRPO learn from this? See `sweep try-reward --help`."""
        from sweep.running.recipe import try_reward
        from sweep.terminal.reward_preview import preview_report

        _check_number("prompts", prompts, least=2)
        console = _console()
        tried = try_reward(self.config, prompts=prompts, tell=lambda doing: console.print(doing, style="dim"))
        return Shown(preview_report(tried.preview, show=show), tried.signal.sentence, tried.reach)

    def run(self, *, trials: int | None = None) -> Table:
        """Runs the search, or goes on with it. See `sweep run --help`."""
        from sweep.running.recipe import run_search

        _check_number("trials", trials, least=1)
        search = self.config.search.model_copy(update={} if trials is None else {"trials": trials})
        config = self.config.model_copy(update={"search": search})
        return Table(run_search(config, storage=self.storage, console=_console()))

    def confirm(self, *, seeds: int | None = None, steps: int | None = None) -> Verdict:
        """Runs every rank on fresh seeds, or goes on with that. See `sweep confirm --help`."""
        from sweep.running.recipe import run_confirmation

        _check_number("seeds", seeds, least=2)
        _check_number("steps", steps, least=1)
        return Verdict(
            *run_confirmation(self.config, storage=self.storage, seeds=seeds, steps=steps, console=_console())
        )

    @property
    def verdict(self) -> Verdict | None:
        """The verdict; None before `confirm` has come to one.

        Raises:
            StorageError: where the study has not been run.
        """
        confirmed = stored_confirmation(self._stored())
        return None if confirmed is None else Verdict(confirmed, self._summary())

    @property
    def table(self) -> Table:
        """The search, rank by rank.

        Raises:
            StorageError: where the study has not been run.
        """
        return Table(self._summary())

    @property
    def trials(self) -> pd.DataFrame:
        """Every trial of search and confirmation, a row each. See `sweep.results.Results`.

        Raises:
            StorageError: where the study has not been run.
        """
        from sweep.results import load_results

        return load_results(self.storage, self.name).trials

    @property
    def figures(self) -> dict[str, go.Figure]:
        """Every figure of the report, by name."""
        from sweep.html_report.contents import read_report

        return read_report(self._stored()).figures()

    def report(self, path: str | Path = "report.html", *, price: float | None = None) -> Path:
        """Writes the report, one HTML file that opens offline. See `sweep report --help`.

        Args:
            path: The file to write.
            price: What a device hour costs, in any currency: the page adds up prices.
        """
        from sweep.html_report.contents import read_report
        from sweep.html_report.page import write_page

        return write_page(read_report(self._stored()), Path(path), price=price)

    def __repr__(self) -> str:
        """The study's name, and how far it is."""
        return repr(self._shown)

    def _repr_html_(self) -> str:
        return self._shown._repr_html_()

    @property
    def _shown(self) -> Shown:
        try:
            return self.verdict or self.table
        except StorageError:
            return Shown(f"study {self.name}: not run yet")

    def _stored(self) -> optuna.Study:
        return open_study(open_storage(self.storage, create=False), self.name)

    def _summary(self) -> StudySummary:
        return summarize(self._stored())


def _console() -> Console:
    console = Console(highlight=False)
    if console.is_jupyter:
        console.width = WIDTH
    return console


def _check_number(name: str, value: Any, *, least: int) -> None:
    """Checks what the command line checks of an option, before it is stored as a study's own setting."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise UsageError(f"{name}={value!r}; allowed: a whole number, at least {least}")


def _copied(content: Mapping[str, Any]) -> dict[str, Any]:
    """A study's content, to be changed: its sections are copied, and what they hold is not."""
    return {name: copy.copy(section) for name, section in content.items()}
