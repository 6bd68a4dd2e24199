"""A study from a model, data and rewards that are there already."""

from __future__ import annotations

from sweep.init.draft import Draft
from sweep.init.ladders import rank_ladder, rate_ladder


def draft_from_options(*, model: str, data: str, rewards: list[str], max_lora_rank: int, steps: int) -> Draft:
    """The study that these come to; everything else is a default that the file's reader may change.

    Args:
        model: A hub id or a folder.
        data: A file, a hub id, or `module:function`.
        rewards: References, each `module:function`.
        max_lora_rank: The engine's ceiling.
        steps: GRPO steps of a trial.
    """
    draft = Draft()
    # A study's name is also that of its log folder.
    name = "".join(c if c.isalnum() else "_" for c in model.rstrip("/").rpartition("/")[2]).strip("_") or "study"
    draft.put("study", "name", name, "its name in storage")
    draft.put("model", "name", model, "")
    draft.put("model", "max_lora_rank", max_lora_rank, "the wall: vLLM sets adapter memory aside for it")
    draft.put("space", "r", rank_ladder(max_lora_rank, max_lora_rank), "ranks to compare")
    draft.put(
        "space", "learning_rate", rate_ladder(1e-5), "the best one depends on model and alpha: give three or more"
    )
    draft.put("task", "name", "dataset", "")
    draft.put("task", "data", data, "")
    draft.put("task", "reward", list(rewards), "")
    draft.put("task", "max_completion_tokens", 256, "`sweep try-reward` says how many completions it cuts")
    draft.put("budget", "steps", steps, "GRPO steps of every trial")
    draft.put("budget", "prompts_per_step", 8, "")
    draft.put("budget", "group_size", 8, "completions of a prompt, which GRPO compares with each other")
    return draft
