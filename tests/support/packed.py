"""What the tests of packed trials share: small random models, adapters with something in them, and TRL's own steps."""

import copy
import tempfile
from dataclasses import dataclass, field

import torch

from objectives.learners.packed.linear import pack
from objectives.learners.packed.optimizer import PackedAdamW
from objectives.learners.packed.slots import SlotAdapter
from objectives.lora import TARGET_MODULES, LoraSpec

VOCABULARY = 72
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}
END = SIZES["eos_token_id"]
FAMILIES = ("Llama", "Qwen3", "Mistral", "Gemma2", "Gemma3Text")


def random_model(family="Llama", dtype=torch.float32):
    """A tiny model of this family with random weights; windows slide where the family has them."""
    import transformers

    windows = {"sliding_window": 6} if family in {"Mistral", "Gemma2", "Gemma3Text"} else {}
    config = getattr(transformers, f"{family}Config")(**SIZES, **windows)
    torch.manual_seed(0)
    name = family.removesuffix("Text")
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.15)
    return model.to(dtype).train()


def peft_model(base, lora, seed=0):
    """The same base with one adapter, through PEFT."""
    from peft import LoraConfig, get_peft_model

    base = copy.deepcopy(base)
    torch.manual_seed(seed)
    return get_peft_model(
        base,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=lora.r,
            lora_alpha=lora.alpha,
            target_modules=list(lora.target_modules),
            use_rslora=lora.use_rslora,
        ),
    ).train()


def fill_B(model, seed):
    """Gives a PEFT model's B matrices something to say: at zero, half of the gradients would vanish."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            with torch.no_grad():
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def take_from(packed, k, model, scaling):
    """Puts a PEFT model's adapter into slot k."""
    for name, module in packed.modules.items():
        theirs = model.base_model.model.get_submodule(name)
        module.set_slot(k, theirs.lora_A["default"].weight, theirs.lora_B["default"].weight, scaling)


def differences(packed, k, model, r, *, of="weight"):
    """The largest difference between slot k and a PEFT model, in weights or in gradients."""
    worst = 0.0
    for name, module in packed.modules.items():
        theirs = model.base_model.model.get_submodule(name)
        for ours, other in (
            ((module.lora_A, slice(0, r)), theirs.lora_A["default"].weight),
            ((module.lora_B, (slice(None), slice(0, r))), theirs.lora_B["default"].weight),
        ):
            parameter, rows = ours
            mine = (parameter.detach() if of == "weight" else parameter.grad)[k][rows]
            expected = other.detach() if of == "weight" else other.grad
            worst = max(worst, (mine - expected).abs().max().item())
    return worst


def padding(packed, k, r):
    """The largest number beyond rank r in slot k."""
    return max(
        max(m.lora_A.detach()[k, r:].abs().max().item(), m.lora_B.detach()[k, :, r:].abs().max().item())
        for m in packed.modules.values()
    )


def make_pack(loras, *, r_max, learning_rates=None, base=None, dtype=torch.float32, seeds=None):
    """A pack with an adapter in every slot, and its optimizer."""
    base = random_model(dtype=dtype) if base is None else base
    packed = pack(base, TARGET_MODULES, slots=len(loras), r_max=r_max)
    optimizer = PackedAdamW(packed.weights, packed.gradients)
    for k, lora in enumerate(loras):
        SlotAdapter(packed, k, lora, seed=k if seeds is None else seeds[k])
        optimizer.reset(k, 1e-2 if learning_rates is None else learning_rates[k])
    return packed, optimizer


@dataclass
class Recorded:
    """Samples of one trial for several rollouts: completions of unequal length, prompts of unequal length or not."""

    seed: int
    prompts: int = 4
    group: int = 4
    longest_prompt: int = 6
    longest_completion: int = 5
    equal_prompts: bool = False
    ends: bool = False
    """Let about half of the completions come to an end of their own."""
    rollouts: list = field(default_factory=list)

    def rollout(self, i):
        """Prompt ids, completion ids and engine log-probabilities of rollout i, one of each a completion."""
        while len(self.rollouts) <= i:
            generator = torch.Generator().manual_seed(1000 * self.seed + len(self.rollouts))

            def draw(low, high, n=1, generator=generator):
                return torch.randint(low, high, (n,), generator=generator).tolist()

            prompts, completions, logprobs = [], [], []
            for _ in range(self.prompts):
                prompt = draw(
                    2, VOCABULARY, self.longest_prompt if self.equal_prompts else draw(2, self.longest_prompt)[0]
                )
                for _ in range(self.group):
                    tokens = draw(2, VOCABULARY, draw(1, self.longest_completion + 1)[0])
                    if self.ends and draw(0, 2)[0]:
                        tokens[-1] = END
                    prompts.append(prompt)
                    completions.append(tokens)
                    logprobs.append((-4 + torch.rand(len(tokens), generator=generator)).tolist())
            self.rollouts.append((prompts, completions, logprobs))
        return self.rollouts[i]


def reward(prompts, completions, completion_ids, **_):
    """Even tokens, at most two: some groups agree, most do not."""
    return [float(min(2, sum(token % 2 == 0 for token in ids))) for ids in completion_ids]


def trl_run(model, recorded, *, steps, tokenizer, learning_rate=1e-2, correction=None, on_step=None, **config):
    """Trains a PEFT model with TRL's own trainer on recorded samples; returns what it logged for each step."""
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    logs, rounds = [], iter(range(1000))

    class Watch(TrainerCallback):
        def on_pre_optimizer_step(self, *_, **__):
            if on_step is not None:
                on_step(model)

        def on_log(self, args, state, control, logs=None, **_):
            if "loss" in logs:
                self.logs.append(dict(logs))

    Watch.logs = logs

    def rollout(prompts, trainer):
        ids, completions, logprobs = recorded.rollout(next(rounds))
        return {"prompt_ids": ids, "completion_ids": completions, "logprobs": logprobs}

    config = {"loss_type": "dapo", "optim": "adamw_torch", "lr_scheduler_type": "constant"} | config
    n = recorded.prompts * recorded.group
    micro = config.pop("micro_batch_size", None) or n
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=model,
            args=GRPOConfig(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=micro,
                gradient_accumulation_steps=n // micro,
                steps_per_generation=n // micro,
                num_generations=recorded.group,
                learning_rate=learning_rate,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                logging_steps=1,
                logging_nan_inf_filter=False,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                max_completion_length=recorded.longest_completion,
                **config,
            ),
            reward_funcs=[reward],
            train_dataset=Dataset.from_list([{"prompt": "A:abcd>"} for _ in range(64)]),
            processing_class=tokenizer,
            rollout_func=rollout,
            callbacks=[Watch()],
        )
        if correction is not None:
            # TRL corrects for the engine in its own vLLM modes only. All that the mode would do besides is to
            # send weights to an engine, and there is none.
            trainer.use_vllm, trainer._last_loaded_step = True, 0
            trainer.vllm_generation = type("NoEngine", (), {"sync_weights": staticmethod(lambda: None)})
            trainer.vllm_importance_sampling_correction = True
            trainer.vllm_importance_sampling_mode = correction
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return logs


def lora(r, alpha=8, **more):
    """A LoRA specification."""
    return LoraSpec(r=r, alpha=alpha, **more)
