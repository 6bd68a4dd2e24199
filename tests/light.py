"""What works without torch and vLLM, on any Python that the package allows. `make test-light` runs it.

Plans, shows, reports, publishes and reads a study that is stored, through the installed package.
"""

import importlib.util
import json
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

SWEEP = str(Path(sys.executable).parent / "sweep")
STORED = Path(__file__).parent / "data" / "tolerance.db"
"""A study `tiny` that was searched and confirmed."""
IN_THE_WHEEL = {
    "licenses/LICENSE", "sweep/py.typed", "objectives/py.typed", "sweep/html_report/page.html",
    "sweep/export/train.py.jinja", "sweep/export/card.md.jinja", "studies/tiny.toml", "studies/llama32_1b_gsm8k.toml",
    "studies/notebooks/rank_report.py", "objectives/models/tiny/model.safetensors",
    "objectives/models/tiny/tokenizer.json", "objectives/models/small/tokenizer.json", "studies/small.toml",
    "studies/smollm2_135m.toml", "objectives/models/configs/shipped--smollm2_135m.json",
}  # fmt: skip
"""Ends of the names of files that no import would miss."""


def sweep(*arguments, cwd):
    """Runs the installed command; what it prints.

    Raises:
        AssertionError: where it fails.
    """
    done = subprocess.run([SWEEP, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def dashboard_says(cwd):
    """The first line of a dashboard, which is stopped then."""
    process = subprocess.Popen(
        [SWEEP, "dashboard", "tiny", "--port", "0"], cwd=cwd, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    line = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    return line


def trials_read(cwd):
    """How many trials a notebook would read."""
    from sweep.results import load_results

    return len(load_results(f"sqlite:///{cwd}/rank-sweep.db", "tiny").trials)


def missing_files():
    """What the wheel should hold and does not."""
    held = [str(file) for file in distribution("rank-sweep").files]
    return sorted(end for end in IN_THE_WHEEL if not any(name.endswith(end) for name in held))


def plan_in_python():
    """What `sweep.Study` says of a plan."""
    from sweep import Study

    return repr(Study("tiny").plan())


def main():
    """Runs everything in an empty folder."""
    assert importlib.util.find_spec("torch") is None, "this environment has torch"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(STORED, folder / "rank-sweep.db")
        checks = {
            "wheel": lambda: not missing_files(),
            "version": lambda: distribution("rank-sweep").version in sweep("--version", cwd=folder),
            "studies": lambda: "tiny" in sweep("studies", cwd=folder),
            "lora": lambda: "64" in sweep("lora", "shipped/tiny", "--max-lora-rank", "64", cwd=folder),
            "plan": lambda: json.loads(sweep("plan", "tiny", "--json", cwd=folder))["study"] == "tiny",
            "python": lambda: "study         tiny, on shipped/tiny" in plan_in_python(),
            "show": lambda: json.loads(sweep("show", "tiny", "--json", cwd=folder))["verdict"] is not None,
            "report": lambda: "wrote report.html" in sweep("report", "tiny", cwd=folder),
            "page": lambda: (folder / "report.html").stat().st_size > 10**6,
            "export": lambda: "wrote out" in sweep("export", "tiny", "--trial", "0", "-o", "out", cwd=folder),
            "results": lambda: trials_read(folder) > 0,
            "dashboard": lambda: dashboard_says(folder).startswith("verdict: http://127.0.0.1:"),
        }
        for what, check in checks.items():
            assert check(), what
    print(f"Python {platform.python_version()} without torch: {len(checks)} passed, 0 failed")


if __name__ == "__main__":
    main()
