"""Cards by their data sheets: which they are, what they hold, and how long a study would take there."""

import json

import pytest

from objectives.memory.config_files import find_config
from objectives.memory.estimates import pair_scoring_bytes
from objectives.memory.footprint import fit
from objectives.memory.shape import read_shape
from objectives.settings.pack import LOGITS_AT_ONCE
from sweep.planning.cards import plan_card, plan_cards
from sweep.planning.notes import time_note
from sweep.planning.pack import study_footprint
from sweep.planning.roofline import OF_ARITHMETIC, OF_BANDWIDTH, estimate_time
from sweep.preflight import devices
from sweep.preflight.cards import CARDS, find_card
from sweep.preflight.devices import VISIBLE, named_device, present_device
from sweep.preflight.number_format import with_dtype
from sweep.study.reading import load_study
from tests.support.command import sweep

SHAPE = read_shape(find_config("unsloth/Llama-3.2-1B-Instruct"))


def card_plan(name, *overrides, study="llama32_1b_gsm8k", **options):
    """What one card would do."""
    config = load_study(study, list(overrides))
    shape = read_shape(find_config(config.model.path))
    return plan_card(config, shape, named_device(name), **{"workers": 1, "prompt_tokens": 100, "price": None} | options)


@pytest.mark.parametrize(
    ("name", "memory_mib", "card"),
    [
        ("Tesla T4", 15360, "T4"),
        ("NVIDIA L4", 23034, "L4"),
        ("NVIDIA L40S", 46068, "L40S"),
        ("NVIDIA A10", 23028, "A10"),
        ("NVIDIA A10G", 23028, None),
        ("NVIDIA A100-SXM4-40GB", 40960, "A100-40"),
        ("NVIDIA A100-SXM4-80GB", 81920, "A100-80"),
        ("NVIDIA H100 80GB HBM3", 81559, "H100"),
        ("NVIDIA H100 PCIe", 81559, None),
        ("NVIDIA H200", 143771, "H200"),
        ("NVIDIA GeForce RTX 4090", 24564, "RTX 4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16376, None),
        ("NVIDIA RTX A6000", 49140, "RTX A6000"),
        ("NVIDIA RTX 6000 Ada Generation", 49140, None),
    ],
)
def test_a_card_is_known_by_the_name_that_its_driver_gives_it(name, memory_mib, card):
    assert find_card(name, memory_mib) == (None if card is None else CARDS[card])


def test_cards_without_bfloat16_are_planned_for_in_float16_or_packed_in_float32():
    for name in ("T4", "V100-16", "V100-32"):
        assert not named_device(name).bfloat16
        assert card_plan(name).dtype == "float16"
        assert card_plan(name, "learner.name=packed", "model.policy=peft").dtype == "float32"
        assert card_plan(name, "model.dtype=bfloat16").lacks == "no bfloat16"
    assert {card_plan(name).dtype for name in ("L4", "RTX 3090", "A10", "H100")} == {"bfloat16"}


def test_cards_that_torch_has_no_kernels_for_are_told_and_take_no_time():
    for name, lacks in (("V100-16", "no kernels"), ("V100-32", "no kernels"), ("T4", "")):
        plan = card_plan(name)
        assert (plan.lacks, plan.time is None) == (lacks, bool(lacks))


def test_the_roofline_is_what_the_formula_says():
    device = named_device("L4")
    config = with_dtype(load_study("llama32_1b_gsm8k", ["task.held_out_prompts=64"]), device)
    held = study_footprint(config, SHAPE, device)
    room = fit(held, config.model, memory_bytes=device.memory_bytes)
    time = estimate_time(
        config, shape=SHAPE, card=device.card, held=held, fit=room, workers=1, prompt_tokens=100, price=None
    )
    operations, rate = 2 * (SHAPE.linear_parameters + SHAPE.vocab * SHAPE.hidden), 121e12 * OF_ARITHMETIC
    read = held.weights + held.adapters + 64 * held.sequence_cache * (100 + 256) / 1024
    token = max(64 * operations / rate, read / (300e9 * OF_BANDWIDTH))
    rollout = 512 * token + 8 * 100 * operations / rate
    step = 3 * 64 * 612 * operations / rate
    scores = 2 * 512 * token + 128 * 100 * operations / rate
    assert time.trial_seconds == pytest.approx(250 * (rollout + step) + scores)
    assert time.search_seconds == pytest.approx(20 * time.trial_seconds)
    assert time.confirmation_seconds == pytest.approx(56 * time.trial_seconds)


PAIRS = [
    "model.name=unsloth/Llama-3.2-1B-Instruct", "model.dtype=bfloat16", "model.max_seq_length=1024",
    "learner.micro_batch_size=2", "model.gradient_checkpointing=standard",
]  # fmt: skip


def pairs_footprint(*overrides):
    return study_footprint(load_study("tiny_preferences", [*PAIRS, *overrides]), SHAPE, named_device("L4"))


def test_pairs_are_ranked_once_whether_or_not_a_study_scores_greedily():
    both, one = (card_plan("L4", *PAIRS, f"task.greedy={greedy}", study="tiny_preferences") for greedy in (True, False))
    assert both.time.trial_seconds == one.time.trial_seconds
    assert both.sequences == 0


def test_all_tokens_of_a_pair_have_logits_when_it_is_trained_on():
    for task in ((), ('task.reward="r:f"',)):  # sampled or not
        short, long = (pairs_footprint(f"task.max_completion_tokens={n}", *task) for n in (8, 1024))
        assert short.training_activations == long.training_activations > 2 * 1024 * SHAPE.vocab * 2 * 4


def test_ranking_pairs_counts_where_it_takes_more_than_training():
    # In bfloat16 two bytes as computed, four in float32, four for their logarithms.
    assert pairs_footprint("model.max_seq_length=64").training_activations == LOGITS_AT_ONCE * 10
    one = pair_scoring_bytes(SHAPE, "bfloat16", pairs=64, sequence_tokens=1024, at_once=LOGITS_AT_ONCE)
    assert one == 1024 * SHAPE.vocab * 10 < pairs_footprint().training_activations


def test_faster_cards_shorter_prompts_and_more_workers_take_less():
    seconds = [card_plan(name).time.trial_seconds for name in ("T4", "L4", "A10", "A100-40", "H100", "B200")]
    assert seconds == sorted(seconds, reverse=True)
    assert card_plan("L4", prompt_tokens=50).time.trial_seconds < card_plan("L4").time.trial_seconds
    assert card_plan("L4", prompt_tokens=None).time.prompt_tokens == 1024 - 512
    one, two = (card_plan("L4", workers=k, price=2.0).time for k in (1, 2))
    assert two.search_seconds == pytest.approx(one.search_seconds / 2)
    assert two.money(20) == one.money(20) == pytest.approx(one.search_seconds / 3600 * 2.0)


def test_a_packed_trial_takes_less_of_a_card_than_one_alone():
    packed = ["learner.name=packed", "model.policy=peft", "model.load_in_4bit=false", "learner.micro_batch_size=1"]
    one, four = (card_plan("H100", *packed, f"learner.pack_size={k}") for k in (1, 4))
    assert (one.slots, four.slots) == (1, 4)
    assert four.time.trial_seconds < one.time.trial_seconds


def test_a_card_that_is_too_small_says_what_lacks_room_and_takes_no_time():
    small = card_plan("T4", "learner.micro_batch_size=64", study="llama31_8b_gsm8k")
    assert "training lacks room" in small.lacks
    assert small.time is None
    assert [card.device.name for card in plan_cards(load_study("tiny"), SHAPE, prompt_tokens=9, price=None)] == [*CARDS]


def test_more_than_a_day_is_noted():
    long, short = card_plan("L4").time, card_plan("H100", "search.trials=4", "verdict.seeds=2", "budget.steps=20").time
    [note] = time_note(long, named_device("L4"))
    assert note.startswith("More than a day on L4 (estimate): ")
    assert list(time_note(short, named_device("H100"))) == []


def test_the_command_estimates_hours_and_money_and_says_that_it_does(tmp_path):
    asked = ("plan", "llama32_1b_gsm8k", "--device", "L4", "--price", "0.8")
    done = sweep(*asked, cwd=tmp_path, env={"COLUMNS": "80"})
    shown = " ".join(done.stdout.split())
    assert "at 0.8 an hour: an estimate by the card's data sheet; --measure times it" in shown
    assert "note: More than a day on L4 (estimate)" in shown
    plan = json.loads(sweep(*asked, "--json", cwd=tmp_path).stdout)
    assert plan["time"]["search_money"] == pytest.approx(plan["time"]["search_hours"] * 0.8)
    assert "Nobody has measured it" in plan["time"]["assumptions"]
    assert [card["name"] for card in plan["cards"]] == [*CARDS]
    full = " ".join(sweep("plan", "llama32_1b_gsm8k", "--full", cwd=tmp_path, env={"COLUMNS": "80"}).stdout.split())
    assert "RTX 5090" in full
    assert "60 % of its bandwidth and 40 % of its arithmetic" in full
    wrong = sweep("plan", "tiny", "--price", "-1", cwd=tmp_path)
    assert (wrong.returncode, "--price -1" in wrong.stderr) == (2, True)


@pytest.mark.parametrize("device", [*CARDS, None])
@pytest.mark.parametrize("study", ["llama32_1b_gsm8k", "llama31_8b_gsm8k", "tiny"])
def test_the_first_screen_has_24_lines_on_every_card(study, device, monkeypatch):
    from rich.console import Console

    from sweep.planning.whole_plan import whole_plan
    from sweep.study.reading import find_study, read_toml
    from sweep.terminal.plan_summary import plan_summary

    named = None if device is None else named_device(device)
    plan = whole_plan(load_study(study), read_toml(find_study(study)), [], device=named, price=1.25)
    console = Console(width=80, highlight=False)
    with console.capture() as screen:
        console.print(plan_summary(plan))
    lines = screen.get().splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("mask", "name"),
    [
        (None, "NVIDIA T4"),
        ("1", "NVIDIA H100 80GB HBM3"),
        ("1,0", "NVIDIA H100 80GB HBM3"),
        ("GPU-bb", "NVIDIA H100 80GB HBM3"),
        ("GPU-aa11", "NVIDIA T4"),
        ("GPU-cc", None),
        ("MIG-1234", None),
    ],
)
def test_the_gpu_here_is_the_first_that_may_be_used(monkeypatch, mask, name):
    listed = ["NVIDIA T4, 15360, GPU-aa11", "NVIDIA H100 80GB HBM3, 81559, GPU-bb22"]
    monkeypatch.setattr(devices, "_list_gpus", lambda fields, timeout_s: listed)
    monkeypatch.delenv(VISIBLE, raising=False)
    if mask is not None:
        monkeypatch.setenv(VISIBLE, mask)
    found = present_device()
    assert (found and found.name) == name


def test_a_plan_of_pairs_speaks_of_no_sequences(tmp_path):
    for full in ((), ("--full",)):
        told = sweep("plan", "tiny_preferences", "--device", "L4", *full, cwd=tmp_path, env={"COLUMNS": "200"})
        assert told.returncode == 0 and "fits" in told.stdout, told.stderr
        assert not any(word in told.stdout for word in ("sequences", "cache per sequence", "a copy each"))
