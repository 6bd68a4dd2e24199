"""Trials that go on from their checkpoints, on the real policy and engine: as if nothing had happened."""

import dataclasses
import json

import pytest
import torch
from safetensors import safe_open

from objectives.learners.packed.checkpoint import MANIFEST, CheckpointError, read_checkpoint, write_checkpoint
from objectives.lora import LoraSpec
from objectives.trial.checkpoint_file import checkpoint_file, checkpoint_folder, remove_litter, take_over
from tests.support.packed_trials import Feed, learners, spec

STEPS = 6


@pytest.fixture
def make(tiny, unsloth_policy, vllm_engine, tmp_path):
    return learners(model=tiny, policy=unsloth_policy, vllm_engine=vllm_engine, folder=tmp_path)


def again(old, number):
    """A lost trial as it comes again: under another number."""
    return dataclasses.replace(old, number=number)


def rewards(feed, number):
    return [metrics.reward for metrics in feed.of(number)]


def cut_and_resumed(make, *specs, stop_at=3, slots=1, resume_slots=None, **options):
    """Two feeds: of trials that were stopped at a step, and of the same trials going on under other numbers."""
    cut = Feed(*specs, stop_at=stop_at)
    make(slots=slots, steps=STEPS, **options).serve(cut)
    resumed = Feed(*(again(old, 10 + old.number) for old in specs))
    make(slots=resume_slots or slots, steps=STEPS, **options).serve(resumed)
    return cut, resumed


@pytest.mark.parametrize(
    "options", [{}, {"num_iterations": 2, "beta": 0.05}, {"lr_scheduler_type": "cosine", "weight_decay": 0.1}]
)
def test_a_trial_alone_ends_as_if_it_had_not_been_stopped_to_the_last_bit(make, options):
    whole = Feed(spec(0, r=16))
    make(slots=1, steps=STEPS, **options).serve(whole)
    cut, resumed = cut_and_resumed(make, spec(0, r=16), **options)
    assert not cut.results
    assert not cut.failures
    stopped = cut.news[-1][1] + options.get("num_iterations", 1) - 1
    assert resumed.resumed_at == {10: stopped}
    assert rewards(cut, 0) + rewards(resumed, 10) == rewards(whole, 0)
    before, after = whole.results[0], resumed.results[10]
    assert (after.scores, after.base, after.tokens, after.steps) == (before.scores, before.base, before.tokens, STEPS)
    assert set(after.seconds) == set(before.seconds)


def test_trials_go_on_in_other_slots_of_a_pack_of_another_size(make):
    specs = [spec(i, r=(64, 4, 16)[i]) for i in range(3)]
    whole = Feed(*specs)
    make(slots=3, steps=STEPS).serve(whole)
    cut, resumed = cut_and_resumed(make, *reversed(specs), slots=3, resume_slots=2)
    assert not cut.results
    assert len(resumed.resumed_at) == 3
    assert all(0 < step < STEPS for step in resumed.resumed_at.values())
    for number in range(3):
        found, expected = resumed.results[10 + number].held_out, whole.results[number].held_out
        assert found.sampled == pytest.approx(expected.sampled, abs=0.07), "to rounding: 64 prompts"
        assert resumed.results[10 + number].steps == STEPS


def test_a_pack_that_is_halved_moves_its_trials(make, monkeypatch):
    """Memory runs short at the third step of the fullest pack; nobody does a step twice."""
    from objectives.learners.packed.step import Stepper

    step, calls = Stepper.step, []

    def crowded(self, slots, *arguments):
        calls.append(len(slots))
        if self.pack.slots > 2 and len(calls) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, slots, *arguments)

    monkeypatch.setattr(Stepper, "step", crowded)

    class Requeued(Feed):
        def fail(self, number, error):
            super().fail(number, error)
            assert error.again
            self.specs.append(again(spec(number), 10 + number))

    feed = Requeued(*[spec(i) for i in range(4)])
    make(slots=4, steps=4).serve(feed)
    assert sorted(feed.failures) == [0, 1, 2, 3]
    assert feed.resumed_at == {10: 2, 11: 2, 12: 2, 13: 2}
    steps = [(number % 10, metrics.step) for number, metrics in feed.steps]
    assert sorted(steps) == [(number, step) for number in range(4) for step in (1, 2, 3, 4)]


def test_an_interval_decides_how_often_and_a_file_is_replaced_whole(make, tmp_path):
    learner, seen = make(slots=1, steps=STEPS, checkpoint_s=1e-3), []

    class Watching(Feed):
        def pruned(self, number):
            path = checkpoint_file(tmp_path / "logs", spec(0))
            seen.append(read_checkpoint(path, spec(0), learner._settings).counters.step if path.exists() else 0)
            return False

    learner.serve(Watching(spec(0)))
    assert seen == sorted(seen)
    assert seen[-1] >= 1
    assert [path.name for path in checkpoint_folder(tmp_path / "logs").iterdir()] == [
        "r8-alpha32-rate0.002-seed0.safetensors"
    ]
    path = checkpoint_file(tmp_path / "logs", spec(0))
    with safe_open(path, framework="pt") as file:
        manifest = json.loads(file.metadata()[MANIFEST])
    assert manifest["counters"]["step"] == len(manifest["curve"])
    assert manifest["versions"]["torch"] == torch.__version__


def test_by_default_a_short_trial_is_never_written(make, tmp_path):
    make(slots=1, steps=2).serve(Feed(spec(0)))
    assert not checkpoint_folder(tmp_path / "logs").exists()


def damaged(path, how):
    """A checkpoint's file made useless in one of the ways that disks and people have."""
    content = path.read_bytes()
    match how:
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "zero-filled":
            path.write_bytes(bytes(len(content)))
        case "empty":
            path.write_bytes(b"")
        case "another schema":
            path.write_bytes(content.replace(rb"\"schema\": 2", rb"\"schema\": 9", 1))
        case "another torch":
            version = torch.__version__.encode()
            path.write_bytes(content.replace(version, b"1" * len(version), 1))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("truncated", "it is damaged"),
        ("zero-filled", "it is damaged"),
        ("empty", "it is damaged"),
        ("another schema", "another version of rank-sweep wrote it"),
        ("another torch", "it was written with torch 1111"),
        ("other settings", "it was written under other settings"),
        ("another model", "it was written under other settings"),
    ],
)
def test_what_a_trial_cannot_go_on_from_is_said_and_it_starts_anew(make, tmp_path, tiny, how, told):
    make(slots=1, steps=4).serve(Feed(spec(0), stop_at=2))
    damaged(checkpoint_file(tmp_path / "logs", spec(0)), how)
    options = {
        "other settings": {"epsilon": 0.1},
        "another model": {"model": tiny.model_copy(update={"target_modules": ("q_proj", "v_proj")})},
    }
    feed = Feed(spec(5, seed=0) if how != "another model" else of_two_modules(5))
    if how == "another model":
        checkpoint_file(tmp_path / "logs", spec(0)).rename(checkpoint_file(tmp_path / "logs", of_two_modules(5)))
    make(slots=1, steps=4, **options.get(how, {})).serve(feed)
    assert not feed.resumed_at
    [note] = feed.notes
    assert note.startswith("trial 5 starts anew, its checkpoint is of no use: " + told)
    assert feed.results[5].steps == 4
    assert [step for _, step in feed.news] == [1, 2, 3, 4]


def of_two_modules(number):
    lora = LoraSpec(r=8, alpha=32, target_modules=("q_proj", "v_proj"))
    return dataclasses.replace(spec(number, seed=0), lora=lora)


def test_a_longer_budget_goes_on_where_the_schedule_does_not_ask_how_long(make):
    whole = Feed(spec(0))
    make(slots=1, steps=STEPS).serve(whole)
    make(slots=1, steps=4).serve(Feed(spec(0), stop_at=3))
    longer = Feed(again(spec(0), 7))
    make(slots=1, steps=STEPS).serve(longer)
    assert longer.resumed_at == {7: 3}
    assert longer.results[7].held_out == whole.results[0].held_out


def test_where_checkpoints_are_kept_a_trial_that_has_ended_can_go_on(make):
    whole = Feed(spec(0))
    make(slots=1, steps=STEPS).serve(whole)
    short = Feed(spec(0))
    make(slots=1, steps=4, keep_checkpoints=True).serve(short)
    longer = Feed(again(spec(0), 7))
    make(slots=1, steps=STEPS).serve(longer)
    assert longer.resumed_at == {7: 4}
    assert longer.results[7].held_out == whole.results[0].held_out
    assert [score.step for score in longer.results[7].scores] == [1, 2, 4, STEPS]


def test_a_longer_budget_starts_anew_where_the_schedule_depends_on_it(make):
    make(slots=1, steps=4, lr_scheduler_type="linear").serve(Feed(spec(0), stop_at=3))
    longer = Feed(again(spec(0), 7))
    make(slots=1, steps=STEPS, lr_scheduler_type="linear").serve(longer)
    assert not longer.resumed_at
    assert "other settings" in longer.notes[0]


def test_where_checkpoints_cannot_be_written_the_study_goes_on_and_says_so_once(make, tmp_path):
    (tmp_path / "logs").mkdir()
    checkpoint_folder(tmp_path / "logs").write_text("a file where a folder belongs")
    feed = Feed(spec(0), spec(1))
    make(slots=2, steps=4, checkpoint_s=1e-3).serve(feed)
    [note] = [note for note in feed.notes if "cannot" in note]
    assert note.startswith("checkpoints cannot be written, and the study goes on without: ")
    assert sorted(feed.results) == [0, 1]


def test_an_update_that_failed_half_way_is_no_state_to_go_on_from(make, monkeypatch, tmp_path):
    from objectives.learners.packed.optimizer import PackedAdamW

    def torn(self, rows):
        self.first[rows] += 1
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(PackedAdamW, "_update", torn)
    feed = Feed(spec(0), spec(1))
    make(slots=2, steps=4).serve(feed)
    assert not checkpoint_folder(tmp_path / "logs").exists()


@pytest.mark.parametrize("how", ["memory", "reward"])
def test_a_score_that_fails_leaves_nobody_a_step_ahead_of_its_count(make, monkeypatch, tmp_path, how):
    """Two trials step together and the first one's score fails: the second one's file must be of a whole step."""
    from objectives.errors import RewardError
    from objectives.trial.evaluation import Evaluator

    def failing(self, adapter, *, step, seed):
        raise torch.OutOfMemoryError("CUDA out of memory") if how == "memory" else RewardError("the judge is down")

    specs = [spec(0), spec(1)]
    whole = Feed(*specs)
    make(slots=2, steps=4).serve(whole)
    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "score", failing)
        try:
            make(slots=2, steps=4).serve(Feed(*specs))
        except RewardError:
            assert how == "reward"
    resumed = Feed(*(again(each, 10 + each.number) for each in specs))
    make(slots=2, steps=4).serve(resumed)
    for number in (0, 1):
        skipped = resumed.resumed_at.get(10 + number, 0)
        assert rewards(resumed, 10 + number) == pytest.approx(rewards(whole, number)[skipped:], abs=0.1)
        first = rewards(resumed, 10 + number)[:1]
        assert first == rewards(whole, number)[skipped : skipped + 1], "the very weights that it should go on with"


def test_an_optimizer_that_passed_over_a_step_goes_on_where_it_was(make, monkeypatch):
    """A gradient that is not finite is no update: bias correction and schedule count what was."""
    from objectives.learners.packed.linear import Pack

    collect = Pack.collect_gradients

    def once(fails_at):
        calls = []

        def collected(self, *arguments):
            collect(self, *arguments)
            calls.append(1)
            if len(calls) == fails_at:
                self.gradients.fill_(float("nan"))

        return collected

    options = {"slots": 1, "steps": STEPS, "lr_scheduler_type": "cosine"}
    whole = Feed(spec(0))
    with monkeypatch.context() as patch:
        patch.setattr(Pack, "collect_gradients", once(2))
        make(**options).serve(whole)
    with monkeypatch.context() as patch:
        patch.setattr(Pack, "collect_gradients", once(2))
        make(**options).serve(Feed(spec(0), stop_at=3))
    resumed = Feed(again(spec(0), 5))
    make(**options).serve(resumed)
    assert resumed.resumed_at == {5: 3}
    assert rewards(resumed, 5) == rewards(whole, 0)[3:]
    assert resumed.results[5].held_out == whole.results[0].held_out


def test_a_trial_that_had_ended_before_anybody_knew_is_scored_and_done(make):
    whole = Feed(spec(0))
    make(slots=1, steps=4, keep_checkpoints=True).serve(whole)
    untold = Feed(again(spec(0), 3))
    make(slots=1, steps=4, keep_checkpoints=True).serve(untold)
    assert untold.resumed_at == {3: 4}
    assert untold.news == []
    assert untold.results[3].scores == whole.results[0].scores


def test_litter_is_removed_and_checkpoints_are_left(make, tmp_path):
    logs = tmp_path / "logs"
    make(slots=1, steps=4).serve(Feed(spec(0), stop_at=2))
    path = checkpoint_file(logs, spec(0))
    for name in ("half.new", "half.new.tmp1234"):
        (path.parent / name).write_bytes(b"half")
    remove_litter(logs)
    assert list(path.parent.iterdir()) == [path]


def test_another_study_takes_checkpoints_over_and_leaves_them(make, tmp_path):
    make(slots=1, steps=4).serve(Feed(spec(0), stop_at=2))
    logs, other = tmp_path / "logs", tmp_path / "other"
    take_over(other, logs)
    mine, theirs = checkpoint_file(other, spec(0)), checkpoint_file(logs, spec(0))
    assert mine.samefile(theirs)
    settings = make(slots=1, steps=4)._settings
    saved = read_checkpoint(mine, spec(0), settings)
    assert saved.counters.step == 2
    write_checkpoint(mine, dataclasses.replace(saved, scores=()), settings)
    assert read_checkpoint(theirs, spec(0), settings).scores == saved.scores


def test_it_says_what_is_wrong_with_a_file_that_is_none(tmp_path, make):
    path = tmp_path / "x.safetensors"
    settings = make(slots=1)._settings
    with pytest.raises(FileNotFoundError):
        read_checkpoint(path, spec(0), settings)
    path.write_text("hello")
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path, spec(0), settings)
