"""`make audit`: pip-audit itself, told by a service of ours."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.test_house import ROOT

VULNERABILITY = {
    "id": "TEST-1",
    "modified": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "bandit", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}],
            "versions": ["1.9.4"],
        }
    ],
}


class Osv(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = {"vulns": [VULNERABILITY]} if asked["package"]["name"] == "bandit" else {}
        body = json.dumps(known).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def address():
    with HTTPServer(("127.0.0.1", 0), Osv) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


def audit(lock, text, address):
    lock.write_text(text)
    command = [sys.executable, ROOT / "requirements" / "audit.py", lock, "-s", "osv", "--osv-url", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout


def test_a_known_vulnerability_is_named_with_the_version_that_mends_it(tmp_path, address):
    code, said = audit(tmp_path / "lock", "bandit==1.9.4\nrich==15.0.0\n", address)
    assert code == 1
    assert said.splitlines() == [
        "audit: bandit 1.9.4: TEST-1; mended in 2.0",
        "audit: 2 packages looked up, 1 vulnerabilities known",
    ]


def test_a_lock_without_any_is_told_as_such(tmp_path, address):
    assert audit(tmp_path / "lock", "rich==15.0.0\n", address) == (
        0,
        "audit: 1 packages looked up, 0 vulnerabilities known\n",
    )


def test_a_service_out_of_reach_is_no_clean_bill(tmp_path):
    code, said = audit(tmp_path / "lock", "rich==15.0.0\n", "http://127.0.0.1:9/")
    assert code == 0
    assert said.startswith("audit: not done: pip-audit could not ask its service: ")
    assert len(said.splitlines()) == 1


def test_a_lock_that_is_not_there_is_a_mistake(tmp_path):
    command = [sys.executable, ROOT / "requirements" / "audit.py", tmp_path / "none"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).returncode == 2
