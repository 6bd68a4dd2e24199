"""Processes that are killed, frozen or interrupted, at random moments and in chosen ones."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from pathlib import Path

from objectives.trial.messages import trial_log
from sweep.storage import attributes
from sweep.storage.database import log_folder
from tests.faults.study import FaultStudy, References, in_python
from tests.support.command import Running

LOAD_S, RUN_S = (0.0, 8.0), (0.0, 6.0)
"""Between a start and a kill while it loads, which is every fourth, and between its first trial and any other kill."""
KILLS_OF_A_STUDY = 20
WENT_ON = 1 / 2
"""Share of kills after which a trial goes on at least: others meet a study that loads, or one without a checkpoint."""
ABOVE_0 = r"going on at step (?!1 )"
LOST_S = 10.0
"""What a kill may cost at an interval of 1 s: it, what 2 % stretch it to for small trials, and a rollout."""
STAGES = {"rollout": "rolling out", "training": "training", "scoring": "scoring", "publishing": "rolling out"}


def random_kills(folder: Path, references: References, kills: int) -> str:
    """SIGKILL to the supervisor, the worker or both, at random over searches and confirmations, so many a study."""
    resumed, lost, left = 0, [0.0], kills
    while left > 0:
        of_this = min(left, KILLS_OF_A_STUDY)
        of_kills, seconds = _kills_of_a_study(folder / str(left), references, of_this, seed=left)
        resumed, lost, left = resumed + of_kills, [*lost, *seconds], left - of_this
        told = f"after {resumed} of {kills - left} kills a trial went on, at most {max(lost):.1f} s of steps done again"
        print(told, file=sys.stderr, flush=True)
    assert resumed >= kills * WENT_ON, f"a trial went on above step 0 after {resumed} of {kills} kills"
    return f"after {resumed} of them a trial went on; at most {max(lost):.1f} s of steps were done again"


def _kills_of_a_study(folder: Path, references: References, kills: int, *, seed: int) -> tuple[int, list[float]]:
    """Kills one study so often; after how many a trial went on above step 0, and the seconds of steps done again."""
    study = FaultStudy(folder, steps=20 * KILLS_OF_A_STUDY)
    draw, resumed = random.Random(seed), [False]  # the first is of the time before any kill
    for command, share in (("run", kills - kills // 2), ("confirm", kills // 2)):
        for _ in range(share):
            before = study.scores(command) if _is_stored(study, command) else {}
            running = study.start(command)
            if draw.random() < 0.25:
                time.sleep(draw.uniform(*LOAD_S))
            else:
                _wait_for_a_trial(running)
                time.sleep(draw.uniform(*RUN_S))
            resumed[-1] |= _went_on(running) > 0
            if running.process.poll() is not None:
                break
            resumed.append(_kill(study, running, draw.choice(["supervisor", "worker", "both"])))
            study.wait_until_gone()
            if _is_stored(study, command):
                study.check_stand(before, command)
        resumed[-1] |= re.search(ABOVE_0, study.finish(command)) is not None
        study.check(references.of(study, command), command)
    assert len(resumed) - 1 >= 0.8 * kills, f"the study ended after {len(resumed) - 1} of {kills} kills"
    lost = [each for command in ("run", "confirm") for each in lost_seconds(study, command)]
    assert max(lost) <= LOST_S, f"{max(lost):.1f} s of finished steps were done again"
    return sum(resumed[1:]), lost


def stage_kills(folder: Path, references: References, stage: str) -> str:
    """SIGKILL to the worker while it does this; `publishing` waits for the folder of the next adapter."""
    study = FaultStudy(folder, slots=1)
    code = KILL_IN_STAGE.format(doing=STAGES[stage], when=stage, arguments=study.arguments("run"))
    running = in_python(code, study=study)
    study.outputs.append(running.stdout + running.stderr)
    assert running.returncode == 0, running.stderr[-2000:]
    assert "killed by SIGKILL" in running.stdout, running.stdout
    study.check(references.of(study))
    return "the worker was started again, and its trial went on or started anew"


KILL_IN_STAGE = """
import os, signal, sys, threading, time
from pathlib import Path
from objectives.stages import TrialsStage
from sweep.running import where
from sweep.running.workers import LocalWorkers

class Killing(LocalWorkers):
    heard, killed = 0, False

    def receive(self, timeout_s):
        event = super().receive(timeout_s)
        if event and isinstance(event[1], TrialsStage) and event[1].doing == {doing!r} and not Killing.killed:
            Killing.heard += 1
            if Killing.heard == 40 or ({doing!r} == "scoring"):
                Killing.killed = True
                if {when!r} == "publishing":
                    adapters = self._processes[event[0]]._scratch.folders[-1] / "adapters"
                    known, deadline = set(adapters.iterdir()), time.monotonic() + 60
                    while set(adapters.iterdir()) <= known:
                        assert time.monotonic() < deadline, "no adapter was published within 60 s"
                os.kill(self.identity(event[0]), signal.SIGKILL)
        return event

where.LocalWorkers = Killing
sys.argv = ["sweep", *{arguments!r}]
from sweep.cli.app import main
main()
"""


def frozen_worker(folder: Path, references: References) -> str:
    """SIGSTOP to the worker for five seconds, then SIGCONT."""
    study = FaultStudy(folder, slots=1)
    running = study.start()
    running.wait_for("step 60/")
    [worker] = study.worker_pids()
    os.kill(worker, signal.SIGSTOP)
    time.sleep(5)
    os.kill(worker, signal.SIGCONT)
    study.ended(running)
    assert running.process.returncode == 0
    study.check(references.of(study))
    return "it waited, and went on"


def frozen_supervisor(folder: Path, references: References) -> str:
    """SIGSTOP to the supervisor for five seconds, then SIGCONT: the worker waits for it once its pipe is full."""
    study = FaultStudy(folder, slots=1)
    running = study.start()
    running.wait_for("step 60/")
    running.process.send_signal(signal.SIGSTOP)
    time.sleep(5)
    running.process.send_signal(signal.SIGCONT)
    study.ended(running)
    assert running.process.returncode == 0
    study.check(references.of(study))
    return "it went on"


def interrupts(folder: Path, references: References) -> str:
    """Ctrl-C five times over a study, with two workers."""
    study = FaultStudy(folder, workers=2, slots=1)
    for _ in range(5):
        running = study.start()
        try:
            _wait_for_a_trial(running)
            time.sleep(4)
            assert running.interrupt(timeout=30) == 130
        except AssertionError:
            if running.process.poll() != 0:
                raise
        study.outputs.append(running.output.read_text())
        study.wait_until_gone()
    study.finish()
    study.check(references.of(study))
    went_on = sum("going on at step" in output for output in study.outputs)
    assert went_on >= 3, f"{went_on} of 5 starts went on from a checkpoint"
    return f"each ended in seconds with exit code 130; {went_on} starts went on from a checkpoint"


def killing_reward(folder: Path, references: References) -> str:
    """A reward function that kills its process."""
    study = FaultStudy(folder, slots=1, more=("task.reward=['deadly:deadly']",))
    (study.folder / "deadly.py").write_text(
        "import os, signal\n\n\ndef deadly(completions, **columns):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    running = study.start()
    output = study.ended(running)
    last = output.strip().splitlines()[-1]
    assert running.process.returncode == 5, output
    assert "deadly" in last, last
    study.check_tidy()
    return f"exit code 5: {last[:110]}"


def two_at_once(folder: Path, references: References) -> str:
    """The same study started a second time, from another folder, while it runs."""
    study = FaultStudy(folder, slots=1)
    running = study.start()
    running.wait_for("step 60/")
    other = Running(*study.arguments("run"), cwd=study.folder / "tmp", env=study.environment)
    other.process.wait(120)
    told = other.output.read_text().strip().splitlines()
    assert other.process.returncode == 4, told
    assert "is being run by process" in told[-1], told
    study.ended(running)
    assert running.process.returncode == 0
    study.check(references.of(study))
    return f"refused with exit code 4: {re.sub(r'process [0-9]+', 'process N', told[-1])}"


def lost_seconds(study: FaultStudy, command: str) -> list[float]:
    """For each trial that was lost, the seconds of its steps that were done again."""
    stored, found = study.stored(command), []
    logs = log_folder(study.storage, stored.study_name)
    trials = stored.trials
    for trial in trials:
        if attributes.REDONE not in trial.user_attrs:
            continue
        point = trial.system_attrs["fixed_params"], trial.user_attrs.get(attributes.SEED)
        later = (
            other for other in trials[trial.number + 1 :]
            if (other.system_attrs.get("fixed_params"), other.user_attrs.get(attributes.SEED)) == point
        )  # fmt: skip
        then = next(later, None)
        if then is None or not trial_log(logs, trial.number).exists() or not trial_log(logs, then.number).exists():
            continue
        steps = re.findall(r"^step (\d+)/.* ([\d.]+) s$", trial_log(logs, trial.number).read_text(), re.MULTILINE)
        on = re.search(r"^going on at step (\d+)", trial_log(logs, then.number).read_text(), re.MULTILINE)
        reached = int(on[1]) - 1 if on else 0
        found.append(sum(float(seconds) for step, seconds in steps if int(step) > reached))
    return found or [0.0]


def _went_on(running: Running) -> int:
    """How many trials have gone on above step 0 so far."""
    return len(re.findall(ABOVE_0, running.output.read_text()))


def _kill(study: FaultStudy, running: Running, whom: str) -> bool:
    """Kills the supervisor, the worker or both; whether a trial went on before the supervisor was killed as well."""
    workers, before = [pid for pid in study.processes() if pid != running.process.pid], _went_on(running)
    if whom in ("supervisor", "both"):
        running.kill()
    for pid in workers if whom in ("worker", "both") else ():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    if whom == "worker":  # another is started for it, and goes on; then the supervisor is killed as well
        deadline = time.monotonic() + 25
        while time.monotonic() < deadline and running.process.poll() is None and _went_on(running) == before:
            time.sleep(0.2)
        running.kill()
    study.outputs.append(running.output.read_text())
    return _went_on(running) > before


def _wait_for_a_trial(running: Running) -> None:
    """Waits until a trial has begun or gone on, or the command has ended."""
    while running.process.poll() is None and not re.search(r"trial \d+  ", running.output.read_text()):
        time.sleep(0.1)


def _is_stored(study: FaultStudy, command: str) -> bool:
    name = "tiny" if command == "run" else "tiny.confirm"
    return log_folder(study.storage, name).exists()
