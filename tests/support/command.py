"""The `sweep` command, as a user runs it."""

import atexit
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.forked import ForkedCommand

SWEEP = str(Path(sys.executable).parent / "sweep")
SMALL = [
    "--set", "budget.steps=6", "--set", "budget.prompts_per_step=8", "--set", "budget.group_size=4",
    "--set", "task.held_out_prompts=64",
]  # fmt: skip
"""Overrides that make a trial of `tiny` take a second."""


FORKED = {
    "show",
    "plan",
    "trials",
    "log",
    "studies",
    "report",
    "export",
    "add",
    "drop",
    "copy",
    "lora",
    "init",
    "extend",
}
"""Those that start no worker: they are forked from a process that has imported the command already."""


@functools.cache
def _forked():
    command = ForkedCommand()
    atexit.register(command.close)
    return command


def sweep(*arguments, cwd, timeout=300, env=None):
    """Runs the command to its end: the installed one, where it starts workers."""
    if arguments and arguments[0] in FORKED and "--measure" not in arguments:
        return _forked()(*arguments, cwd=cwd, environment={**os.environ, **(env or {})})
    return subprocess.run(
        [SWEEP, *map(str, arguments)],
        cwd=cwd,
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(env or {})},
    )


class Running:
    """The command in the background, in a process group of its own, as a terminal would have it."""

    def __init__(self, *arguments, cwd, env=None, prefix=()):
        self.output = Path(cwd) / "output.txt"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*prefix, SWEEP, *map(str, arguments)], cwd=cwd, stdout=output, stderr=output, start_new_session=True,
                env=env,
            )  # fmt: skip

    def wait_for(self, text, timeout=180):
        """Waits until the command has printed a text."""
        deadline = time.monotonic() + timeout
        while text not in self.output.read_text():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, f"no {text!r} in: {self.output.read_text()}"
            time.sleep(0.1)

    def interrupt(self, timeout=60):
        """Presses Ctrl-C: the signal reaches every process in the group."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout)

    def kill(self):
        """Kills the supervisor alone, with no chance to tidy up."""
        self.process.kill()
        self.process.wait()

    def end(self):
        """Kills whatever is left."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def is_alive(pid):
    """Whether a process exists and is not a zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
