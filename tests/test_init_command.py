"""`sweep init` as a command, what it refuses, and the ladders that it makes."""

import json

import pytest

from sweep.errors import UsageError
from sweep.init.convert import convert
from sweep.init.ladders import rank_ladder, rate_ladder
from tests.support.command import SWEEP, sweep
from tests.support.init_sources import DATA, LOAD, REWARD, TRAIN, converter


@pytest.fixture
def converted(tmp_path):
    return converter(tmp_path)


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ([LOAD, DATA, REWARD], "no GRPOTrainer is made there (found: no trainer)"),
        ([LOAD, "trainer = DPOTrainer(model = model)"], "a study of preference pairs is written by hand"),
        ([LOAD, "from trl import SFTTrainer\nt = SFTTrainer(model=model)"], "found: SFTTrainer"),
        ([LOAD, 'p = [{"type": "image"}, {"type": "text"}]', DATA, REWARD, TRAIN], "hold images"),
        ([LOAD, DATA + 'dataset = dataset.map(lambda r: {"i": r["image"]})', REWARD, TRAIN], "hold images"),
        ([LOAD, DATA, REWARD, TRAIN.replace("args =", "rollout_func = f, args =")], "rollout_func is given"),
        ([LOAD, DATA, REWARD, TRAIN.replace("args =", "tools = [f], args =")], "tools is given"),
        ([LOAD, "from openenv import x", DATA, REWARD, TRAIN], "OpenEnv"),
        ([LOAD, DATA, REWARD.replace("a in c", "model.generate(c)"), TRAIN], "use model, which only exists while"),
        ([LOAD, DATA, REWARD.replace("a in c", "check(c)"), TRAIN], "nothing there defines check"),
        (
            [LOAD, DATA, REWARD, TRAIN.replace("[right]", '["some/reward-model"]')],
            "is a model; a sweep calls functions",
        ),
    ],
)
def test_what_cannot_be_swept_is_refused_in_one_line(converted, cells, why):
    with pytest.raises(UsageError) as refusal:
        converted(*cells)
    assert why in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "text"), [("x.ipynb", "{}"), ("x.ipynb", "not json"), ("x.txt", "1"), ("none.py", None)]
)
def test_what_is_no_source_is_refused(tmp_path, name, text):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError):
        convert(tmp_path / name)


@pytest.mark.parametrize("r", [1, 2, 4, 8, 16, 24, 32, 64, 128, 512])
def test_a_ladder_holds_their_rank_and_nothing_above_the_wall(r):
    for wall in (r, 2 * r, 64):
        ladder = rank_ladder(r, max(wall, r))
        assert r in ladder
        assert ladder == sorted(set(ladder))
        assert 1 <= ladder[0] <= ladder[-1] <= max(wall, r)
        assert len(ladder) <= 4
    assert rate_ladder(5e-6) == [2.5e-6, 5e-6, 1e-5, 2e-5]


def test_the_command_writes_a_new_folder_and_never_into_an_old_one(tmp_path):
    cells = [{"cell_type": "code", "source": [cell]} for cell in (LOAD, DATA, REWARD, TRAIN)]
    (tmp_path / "my notebook.ipynb").write_text(json.dumps({"cells": cells}))
    done = sweep("init", "my notebook.ipynb", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "my notebook").iterdir()) == ["REPORT.md", "study.toml", "task.py"]
    assert "sweep plan 'my notebook/study.toml'" in done.stdout
    again = sweep("init", "my notebook.ipynb", cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr == "sweep: --output my notebook: already exists; name a new folder\n"
    assert sweep("init", "my notebook.ipynb", "-o", "other", cwd=tmp_path).returncode == 0


def test_a_model_and_a_data_set_are_enough(tmp_path):
    done = sweep(
        "init", "--model", "someone/small", "--data", "rows.jsonl", "--reward", "mine:right", "--max-lora-rank", 16,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "small" / "study.toml").is_file()
    alone = sweep("init", cwd=tmp_path)
    assert alone.returncode == 2
    assert "--model, --data and --reward" in alone.stderr
    both = sweep("init", "x.ipynb", "--model", "y", cwd=tmp_path)
    assert both.returncode == 2


def test_on_a_terminal_five_questions_are_asked(tmp_path):
    import os
    import pty

    answers = ["someone/small", "rows.jsonl", "mine:right", "16", "40"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(SWEEP, [SWEEP, "init"])
    said = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # it has closed its end
            break
        said += part
        if answers and said.rstrip().endswith(b":") and part.strip():
            os.write(terminal, f"{answers.pop(0)}\n".encode())
    assert os.waitpid(pid, 0)[1] == 0, said
    assert "wrote small: study.toml" in said.decode()
    assert "max_lora_rank = 16" in (tmp_path / "small" / "study.toml").read_text()
