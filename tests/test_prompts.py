"""Prompts as tokens: the same in a plan, which reads files alone, and in a worker; and which are too long."""

import pytest
from transformers import AutoTokenizer

from objectives.errors import TaskError
from objectives.models.make_random import make_random_model, make_tokenizer
from objectives.settings.sections import SHIPPED_MODELS
from objectives.tasks.string_ops import StringOps
from objectives.tasks.text_task import TextTask
from objectives.tokenization.tokenizer_files import TokenizerFiles
from objectives.tokenization.tokens import FittingTask, prompt_ids, prompt_limit, use_template
from objectives.trial.resources import load
from sweep.errors import StudyFileError
from sweep.preflight.checks import check_study
from sweep.study.reading import load_study
from sweep.study.sources import source_hashes

PLAIN = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TRIMMING = """{{- bos_token }}
{%- for message in messages %}
    {%- if message.content is string %}{% set text = message.content | trim %}
    {%- else %}{% set text = message.content[0].text %}{% endif %}
    {{- '<|' + message.role + '|>\\n' + text + '<|end|>' }}
    {%- if message.tool_calls is defined %}{{ message.tool_calls | tojson }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"""
STRICT = """{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif -%}
{% for message in messages %}{% if loop.index0 > 9 %}{% break %}{% endif %}
{% if message.role == 'assistant' %}{% generation %}{{ message.content }}{% endgeneration %}
{% else %}{{ message.content }}{% endif %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""


def say(*turns):
    return [{"role": role, "content": content} for role, content in turns]


CHATS = [
    say(("user", "hello")),
    say(("user", "  spaces  \n"), ("assistant", "yes"), ("user", "go <b> & 'on'")),
    say(("user", "x"), ("assistant", "<think>\n")),
    say(("user", "x"), ("assistant", "so ")),
    say(("user", "x"), ("assistant", "")),
    [{"role": "user", "content": "x", "tool_calls": None}],
]


@pytest.fixture(scope="module", params=["plain", "trimming", "strict"])
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = make_tokenizer()
    tokenizer.chat_template = {"plain": PLAIN, "trimming": TRIMMING, "strict": STRICT}[request.param]
    if request.param == "trimming":
        tokenizer.bos_token = "<|user|>"
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("prompt", [*CHATS, "plain text <|end|>", "ä€"], ids=lambda prompt: str(prompt)[:60])
def test_a_plan_counts_the_tokens_that_a_worker_uses(folder, prompt):
    assert TokenizerFiles(folder).count(prompt) == len(prompt_ids(AutoTokenizer.from_pretrained(folder), prompt))


def test_the_shipped_policys_prompts_are_counted():
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED_MODELS / "tiny")
    files = TokenizerFiles(SHIPPED_MODELS / "tiny")
    assert files.chat_template is None
    for row in StringOps(symbols=12).train_rows(50):
        assert files.count(row["prompt"]) == len(prompt_ids(tokenizer, row["prompt"]))


def test_a_chat_that_ends_in_the_assistants_turn_is_gone_on_with(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.decode(prompt_ids(tokenizer, say(("user", "x"), ("assistant", "Sure:"))))
    assert text.endswith("Sure:")
    assert tokenizer.decode(prompt_ids(tokenizer, say(("user", "x")))).rstrip("\n").endswith("<|assistant|>")


@pytest.mark.parametrize("place", ["chat_template.jinja", "tokenizer_config.json", "a list", "chat_template.json"])
def test_a_chat_template_is_found_wherever_models_have_it(tmp_path, place):
    import json

    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    if place == "chat_template.jinja":
        (tmp_path / place).write_text(PLAIN)
    elif place == "chat_template.json":
        (tmp_path / place).write_text(json.dumps({"chat_template": PLAIN}))
    else:
        several = [{"name": "default", "template": PLAIN}, {"name": "tool_use", "template": "x"}]
        config["chat_template"] = several if place == "a list" else PLAIN
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert TokenizerFiles(tmp_path).chat_template == PLAIN


def task(*prompts):
    rows = [{"prompt": prompt} for prompt in prompts]
    return TextTask(
        name="words", max_completion_tokens=4, reward_functions=(), reward_weights=(), train=rows, held_out=rows[:2],
        seed=0,
    )  # fmt: skip


def words(prompt):
    return len(prompt.split())


def test_what_is_too_long_is_left_out_counted_and_shown():
    made = FittingTask(task(*["a b"] * 8, "a " * 20, "b " * 30), words, limit=10)
    assert len(made.train_rows(9)) == 8
    assert {row["prompt"] for row in made.train_rows(100)} == {"a b"}
    assert len(made.held_out_rows(1)) == 1
    left_out = made.too_long()
    assert (left_out.count, left_out.tokens) == (2, 30)
    assert str(left_out).startswith("2 of 11 prompts are left out: longer than 10 tokens; the longest has 30: 'b b")
    assert len(str(left_out)) < 160


def test_others_take_the_place_of_what_is_left_out_and_answers_agree():
    whole = task(*(f"{n} " * (12 if n % 3 == 0 else 2) for n in range(30)))
    made = FittingTask(whole, words, limit=10)
    assert len(made.train_rows(10)) == 10
    assert made.train_rows(15)[:10] == made.train_rows(10)
    assert len(made.train_rows(99)) == 20
    assert FittingTask(whole, words, limit=99).train_rows(30) == whole.train_rows(30)
    assert FittingTask(whole, words, limit=99).too_long() is None


def test_prompts_that_are_all_too_long_or_refused_are_named():
    with pytest.raises(
        TaskError, match=r"no training prompt is short enough; 3 of 3 prompts are left out: longer than 1 "
    ):
        FittingTask(task("a b", "c d", "e f"), words, limit=1).train_rows(5)

    def refuse(prompt):
        raise ValueError("System role not supported")

    with pytest.raises(TaskError, match="tokenizer refuses the prompt 'a b': System role not supported"):
        FittingTask(task("a b", "a b"), refuse, limit=1).train_rows(5)


def test_the_limit_is_what_leaves_room_for_a_completion():
    room = {"max_seq_length": 100, "max_completion_tokens": 30}
    assert prompt_limit(stated=None, **room) == 70
    assert prompt_limit(stated=50, **room) == 50
    with pytest.raises(TaskError, match=r"max_prompt_tokens=71 and completions of 30 .* allowed: up to 70"):
        prompt_limit(stated=71, **room)
    with pytest.raises(TaskError, match="completions of 100 tokens leave no room for a prompt"):
        prompt_limit(stated=None, max_seq_length=100, max_completion_tokens=100)


OWN = "{{ style }}:{% for message in messages %}{{ message.content }}{% endfor %}{% if think is defined %}T{% endif %}>"


@pytest.mark.parametrize("template", [None, OWN, TRIMMING])
@pytest.mark.parametrize("given", [{}, {"style": "brief", "think": False}, {"bos_token": "<|user|>"}])
def test_a_studys_template_and_what_it_is_given_count_alike_in_plan_and_worker(folder, template, given):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    use_template(tokenizer, template, given)
    files = TokenizerFiles(folder, template=template, given=given)
    for prompt in CHATS[:1]:
        assert files.count(prompt) == len(prompt_ids(tokenizer, prompt))
    if template == OWN:
        expected = "brief:helloT>" if "style" in given else ":hello>"
        assert tokenizer.decode(prompt_ids(tokenizer, CHATS[0])) == expected


STUDY = """
[study]
name = "own"
[model]
name = "model"
policy = "peft"
engine = "transformers"
max_lora_rank = 8
dtype = "float32"
[space]
r = [4]
learning_rate = [1e-3, 2e-3, 3e-3]
[task]
name = "dataset"
data = "rows.jsonl"
chat = true
reward = ["own_rewards:f"]
held_out_share = 0.4
max_completion_tokens = 4
chat_template_kwargs = { style = "brief" }
[budget]
steps = 1
prompts_per_step = 2
group_size = 2
"""


@pytest.fixture
def own_study(tmp_path, monkeypatch):
    """A study on a chat model, in a folder of its own, and how to load it with more in its task."""
    make_random_model(tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text("\n".join(f'{{"prompt": "{n}"}}' for n in range(40)))
    module = f"rewards_{tmp_path.name}"  # a process imports a name once
    (tmp_path / f"{module}.py").write_text("def f(completions, **_):\n    return [1.0 for _ in completions]\n")
    (tmp_path / "own.jinja").write_text(OWN)
    (tmp_path / "study.toml").write_text(STUDY.replace("own_rewards", module))
    monkeypatch.chdir(tmp_path)
    return lambda *overrides: load_study("study.toml", list(overrides))


@pytest.mark.parametrize("said", ["own.jinja", OWN])
def test_a_worker_asks_in_the_studys_own_template(own_study, said, tmp_path):
    study = own_study(f"task.chat_template={said!r}")
    planned = check_study(study)
    loaded = load(study.worker_settings(tmp_path / "logs"))
    lengths = {len(prompt_ids(loaded.policy.tokenizer, row["prompt"])) for row in loaded.task.train_rows(40)}
    assert planned.longest == max(lengths)
    shown = loaded.policy.tokenizer.decode(prompt_ids(loaded.policy.tokenizer, loaded.task.train_rows(1)[0]["prompt"]))
    assert shown.startswith("brief:")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.chat_template='none.jinja'", r"no file 'none.jinja'; looked in"),
        ("task.chat_template='{{ oops'", r"chat template refuses the prompt"),
        (
            "task.chat_template_kwargs={ tools = [] }",
            "'tools' is the tokenizer's own argument; allowed: names that",
        ),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_by_name(own_study, override, message):
    with pytest.raises(StudyFileError, match=message):
        check_study(own_study(override))


@pytest.mark.parametrize("override", ["chat_template='own.jinja'", "chat_template_kwargs={ style = 'x' }"])
def test_a_template_for_prompts_that_are_plain_text_is_refused(own_study, override):
    message = "is for chat prompts, and task dataset_rows has plain text; `chat = true` makes messages of them"
    with pytest.raises(StudyFileError, match=message):
        check_study(own_study(f"task.{override}", "task.chat=false"))
    with pytest.raises(StudyFileError, match="is for chat prompts, and task string_ops_12 has plain text"):
        check_study(load_study("tiny", [f"task.{override}"]))


def test_another_template_is_another_study(own_study, tmp_path):
    before = source_hashes(own_study("task.chat_template='own.jinja'"))
    (tmp_path / "own.jinja").write_text(OWN + "!")
    assert source_hashes(own_study("task.chat_template='own.jinja'")) != before
