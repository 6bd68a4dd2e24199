"""A reward that waits in a given trial until it is let go, so that tests act on events and not on pace."""

import time

from tests.support.command import is_alive

GATE = """
import os
import time
from pathlib import Path

HERE = Path(__file__).parent


def reward(completions, answer, **columns):
    # While TRL trains a trial, what the worker prints goes to the trial's log.
    if os.readlink("/proc/self/fd/1").endswith("{log}"):
        (HERE / "reached").touch()
        while not (HERE / "go").exists():
            time.sleep(0.02)
    return [float(completion == right) + len(completion) / 100 for completion, right in zip(completions, answer)]
"""


class Gate:
    """A folder's gate, which a trial reaches and stands before until `open`."""

    def __init__(self, folder, *, trial):
        """Lays the reward into the folder.

        Args:
            folder: Where the command runs.
            trial: The number of the trial that has to wait.
        """
        self.folder = folder
        (folder / "gate.py").write_text(GATE.format(log=f"trial-{trial:04d}.log"))

    ARGUMENTS = ("--set", "task.reward=['gate:reward']", "--set", "learner.name=trl")
    """What a study is told, so that it has the gate for its reward."""

    def wait(self, command, timeout=180):
        """Waits until the trial stands before the gate."""
        until(lambda: (self.folder / "reached").exists() or command.process.poll() is not None, timeout)
        assert (self.folder / "reached").exists(), command.output.read_text()

    def open(self):
        """Lets the trial go on, and every other one too."""
        (self.folder / "go").touch()


def until(true, timeout=60):
    """Waits until something is true; a long time, so that only what never comes true fails."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def wait_for_death(pid):
    """Waits until a process is gone."""
    until(lambda: not is_alive(pid))
