"""Trying a reward on the base policy: what it says, and whether GRPO can learn from it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from objectives.stages import Stage
from objectives.trial.messages import Failed, TryReward
from objectives.trial.preview import Group, Preview
from sweep.errors import StudyFileError, TrialsFailedError
from sweep.running.worker_process import WorkerDiedError, WorkerProcess
from sweep.study.file import StudyFile
from sweep.text import printable

POOR_SHARE, GOOD_SHARE = 0.1, 0.4
"""Shares of groups with signal below which GRPO has next to nothing to learn from, and from which on it has enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Whether GRPO can learn: `can_learn` is "yes", "slowly" or "no", and the sentence says why."""

    can_learn: str
    sentence: str


def check_reward(config: StudyFile, *, prompts: int, tell: Callable[[str], None] = lambda doing: None) -> Preview:
    """Samples the base policy in a worker of its own.

    Args:
        config: The study.
        prompts: How many to sample a group of completions for.
        tell: Is told what the worker is doing.

    Raises:
        StudyFileError: where there is no reward: preference pairs are only ranked.
        TrialsFailedError: where the worker cannot load or a reward breaks its contract.
    """
    if not config.task.samples:
        raise StudyFileError("task.reward names no function to try; preference pairs are scored by how they are ranked")
    tell("loading the model and the engine: about a minute on a CPU")
    with tempfile.TemporaryDirectory(prefix="rank-sweep-") as folder:
        log = Path(folder) / "worker.log"
        with WorkerProcess(config.worker_settings(Path(folder)), log, first=TryReward(prompts=prompts)) as worker:
            try:
                while True:
                    message = worker.wait()
                    if isinstance(message, Preview):
                        return message
                    if isinstance(message, Stage) and message.doing:
                        tell(message.doing)
                    if isinstance(message, Failed):
                        raise TrialsFailedError(_with_traceback(message, log))
            except WorkerDiedError as death:
                raise TrialsFailedError(printable(str(death))) from death


def judge_signal(preview: Preview) -> Signal:
    """Whether GRPO can learn from this reward on this policy."""
    share, groups = preview.share_with_signal, len(preview.groups)
    counted = f"{round(share * groups)} of {groups} groups have signal"
    cut = preview.share_truncated
    hint = f" {cut:.0%} of completions were cut: try a larger task.max_completion_tokens." if cut > 0.5 else ""
    if share >= GOOD_SHARE:
        return Signal(can_learn="yes", sentence=f"GRPO can learn from this: {counted}.{hint}")
    if share >= POOR_SHARE:
        return Signal(
            can_learn="slowly",
            sentence=f"GRPO can learn from this, but slowly: only {counted}. Larger groups, easier prompts or a "
            f"reward with more steps would help.{hint}",
        )
    totals = {total for group in preview.groups for total in group.totals if not math.isnan(total)}
    end = (
        f"every completion gets {totals.pop():g}"
        if len(totals) == 1
        else "the completions of a prompt all get the same"
    )
    return Signal(
        can_learn="no",
        sentence=f"GRPO cannot learn from this: {counted}; {end}. Change the prompts, the reward or the model before "
        f"you spend a budget.{hint}",
    )


def preview_json(preview: Preview) -> dict[str, Any]:
    """What `sweep try-reward --json` prints."""
    signal = judge_signal(preview)
    return {
        "can_learn": signal.can_learn,
        "reason": signal.sentence,
        "mean": preview.mean,
        "share_with_signal": preview.share_with_signal,
        "share_truncated": preview.share_truncated,
        "rewards": {name: {"mean": mean, "std": std} for name, (mean, std) in preview.by_function().items()},
        "warnings": list(preview.warnings),
        "groups": [_group_json(group) for group in preview.groups],
    }


def _group_json(group: Group) -> dict[str, Any]:
    """A group as JSON has it: null for a completion without a reward, which is no number there."""
    totals = [None if math.isnan(total) else total for total in group.totals]
    return asdict(group) | {"totals": totals}


def _with_traceback(failure: Failed, log: Path) -> str:
    """The failure, and where in the user's own code it arose: the log is gone when the command ends."""
    if failure.kind != "reward":
        return failure.message
    lines = log.read_text(errors="replace").splitlines()
    places = [line.strip() for line in lines if line.strip().startswith("File ") and "site-packages" not in line]
    own = [place for place in places if "/objectives/" not in place]
    return failure.message + (f" ({own[-1]})" if own else "")
