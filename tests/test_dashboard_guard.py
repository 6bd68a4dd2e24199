"""What reaches the dashboard, and what its answers may do in a browser."""

import json
import socket
import struct
import threading
import time
from wsgiref.simple_server import demo_app
from wsgiref.util import setup_testing_defaults

import pytest

from sweep.dashboard.guard import Guard
from sweep.dashboard.server import DashboardServer
from sweep.errors import UsageError


def ask(guard, *, host="127.0.0.1:8080", method="GET", path="/api/meta"):
    environ = {"HTTP_HOST": host, "REQUEST_METHOD": method, "PATH_INFO": path}
    setup_testing_defaults(environ)
    answer = {}

    def start(status, headers, exc_info=None):
        answer.update(status=int(status[:3]), headers=headers)

    answer["body"] = b"".join(guard(environ, start))
    return answer


def leaky_app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/html"), ("access-control-allow-origin", "*")])
    return [b"<script>alert(1)</script>"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "BREW"])
def test_whatever_could_change_something_is_refused_in_words(method):
    def never(environ, start_response):
        raise AssertionError

    answer = ask(Guard(never, "127.0.0.1"), method=method)
    assert answer["status"] == 405
    assert ("Allow", "GET, HEAD") in answer["headers"]
    assert "read-only" in json.loads(answer["body"])["reason"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:1", "LOCALHOST:8080", "localhost", "[::1]:8080", "Box.lan", "box.lan:80"]
)
def test_reads_by_a_name_of_its_own_are_answered(host, method):
    assert ask(Guard(demo_app, "box.LAN"), host=host, method=method)["status"] == 200


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil",
        "10.0.0.1", "evil:8080:8080", "localhost:8080\n", "[::2]", "::1", "127.0.0.1:port", "box.lan",
    ],
)  # fmt: skip
def test_a_name_that_was_pointed_here_is_refused(host):
    answer = ask(Guard(leaky_app, "127.0.0.1"), host=host)
    assert answer["status"] == 403
    assert "allowed: 127.0.0.1, [::1], localhost" in json.loads(answer["body"])["reason"]


def test_where_it_listens_everywhere_any_address_will_do_and_still_no_name():
    guard = Guard(demo_app, "0.0.0.0", any_address=True)
    asked = ("10.0.0.1:8080", "[fe80::1]:8080", "evil.example")
    assert [ask(guard, host=host)["status"] for host in asked] == [200, 200, 403]


def test_what_is_no_page_may_run_nothing_and_is_read_by_no_other_site():
    headers = dict(ask(Guard(leaky_app, "127.0.0.1"), path="/artifacts/1/2/abc")["headers"])
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("path", ["/", "/dashboard/studies/1", "/static/bundle.js"])
def test_the_dashboards_own_page_runs_but_in_nobodys_frame(path):
    policy = dict(ask(Guard(leaky_app, "127.0.0.1"), path=path)["headers"])["Content-Security-Policy"]
    assert policy.startswith("frame-ancestors 'none'")
    assert "sandbox" not in policy


def test_a_port_that_is_taken_and_a_host_that_is_none_are_named():
    with DashboardServer("127.0.0.1", 0) as server:
        assert server.address.is_loopback
        with pytest.raises(UsageError, match=f"--port {server.server_port}: Address already in use; --port 0"):
            DashboardServer("127.0.0.1", server.server_port)
    for host in ("no.such.host.invalid", "a" * 100, "a..b"):
        with pytest.raises(UsageError, match=f"cannot listen on --host {host} --port 8080"):
            DashboardServer(host, 8080)


def test_a_reader_who_leaves_makes_no_noise(capfd):
    with DashboardServer("127.0.0.1", 0) as server:
        server.set_app(demo_app)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        for said in (b"", b"GET / HTTP/1.0\r\n", b"GET / HTTP/1.0\r\n\r\n"):
            reader = socket.create_connection(server.server_address)
            reader.sendall(said)
            # Closes with a reset.
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            reader.close()
        time.sleep(0.2)
        server.shutdown()
    assert capfd.readouterr().err == ""
