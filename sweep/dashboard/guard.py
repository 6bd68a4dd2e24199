"""What stands before the dashboard: it is read by whom it was started for, and changed by nobody."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sweep.dashboard.access import Access, names_token, without_token

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

READS = ("GET", "HEAD")
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
PAGE_POLICY = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""Beside the dashboard's own policy: a browser keeps to both."""
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""For what is no page: an artifact that calls itself HTML may neither run scripts nor be of the dashboard's origin."""

ASKS = "this dashboard asks for a token: open the address with ?token= that it was started with, once in each browser"


class Guard:
    """A WSGI application before another one, which it lets answer reads that were addressed to it by its own name."""

    def __init__(
        self, app: WSGIApplication, host: str, *, any_address: bool = False, access: Access | None = None
    ) -> None:
        """Stands before an application.

        Args:
            app: What is guarded.
            host: The name or address that readers use, besides this machine's names for itself.
            any_address: Any address will do, for a server that listens on all that this machine has.
            access: The token that every reader has to hold; None where none is asked for.
        """
        self._app = app
        self._access = access
        self._names = {*LOCAL_NAMES, url_host(host).lower()}
        self._any_address = any_address

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request."""
        if not self._is_own_name(environ.get("HTTP_HOST", "")):
            names = ", ".join(sorted(self._names))
            return _refuse(start_response, "403 Forbidden", f"no such host here; allowed: {names}")
        method = environ["REQUEST_METHOD"]
        if (access := self._access) is not None:
            shown = names_token(environ)
            if not (access.is_shown(environ) if shown else access.is_held(environ)):
                return _refuse(start_response, "401 Unauthorized", ASKS, ("WWW-Authenticate", "Token"))
            if shown and method in READS:
                return _let_in(start_response, access.cookie, without_token(environ))
            # The dashboard has no use for cookies, and cannot write down what it does not get.
            environ.pop("HTTP_COOKIE", None)
        if method not in READS:
            reason = f"this dashboard is read-only: {method} is not answered; allowed: {', '.join(READS)}"
            return _refuse(start_response, "405 Method Not Allowed", reason, ("Allow", ", ".join(READS)))
        policy = PAGE_POLICY if re.match(r"/(dashboard|static/|$)", environ.get("PATH_INFO", "")) else DATA_POLICY

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            # Artifacts come with leave for every site to read them.
            kept = [(name, value) for name, value in headers if not name.lower().startswith("access-control-")]
            return start_response(status, [*kept, *HEADERS, ("Content-Security-Policy", policy)], exc_info)

        return self._app(environ, start)

    def _is_own_name(self, header: str) -> bool:
        """Whether a Host header names this server, and not a page elsewhere whose name was pointed here (rebinding)."""
        found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:[0-9]+)?", header)
        if found is None:
            return False
        # Nobody can point an address elsewhere.
        return found[1].lower() in self._names or (self._any_address and _is_address(found[1]))


def url_host(host: str) -> str:
    """A host as URLs and Host headers have it."""
    return f"[{host}]" if ":" in host else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _let_in(start_response: StartResponse, cookie: str, address: str) -> Iterable[bytes]:
    # Not a 303: where the address was a link on another site, browsers follow it without the SameSite cookie that they
    # have just been given, and are refused. Chromium 156 does. What a page of ours refreshes to is of its own site, and
    # takes that page's place in the history.
    headers = [
        ("Refresh", f"0; url={address}"),
        ("Set-Cookie", cookie),
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ]
    return _answer(start_response, "200 OK", "text/plain; charset=utf-8", f"Welcome; go on to {address}", *headers)


def _refuse(start_response: StartResponse, status: str, reason: str, *headers: tuple[str, str]) -> Iterable[bytes]:
    # The dashboard shows its reader the `reason` of whatever failed.
    return _answer(start_response, status, "application/json", json.dumps({"reason": reason}), *headers)


def _answer(
    start_response: StartResponse, status: str, kind: str, text: str, *headers: tuple[str, str]
) -> Iterable[bytes]:
    body = text.encode() + b"\n"
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *HEADERS, *headers])
    return [body]
