"""One reward function behind its contract: what it does wrong is named, and what it is given is its own."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from objectives import stages
from objectives.errors import RewardError
from objectives.rewards.limits import TimeLimitError, time_limit
from objectives.rewards.values import FROM_TRAINER, own_copy, read_values
from objectives.tasks.protocol import RewardFunction

_LOOPS = threading.local()


def _handed(key: str, value: Any) -> Any:
    """What a call is given of it: a copy of its own, of the trainer's state too, whose steps end the training."""
    if key == "trainer_state":
        return copy.copy(value)
    return value if key in FROM_TRAINER else own_copy(value)


def checked(function: Callable[..., Any], *, name: str | None = None, timeout_s: float = 60.0) -> RewardFunction:
    """Wraps a reward function so that whatever it does wrong is raised as a RewardError that says what.

    Every call of a reward goes through here. The wrapper is synchronous, whatever the function is, and gives it copies
    of its own to do with as it likes.

    Args:
        function: The user's.
        name: What it is reported as; default: its own name.
        timeout_s: What one call may take.
    """
    name = name or own_name(function)

    def call(prompts: list[Any], completions: list[Any], *_: Any, **passed: Any) -> Sequence[float | None]:
        copies = {key: _handed(key, value) for key, value in passed.items()}
        began = time.monotonic()
        try:
            with stages.during(f"calling the reward {name}", reward=name, limit_s=timeout_s), time_limit(timeout_s):
                result: Any = function(prompts=own_copy(prompts), completions=own_copy(completions), **copies)
                if inspect.isawaitable(result):
                    result = _run(result)
        except TimeLimitError as error:
            raise RewardError(
                f"reward {name} took longer than reward_timeout_s={timeout_s:g} for {len(completions)} completions"
            ) from error
        # sys.exit among them: a reward that ends its process ends a study without a word.
        except BaseException as error:
            hint = _columns_hint(error, [key for key in passed if key not in (*FROM_TRAINER, "completion_ids")])
            raise RewardError(f"reward {name} raised {type(error).__name__}: {error}{hint}") from error
        # A call that holds the interpreter is noticed when it comes back.
        if (seconds := time.monotonic() - began) > timeout_s:
            raise RewardError(
                f"reward {name} took {seconds:.1f} s for {len(completions)} completions; "
                f"allowed: reward_timeout_s={timeout_s:g}"
            )
        return read_values(name, result, len(completions))

    functools.update_wrapper(call, function, updated=())
    call.__name__ = name
    # TRL awaits what it takes for a coroutine function, and would look through the wrapper for one.
    del call.__wrapped__  # type: ignore[attr-defined]
    return call


def _columns_hint(error: BaseException, columns: Sequence[str]) -> str:
    """The columns that there are, for an error that may well be about one that there is not."""
    if isinstance(error, KeyError) and error.args and error.args[0] not in columns:
        return f"; the columns are: {', '.join(columns) or 'none besides the prompt'}"
    return ""


def own_name(function: Any) -> str:
    """A function's name, that of what a partial calls, or the class of a callable object."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _run(awaitable: Any) -> Any:
    """Awaits on one event loop for the life of the thread: clients that a function keeps are bound to their loop."""
    if not hasattr(_LOOPS, "runner"):
        _LOOPS.runner = asyncio.Runner()

    async def finish() -> Any:
        return await awaitable

    return _LOOPS.runner.run(finish())
