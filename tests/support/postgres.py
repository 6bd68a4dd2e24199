"""A real PostgreSQL server with a data folder of its own, for tests that need one."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

USER, PASSWORD, UNPRIVILEGED = "sweeper", "s3cret-word", "nobody"
SETTINGS = {"fsync": "off", "max_connections": "40", "log_min_messages": "fatal", "unix_socket_directories": ""}


def find_program(name):
    """A program of the server's; Debian keeps them out of PATH."""
    packaged = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (packaged and str(packaged[-1]))
    if not found:
        pytest.skip(f"no PostgreSQL server here: {name} not found (apt install postgresql)")
    return found


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Server:
    """It listens on a loopback port that it keeps when it is started again."""

    def __init__(self, folder):
        self.port, self.process = free_port(), None
        self._data = Path(folder) / "data"
        # initdb refuses root.
        self._as = {"user": UNPRIVILEGED, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        self._data.mkdir()
        password = Path(folder) / "password"
        password.write_text(PASSWORD)
        if self._as:
            for path in (folder, self._data, password):
                shutil.chown(path, UNPRIVILEGED)
        self._run(
            "initdb", "-D", self._data, "-U", USER, "-A", "scram-sha-256", "--pwfile", password, "-E", "UTF8", "-N",
            "--locale=C",
        )  # fmt: skip

    def url(self, database="postgres", *, password=PASSWORD, **options):
        """Where a database of it is."""
        query = "&".join(f"{key}={value}" for key, value in options.items())
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}" + (f"?{query}" if query else "")

    def database(self, name):
        """Makes an empty database; its URL."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def start(self):
        """Starts it and waits until it answers."""
        import psycopg

        settings = [part for key, value in SETTINGS.items() for part in ("-c", f"{key}={value}")]
        self.process = subprocess.Popen(
            [find_program("postgres"), "-D", self._data, "-p", str(self.port), "-h", "127.0.0.1", *settings],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._data,
            **self._as,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "the server does not start"
                time.sleep(0.05)

    def stop(self):
        """Stops it at once; clients lose their connections."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
            self.process = None

    def _run(self, name, *arguments):
        command = [find_program(name), *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True, cwd=self._data, **self._as)
