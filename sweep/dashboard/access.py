"""The token that a dashboard asks for beyond loopback: shown once in an address, held by a cookie from then on."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode

from sweep.errors import UsageError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

VARIABLE = "SWEEP_DASHBOARD_TOKEN"
LEAST = 16
"""Characters of a token that a person chose: it can be guessed at as fast as the server answers."""
PARAMETER = "token"


class Access:
    """Who holds a dashboard's token."""

    def __init__(self, token: str, port: int) -> None:
        """Takes the token.

        Args:
            token: As `checked_token` allows them.
            port: The server's: browsers send cookies to every port of a host, and each dashboard needs its own.
        """
        self._token = token
        self._cookie = f"sweep_dashboard_{port}"

    @property
    def cookie(self) -> str:
        """The header's value that makes a browser hold the token until it is closed: not for scripts or other sites."""
        return f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"

    def is_held(self, environ: WSGIEnvironment) -> bool:
        """Whether a request's cookies show the token."""
        pairs = (each.strip().partition("=") for each in environ.get("HTTP_COOKIE", "").split(";"))
        return any(name == self._cookie and self._is_token(value) for name, _, value in pairs)

    def is_shown(self, environ: WSGIEnvironment) -> bool:
        """Whether a request's address shows the token."""
        return any(name == PARAMETER and self._is_token(value) for name, value in _query(environ))

    def _is_token(self, shown: str) -> bool:
        # As bytes: of text, it takes none that is not ASCII.
        return secrets.compare_digest(shown.encode(), self._token.encode())


def names_token(environ: WSGIEnvironment) -> bool:
    """Whether a request's address has a token in it, right or wrong."""
    return any(name == PARAMETER for name, _ in _query(environ))


def without_token(environ: WSGIEnvironment) -> str:
    """A request's address, on this server, without the token."""
    # Two slashes would begin the name of another server.
    path = "/" + environ.get("PATH_INFO", "").encode("latin-1").lstrip(b"/").decode("latin-1")
    rest = urlencode([(name, value) for name, value in _query(environ) if name != PARAMETER])
    return quote(path, encoding="latin-1") + (f"?{rest}" if rest else "")


def make_token() -> str:
    """A token that nobody can guess."""
    return secrets.token_urlsafe(32)


def checked_token(token: str) -> str:
    """A token that a person chose.

    Raises:
        UsageError: where it is short, or no address and no cookie can have it as it is. It is not repeated.
    """
    allowed = f"allowed: {LEAST} or more letters, digits and any of - . _ ~"
    if not re.fullmatch(r"[A-Za-z0-9._~-]*", token):
        raise UsageError(f"--token (or {VARIABLE}) has characters that an address cannot have as they are; {allowed}")
    if len(token) < LEAST:
        raise UsageError(f"--token (or {VARIABLE}) has {len(token)} characters; {allowed}")
    return token


def _query(environ: WSGIEnvironment) -> list[tuple[str, str]]:
    try:
        return parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return []
