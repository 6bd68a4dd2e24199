"""The suite of faults itself takes long (`make faults`): here, that it ends in time and says what it left."""

import subprocess
import sys
from pathlib import Path

from tests.faults.__main__ import faults


def test_faults_that_no_time_is_left_for_are_named_and_the_exit_code_says_so():
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--minutes", "0"], cwd=Path(__file__).parents[1], capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert done.stdout.splitlines()[2:] == [f"| {name} | | not run: out of time |" for name in faults(20)]
