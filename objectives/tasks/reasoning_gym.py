"""The task `reasoning_gym`: any procedural task of the package reasoning-gym, scored by that task's own scorer."""

from __future__ import annotations

import difflib
import warnings
from typing import Any

from objectives.errors import TaskError
from objectives.settings.tasks import ReasoningGymSettings
from objectives.tasks.protocol import RewardFunction, Row
from objectives.tasks.rows import hold_out
from objectives.tasks.text_task import TextTask, as_chat, text_of


def reasoning_gym_task(settings: ReasoningGymSettings, *, seed: int, chat: bool) -> TextTask:
    """Generates the task's questions and splits them.

    Args:
        settings: Which task, with which options.
        seed: Decides the questions and the split.
        chat: Ask as a chat: for models whose tokenizer has a chat template.

    Raises:
        TaskError: where the package is absent, or has no such task, or refuses its options.
    """
    # Some to spare: a prompt's text decides its side, so that neither split comes to exactly its number.
    size = round((settings.train_prompts + settings.held_out_prompts) * 1.2)
    dataset = make_dataset(settings, size=size, seed=seed)
    questions = list(dataset)
    rows = [_row(entry["question"], index, chat) for index, entry in enumerate(questions)]
    train, held_out = hold_out(rows, share=settings.held_out_share, seed=seed, by=settings.held_out_by)
    return TextTask(
        name=f"reasoning_gym_{settings.dataset}",
        max_completion_tokens=settings.max_completion_tokens,
        reward_functions=(_scorer(dataset, questions, settings.dataset),),
        reward_weights=(1.0,),
        train=train,
        held_out=held_out,
        seed=seed,
    )


def make_dataset(settings: ReasoningGymSettings, *, size: int, seed: int) -> Any:
    """The package's own dataset, which generates its questions when it is asked for them.

    Raises:
        TaskError: where the package is absent, or has no such task, or refuses its options.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # cellpylib 2.4 warns while it is compiled, once
            import reasoning_gym
            from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise TaskError("task reasoning_gym needs the extra: pip install rank-sweep[reasoning-gym]") from error
    if settings.dataset not in DATASETS:
        near = difflib.get_close_matches(settings.dataset, DATASETS, n=3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise TaskError(f"reasoning-gym has no task {settings.dataset!r}{hint}")
    try:
        return reasoning_gym.create_dataset(settings.dataset, size=size, seed=seed, **settings.options)
    # The package checks options by assert, and unknown ones by TypeError.
    except (AssertionError, TypeError, ValueError) as error:
        raise TaskError(f"reasoning-gym task {settings.dataset!r} refuses its options: {error}") from error


def _row(question: str, index: int, chat: bool) -> Row:
    from reasoning_gym.utils import SYSTEM_PROMPTS

    instruction = SYSTEM_PROMPTS["default"]
    prompt = as_chat(question, instruction) if chat else f"{instruction}\n\n{question}\n"
    return {"prompt": prompt, "entry": index}


def _scorer(dataset: Any, questions: list[Any], name: str) -> RewardFunction:
    """The task's scorer as a reward function: 0 to 1 for what stands in `<answer>` tags."""
    from reasoning_gym.utils import extract_answer

    def score(prompts: list[Any], completions: list[Any], entry: list[int], **columns: Any) -> list[float]:
        return [
            float(dataset.score_answer(extract_answer(text_of(completion)), entry=questions[index]))
            for completion, index in zip(completions, entry, strict=True)
        ]

    score.__name__ = f"{name}_score"
    return score
