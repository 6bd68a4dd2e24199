"""Find the smallest LoRA rank that is as good as the best one for your GRPO run.

What is public is here and in `sweep.results`:

    import sweep

    study = sweep.Study("tiny")
    study.run()
    study.confirm()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep.api.study import Study
    from sweep.errors import SweepError

__all__ = ["Study", "SweepError", "__version__"]


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: the command line passes through here, and has to answer at once.
    if name == "Study":
        from sweep.api.study import Study

        return Study
    if name == "SweepError":
        from sweep.errors import SweepError

        return SweepError
    if name == "__version__":
        from importlib.metadata import version

        return version("rank-sweep")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
