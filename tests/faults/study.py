"""A small real study, run by the command line as a user would, and what must hold of it whatever was done to it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from sweep.running.scratch import LOCK
from sweep.storage import attributes
from sweep.storage.database import open_storage, open_study
from tests.support.command import Running, is_alive

STEPS = 240
SETTINGS = (
    "space.r=[1, 16]", "space.learning_rate=[0.001, 0.002]", "space.alpha=[16, 32]", "search.points_per_rank=2",
    "search.trials=4", "budget.prompts_per_step=8", "budget.group_size=4", "task.held_out_prompts=64",
    "run.checkpoint_s=1", "verdict.seeds=2",
)  # fmt: skip
ROUNDING = 0.1
"""By which scores of packed trials may differ, and of workers with fewer threads: they are of 64 prompts."""
MEMORY = Path("/dev/shm")


@dataclass
class FaultStudy:
    """One study in a folder of its own, whose processes are known by a mark in their environment."""

    folder: Path
    slots: int = 2
    workers: int = 1
    storage: str = ""
    steps: int = STEPS
    more: tuple[str, ...] = ()
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    outputs: list[str] = field(default_factory=list)
    more_environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.storage = self.storage or f"sqlite:///{self.folder}/faults.db"

    @property
    def environment(self) -> dict[str, str]:
        """What its commands are run with."""
        scratch = self.folder / "tmp"
        scratch.mkdir(exist_ok=True)
        own = {"FAULT_MARK": self.mark, "TMPDIR": str(scratch), "SWEEP_STORAGE": self.storage}
        return {**os.environ, **own, **self.more_environment}

    def arguments(self, command: str) -> list[str]:
        """The command line of `sweep run` or `sweep confirm`."""
        given = [
            *SETTINGS,
            f"budget.steps={self.steps}",
            f"learner.pack_size={self.slots}",
            f"run.workers={self.workers}",
            *self.more,
        ]
        return [command, "tiny", *(word for setting in given for word in ("--set", setting))]

    def start(self, command: str = "run", *, prefix: tuple[str, ...] = ()) -> Running:
        """Starts it in the background."""
        return Running(*self.arguments(command), cwd=self.folder, env=self.environment, prefix=prefix)

    def ended(self, running: Running) -> str:
        """What a command that has ended has printed; kept for the last look."""
        running.process.wait(600)
        output = running.output.read_text()
        self.outputs.append(output)
        return output

    def finish(self, command: str = "run") -> str:
        """Runs the same command to its end.

        Raises:
            AssertionError: where it does not come to it.
        """
        running = self.start(command)
        output = self.ended(running)
        assert running.process.returncode == 0, output[-2000:]
        return output

    def stored(self, command: str = "run"):
        """The study as it is stored now, or its confirmation."""
        name = "tiny" if command == "run" else "tiny.confirm"
        return open_study(open_storage(self.storage, create=False), name)

    def scores(self, command: str = "run") -> dict[tuple[object, ...], float]:
        """What each finished trial has scored, by what the trial is."""
        found: dict[tuple[object, ...], float] = {}
        for trial in self.stored(command).trials:
            if trial.state.name in ("COMPLETE", "PRUNED"):
                key = (*sorted(trial.params.items()), trial.user_attrs[attributes.SEED])
                assert key not in found, f"{key} has finished twice"
                found[key] = trial.user_attrs[attributes.SCORES][-1]["sampled"]
        return found

    def processes(self) -> list[int]:
        """The processes of its commands that live."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                marked = self.mark.encode() in (path / "environ").read_bytes()
            except OSError:
                continue
            if marked and is_alive(int(path.name)):
                found.append(int(path.name))
        return found

    def wait_until_gone(self, within_s: float = 20.0) -> None:
        """Asserts that its processes end by themselves, those that clean up after the killed among them."""
        deadline = time.monotonic() + within_s
        while left := self.processes():
            assert time.monotonic() < deadline, f"still there: {left}"
            time.sleep(0.2)

    def worker_pids(self) -> list[int]:
        """The workers of trials that run."""
        running = [trial for trial in self.stored().trials if trial.state.name == "RUNNING"]
        return sorted(
            {trial.user_attrs[attributes.WORKER] for trial in running if attributes.WORKER in trial.user_attrs}
        )

    def check_stand(self, before: dict[tuple[object, ...], float], command: str = "run") -> None:
        """Asserts that scores which were stored once are stored still."""
        now = self.scores(command)
        for key, value in before.items():
            assert now.get(key) == value, f"{key} had {value}, and has {now.get(key)} now"

    def check(self, reference: dict[tuple[object, ...], float], command: str = "run") -> None:
        """Asserts all that must hold once it has finished.

        Args:
            reference: The scores of an undisturbed study.
            command: Whose trials.
        """
        scores = self.scores(command)
        assert {trial.state.name for trial in self.stored(command).trials} <= {"COMPLETE", "PRUNED", "FAIL"}
        assert scores.keys() == reference.keys(), "every point and seed has finished, and no other"
        for key, value in reference.items():
            # Workers that share the cores have fewer threads each, and sums come out in another order.
            allowed = 0.0 if self.slots == self.workers == 1 else ROUNDING
            assert abs(scores[key] - value) <= allowed, f"{key}: {scores[key]}, undisturbed {value}"
        self.check_tidy()

    def _is_left_of_ours(self, folder: Path) -> bool:
        """Whether a folder in memory is one of this study's, and nobody holds it any more."""
        try:
            with (folder / LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return Path(lock.read().strip()).is_relative_to(self.folder.resolve())
        except OSError:
            return False

    def check_tidy(self, *, checkpoints: bool = True) -> None:
        """Asserts that nothing is left behind, and nobody saw a traceback."""
        self.wait_until_gone()
        assert not list((self.folder / "tmp").glob("rank-sweep-*"))
        assert not [folder for folder in MEMORY.glob("rank-sweep-*") if self._is_left_of_ours(folder)]
        for output in self.outputs:
            assert "Traceback" not in output, output[-2000:]
        for logs in self.folder.glob("*.logs/*/checkpoints") if checkpoints else ():
            assert not list(logs.iterdir()), "a checkpoint outlived its trial"


def in_python(code: str, *, study: FaultStudy) -> subprocess.CompletedProcess[str]:
    """Runs a program in the study's folder and environment."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=study.folder, env=study.environment, capture_output=True, text=True,
        check=False, timeout=600,
    )  # fmt: skip


class References:
    """Scores of undisturbed studies, each run once for all faults."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._studies: dict[tuple[int, int], FaultStudy] = {}

    def of(self, study: FaultStudy, command: str = "run") -> dict[tuple[object, ...], float]:
        """The scores that a study should have."""
        key = study.slots, study.steps
        if key not in self._studies:
            folder = self._folder / f"undisturbed-{study.slots}-{study.steps}"
            self._studies[key] = FaultStudy(folder, slots=study.slots, steps=study.steps)
            self._studies[key].finish("run")
        undisturbed = self._studies[key]
        if command == "confirm" and not (undisturbed.folder / "faults.logs" / "tiny.confirm").exists():
            undisturbed.finish("confirm")
        return undisturbed.scores(command)
