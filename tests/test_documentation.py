"""What the documentation says is done as it is written, and is what the code says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import studies
from sweep.study.reference import reference_markdown

STUDIES = Path(studies.__path__[0])
ROOT = STUDIES.parent


def test_the_reference_of_study_keys_is_fresh():
    assert (STUDIES / "keys.md").read_text() == reference_markdown(), "run: python -m sweep.study.reference"


def test_every_key_has_a_description():
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", reference_markdown(), re.MULTILINE)
    assert len(rows) > 60
    assert [key for key, description in rows if not description.strip()] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "studies/own_reward.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", text) + re.findall(r'src="(?!https?://)([^"]+)"', text)
    assert [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()] == []


@pytest.mark.long
def test_bring_your_own_reward_runs_as_written(tmp_path):
    text = (STUDIES / "own_reward.md").read_text()
    for name, content in re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)```", text, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(content)
    commands = "".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).splitlines()
    assert [command.split()[:2] for command in commands if command.startswith("sweep")] == [
        ["sweep", "try-reward"], ["sweep", "plan"], ["sweep", "run"], ["sweep", "confirm"], ["sweep", "report"],
    ]  # fmt: skip
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    outputs = {}
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        outputs[command.split()[1]] = done.stdout
    assert "right_letters" in outputs["try-reward"]
    assert "GRPO can learn from this" in outputs["try-reward"]
    assert "[6/6] trial 5" in outputs["run"]
    assert "2 ranks x 10 seeds = 20 trials" in outputs["confirm"]
    assert "95 % confidence, 10 seeds" in outputs["confirm"]
    assert (tmp_path / "report.html").stat().st_size > 10**6
