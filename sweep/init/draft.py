"""A study in the making."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from objectives.settings.learner import TrlSettings
from objectives.settings.section import Section
from objectives.settings.sections import ModelSettings
from objectives.settings.tasks import DatasetSettings
from sweep.init.calls import Call
from sweep.init.values import UnknownValueError
from sweep.study.file import SpaceSection

SECTIONS: dict[str, type[Section]] = {
    "model": ModelSettings,
    "space": SpaceSection,
    "task": DatasetSettings,
    "learner": TrlSettings,
}
KEYS = {name: set(section.model_fields) for name, section in SECTIONS.items()}
"""The keys that a study's sections have."""


def _allowed(section: str, key: str, value: Any) -> bool:
    """Whether a study has such a key, which may have such a value."""
    field = SECTIONS[section].model_fields.get(key)
    if field is None:
        return False
    try:
        # One field, not the section: other keys of it may not be known yet.
        adapter: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


@dataclass(slots=True)
class Draft:
    """A study in the making: values by section and key, each with a comment, and what its reader should know."""

    values: dict[str, dict[str, tuple[Any, str]]] = field(default_factory=dict)
    carried: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unsaid: list[str] = field(default_factory=list)
    look_at: list[str] = field(default_factory=list)

    def put(self, section: str, key: str, value: Any, comment: str) -> None:
        """Sets a key."""
        self.values.setdefault(section, {})[key] = (value, comment)

    def get(self, section: str, key: str) -> Any:
        """What a key was set to; None where it was not."""
        return self.values.get(section, {}).get(key, (None, ""))[0]

    def known(self, call: Call | None, argument: str) -> Any:
        """What an argument comes to; None where it was not given, or, which is said, where that cannot be known."""
        if call is None or argument not in call.arguments:
            return None
        try:
            return call.value(argument)
        except UnknownValueError as error:
            self.unsaid.append(f"{call.short_name}({argument}=...): {error} is known only when it runs")
            return None

    def put_if_known(self, section: str, key: str, value: Any, theirs: str, comment: str = "theirs") -> None:
        """Sets a key that a study has; else says that it has none for `theirs`."""
        if _allowed(section, key, value):
            self.put(section, key, value, comment)
        else:
            self.unsaid.append(theirs)
