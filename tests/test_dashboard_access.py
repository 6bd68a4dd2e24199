"""Who may read a dashboard beyond loopback: whoever holds its token, over real HTTP and in a real browser."""

import http.client
import json
import re
import socket
import threading
from contextlib import contextmanager
from wsgiref.simple_server import demo_app

import pytest

from sweep.dashboard.access import Access, checked_token, make_token
from sweep.dashboard.guard import Guard
from sweep.dashboard.server import DashboardServer
from sweep.errors import UsageError
from tests.support.command import Running, sweep
from tests.test_dashboard import CHROMIUM, rendered
from tests.test_plots import stored_study

TOKEN = "correct-horse.battery_staple~1"


@contextmanager
def served(app):
    """An application on a port of its own."""
    with DashboardServer("127.0.0.1", 0) as server:
        server.set_app(app(server.server_port) if app is guarded else app)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def guarded(port):
    return Guard(demo_app, "127.0.0.1", access=Access(TOKEN, port))


@pytest.fixture
def port():
    with served(guarded) as port:
        yield port


def ask(port, path="/", method="GET", **headers):
    """Status, headers and body; nothing is followed."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read().decode()


@pytest.mark.parametrize(
    "path", ["/", "/dashboard/studies/1", "/api/studies", "/static/bundle.js", "/artifacts/1/2/abc"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_without_the_token_every_request_gets_one_line(port, path, method):
    status, headers, body = ask(port, path, method)
    assert status == 401
    assert headers["WWW-Authenticate"] == "Token"
    assert headers["Set-Cookie"] is None
    if method != "HEAD":
        assert "asks for a token" in json.loads(body)["reason"]
        assert body.count("\n") == 1


@pytest.mark.parametrize(
    "shown", ["", "x", TOKEN[:-1], TOKEN + "1", TOKEN.upper(), "%00", "%C3%A9", "%ff", "a&token=b"]
)
def test_what_is_not_the_token_opens_nothing(port, shown):
    assert ask(port, f"/?token={shown}")[0] == 401
    assert ask(port, Cookie=f"sweep_dashboard_{port}={shown}")[0] == 401


def test_the_token_in_the_wrong_place_opens_nothing(port):
    for headers in ({"Cookie": f"sweep_dashboard_{port}_={TOKEN}"}, {"Cookie": TOKEN}, {"Authorization": TOKEN}):
        assert ask(port, f"/{TOKEN}", **headers)[0] == 401
    assert ask(port, Cookie=f"sweep_dashboard_{port}=\xe9\xff")[0] == 401


def test_the_address_with_the_token_leads_to_the_one_without_it_which_a_cookie_opens(port):
    status, headers, body = ask(port, f"/dashboard/studies/1?a=1&token={TOKEN}&b=%20x%26")
    assert (status, headers["Refresh"]) == (200, "0; url=/dashboard/studies/1?a=1&b=+x%26")
    assert headers["Set-Cookie"] == f"sweep_dashboard_{port}={TOKEN}; Path=/; HttpOnly; SameSite=Strict"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert TOKEN not in body + headers["Refresh"]
    held = headers["Set-Cookie"].partition(";")[0]
    status, headers, body = ask(port, "/dashboard/studies/1?a=1", Cookie=f"other=1; {held}; more")
    assert status == 200
    assert body.startswith("Hello world!")
    # The dashboard itself is not told, and so cannot write it down.
    assert TOKEN not in body
    assert headers["Referrer-Policy"] == "no-referrer"


def test_a_wrong_token_in_the_address_is_refused_whoever_asks(port):
    assert ask(port, "/?token=old", Cookie=f"sweep_dashboard_{port}={TOKEN}")[0] == 401


def test_whoever_holds_the_token_can_change_nothing_either(port):
    assert ask(port, method="POST", Cookie=f"sweep_dashboard_{port}={TOKEN}")[0] == 405
    assert ask(port, f"/?token={TOKEN}", method="POST")[0] == 405


def test_a_name_that_was_pointed_here_gets_no_cookie(port):
    status, headers, _ = ask(port, f"/?token={TOKEN}", Host="evil.example")
    assert (status, headers["Set-Cookie"]) == (403, None)


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("//evil.example/x", "/evil.example/x"),
        ("/%2F%2Fevil.example", "/evil.example"),
        ("/\\evil.example", "/%5Cevil.example"),
        ("/a%0d%0aSet-Cookie:%20x=1", "/a%0D%0ASet-Cookie%3A%20x%3D1"),
        ("/%C3%A9", "/%C3%A9"),
        ("/", "/"),
    ],
)
def test_the_address_that_is_left_is_of_this_server(port, path, clean):
    status, headers, _ = ask(port, f"{path}?token={TOKEN}")
    assert (status, headers["Refresh"]) == (200, f"0; url={clean}")


def test_an_address_with_very_many_parameters_is_refused_or_answered_and_never_fails(port):
    many = "&".join(f"a{i}=1" for i in range(500))
    assert ask(port, f"/?{many}&token={TOKEN}")[0] == 401
    assert ask(port, f"/?{many}", Cookie=f"sweep_dashboard_{port}={TOKEN}")[0] == 200


def test_a_token_that_is_made_can_be_chosen_too_and_is_never_the_same():
    made = {make_token() for _ in range(100)}
    assert len(made) == 100
    assert all(checked_token(token) == token and len(token) >= 43 for token in made)


@pytest.mark.parametrize("token", ["", "short", "a" * 15])
def test_a_token_that_can_be_guessed_is_refused(token):
    with pytest.raises(UsageError, match=f"has {len(token)} characters; allowed: 16 or more letters, digits"):
        checked_token(token)


@pytest.mark.parametrize("token", ["a b" * 10, "a;" * 10, "é" * 20, "a" * 20 + "\n", "a&b=" * 8, "%41" * 8])
def test_a_token_that_no_address_can_have_is_refused_and_not_repeated(token):
    with pytest.raises(UsageError, match="characters that an address cannot have as they are") as caught:
        checked_token(token)
    assert token not in str(caught.value)


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium")
def test_a_browser_gets_in_by_the_address_and_by_a_link_to_it_on_another_site(port):
    def elsewhere(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/html")])
        return [f"<script>location.href = 'http://127.0.0.1:{port}/x?token={TOKEN}'</script>".encode()]

    with served(elsewhere) as other:
        # Another site is another name: ports do not tell sites apart.
        for address in (f"http://127.0.0.1:{port}/x?token={TOKEN}", f"http://localhost:{other}/"):
            page = rendered(address)
            assert "Hello world!" in page
            assert "HTTP_REFERER" not in page
            assert TOKEN not in page
    assert "asks for a token" in rendered(f"http://127.0.0.1:{port}/")


@contextmanager
def dashboard(folder, *arguments):
    """A running dashboard's output and port."""
    command = Running("dashboard", "tiny", "--port", "0", *arguments, cwd=folder)
    try:
        command.wait_for("Ctrl-C stops it")
        said = command.output.read_text()
        yield command, said, int(re.search(r"plots: +http://127\.0\.0\.1:(\d+)/", said)[1])
    finally:
        command.end()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("access")
    stored_study(folder, points=[])
    return folder


def test_listening_for_others_makes_a_token_and_prints_it_once(folder):
    with dashboard(folder, "--host", "0.0.0.0") as (command, said, port):
        assert "warning: whoever reaches 0.0.0.0 and has the token can read every study in this storage" in said
        (token,) = re.findall(r"http://127\.0\.0\.1:\d+/\?token=(\S+)", said)
        assert ask(port, "/api/studies")[0] == 401
        cookie = ask(port, f"/?token={token}")[1]["Set-Cookie"].partition(";")[0]
        status, _, body = ask(port, "/api/studies", Cookie=cookie)
        assert (status, json.loads(body)["study_summaries"][0]["study_name"]) == (200, "tiny")
        assert ask(port, "/dashboard", Cookie=cookie)[0] == 200
        # From another address of this machine, and after a request that no server understands.
        with socket.create_connection(("127.0.0.1", port)) as reader:
            reader.sendall(f"NONSENSE /?token={token} HTTP/9\r\n\r\n".encode())
            reader.recv(1000)
        assert command.interrupt() == 0
        assert command.output.read_text().count(token) == 1


def test_a_token_of_ones_own_is_asked_for_on_loopback_and_never_printed(folder, monkeypatch):
    monkeypatch.setenv("SWEEP_DASHBOARD_TOKEN", TOKEN)
    with dashboard(folder) as (command, said, port):
        assert "/?token= and your token" in said
        assert "warning" not in said
        assert ask(port, "/api/studies")[0] == 401
        assert ask(port, "/api/studies", Cookie=f"sweep_dashboard_{port}={TOKEN}")[0] == 200
        assert command.interrupt() == 0
        assert TOKEN not in command.output.read_text()


def test_on_loopback_no_token_is_asked_for(folder):
    with dashboard(folder) as (_, said, port):
        assert "token" not in said
        assert ask(port, "/api/studies")[0] == 200


@pytest.mark.parametrize("token", ["hunter2", "hunter2 hunter2 hunter2"])
def test_a_token_that_will_not_do_is_one_line_that_does_not_repeat_it(folder, token):
    done = sweep("dashboard", "tiny", "--token", token, cwd=folder)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "allowed: 16 or more letters, digits and any of - . _ ~" in done.stderr
    assert "hunter2" not in done.stderr
