"""The worker: a process that loads the base model and the engine once, then runs trials until it is stopped."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import active_children, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from pathlib import Path

from objectives import stages
from objectives.crash_log import log_crashes
from objectives.engines.adapter_files import AdapterFolder
from objectives.errors import DroppedError, RewardError, TrialError, is_out_of_memory
from objectives.learners.build import make_learner
from objectives.learners.trial_log import output_to
from objectives.preview import sample
from objectives.settings.sections import WorkerSettings
from objectives.trial.messages import (
    Drop,
    Failed,
    Finished,
    FromWorker,
    Note,
    Progress,
    Prune,
    Ready,
    Resumed,
    SlotFree,
    Start,
    StepMetrics,
    Stop,
    ToWorker,
    TrialResult,
    TrialSpec,
    TryReward,
)
from objectives.trial.places import adapter_place, compiled_folder
from objectives.trial.resources import load

ANSWER_S = 0.5
"""How long a learner with other trials to run waits for the supervisor to fill a slot."""


class ConnectionFeed:
    """A feed over a connection to the supervisor."""

    def __init__(self, connection: Connection[FromWorker, ToWorker]) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._pruned: set[int] = set()
        self._dropped: set[int] = set()
        self._starts: list[TrialSpec] = []
        self._offered = False
        self._stopped = False

    def prompts_to_preview(self) -> int:
        """On how many prompts the supervisor wants the base policy's preview; 0 where it wants trials."""
        first = self._connection.recv()
        if isinstance(first, TryReward):
            return first.prompts
        self._read(first)
        return 0

    def send(self, message: FromWorker) -> None:
        """Sends a message, whichever thread has it to say."""
        with self._sending:
            self._connection.send(message)

    def take(self, block: bool = True) -> TrialSpec | None:
        """See `TrialFeed.take`. A slot that was offered and not yet filled is not offered again."""
        patience_s = 0.0
        if not self._offered and not self._stopped:
            self.send(SlotFree())
            self._offered, patience_s = True, ANSWER_S
        while not self._starts and not self._stopped and (block or self._connection.poll(patience_s)):
            self._read(self._connection.recv())
        if not self._starts or self._stopped:
            return None
        self._offered = False
        return self._starts.pop(0)

    @property
    def stopped(self) -> bool:
        """See `TrialFeed.stopped`."""
        self._read_all()
        return self._stopped

    def note(self, text: str) -> None:
        """See `TrialFeed.note`."""
        self.send(Note(text=text))

    def resumed(self, number: int, step: int, curve: Sequence[StepMetrics]) -> None:
        """See `TrialFeed.resumed`."""
        self.send(Resumed(number=number, step=step, curve=tuple(curve)))

    def progress(self, number: int, metrics: StepMetrics) -> None:
        """See `TrialFeed.progress`."""
        self.send(Progress(number=number, metrics=metrics))

    def pruned(self, number: int) -> bool:
        """See `TrialFeed.pruned`."""
        self._read_all()
        if number in self._dropped:
            raise DroppedError("dropped on request")
        return number in self._pruned

    def finish(self, number: int, result: TrialResult) -> None:
        """See `TrialFeed.finish`."""
        self.send(Finished(number=number, result=result))

    def fail(self, number: int | None, error: BaseException) -> None:
        """See `TrialFeed.fail`; with no number, the worker as a whole cannot go on."""
        kind = error.kind if isinstance(error, TrialError) else "memory" if is_out_of_memory(error) else "error"
        message = str(error) if isinstance(error, TrialError) else f"{type(error).__name__}: {error}"
        again = isinstance(error, TrialError) and error.again
        # In one line: it is stored as a reason and shown in tables; the log has all of it.
        self.send(Failed(number=number, kind=kind, message=" ".join(message.split()), again=again))

    def _read_all(self) -> None:
        while self._connection.poll():
            self._read(self._connection.recv())

    def _read(self, message: ToWorker) -> None:
        match message:
            case Start(spec=spec):
                self._starts.append(spec)
            case Prune(number=number):
                self._pruned.add(number)
            case Drop(number=number):
                self._dropped.add(number)
            case Stop():
                self._stopped = True


def main(
    log: Path,
    connection: Connection[FromWorker, ToWorker],
    settings: WorkerSettings,
    scratch: Sequence[Path],
) -> None:
    """Serves a supervisor until it says stop or is gone.

    Args:
        log: Where output goes that belongs to no trial.
        connection: Our end of the pipe.
        settings: What every trial of this worker shares.
        scratch: Empty folders of this worker's own, one on a disk, then one in memory where there is such a place. The
            supervisor removes them.
    """
    # First of all: loading takes long, and the supervisor may be killed meanwhile.
    threading.Thread(target=_die_with_parent, args=(scratch,), daemon=True).start()
    # Those with a priority run before multiprocessing waits for children at exit, all others after.
    Finalize(None, _end_children, exitpriority=0)
    # Threads that spin while they wait starve one another where cores are shared: on two busy cores vLLM 0.32 took
    # ten times as long. Read by the OpenMP runtime when torch is loaded, so before it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    settings.log_folder.mkdir(parents=True, exist_ok=True)
    # Unsloth writes patched classes to the working folder unless told where to.
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(compiled_folder(settings.log_folder) / "unsloth"))
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compiled_folder(settings.log_folder) / "inductor"))
    # The supervisor removes this folder: what a killed worker has left in it goes with it.
    tempfile.tempdir = str(scratch[0])
    feed = ConnectionFeed(connection)
    stages.listen(feed.send)
    with output_to(log):
        try:
            loaded = load(settings, max_loras=settings.learner.slots)
            log_crashes(log)
            if prompts := feed.prompts_to_preview():
                feed.send(sample(loaded, settings, prompts=prompts))
                return
            place = adapter_place(scratch, loaded.policy.base, settings)
            keep_in = settings.log_folder if settings.keep_adapters else None
            learner = make_learner(settings, loaded, AdapterFolder(place / "adapters", keep_in=keep_in))
            with stages.during("scoring the base policy"):
                baseline = (loaded.pairs or loaded.evaluator).base_score(settings.seed)
            feed.send(Ready(baseline=baseline, facts=loaded.facts))
        except Exception as error:
            traceback.print_exc()
            feed.fail(None, error)
            return
        with suppress(RewardError):  # its trial has told it
            learner.serve(feed)


def _end_children() -> None:
    """Ends processes that rewards have left behind: a pool that nobody shuts down would be waited for, for ever."""
    for child in active_children():
        child.terminate()


def _die_with_parent(scratch: Sequence[Path]) -> None:
    """A supervisor that is killed cannot say stop; a worker that outlives it would hold its memory for ever."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # Whoever was to remove them is gone.
        for folder in scratch:
            shutil.rmtree(folder, ignore_errors=True)
        # sys.exit would end this thread alone.
        os._exit(1)
