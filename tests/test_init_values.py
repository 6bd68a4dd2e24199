"""`sweep init`: values that are no argument of GRPOConfig, or none at all."""

import pytest

from tests.support.init_sources import DATA, LOAD, REWARD, TRAIN, converter, study_of
from tests.test_init_scripts import PEFT


@pytest.fixture
def converted(tmp_path):
    return converter(tmp_path)


def test_a_base_in_four_bits_is_one_however_it_is_said(converted):
    bits = "from transformers import AutoModelForCausalLM, BitsAndBytesConfig\nimport torch\n"
    bits += "four = BitsAndBytesConfig(load_in_4bit=True)\n"
    load = "judge = AutoModelForCausalLM.from_pretrained('someone/judge')\n"
    load = (
        "model = AutoModelForCausalLM.from_pretrained('someone/base', quantization_config=four, dtype=torch.float16)\n"
        + load
    )
    for given in (
        PEFT.replace('"someone/other-model"', "model"),
        PEFT.replace("reward_funcs", "quantization_config = four, reward_funcs"),
        PEFT.replace("max_steps", "model_init_kwargs = dict(quantization_config = four, dtype = 'float16'), max_steps"),
    ):
        model = study_of(converted(DATA, REWARD, bits, load, given))["model"]
        assert model["load_in_4bit"] is True
        assert model["name"] in ("someone/base", "someone/other-model")
    assert model["dtype"] == "float16"


def test_what_is_not_given_is_what_their_trainer_goes_by(converted):
    study = study_of(converted(DATA, REWARD, PEFT))
    assert 1e-6 in study["space"]["learning_rate"]
    assert study["task"]["max_completion_tokens"] == 512
    assert study["learner"]["lr_scheduler_type"] == "linear"
    assert "weight_decay" not in study["learner"]
    bare = 'trainer = GRPOTrainer(model, [right], GRPOConfig(loss_type = "dapo"), dataset)'
    study = study_of(converted(LOAD, DATA, REWARD, "from trl import GRPOConfig, GRPOTrainer\n" + bare))
    assert 5e-5 in study["space"]["learning_rate"]
    assert study["budget"]["prompts_per_step"] == 1
    assert study["learner"] == {
        "name": "trl", "loss_type": "dapo", "epsilon_high": 0.28, "mask_truncated_completions": True,
        "lr_scheduler_type": "linear", "warmup_ratio": 0.1, "weight_decay": 0.001, "optim": "adamw_8bit",
        "micro_batch_size": 4,
    }  # fmt: skip


def test_an_adapter_that_says_little_is_pefts_default(converted):
    made = converted(DATA, REWARD, PEFT.replace('r = 8, lora_alpha = 16, target_modules = ["q_proj"]', ""))
    study = study_of(made)
    assert study["model"]["max_lora_rank"] == 8
    assert study["model"]["target_modules"] == ["q_proj", "v_proj"]
    assert "model.target_modules" in made.files["REPORT.md"]


def test_generation_arguments_are_sampling(converted):
    given = "max_steps = 250, generation_kwargs = {'top_k': 40, 'min_p': 0.05, 'do_sample': True, 'typical_p': 0.9},"
    made = converted(LOAD, DATA, REWARD, TRAIN.replace("max_steps = 250,", given))
    learner = study_of(made)["learner"]
    assert (learner["top_k"], learner["min_p"]) == (40, 0.05)
    assert "typical_p" in made.files["REPORT.md"]
    assert "do_sample" not in made.files["REPORT.md"]


@pytest.mark.parametrize("stop", ['["</answer>"]', '"</answer>"', '("</answer>",)'])
def test_stop_strings_are_sampling_in_a_list_or_alone(converted, stop):
    given = f"vllm_sampling_params = SamplingParams(stop = {stop}, top_k = -1, min_p = 0.1), max_steps = 250,"
    made = converted(LOAD, DATA, REWARD, TRAIN.replace("max_steps = 250,", given))
    learner = study_of(made)["learner"]
    assert (learner.get("min_p"), "top_k" in learner) == (0.1, False)
    assert learner["stop"] == ["</answer>"]
    given = f"generation_kwargs = dict(stop_strings = {stop}), max_steps = 250,"
    made = converted(LOAD, DATA, REWARD, TRAIN.replace("max_steps = 250,", given))
    assert study_of(made)["learner"]["stop"] == ["</answer>"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max_steps = 250,", "max_steps = 250, scale_rewards = ['group'],"),
        ('use_gradient_checkpointing = "unsloth",', "use_gradient_checkpointing = ['unsloth'],"),
    ],
)
def test_a_list_where_theirs_takes_none_is_no_crash(converted, old, new):
    study = study_of(converted(*(cell.replace(old, new) for cell in (LOAD, DATA, REWARD, TRAIN))))
    assert "scale_rewards" not in study["learner"]
    assert "gradient_checkpointing" not in study["model"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("steps_per_generation = 8", "they sample 8 completions at once and learn from 4 a step"),
        ("generation_batch_size = 4", None),
        ("vllm_tensor_parallel_size = 2, tf32 = True, trackio_space_id = 'x', project = 'y'", None),
        ("sync_ref_model = True", "GRPOConfig(sync_ref_model=True)"),
        ("sync_ref_model = False", None),
        ("top_entropy_quantile = 0", "GRPOConfig(top_entropy_quantile=0)"),
    ],
)
def test_what_changes_learning_and_has_no_key_is_said(converted, given, said):
    made = converted(LOAD, DATA, REWARD, TRAIN.replace("max_steps = 250,", f"max_steps = 250, {given},"))
    assert made.draft.unsaid == ([] if said is None else made.draft.unsaid)
    assert said is None or said in made.files["REPORT.md"]


def test_gspo_and_cispo_are_carried_over(converted):
    def learner(given):
        made = converted(LOAD, DATA, REWARD, TRAIN.replace("max_steps = 250,", f"max_steps = 250, {given},"))
        return made, study_of(made)["learner"]

    made, gspo = learner("importance_sampling_level = 'sequence', loss_type = 'grpo', entropy_coef = 0.01")
    assert (gspo["importance_sampling_level"], gspo["loss_type"], gspo["entropy_coef"]) == ("sequence", "grpo", 0.01)
    assert made.draft.unsaid == []
    assert learner("loss_type = 'cispo', epsilon_high = 5.0, delta = 9.0")[1]["epsilon_high"] == 5.0
    assert learner("loss_type = 'cispo', epsilon = 0.3")[1]["epsilon_high"] == 0.3  # as TRL has it
    assert "GRPOConfig(loss_type='luspo')" in learner("loss_type = 'luspo'")[0].files["REPORT.md"]


def test_callbacks_and_trainers_of_their_own_are_said(converted):
    own = TRAIN.replace("GRPOTrainer(", "MyGRPOTrainer(callbacks = [Cools()], ")
    made = converted(LOAD, DATA, REWARD, "from mine import MyGRPOTrainer", own)
    assert "MyGRPOTrainer(callbacks=[Cools()])" in made.files["REPORT.md"]
    assert any("they train with MyGRPOTrainer" in note for note in made.look_at)


def test_a_default_from_the_environment_is_taken_and_a_comment_never_says_theirs_of_what_is_unknown(converted):
    load = LOAD.replace('"someone/some-model"', 'os.getenv("MODEL", "someone/default")')
    train = TRAIN.replace("num_generations = 4", "num_generations = 4 if torch.cuda.device_count() > 1 else 2")
    made = converted("import os\nimport torch\n" + load, DATA, REWARD, train)
    assert study_of(made)["model"]["name"] == "someone/default"
    assert study_of(made)["budget"]["group_size"] == 8
    assert "group_size = 8                            # Unsloth's default" in made.files["study.toml"]
