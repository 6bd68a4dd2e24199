"""The study that a source comes to: which settings, where each comes from, and what could not be said."""

from __future__ import annotations

import re
from pathlib import Path

from sweep.init.draft import Draft
from sweep.init.model import draft_adapter, draft_lengths, draft_model, draft_task, draft_template
from sweep.init.recipe import Recipe
from sweep.init.training import draft_budget, draft_learner


def draft_study(recipe: Recipe, *, name: str, rewards: dict[str, str], data: str, model: str | None = None) -> Draft:
    """Says in a study's keys what a source trains.

    Args:
        recipe: The source's calls.
        name: The study's name.
        rewards: References of the reward functions, by their aliases.
        data: Reference of the function that gives the rows.
        model: The base model, instead of the one that the source names.

    Raises:
        UsageError: where nothing says which model it is.
    """
    draft = Draft()
    source = recipe.source.path.name
    draft.put("study", "name", name, f"from {source}")
    draft.put("study", "description", f"made from {source}", "")
    draft_model(draft, recipe, model)
    draft_adapter(draft, recipe)
    draft_task(draft, recipe, rewards, data)
    draft_lengths(draft, recipe)
    draft_template(draft, recipe)
    draft_learner(draft, recipe)
    draft_budget(draft, recipe)
    if recipe.earlier:
        draft.look_at.append(
            f"{' and '.join(recipe.earlier)} trains before GRPO there. The sweep starts from the model as it is loaded"
            ": save what that stage comes to, and name its folder as model.name."
        )
    return draft


def study_name(path: Path) -> str:
    """A study's name from its source's: letters, digits, `_` and `.`, as storage and folders take them."""
    return re.sub(r"[^A-Za-z0-9.]+", "_", path.stem).strip("_.") or "study"
