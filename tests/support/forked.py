"""The command without its start: a process that has imported it forks for each call, which then is one of its own.

What is slow to start is what a call imports. It is imported once, short of torch and what stands on it.
"""

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import NamedTuple


class Done(NamedTuple):
    """What a call came to."""

    returncode: int
    stdout: str
    stderr: str
    modules: frozenset[str]
    """What it had imported at its end."""


class ForkedCommand:
    """A server of calls, one at a time."""

    def __init__(self):
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def __call__(self, *arguments, cwd, environment):
        """Runs the command to its end, in a folder."""
        call = {"arguments": list(map(str, arguments)), "cwd": str(cwd), "environment": environment}
        self._server.stdin.write(json.dumps(call) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        return Done(*answer[:3], modules=frozenset(answer[3]))

    def close(self):
        """Ends the server."""
        self._server.communicate(timeout=10)


def serve():
    """Answers calls until there are no more."""
    import sweep.planning.study_plan
    import sweep.running.recipe  # noqa: F401 - with what nearly every call imports
    from sweep.cli import main

    for line in sys.stdin:
        call = json.loads(line)
        pipes = [os.pipe() for _ in range(3)]
        child = os.fork()
        if child == 0:
            _run(main, call, [write for _, write in pipes])
        for _, write in pipes:
            os.close(write)
        said = _drain([read for read, _ in pipes])
        _, status = os.waitpid(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), said[0], said[1], said[2].split()]), flush=True)


def _run(main, call, writes):
    """The call, in a process that ends with it."""
    code = 1
    os.setsid()
    os.dup2(writes[0], 1)
    os.dup2(writes[1], 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.modules["__main__"] = ModuleType("__main__")  # the command's own has nothing to import either
    os.chdir(call["cwd"])
    os.environ.clear()
    os.environ.update(call["environment"])
    # Python has looked its own folder up already; the program's is the one that it is started in.
    sys.argv = ["sweep", *call["arguments"]]
    try:
        main()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(writes[2], " ".join(name.partition(".")[0] for name in list(sys.modules) if "." not in name).encode())
        os._exit(code)


def _drain(reads):
    """Everything that several pipes bring until all are closed: one after another would block a writer."""
    import selectors

    found = dict.fromkeys(reads, b"")
    with selectors.DefaultSelector() as waiting:
        for read in reads:
            waiting.register(read, selectors.EVENT_READ)
        while waiting.get_map():
            for key, _ in waiting.select():
                if part := os.read(key.fd, 65536):
                    found[key.fd] += part
                else:
                    waiting.unregister(key.fd)
                    os.close(key.fd)
    return [found[read].decode(errors="replace") for read in reads]


if __name__ == "__main__":
    serve()
