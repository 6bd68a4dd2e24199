"""`sweep init`: scripts that train in functions and branches, with command lines, and rewards built bit by bit."""

import pytest

from sweep.errors import UsageError
from tests.support.init_sources import DATA, LOAD, REWARD, TRAIN, converter, study_of, task_of

PEFT = """
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer
trainer = GRPOTrainer(
    model = "someone/other-model", reward_funcs = right, train_dataset = dataset,
    args = GRPOConfig(num_generations = 4, per_device_train_batch_size = 8, max_steps = 9),
    peft_config = LoraConfig(r = 8, lora_alpha = 16, target_modules = ["q_proj"]),
)
"""


@pytest.fixture
def converted(tmp_path):
    return converter(tmp_path)


def in_function(*cells, indent="    "):
    lines = "\n".join(cells).splitlines()
    return "\n".join(indent + line for line in lines)


def test_the_defaults_of_a_command_line_are_followed(converted):
    train = in_function(PEFT, indent="        ").replace('"someone/other-model"', "args.model_name")
    train = train.replace("r = 8", "r = args.rank").replace("max_steps = 9", "max_steps = 9, learning_rate = args.lr")
    script = f"""
import argparse
def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-name", default="someone/small")
    parser.add_argument("--lr", type=float, default="2e-5")
    parser.add_argument("--rank", "-r", type=int, default=16)
    parser.add_argument("--mode", choices=["train", "eval"], default="train")
    parser.add_argument("--quiet", action="store_true")
    return parser.parse_args()
{DATA}
def main():
    args = parse()
    def right(completions, **kwargs):
        return [0.0 if args.quiet else 1.0] * len(completions)
    if args.mode == "eval":
        print("nothing")
        return
    else:
{train}
if __name__ == "__main__":
    main()
"""
    made = converted(script, name="mine.py")
    study = study_of(made)
    assert study["model"]["name"] == "someone/small"
    assert 16 in study["space"]["r"]
    assert 2e-5 in study["space"]["learning_rate"]
    assert study["budget"] == {"steps": 9, "prompts_per_step": 2, "group_size": 4}
    assert task_of(made).right(completions=["a", "b"]) == [1.0, 1.0]
    assert "reads a command line" in made.files["REPORT.md"]


def test_a_parser_of_dataclasses_comes_to_their_defaults_and_is_said_to(converted):
    script = f"""
from dataclasses import dataclass, field
from trl import GRPOConfig, GRPOTrainer, ModelConfig, TrlParser
from datasets import Dataset
@dataclass
class Mine:
    name: str = field(default="someone/small")
    copies: int = 3
{REWARD}
def main(mine, training_args, model_args):
    dataset = Dataset.from_list([{{"prompt": "a", "answer": "b"}}] * mine.copies)
    trainer = GRPOTrainer(model=mine.name, reward_funcs=[right], args=training_args, train_dataset=dataset)
    trainer.train()
if __name__ == "__main__":
    parser = TrlParser((Mine, GRPOConfig, ModelConfig))
    mine, training_args, model_args = parser.parse_args_and_config()
    main(mine, training_args, model_args)
"""
    made = converted(script, name="mine.py")
    assert study_of(made)["model"]["name"] == "someone/small"
    assert len(task_of(made).rows()) == 3
    assert "parse_args" not in made.files["task.py"]
    assert "what it is told is not in the source" in made.files["REPORT.md"]
    with pytest.raises(UsageError, match=r"mine, which its command line must give .copies."):
        converted(script.replace("copies: int = 3", "copies: int"), name="other.py")
    with pytest.raises(UsageError, match="which model it trains is known only when it runs"):
        converted(script.replace("model=mine.name", "model=model_args.model_name_or_path"), name="third.py")


@pytest.mark.parametrize(
    "way",
    [
        "try:\n    {0}()\nexcept KeyboardInterrupt:\n    pass",
        "import sys\nsys.exit({0}())",
        "result = {0}()",
        "with open('log', 'w') as log:\n    {0}()",
        "app = launcher()\n{0}.remote()",
        "def called_by_a_launcher():\n    return {0}()",
    ],
)
def test_a_function_that_trains_is_found_however_it_is_called(converted, way):
    script = f"{DATA}{REWARD}\ndef train():\n{in_function(PEFT)}\n    return trainer\n{way.format('train')}\n"
    study = study_of(converted(script, name="mine.py"))
    assert study["budget"]["steps"] == 9
    assert study["model"]["name"] == "someone/other-model"


def test_helpers_that_load_the_model_and_make_settings_are_followed(converted):
    load = "def load(name, r = 32):\n" + in_function(LOAD.replace("lora_rank = 32", "lora_rank = r"))
    load = load.replace('"someone/some-model"', "name") + "\n    return model, tokenizer\n"
    settings = (
        "from trl import GRPOConfig\nclass Settings:\n    steps = 77\n"
        "def settings():\n    made = GRPOConfig(max_steps = Settings.steps, num_generations = 4)\n    return made\n"
    )
    train = TRAIN[TRAIN.index("trainer = ") :].replace("args = training_args", "args = settings()")
    call = "from trl import GRPOTrainer\nmodel, tokenizer = load('someone/mine', r = 64)\n"
    made = converted(load + settings + DATA + REWARD + call + train.replace("settings()", "made"), name="x.py")
    study = study_of(made)
    assert study["model"]["name"] == "someone/mine"
    assert study["model"]["max_lora_rank"] == 64
    made = converted(
        load + settings + DATA + REWARD + call + "args = settings()\n" + train.replace("settings()", "args")
    )
    assert study_of(made)["budget"]["steps"] == 77


@pytest.mark.parametrize(
    ("build", "names"),
    [
        ("rewards = [right]\nrewards.append(short)", ["right", "short"]),
        ("rewards = [right]\nrewards += [short]", ["right", "short"]),
        (
            "rewards = []\nif STYLE == 'both':\n    rewards = [right, short]\nelse:\n    rewards = [right]",
            ["right", "short"],
        ),
        ("TABLE = {'right': right, 'short': short}\nrewards = [TABLE[name] for name in ['short']]", ["short"]),
        ("rewards = [*[right], short]", ["right", "short"]),
        ("import operator\nrewards = [right, operator.neg]", ["right", "neg"]),
        ("from functools import partial\nrewards = partial(right)", ["rewards"]),
        (
            "def make():\n    def inner(**kwargs):\n        return [1.0]\n    return inner\nrewards = make()",
            ["rewards"],
        ),
    ],
)
def test_every_reward_of_a_list_is_kept_however_it_was_built(converted, build, names):
    short = "STYLE = 'both'\ndef short(completions, **kwargs):\n    return [1.0] * len(completions)\n"
    made = converted(LOAD, DATA, REWARD, short, build, TRAIN.replace("[right]", "rewards"))
    assert list(study_of(made)["task"]["reward"]) == names
    task = task_of(made)
    assert all(callable(getattr(task, name)) for name in names)


@pytest.mark.parametrize(
    ("build", "why"),
    [
        ("rewards = get_rewards(settings)", "known only when it runs .get_rewards.settings."),
        (
            "import os\nrewards = []\nif os.path.exists('x'):\n    rewards.append(right)",
            "known only when it runs .cell 4",
        ),
        ("rewards = [TABLE[name] for name in settings.names]", "known only when it runs"),
        ("rewards = []", "empty list"),
    ],
)
def test_rewards_that_are_chosen_when_it_runs_are_refused(converted, build, why):
    with pytest.raises(UsageError, match=why):
        converted(LOAD, DATA, REWARD, build, TRAIN.replace("[right]", "rewards"))


def test_a_trainer_within_a_class_and_one_of_another_package_are_refused(converted):
    method = f"class Pipeline:\n    def train(self):\n{in_function(PEFT, indent='        ')}\nPipeline().train()"
    script = f"{DATA}{REWARD}\n{method}"
    with pytest.raises(UsageError, match="made within Pipeline"):
        converted(script, name="mine.py")
    with pytest.raises(UsageError, match="is not TRL's GRPOTrainer"):
        converted(LOAD, DATA, TRAIN.replace("reward_funcs = [right], ", ""))


def test_modules_beside_a_source_are_copied_and_missing_ones_named(converted, tmp_path):
    (tmp_path / "my_checks_of_things").mkdir()
    (tmp_path / "my_checks_of_things" / "__init__.py").write_text("")
    (tmp_path / "my_checks_of_things" / "exact.py").write_text(
        "import not_a_package_at_all\ndef right(**k): return [1]"
    )
    made = converted(LOAD, DATA, "from my_checks_of_things.exact import right\nimport nor_this\n", TRAIN)
    assert "my_checks_of_things/exact.py" in made.files
    assert any("imports not_a_package_at_all, not installed" in note for note in made.look_at)
    assert not any("nor_this" in note for note in made.look_at), "nothing that is kept needs it"
    everything = converted(LOAD, DATA, "from rewards_elsewhere import *\n", TRAIN)
    assert "from rewards_elsewhere import *" in everything.files["task.py"]


def test_a_tokenizer_of_another_name_is_the_models_and_a_judge_stays_a_model_of_its_own(converted):
    load = "from transformers import AutoTokenizer\nNAME = 'someone/base'\n"
    load += "def load_tok():\n    tok = AutoTokenizer.from_pretrained(NAME)\n    return tok\nmine = load_tok()\n"
    data = DATA + "dataset = dataset.filter(lambda row: len(mine(row['prompt'])) > 0)\n"
    train = PEFT.replace('"someone/other-model"', "NAME")
    made = converted(load + data + REWARD + train, name="mine.py")
    assert len(task_of(made).rows(lambda text: [1])) == 6
    judge = "judge = AutoTokenizer.from_pretrained('someone/judge')\n" + REWARD.replace("a in c", "a in judge(c)")
    made = converted(load + data + judge + train, name="judged.py")
    assert "from_pretrained('someone/judge')" in made.files["task.py"]
    assert study_of(made)["model"]["name"] == "someone/base"
