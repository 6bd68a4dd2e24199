"""Serves the dashboard from the standard library's server, a thread for each request."""

from __future__ import annotations

import ipaddress
import sys
from socket import AF_INET6
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from sweep.errors import UsageError


class DashboardServer(ThreadingMixIn, WSGIServer):
    """Holds its port from when it is made."""

    # A reader who keeps a connection open must not keep the server from ending.
    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        """Takes the port.

        Raises:
            UsageError: where it cannot be had.
        """
        if ":" in host:
            self.address_family = AF_INET6
        try:
            super().__init__((host, port), _QuietHandler)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no such name"
            raise UsageError(
                f"cannot listen on --host {host} --port {port}: {reason}; --port 0 takes any free port"
            ) from error

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """What the host turned out to be."""
        return ipaddress.ip_address(str(self.server_address[0]))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader who leaves is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nor is a request."""
