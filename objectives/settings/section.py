"""What every section of a study file is, and how one names code of the user's."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

REFERENCE = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
"""How a user names code of their own: `module:name`."""


def _check_reference(text: str) -> str:
    module, _, name = text.partition(":")
    if module.endswith(".py"):  # how pytest and uvicorn's users name files
        own = module.removeprefix("./").removesuffix(".py").replace("/", ".")
        raise ValueError(f"names a file; allowed: module:function, as in {own}:{name or 'function'}")
    if not re.match(REFERENCE, text):
        raise ValueError("names no code; allowed: module:function, as in my_rewards:right")
    return text


Reference = Annotated[str, AfterValidator(_check_reference)]
Alias = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.-]*$")]


def _form(rewards: Any) -> str:
    return "aliases" if isinstance(rewards, dict) else "list"


RewardFunctions: TypeAlias = Annotated[
    Annotated[tuple[Reference, ...], Tag("list")] | Annotated[dict[Alias, Reference], Tag("aliases")],
    Discriminator(_form),
]
"""Reward functions as a list, or as a table of names for them."""


class Section(BaseModel):
    """A section of a study file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
