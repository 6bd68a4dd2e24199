"""Storage URLs: which file or server one names, what may be shown of it, and what SQLAlchemy is told."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from sweep.errors import StorageError

SQLITE_PREFIX = "sqlite:///"
POSTGRES = re.compile(r"^postgres(ql)?(\+psycopg)?://")
PATIENCE_S = 300.0
"""How long a server that does not answer is asked again, unless the URL says otherwise: `?patience_s=900`."""


def sqlite_path(url: str) -> Path | None:
    """The file behind a SQLite URL; None for any other database."""
    return Path(url.removeprefix(SQLITE_PREFIX).partition("?")[0]) if url.startswith(SQLITE_PREFIX) else None


def place_name(url: str) -> str:
    """What a server's database is called among files: its host, port and name, as far as the URL has them."""
    address = url.partition("://")[2].partition("?")[0].rpartition("@")[2]
    return re.sub(r"[^\w.]+", "-", address).strip("-") or "server"


def is_postgres(url: str) -> bool:
    """Whether a URL names a database that we reach through psycopg."""
    return POSTGRES.match(url) is not None


def driver_url(url: str) -> str:
    """The URL as SQLAlchemy takes it: with the driver that the extra `postgres` installs, and without what is ours."""
    if not is_postgres(url):
        return url
    address, _, query = POSTGRES.sub("postgresql+psycopg://", url).partition("?")
    own = urlencode([(key, value) for key, value in parse_qsl(query) if key != "patience_s"])
    return f"{address}?{own}" if own else address


def patience_s(url: str) -> float:
    """How long a server that does not answer is asked again.

    Raises:
        StorageError: where the URL says something else than a number of seconds.
    """
    given = dict(parse_qsl(url.partition("?")[2])).get("patience_s", "") if is_postgres(url) else ""
    try:
        seconds = float(given or PATIENCE_S)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise StorageError(
            f"patience_s={given} in the storage's URL; allowed: seconds, 0 or more, as in patience_s=900"
        )
    return seconds


def hide_password(url: str) -> str:
    """A database URL that may be shown and logged."""
    if url.startswith(SQLITE_PREFIX):
        return url
    scheme, separator, rest = url.partition("://")
    address, question, query = rest.partition("?")
    # The last one: people put an @ into passwords without escaping it.
    credentials, at, host = address.rpartition("@")
    if at and ":" in credentials:
        address = f"{credentials.partition(':')[0]}:***@{host}"
    query = re.sub(r"(?i)([^&=]*(?:pass|pwd|secret|token|key)[^&=]*=)[^&]*", r"\1***", query)
    return f"{scheme}{separator}{address}{question}{query}"


def first_line(error: BaseException, url: str) -> str:
    """What a database says, in one line and without the password of the URL."""
    said = str(error).replace(url, hide_password(url)).replace(driver_url(url), hide_password(driver_url(url)))
    lines = said.splitlines()
    return lines[0] if lines else type(error).__name__
