"""The one boundary around a trial: its output goes to its own log, and what it raises becomes news to the feed."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from objectives.errors import RewardError
from objectives.learners.protocol import TrialFeed
from objectives.trial.messages import trial_log


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Sends everything that this process prints, native code included, to the end of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # What is still in Python's buffers was printed before, and belongs where output went then.
    sys.stdout.flush()
    sys.stderr.flush()
    # The descriptors, not sys.stdout: CUDA, vLLM and other native code print past Python.
    saved = os.dup(1), os.dup(2)
    with path.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for target, source in enumerate(saved, start=1):
            os.dup2(source, target)
            os.close(source)


@contextmanager
def trial_boundary(feed: TrialFeed, number: int, log_folder: Path) -> Iterator[None]:
    """Runs a trial's code: logged, and any error told to the feed with its traceback in the trial's log.

    Raises:
        RewardError: again, after it was told: it ends the worker.
    """
    with output_to(trial_log(log_folder, number)):
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            feed.fail(number, error)
            if isinstance(error, RewardError):
                raise
