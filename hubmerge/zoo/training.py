"""Training one tiny Llama on a stream of samples: batching by length, loss on the answer only, cosine learning rate."""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .corpora import Sample
from .tokenizer import ASSISTANT, END, USER

IGNORED = -100


@dataclass(frozen=True)
class Stage:
    """One stretch of training: `steps` batches of `batch` samples from `sampler` at peak learning rate `lr`."""

    sampler: Callable[[random.Random], Any]
    steps: int
    lr: float
    batch: int = 64
    warmup: int = 50

    @property
    def settings(self) -> dict[str, str | int | float]:
        """All of it as plain values; the sampler by its name."""
        return {**vars(self), "sampler": self.sampler.__name__}


def new_model(
    tokenizer: PreTrainedTokenizerFast, seed: int, layers: int = 8, kv_heads: int = 2, spread: float = 0.02
) -> LlamaForCausalLM:
    """A freshly initialised Llama over the tokenizer's vocabulary, with tied embeddings.

    spread: the standard deviation of its weights.
    """
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=kv_heads,
            intermediate_size=224,
            initializer_range=spread,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    stage: Stage,
    seed: int,
    progress: Callable[[int, float], None] | None = None,
) -> list[tuple[int, float]]:
    """Train `model` in place; its curve: (step, mean loss in nats a token) of every 50 steps."""
    rng = random.Random(seed)
    encoded = encode(tokenizer, [stage.sampler(rng) for _ in range(stage.steps * stage.batch)])

    def losses() -> Iterator[torch.Tensor]:
        for tokens, labels, _ in batches(encoded, stage.batch, rng, tokenizer.pad_token_id):
            yield answer_loss(model, model.model(input_ids=tokens, use_cache=False).last_hidden_state, labels)

    model.train()
    curve = fit(list(model.parameters()), stage, losses(), progress)
    model.eval()
    return curve


def answer_loss(model: Any, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean loss in nats a token of the answers; `hidden`: (size, longest, width), `labels`: (size, longest)."""
    hidden, targets = hidden[:, :-1], labels[:, 1:]
    answered = targets != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[answered]), targets[answered])


def fit(
    parameters: list[torch.nn.Parameter] | list[dict[str, Any]],
    stage: Stage,
    losses: Iterator[torch.Tensor],
    progress: Callable[[int, float], None] | None = None,
) -> list[tuple[int, float]]:
    """Train `parameters` in place, a step for each loss that is made; the curve as of `train`.

    They may be in groups of torch, each with a `pace`: its learning rate in parts of the stage's.
    """
    optimizer = torch.optim.AdamW(parameters, lr=stage.lr, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    every = [one for group in optimizer.param_groups for one in group["params"]]
    curve, recent = [], []
    for step, loss in enumerate(losses, 1):
        rate = (
            stage.lr
            * min(1.0, step / stage.warmup)
            * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / stage.steps)))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("pace", 1.0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(every, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss.item())
        if step % 50 == 0 or step == stage.steps:
            curve.append((step, round(sum(recent) / len(recent), 4)))
            recent = []
            if progress:
                progress(*curve[-1])
    return curve


def encode(tokenizer: PreTrainedTokenizerFast, samples: list[Sample]) -> list[tuple[list[int], int]]:
    """Token ids of each sample in the chat template, and how many of them are the prompt."""
    user, assistant, end = (tokenizer.vocab[token] for token in (USER, ASSISTANT, END))
    prompts = tokenizer([sample.prompt for sample in samples], add_special_tokens=False)["input_ids"]
    answers = tokenizer([sample.answer for sample in samples], add_special_tokens=False)["input_ids"]
    return [
        ([user, *prompt, end, assistant, *answer, end], len(prompt) + 3)
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def batches(
    encoded: list[tuple[list[int], int]], size: int, rng: random.Random, pad: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[int]]]:
    """Batches of similar length in random order: token ids and labels, both int64 (size, longest), and their places in
    `encoded`."""
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i][0]) + rng.random())
    groups = [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
    rng.shuffle(groups)
    for group in groups:
        longest = max(len(encoded[i][0]) for i in group)
        tokens = torch.full((size, longest), pad)
        labels = torch.full((size, longest), IGNORED)
        for row, i in enumerate(group):
            ids, prompt = encoded[i]
            tokens[row, : len(ids)] = torch.tensor(ids)
            labels[row, prompt : len(ids)] = torch.tensor(ids[prompt:])
        yield tokens, labels, group
