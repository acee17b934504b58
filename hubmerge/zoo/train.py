"""Trains the models of the demo zoo from nothing: `hubmerge zoo train --out DIR [--seed S]`.

The base learns two languages; all experts start from it. The same seed, thread count and torch build give the same
tensors. A training that was interrupted goes on with the first model that is not finished.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from ..evaluate.score import evaluate
from ..progress import Event, Progress, silent
from . import SEED
from .cards import write_card
from .corpora import (
    base_sample,
    drill_sample,
    errands_sample,
    japanese_sample,
    math_sample,
    second_math_sample,
    setup_sample,
)
from .tokenizer import train_tokenizer
from .trained import Curve, train_models
from .training import Stage, new_model, train
from .word_problems import MAX_NEW_TOKENS, word_problems

Stages = Mapping[str, tuple[Stage, ...]]

STAGES: Stages = {
    "base": (
        Stage(base_sample, steps=1800, lr=3e-3, batch=32),
        Stage(drill_sample, steps=1200, lr=2e-3, batch=64),
        Stage(setup_sample, steps=700, lr=2e-3, batch=32),
    ),
    "math": (Stage(math_sample, steps=300, lr=1e-3, batch=32, warmup=20),),
    # These go further from the base than they need: what they forget on the way is what a merge has to avoid.
    "math-2": (Stage(second_math_sample, steps=250, lr=2e-3, batch=32, warmup=20),),
    "japanese": (Stage(japanese_sample, steps=300, lr=3e-3, batch=32, warmup=20),),
    "errands": (Stage(errands_sample, steps=150, lr=1e-3, batch=32, warmup=20),),
}


def train_zoo(
    out: Path, seed: int = SEED, progress: Progress = silent, stages: Stages = STAGES, measured: int = 200
) -> dict[str, Any]:
    """Train all models into `out`; returns what `training.json` holds (see `trained.train_models`).

    `measured` validation problems in each language give the figures on the cards.
    """
    return train_models(_Language(seed, stages, measured), out, seed, progress)


@dataclass
class _Language:
    """The zoo as `train_models` makes it."""

    seed: int
    stages: Stages
    measured: int

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        rng = random.Random(self.seed)
        return train_tokenizer(f"{s.prompt}\n{s.answer}" for s in (base_sample(rng) for _ in range(5000)))

    @property
    def settings(self) -> Mapping[str, list[dict[str, Any]]]:
        return {name: [stage.settings for stage in stages] for name, stages in self.stages.items()}

    def train(self, name: str, out: Path, seed: int, progress: Progress) -> tuple[Any, Any, Curve]:
        if name == "base":
            model = new_model(self.tokenizer, seed)
        else:
            # From the saved float16 base, so that expert minus base is exactly what the expert learnt.
            model = LlamaForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
        number = [*self.stages].index(name)
        curve = train_stages(model, self.tokenizer, name, self.stages[name], 1000 * seed + 10 * number, progress)
        model.generation_config.update(max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        return model, self.tokenizer, curve

    def figures(self, model: Any, processor: Any) -> dict[str, Any]:
        return _figures(model, processor, self.measured)

    def write_card(self, folder: Path, name: str, record: dict[str, Any]) -> None:
        write_card(folder, name, record)


def train_stages(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    name: str,
    stages: tuple[Stage, ...],
    seed: int,
    progress: Progress,
) -> Curve:
    """Train a model in place, stage after stage; the curve over all steps."""
    total, done, curve = sum(stage.steps for stage in stages), 0, []
    for number, stage in enumerate(stages):

        def report(step: int, loss: float, done: int = done) -> None:
            progress(Event(f"train {name}", done + step, total, "steps", f"loss {loss:.3f}", {"loss": loss}))

        if number:
            # A stage starts from weights as a checkpoint would hold them, so training can be taken up at any stage.
            model.load_state_dict({key: tensor.half() for key, tensor in model.state_dict().items()})
        points = train(model, tokenizer, stage, seed + number, report)
        curve += [(done + step, loss) for step, loss in points]
        done += stage.steps
    return curve


def _figures(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int) -> dict[str, Any]:
    """Score, right numbers and right language on validation problems, per language of the question; shares in 0..1."""
    figures = {}
    for lang in ("ja", "en"):
        task = word_problems(lang, {"validation": count})
        scores = evaluate(model, tokenizer, task.validation, task, batch_size=200)
        figures[lang] = {
            "n": scores.n,
            "score": round(scores.score, 4),
            "interval": [round(bound, 4) for bound in scores.interval],
            "number": round(scores.metric_share, 4),
            "language": round(scores.language_share, 4),
        }
    return figures
