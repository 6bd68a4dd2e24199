"""`sweep init`: what becomes of notebooks and scripts, each of which has one difficulty."""

import pytest

from tests.support.init_sources import DATA, LOAD, REWARD, TRAIN, converter, study_of, task_of


@pytest.fixture
def converted(tmp_path):
    return converter(tmp_path)


def test_a_notebook_becomes_the_same_settings_with_rank_and_alpha_freed(converted):
    made = converted(LOAD, DATA, REWARD, TRAIN)
    study = study_of(made)
    assert study["model"]["name"] == "someone/some-model"
    assert study["model"]["max_lora_rank"] == 32
    assert study["model"]["load_in_4bit"] is True
    assert study["space"]["r"] == [2, 8, 32]
    assert study["space"]["alpha_above_ceiling"] is True
    assert 5e-6 in study["space"]["learning_rate"]
    assert study["task"]["max_completion_tokens"] == 768
    assert study["learner"]["lr_scheduler_type"] == "cosine"
    assert study["learner"]["max_grad_norm"] == 0.1
    assert study["budget"] == {"steps": 250, "prompts_per_step": 1, "group_size": 4}
    assert study["task"]["reward"] == {"right": "task:right"}
    assert 'name = "someone/some-model"               # cell 1' in made.files["study.toml"]


def test_the_code_that_is_carried_over_gives_what_theirs_gives(converted):
    made = converted(LOAD, DATA, REWARD, TRAIN)
    task = task_of(made)
    assert task.right(completions=["is 4", "is 5"], answer=["4", "4"]) == [2.0, -1.0]
    rows = task.rows()
    assert len(rows) == 6
    assert rows[3] == {"prompt": "3 + 3?", "answer": "6"}
    for never in ("trainer", "GRPOConfig", "from_pretrained", "get_peft_model"):
        assert never not in made.files["task.py"]


def test_nothing_in_the_source_is_run(converted, tmp_path):
    poison = f"open({str(tmp_path / 'ran')!r}, 'w').write('x')\nraise SystemExit('ran')\n"
    converted(poison, LOAD, DATA, REWARD, poison, TRAIN)
    assert not (tmp_path / "ran").exists()


def test_magics_and_shell_lines_are_left_out_with_their_continuations(converted):
    install = "%%capture\n!pip install \\\n    unsloth vllm \\\n    trl\nimport os\nif True:\n    !echo {os}\n%env A=1"
    bash = "%%bash\necho not python ["
    made = converted(install, bash, LOAD, DATA, REWARD, TRAIN)
    assert "pip" not in made.files["task.py"]
    assert task_of(made).right(completions=["4"], answer=["4"]) == [2.0]


def test_only_the_last_data_set_of_a_name_is_kept(converted):
    first = 'from datasets import Dataset\ndataset = Dataset.from_list([{"text": "warm up"}])'
    warm_up = (
        "from trl import SFTTrainer\ntrainer = SFTTrainer(model = model, train_dataset = dataset)\n"
        "trainer.train()\ndel dataset"
    )
    made = converted(LOAD, first, warm_up, DATA, REWARD, TRAIN)
    assert "warm up" not in made.files["task.py"]
    assert "SFTTrainer trains before GRPO" in made.files["REPORT.md"]


def test_state_patterns_and_helpers_of_rewards_come_along_in_their_order(converted):
    reward = """
import re
START, END = "<a>", "</a>"
pattern = re.compile(START + r"(.*?)" + END)  # what an answer looks like
SEEN = 0
def found(text):
    match = pattern.search(text)
    return None if match is None else match.group(1)
unused = compile("1 +", "x", "eval")
def right(completions, answer, **kwargs):
    global SEEN
    SEEN += 1
    return [float(found(c) == a) for c, a in zip(completions, answer)]
"""
    made = converted(LOAD, DATA, reward, TRAIN)
    task = task_of(made)
    assert task.right(completions=["<a>4</a>", "4"], answer=["4", "4"]) == [1.0, 0.0]
    assert task.SEEN == 1
    assert "unused" not in made.files["task.py"]
    assert "# what an answer looks like" in made.files["task.py"]
    assert "keeps state" in made.files["REPORT.md"]


def test_rows_are_prepared_as_they_do_step_by_step(converted):
    data = '''
from datasets import Dataset
SYSTEM = """You are given a problem.
    Think, and keep this indented line."""
dataset = Dataset.from_list([{"q": f"{i}?", "a": i} for i in range(9)])
dataset = dataset.map(
    lambda row: {"prompt": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": row["q"]}]}
)
print(dataset[0])
lengths = [len(row["q"]) for row in dataset]
dataset = dataset.select(range(4))
dataset[0]["prompt"]
'''
    made = converted(LOAD, data, REWARD, TRAIN)
    rows = task_of(made).rows()
    assert len(rows) == 4
    assert rows[1]["prompt"][0]["content"] == "You are given a problem.\n    Think, and keep this indented line."
    assert "print" not in made.files["task.py"]
    assert "lengths" not in made.files["task.py"]


def test_a_tokenizer_is_given_to_the_rows_and_loaded_for_rewards(converted):
    data = DATA + 'dataset = dataset.filter(lambda row: len(tokenizer(row["prompt"])) > 0)\n'
    made = converted(LOAD, data, REWARD, TRAIN)
    assert "def rows(tokenizer):" in made.files["task.py"]
    assert len(task_of(made).rows(lambda text: [1])) == 6
    reward = "ENDING = tokenizer.eos_token\n" + REWARD.replace("a in c", "a + ENDING in c")
    made = converted(LOAD, data, reward, TRAIN)
    assert "os.environ.get(\"SWEEP_MODEL\", 'someone/some-model')" in made.files["task.py"]
    assert "def rows():" in made.files["task.py"]


def test_settings_that_are_set_later_or_spread_from_a_dictionary_count(converted):
    config = TRAIN.replace("max_steps = 250,", "**common,").replace(
        "trainer = ", "training_args.learning_rate = 2e-5\ntrainer = "
    )
    made = converted(LOAD, DATA, REWARD, 'common = {"max_steps": 30, "temperature": 0.7}', config)
    study = study_of(made)
    assert study["budget"]["steps"] == 30
    assert study["learner"]["temperature"] == 0.7
    assert 2e-5 in study["space"]["learning_rate"]


def test_a_script_that_trains_in_functions_is_followed_into_them(converted):
    script = f'''
import sys
{REWARD}

def train(rows, steps=10):
    from trl import GRPOConfig, GRPOTrainer
    from peft import LoraConfig
    trainer = GRPOTrainer(
        "someone/other-model",
        [right],
        GRPOConfig(max_steps=steps, num_generations=4, per_device_train_batch_size=8, learning_rate=1e-5),
        rows,
        peft_config=LoraConfig(r=8, lora_alpha=16),
    )
    trainer.train()


def main():
    """Trains."""
    from datasets import Dataset
    made = Dataset.from_list([{{"prompt": "a", "answer": "b"}}] * 5)
    train(made, steps=77)


if __name__ == "__main__":
    main()
'''
    made = converted(script, name="mine.py")
    study = study_of(made)
    assert study["model"]["name"] == "someone/other-model"
    assert study["model"]["policy"] == "peft"
    assert study["budget"] == {"steps": 77, "prompts_per_step": 2, "group_size": 4}
    assert 8 in study["space"]["r"]
    _, _, name = study["task"]["data"].partition(":")
    assert name != "rows", "their code calls something else so"
    assert len(getattr(task_of(made), name)()) == 5


def test_rewards_in_a_list_and_rewards_without_a_name_get_one(converted):
    reward = REWARD + "rewards = [right, lambda completions, **k: [0.5] * len(completions)]\n"
    made = converted(LOAD, DATA, reward, TRAIN.replace("[right]", "rewards"))
    assert study_of(made)["task"]["reward"] == {"right": "task:right", "reward_2": "task:reward_2"}
    assert task_of(made).reward_2(completions=["a", "b"]) == [0.5, 0.5]


def test_an_evaluation_set_becomes_the_held_out_rows(converted):
    data = DATA + "split = dataset.train_test_split(test_size=2, seed=0)\n"
    train = TRAIN.replace("train_dataset = dataset", 'train_dataset = split["train"], eval_dataset = split["test"]')
    made = converted(LOAD, data, REWARD, train)
    train_rows, held_out = task_of(made).rows()
    assert (len(train_rows), len(held_out)) == (4, 2)


def test_lengths_that_depend_on_the_data_are_said_to(converted):
    lengths = DATA + 'longest = max(len(tokenizer(row["prompt"])) for row in dataset)\n'
    made = converted(LOAD, lengths, REWARD, TRAIN.replace("max_seq_length - 256", "max_seq_length - longest"))
    assert study_of(made)["task"]["max_completion_tokens"] == 768
    assert "max_seq_length - longest, is known only when it runs" in made.files["REPORT.md"]


def test_a_chat_template_that_is_set_on_the_tokenizer_is_the_studys(converted):
    template = """START = "<go>"
template = "{% for m in messages %}{{ m['content'] }}{% endfor %}" \\
    "{% if add_generation_prompt %}{{ 'X' }}{% endif %}"
template = template.replace("'X'", f"'{START}'")
tokenizer.chat_template = template
"""
    study = study_of(converted(LOAD, template, DATA, REWARD, TRAIN))
    assert study["task"]["chat_template"].endswith("{{ '<go>' }}{% endif %}")
    unknown = converted(LOAD, "tokenizer.chat_template = open('x').read()", DATA, REWARD, TRAIN)
    assert "chat_template" not in study_of(unknown)["task"]
    assert "task.chat_template: theirs" in unknown.files["REPORT.md"]


@pytest.mark.parametrize(
    ("given", "learner"),
    [
        ('lr_scheduler_type = "constant", warmup_ratio = 0.1', {"lr_scheduler_type": "constant"}),
        ('lr_scheduler_type = "constant_with_warmup", warmup_steps = 5', {"lr_scheduler_type": "constant_with_warmup"}),
        (
            'lr_scheduler_type = "cosine_with_min_lr", lr_scheduler_kwargs = {"min_lr_rate": 0.2}',
            {"lr_scheduler_type": "cosine_with_min_lr", "min_lr_rate": 0.2},
        ),
        ('lr_scheduler_type = "cosine_with_min_lr", lr_scheduler_kwargs = {"min_lr": 1e-6}', {}),
        ('lr_scheduler_type = "polynomial"', {}),
        ('lr_scheduler_type = "cosine", optim = "lion_8bit"', {"lr_scheduler_type": "cosine"}),
    ],
)
def test_schedules_and_optimizers_come_to_a_study_whatever_they_are(converted, given, learner):
    study = study_of(converted(LOAD, DATA, REWARD, TRAIN.replace('lr_scheduler_type = "cosine"', given)))
    said = {key: study["learner"].get(key) for key in ("lr_scheduler_type", "min_lr_rate")}
    assert said == {"lr_scheduler_type": None, "min_lr_rate": None} | learner


def test_one_prompt_many_times_over_is_held_out_by_row(converted):
    data = 'from datasets import Dataset\ndataset = Dataset.from_list([{"prompt": "play", "answer": 0}] * 1000)\n'
    assert study_of(converted(LOAD, data, REWARD, TRAIN))["task"]["held_out_by"] == "row"
    assert "held_out_by" not in study_of(converted(LOAD, DATA, REWARD, TRAIN))["task"]


@pytest.mark.parametrize(
    ("batch", "accumulation", "group", "prompts"),
    [(1, 4, 4, 1), (8, 1, 4, 2), (1, 1, 6, 1), (4, 8, 8, 4), (2, 1, 2, 1)],
)
def test_batches_become_prompts_and_groups(converted, batch, accumulation, group, prompts):
    train = TRAIN.replace("batch_size = 1", f"batch_size = {batch}").replace("steps = 4,", f"steps = {accumulation},")
    made = converted(LOAD, DATA, REWARD, train.replace("generations = 4", f"generations = {group}"))
    budget = study_of(made)["budget"]
    assert (budget["prompts_per_step"], budget["group_size"]) == (prompts, group)


def test_a_cell_that_is_no_python_is_named_and_the_others_are_read(converted):
    made = converted(LOAD, "for for for", DATA, REWARD, TRAIN)
    assert "not read: cell 2, line 1" in made.files["REPORT.md"]
