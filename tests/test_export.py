"""Kept adapters, trackers and exports, from a study that the installed command ran."""

import json
import shutil
import subprocess
import sys

import optuna
import pytest

from sweep.confirmation.outcome import read_confirmation
from sweep.export.folder import exported_verdict
from sweep.storage import attributes
from sweep.storage.attributes import SEED
from tests.support.command import SMALL, sweep
from tests.test_confirm import ConfirmSchedule, config, confirmation, freeze_of, noisy, run, searched  # noqa: F401 - fixtures


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which two trials were run, adapters kept, steps reported to TensorBoard."""
    place = tmp_path_factory.mktemp("kept")
    done = sweep(
        "run", "tiny", "--trials", 2, *SMALL, "--set", "space.r=[4]", "--set", "search.points_per_rank=2",
        "--set", "study.keep_adapters=true", "--set", "learner.report_to=['tensorboard']", "--set", "learner.name=trl",
        cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture(scope="module")
def exported(folder):
    """The export of trial 1."""
    done = sweep("export", "tiny", "--trial", 1, "-o", "out", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "wrote out: trial 1, r=4\n"
    return folder / "out"


def stored_trial(folder, number):
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{folder}/rank-sweep.db")
    return study.trials[number]


def test_every_trial_keeps_its_adapter_beside_its_log(folder):
    for number in (0, 1):
        kept = stored_trial(folder, number).user_attrs[attributes.ADAPTER]
        assert kept == str(folder / "rank-sweep.logs" / "tiny" / f"trial-{number:04d}-adapter")
        assert json.loads((folder / kept / "adapter_config.json").read_text())["r"] == 4


def test_every_trial_is_a_run_of_its_own_in_the_tracker(folder):
    runs = sorted((folder / "rank-sweep.logs" / "tiny" / "tensorboard").rglob("events.*"))
    names = [str(run.relative_to(folder / "rank-sweep.logs" / "tiny" / "tensorboard").parent) for run in runs]
    assert names == [f"tiny/{n:04d}/{stored_trial(folder, n).user_attrs[SEED]}" for n in (0, 1)]
    assert all(b"train/reward" in run.read_bytes() for run in runs)


def test_vllm_loads_the_folder_and_scores_it_as_the_trial_was_scored(folder, exported, tiny, vllm_engine):
    from transformers import AutoTokenizer

    from objectives.engines.adapter_files import AdapterVersion
    from objectives.engines.protocol import Sampling
    from objectives.rewards.calling import RewardSet
    from objectives.settings.learner import TrlSettings
    from objectives.tasks.string_ops import StringOps
    from objectives.trial.evaluation import Due, Evaluator

    task = StringOps(symbols=12, seed=0)
    evaluator = Evaluator(
        engine=vllm_engine,
        tokenizer=AutoTokenizer.from_pretrained(tiny.path),
        rewards=RewardSet(functions=tuple(task.reward_functions), weights=(1.0,)),
        rows=task.held_out_rows(64),
        sampling=Sampling.of(TrlSettings(), max_tokens=task.max_completion_tokens),
    )
    trial = stored_trial(folder, 1)
    version = AdapterVersion(id=900_001, name="exported", path=exported, r=4)
    score = evaluator.score(Due(adapter=version, step=6, seed=trial.user_attrs[SEED]))
    stored = trial.user_attrs[attributes.SCORES][-1]
    assert (score.sampled, score.greedy) == pytest.approx((stored["sampled"], stored["greedy"]), abs=1 / 64)
    base = evaluator.base_score(trial.user_attrs[SEED])
    assert score.greedy != base.greedy


def test_peft_loads_the_folder(exported):
    from peft import AutoPeftModelForCausalLM

    model = AutoPeftModelForCausalLM.from_pretrained(exported)
    assert model.peft_config["default"].r == 4
    assert max(float(p.detach().abs().max()) for name, p in model.named_parameters() if "lora_B" in name) > 0


def test_the_script_trains_as_it_stands(exported, tmp_path):
    command = [sys.executable, exported / "train.py", "--steps", "2", "--output", tmp_path / "trained"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("'reward':") == 2
    trained = json.loads((tmp_path / "trained" / "adapter_config.json").read_text())
    kept = json.loads((exported / "adapter_config.json").read_text())
    for key in ("r", "lora_alpha", "use_rslora", "lora_dropout", "bias"):
        assert trained[key] == kept[key]
    # Unsloth writes the modules as one pattern of its own.
    assert all(name in str(trained["target_modules"]) for name in kept["target_modules"])


def test_the_script_says_what_the_study_said(folder, exported):
    script, trial = (exported / "train.py").read_text(), stored_trial(folder, 1)
    compile(script, "train.py", "exec")
    for line in (
        f"learning_rate={trial.params['learning_rate']},", f"lora_alpha={trial.params['alpha']},", "r=4,",
        "max_lora_rank=8,", "per_device_train_batch_size=32,", "num_generations=4,", f"SEED = {trial.user_attrs[SEED]}",
        "'name': 'string_ops'", "default=6,", "fast_inference=with_vllm,",
    ):  # fmt: skip
        assert line in script
    # Unsloth's engine refuses float32.
    assert ("with_vllm = False" in script) == ("dtype=torch.float32" in script)


def test_the_card_says_that_a_trial_of_a_search_is_no_estimate(exported):
    card = (exported / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: peft\n"), "the shipped policy is no model of the hub"
    assert "base_model:" not in card
    assert ", constant |" in card
    assert "`sweep confirm tiny` gives one" in card
    assert "Trial 1, seed" in card and "| trl | 1.13.0 |" in card


def test_without_a_kept_adapter_the_script_and_the_card_are_written(tmp_path, searched, monkeypatch):  # noqa: F811
    done = sweep("export", "tiny", "--trial", 0, "-o", "out", cwd=tmp_path)
    assert done.returncode == 0
    assert "no adapter: study.keep_adapters was false when the trial ran" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "train.py"]
    assert "There is none here" in (tmp_path / "out" / "README.md").read_text()


def test_the_verdict_exports_the_trial_in_the_middle_of_its_rank(searched, confirmation, config, tmp_path):  # noqa: F811
    run(confirmation, config, ConfirmSchedule(config, freeze_of(confirmation), seeds=10), noisy)
    confirmed = read_confirmation(confirmation, config)
    chosen = exported_verdict(confirmed, url=f"sqlite:///{tmp_path}/rank-sweep.db")
    own = sorted(trial.value for trial in confirmation.trials if trial.params["r"] == confirmed.verdict.r)
    assert own[0] < own[4] <= chosen.score <= own[5] < own[-1]
    done = sweep("export", "tiny", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "out" / "README.md").read_text()
    assert confirmed.verdict.reason in card
    assert card.count("\n| ") >= 3 + 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--trial", "7", "-o", "out"], 2, "--trial 7: no such trial with a score; allowed: 0-1"),
        (["-o", "out"], 2, "has no verdict: `sweep confirm` gives one"),
        (["--verdict", "--trial", "1", "-o", "out"], 2, "--verdict and --trial name two things"),
        (["--trial", "1", "-o", "."], 2, "is not empty; name a new folder"),
        (["--trial", "1", "-o", "rank-sweep.db"], 2, "cannot be written: Not a directory"),
        (["--trial", "1"], 2, "--output"),
    ],
)
def test_a_mistake_is_one_line(folder, arguments, code, message):
    done = sweep("export", "tiny", *arguments, cwd=folder)
    assert done.returncode == code
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_storage_that_was_moved_finds_its_adapters_and_misses_those_that_are_gone(folder, tmp_path):
    shutil.copyfile(folder / "rank-sweep.db", tmp_path / "rank-sweep.db")
    done = sweep("export", "tiny", "--trial", 0, "-o", "out", cwd=tmp_path)
    kept = tmp_path / "rank-sweep.logs" / "tiny" / "trial-0000-adapter"
    assert (done.returncode, done.stderr) == (4, f"sweep: trial 0: its adapter is no longer at {kept}\n")
    shutil.copytree(folder / "rank-sweep.logs", tmp_path / "rank-sweep.logs")
    assert sweep("export", "tiny", "--trial", 0, "-o", "out", cwd=tmp_path).returncode == 0


def test_a_tracker_that_is_not_installed_or_not_trls_is_refused_before_anything_runs(tmp_path):
    done = sweep("run", "tiny", "--set", "learner.report_to=['mlflow']", "--set", "learner.name=trl", cwd=tmp_path)
    assert done.returncode == 2
    assert "learner.report_to: 'mlflow' is not installed; `pip install mlflow` brings it" in done.stderr
    done = sweep("run", "tiny", "--set", "learner.report_to=['wandb']", "--set", "learner.name=packed", cwd=tmp_path)
    assert done.returncode == 2
    assert "report_to=['wandb'] needs name = 'trl'" in done.stderr


def test_a_correction_that_trl_would_not_make_is_refused(tmp_path):
    chosen = ["--set", "learner.importance_sampling_correction='token_truncate'", "--set", "learner.name=trl"]
    done = sweep("run", "tiny", *chosen, cwd=tmp_path)
    assert done.returncode == 2
    assert "importance_sampling_correction='token_truncate' needs name = 'packed'" in done.stderr
    assert done.stderr.count("\n") == 1
