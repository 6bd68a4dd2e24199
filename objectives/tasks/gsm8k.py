"""The task `gsm8k`: grade-school mathematics, answers read and compared as numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from objectives.errors import TaskError
from objectives.settings.tasks import Gsm8kSettings
from objectives.tasks.protocol import Row
from objectives.tasks.rows import held_out_source, hold_out, is_local, read_rows, require_columns, without
from objectives.tasks.text_task import TextTask, as_chat, text_of

INSTRUCTION = "Reason step by step. Then give the answer as a number on a last line of its own, after ####."

# A minus that stands behind a digit or a word is a dash or an operator, not a sign.
NUMBER = r"(?:(?<![\w)])[-+])?(?:[$€£]\s?[-+]?)?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_LAST_LINE = re.compile(rf"^####\s*({NUMBER})\s*$")


def gsm8k_task(settings: Gsm8kSettings, *, seed: int, folders: Sequence[Path], chat: bool) -> TextTask:
    """Reads the questions and splits them.

    Args:
        settings: Where from.
        seed: Decides order, and the split where none is named.
        folders: Where a file is looked for.
        chat: Ask as a chat: for models whose tokenizer has a chat template.

    Raises:
        TaskError: where they cannot be read, or an answer holds no number.
    """
    from_hub = not is_local(settings.data, folders)
    rows = _questions(settings.data, "train", folders, chat)
    held_out_split = settings.held_out_split or ("test" if from_hub else None)
    if held_out_split is None:
        train, held_out = hold_out(rows, share=settings.held_out_share, seed=seed, by=settings.held_out_by)
    else:
        data, split = held_out_source(settings.data, held_out_split, folders)
        held_out = _questions(data, split, folders, chat)
        train = without(rows, held_out)
    return TextTask(
        name="gsm8k",
        max_completion_tokens=settings.max_completion_tokens,
        reward_functions=(correct, well_formed),
        reward_weights=(1.0, settings.format_weight),
        train=train,
        held_out=held_out,
        seed=seed,
    )


def correct(prompts: list[Any], completions: list[Any], answer: list[str], **columns: Any) -> list[float]:
    """Rewards 1.0 for a completion whose answer is the reference's number, otherwise 0.0."""
    return [
        float(answer_in(text_of(completion)) == parse_number(right))
        for completion, right in zip(completions, answer, strict=True)
    ]


def well_formed(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
    """Rewards 1.0 for a completion whose last line is `#### number`, and that has no other such line."""
    rewards = []
    for completion in completions:
        lines = text_of(completion).strip().splitlines() or [""]
        rewards.append(float(bool(_LAST_LINE.match(lines[-1].strip())) and sum("####" in line for line in lines) == 1))
    return rewards


def answer_in(text: str) -> Decimal | None:
    r"""The number that a text answers with: after `####`, else in `\boxed{}`, else its last number; None if none."""
    for place in (text.rpartition("####")[2] if "####" in text else "", *_BOXED.findall(text)[-1:]):
        # LaTeX writes 1{,}000, for a bare comma would be followed by a space.
        if (number := first_number(place.replace("{,}", ","))) is not None:
            return number
    numbers = re.findall(NUMBER, text)
    return parse_number(numbers[-1]) if numbers else None


def first_number(text: str) -> Decimal | None:
    """The first number in a text, whatever units stand around it."""
    match = re.search(NUMBER, text)
    return parse_number(match.group()) if match else None


def parse_number(text: str) -> Decimal | None:
    """A number as people write it: thousands separators, a currency sign, a sign, decimals. `72.0` equals `72`."""
    cleaned = re.sub(r"[,$€£\s]", "", text)
    try:
        return Decimal(cleaned)
    except InvalidOperation:
        return None


def _questions(data: str, split: str, folders: Sequence[Path], chat: bool) -> list[Row]:
    rows = read_rows(data, config="main", split=split, folders=folders)
    require_columns(rows, ["question", "answer"], source=data)
    return [_row(row, f"{data}: row {number}", chat) for number, row in enumerate(rows, start=1)]


def _row(row: Row, where: str, chat: bool) -> Row:
    question = str(row["question"]).strip()
    right = answer_in(str(row["answer"]))
    if right is None:
        raise TaskError(f"{where}: no number in answer {row['answer']!r}")
    prompt = as_chat(question, INSTRUCTION) if chat else f"{INSTRUCTION}\n\nQuestion: {question}\nAnswer:"
    return {"prompt": prompt, "answer": str(right)}
