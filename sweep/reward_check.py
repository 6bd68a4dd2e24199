"""Trying a reward on the base policy: what it says, and whether GRPO can learn from it."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from objectives.preview import Group, Preview
from objectives.trial import Failed
from sweep.errors import TrialsFailedError
from sweep.study_file import StudyFile
from sweep.terminal import printable
from sweep.worker_process import WorkerDiedError, WorkerProcess

POOR_SHARE, GOOD_SHARE = 0.1, 0.4
"""Shares of groups with signal below which GRPO has next to nothing to learn from, and from which on it has enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Whether GRPO can learn: `can_learn` is "yes", "slowly" or "no", and the sentence says why."""

    can_learn: str
    sentence: str


def check_reward(config: StudyFile, *, prompts: int) -> Preview:
    """Samples the base policy in a worker of its own.

    Raises:
        TrialsFailedError: where the worker cannot load or a reward breaks its contract.
    """
    with tempfile.TemporaryDirectory(prefix="rank-sweep-") as folder:
        log = Path(folder) / "worker.log"
        with WorkerProcess(config.worker_settings(Path(folder)), log, preview_prompts=prompts) as worker:
            try:
                while True:
                    message = worker.receive(timeout_s=1.0)
                    if isinstance(message, Preview):
                        return message
                    if isinstance(message, Failed):
                        raise TrialsFailedError(_with_traceback(message, log))
            except WorkerDiedError as death:
                raise TrialsFailedError(str(death)) from death


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
    totals = {total for group in preview.groups for total in group.totals}
    end = f"gets a reward of {min(totals):g} everywhere" if len(totals) == 1 else "gets one reward for all of a prompt"
    return Signal(
        can_learn="no",
        sentence=f"GRPO cannot learn from this: {counted}; the base policy {end}. Change the prompts, the reward or "
        f"the model before you spend a budget.{hint}",
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
        "groups": [asdict(group) for group in preview.groups],
    }


def preview_report(preview: Preview, *, show: int) -> RenderableType:
    """Some groups in full, then each reward function over all of them."""
    table = Table("reward function", "mean", "spread", box=None, pad_edge=False)
    for name, (mean, std) in preview.by_function().items():
        table.add_row(name, *("does not apply" if value is None else f"{value:.3f}" for value in (mean, std)))
    return Lines(*(_group_lines(group) for group in preview.groups[:show]), table, Text())


def _group_lines(group: Group) -> RenderableType:
    names = list(group.rewards)
    table = Table("completion", *names, *(["total"] if len(names) > 1 else []), box=None, pad_edge=False)
    for i, completion in enumerate(group.completions):
        values = [group.rewards[name][i] for name in names]
        shown = ["-" if value is None else f"{value:g}" for value in values]
        table.add_row(escape(_text(completion)), *shown, *([f"{group.totals[i]:g}"] if len(names) > 1 else []))
    signal = "" if group.has_signal else "  (no signal: all rewards are equal)"
    return Lines(Text(f"prompt: {_text(group.prompt)}{signal}", style="bold"), table, Text())


def _text(content: Any) -> str:
    """A prompt or completion as one readable string, chat or not."""
    if isinstance(content, str):
        text = content
    elif len(content) == 1 and content[0]["role"] == "assistant":
        text = str(content[0]["content"])
    else:
        text = "\n".join(f"[{message['role']}] {message['content']}" for message in content)
    return printable(text)


def _with_traceback(failure: Failed, log: Path) -> str:
    """The failure, and where in the user's own code it arose: the log is gone when the command ends."""
    if failure.kind != "reward":
        return failure.message
    lines = log.read_text(errors="replace").splitlines()
    places = [line.strip() for line in lines if line.strip().startswith("File ") and "site-packages" not in line]
    own = [place for place in places if "/objectives/" not in place]
    return failure.message + (f" ({own[-1]})" if own else "")
