"""Calling reward functions: every breach of their contract is named, and none becomes a reward of 0."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objectives import stages
from objectives.errors import RewardError, TaskError
from objectives.task_settings import CommonTaskSettings
from objectives.tasks.protocol import RewardFunction, Row, Task
from objectives.user_code import load_reference

_LOOPS = threading.local()

OUTSIDE_TRAINING: dict[str, Any] = {
    "trainer_state": None,
    "log_extra": lambda column, values: None,
    "log_metric": lambda name, value: None,
}
"""What TRL 1.13 passes to reward functions besides columns, for calls that no trainer makes."""

DROPPED_COLUMNS = ("prompt", "completion", "completion_ids")
"""Columns that TRL 1.13 does not pass on: their names stand for something else there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardSet:
    """Checked reward functions, with a weight each. A completion's reward is their weighted sum."""

    functions: tuple[RewardFunction, ...]
    weights: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The functions' names."""
        return tuple(function.__name__ for function in self.functions)

    def table(
        self, rows: Sequence[Row], completions: Sequence[Any], token_ids: Sequence[Sequence[int]]
    ) -> list[list[float | None]]:
        """Every function's reward for every completion: one list a function; None where it does not apply."""
        columns = {key: [row[key] for row in rows] for key in rows[0] if key not in DROPPED_COLUMNS}
        prompts = [row["prompt"] for row in rows]
        ids = [list(tokens) for tokens in token_ids]
        return [
            list(
                function(
                    prompts=prompts, completions=list(completions), completion_ids=ids, **columns, **OUTSIDE_TRAINING
                )
            )
            for function in self.functions
        ]

    def totals(
        self, rows: Sequence[Row], completions: Sequence[Any], token_ids: Sequence[Sequence[int]]
    ) -> list[float]:
        """The weighted sum for each completion, as TRL computes it.

        Raises:
            RewardError: where a function breaks its contract, or none applies to a completion.
        """
        return self.weigh(self.table(rows, completions, token_ids))

    def weigh(self, table: Sequence[Sequence[float | None]]) -> list[float]:
        """The weighted sums of a table."""
        totals = []
        for i, values in enumerate(zip(*table, strict=True)):
            applied = [w * v for w, v in zip(self.weights, values, strict=True) if v is not None]
            if not applied:
                raise RewardError(f"every reward function returned None for completion {i}")
            totals.append(math.fsum(applied))
        return totals


def make_rewards(task: Task, settings: CommonTaskSettings, folders: Sequence[Path]) -> RewardSet:
    """The reward functions that the study names, else the task's own.

    Raises:
        TaskError: where one cannot be imported or is no function, or two share a name.
    """
    if settings.reward:
        functions = tuple(load_reference(reference, folders) for reference in settings.reward)
        weights = settings.reward_weights or (1.0,) * len(functions)
    else:
        functions, weights = tuple(task.reward_functions), tuple(task.reward_weights)
    for reference, function in zip(settings.reward, functions, strict=False):
        if not callable(function):
            raise TaskError(f"{reference} is a {type(function).__name__}; allowed: a function")
    names = [_name(function) for function in functions]
    if len(set(names)) < len(names):
        raise TaskError(f"two reward functions share a name: {', '.join(names)}; they are reported by name")
    return RewardSet(
        functions=tuple(checked(function, timeout_s=settings.reward_timeout_s) for function in functions),
        weights=weights,
    )


def checked(function: RewardFunction, *, timeout_s: float = 60.0) -> RewardFunction:
    """Wraps a reward function so that whatever it does wrong is raised as a RewardError that says what.

    The wrapper is synchronous, whatever the function is, and can stand in for it anywhere, TRL's trainer included.
    """
    name = _name(function)

    def call(prompts: list[Any], completions: list[Any], *_: Any, **columns: Any) -> Sequence[float | None]:
        began = time.monotonic()
        try:
            with stages.during(f"calling the reward {name}", reward=name, limit_s=timeout_s), _time_limit(timeout_s):
                result: Any = function(prompts=prompts, completions=completions, **columns)
                if inspect.isawaitable(result):
                    result = _run(result)
                rewards = [_plain(reward) for reward in result]
        except _TimeLimitError as error:
            raise RewardError(f"reward {name} took longer than reward_timeout_s={timeout_s:g}") from error
        except SystemExit as error:
            raise RewardError(f"reward {name} called sys.exit({error.code})") from error
        except Exception as error:
            raise RewardError(f"reward {name} raised {type(error).__name__}: {error}") from error
        # A call that holds the interpreter, or an alarm of its own, is noticed when it comes back.
        if (seconds := time.monotonic() - began) > timeout_s:
            raise RewardError(f"reward {name} took {seconds:.1f} s; allowed: reward_timeout_s={timeout_s:g}")
        _check(name, rewards, len(completions))
        return rewards

    functools.update_wrapper(call, function)
    call.__name__ = name
    # TRL awaits what it takes for a coroutine function, and would look through the wrapper for one.
    del call.__wrapped__  # type: ignore[attr-defined]
    return call


def _name(function: Any) -> str:
    """A function's name, or the class of a callable object."""
    return str(getattr(function, "__name__", type(function).__name__))


class _TimeLimitError(BaseException):
    """Not an Exception, so that a reward that catches everything does not catch this."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises in the middle of whatever runs when the time is up. Only a main thread can be interrupted so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(*_: object) -> None:
        raise _TimeLimitError

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _run(awaitable: Any) -> Any:
    """Awaits on one event loop for the life of the thread: clients that a function keeps are bound to their loop."""
    if not hasattr(_LOOPS, "runner"):
        _LOOPS.runner = asyncio.Runner()

    async def finish() -> Any:
        return await awaitable

    return _LOOPS.runner.run(finish())


def _plain(reward: Any) -> Any:
    """A Python number for a NumPy or torch one."""
    return reward.item() if hasattr(reward, "item") else reward


def _check(name: str, rewards: Sequence[Any], completions: int) -> None:
    if len(rewards) != completions:
        raise RewardError(f"reward {name} returned {len(rewards)} values for {completions} completions")
    for i, reward in enumerate(rewards):
        if reward is not None and not (isinstance(reward, int | float) and math.isfinite(reward)):
            raise RewardError(f"reward {name} returned {reward!r} for completion {i}; allowed: finite numbers, None")
