"""Rendering a chat as Transformers 5.17 does, without Transformers: it loads torch, and a plan is made in a second."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import jinja2

MARK = "END_OF_WHAT_IS_CONTINUED "
"""Put behind a message that is to be continued, to find its end in the rendered text. Templates that trim messages take
the space off."""


def render(
    template: str,
    messages: list[dict[str, Any]],
    *,
    continued: bool,
    special_tokens: dict[str, str],
    given: Mapping[str, Any],
) -> str:
    """A chat as text.

    Args:
        template: The model's.
        messages: The chat.
        continued: Stop within the last message, instead of opening one of the assistant's after it.
        special_tokens: As `bos_token`, which templates name.
        given: What a study gives the template besides.

    Raises:
        jinja2.TemplateError: where the template is none, or refuses the messages.
        ValueError: where the last message is to be continued and cannot be found again.
    """
    text = _compiled(template).render(
        messages=_marked(messages) if continued else messages,
        add_generation_prompt=not continued,
        tools=None,
        documents=None,
        **special_tokens | dict(given),
    )
    if not continued:
        return text
    before, found, after = text.rpartition(MARK.strip())
    if not found:
        raise ValueError("the template drops the last message, which is to be continued")
    # The template trimmed the message where the mark has lost its space, so its own end is trimmed as well.
    return before if after.startswith(" ") else before.rstrip()


def _marked(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    marked = copy.deepcopy(messages)
    last = marked[-1]
    if isinstance(last["content"], str):
        last["content"] += MARK
        return marked
    for part in reversed(last["content"] or ()):
        if "text" in part:
            part["text"] += MARK
            return marked
    raise ValueError("the last message has no text to continue")


@cache
def _compiled(template: str) -> jinja2.Template:
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what the assistant says, for losses; here it is its content and no more."""

        tags = {"generation"}  # noqa: RUF012 - as jinja2 wants it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)

    # A template comes with a model from anywhere, and is a program: it runs in a sandbox, as in Transformers.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Jinja2's own filter escapes what HTML does not allow."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)
