"""How long a study's prompts are, before anything loads."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from objectives.errors import ModelConfigError
from objectives.memory.config_files import find_config
from objectives.tasks.protocol import Task
from objectives.tasks.user_files import own_template
from objectives.tokenization.tokenizer_files import TokenizerFiles
from objectives.tokenization.tokens import FittingTask, TooLong, prompt_limit
from sweep.study.file import StudyFile


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPlan:
    """Lengths of the prompts that a study would use, in tokens."""

    training: int
    """Prompts that are trained on: those that fit."""
    held_out: int
    median: int
    """Of all prompts that were looked at, those that do not fit among them."""
    p95: int
    longest: int
    limit: int
    """The longest that is used."""
    too_long: TooLong | None

    def as_json(self) -> dict[str, Any]:
        """What `sweep plan --json` prints."""
        left_out = self.too_long.count if self.too_long else 0
        return asdict(self) | {"left_out": left_out, "longest_prompt": self.too_long.prompt if self.too_long else None}


def find_tokenizer(study: StudyFile) -> TokenizerFiles | None:
    """The tokenizer of a study's model, with the study's chat template; None where its files are not on this machine.

    Raises:
        TaskError: where the study names a template that is not there.
    """
    template = own_template(study.task, study.code_folders)
    try:
        folder = find_config(study.model.path).parent
        return TokenizerFiles(folder, template=template, given=study.task.chat_template_kwargs)
    # The worker, which has the tokenizer itself, will tell.
    except (ModelConfigError, ImportError, ValueError):
        return None


def fitting(task: Task, study: StudyFile, tokenizer: TokenizerFiles) -> FittingTask:
    """The task less what is too long, as a worker has it.

    Raises:
        TaskError: where completions leave no room for prompts.
    """
    limit = prompt_limit(
        stated=study.task.max_prompt_tokens,
        max_seq_length=study.model.max_seq_length,
        max_completion_tokens=task.max_completion_tokens,
    )
    return FittingTask(task, tokenizer.count, limit=limit)


def plan_prompts(task: FittingTask, study: StudyFile) -> PromptPlan:
    """Looks at all prompts that the study would use.

    Raises:
        TaskError: where none is short enough, or a chat template refuses one.
    """
    training = len(task.train_rows(study.task.train_prompts))
    held_out = len(task.held_out_rows(study.task.held_out_prompts))
    lengths = sorted(task.lengths())
    return PromptPlan(
        training=training,
        held_out=held_out,
        median=lengths[len(lengths) // 2],
        p95=lengths[math.ceil(0.95 * len(lengths)) - 1],
        longest=lengths[-1],
        limit=task.limit,
        too_long=task.too_long(),
    )
