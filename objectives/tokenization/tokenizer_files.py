"""A model's tokenizer and chat template as its files hold them: fast to read, and without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from objectives.tokenization.chat_template import render
from objectives.tokenization.tokens import as_told, goes_on


class TokenizerFiles:
    """What counts the tokens of prompts as the model's tokenizer does."""

    def __init__(self, folder: Path, *, template: str | None = None, given: Mapping[str, Any] | None = None) -> None:
        """Reads a model's folder.

        Args:
            folder: The model's.
            template: A chat template instead of the model's.
            given: What the template is given besides the messages.

        Raises:
            ImportError: where the package tokenizers is not installed.
            ValueError: where the folder holds no tokenizer.json, or one that cannot be understood.
        """
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the package raises nothing more particular
            raise ValueError(f"{folder / 'tokenizer.json'}: {error}") from error
        # A tokenizer.json may hold both, and prompts would count as shorter or longer than they are.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        config = _read(folder / "tokenizer_config.json")
        self._special_tokens = _special_tokens(_read(folder / "special_tokens_map.json") | config)
        self.chat_template = _chat_template(folder, config) if template is None else template
        """Its text; None where the model has none."""
        self._given = given or {}

    def count(self, prompt: Any) -> int:
        """Tokens of a prompt: text as it stands, or chat messages through the template.

        Raises:
            ValueError: where the model has no chat template.
            jinja2.TemplateError: where the template refuses the messages.
        """
        if isinstance(prompt, str):
            return len(self._tokenizer.encode(prompt).ids)
        if self.chat_template is None:
            raise ValueError("the model's tokenizer has no chat template")
        text = render(
            self.chat_template,
            as_told(prompt),
            continued=goes_on(prompt),
            special_tokens=self._special_tokens,
            given=self._given,
        )
        # A template writes special tokens itself.
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    """Those that templates name, as `bos_token`."""
    found = {}
    for name, token in config.items():
        text = token.get("content") if isinstance(token, dict) else token
        if name.endswith("_token") and isinstance(text, str):
            found[name] = text
    return found


def _chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    with suppress(OSError):
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    stated = config.get("chat_template") or _read(folder / "chat_template.json").get("chat_template")
    if isinstance(stated, list):  # several, by name
        stated = {entry.get("name"): entry.get("template") for entry in stated}.get("default")
    return stated if isinstance(stated, str) else None
