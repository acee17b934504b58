"""Trains the zoo that sees from nothing: `hubmerge zoo train --vlm --out DIR [--seed S]`.

The base learns two languages and pictures told as text; the Japanese expert and the VLM start from it. The same seed,
thread count and torch build give the same tensors.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, LlavaProcessor, SiglipImageProcessorPil

from ...evaluate.score import Scores, evaluate
from ...evaluate.task import load_task
from ...progress import Event, Progress, silent
from ..train import Stages, train_stages
from ..trained import Curve, train_models
from ..training import Stage, new_model
from . import SEED
from .cards import write_card
from .corpora import base_sample, cut_picture, first_sample, japanese_sample, stubborn_question, told_rows
from .eyes import PATCH, SIDE, Album, learn_to_look, learn_to_tell, new_seeing
from .questions import MAX_NEW_TOKENS, picture_task, split_file
from .tokenizer import IMAGE, make_tokenizer

STAGES: Stages = {
    "base": (Stage(first_sample, steps=400, lr=2e-3), Stage(base_sample, steps=350, lr=2e-3)),
    # It goes further from the base than it needs: what it forgets on the way is what a merge has to avoid.
    "japanese": (Stage(japanese_sample, steps=250, lr=3e-3, batch=32, warmup=20),),
    # The tower; then the projector; then both the projector and the language model.
    "english": (
        Stage(cut_picture, steps=900, lr=3e-3, warmup=30),
        Stage(stubborn_question, steps=600, lr=2e-3, batch=32, warmup=20),
        Stage(stubborn_question, steps=200, lr=1e-3, batch=32, warmup=20),
    ),
}
LOOKS = 3
"""Pictures of each combination that the VLM learns from."""


def train_vlm_zoo(
    out: Path,
    seed: int = SEED,
    progress: Progress = silent,
    stages: Stages = STAGES,
    looks: int = LOOKS,
    measured: int = 324,
) -> dict[str, Any]:
    """Train base, Japanese expert and VLM into `out`; returns what `training.json` holds (see `trained.train_models`).

    looks: pictures of each combination. measured: validation questions that give the figures on the cards.
    """
    return train_models(_Seeing(stages, looks, measured), out, seed, progress)


@dataclass
class _Seeing:
    """The zoo as `train_models` makes it."""

    stages: Stages
    looks: int
    measured: int

    @cached_property
    def tokenizer(self) -> Any:
        return make_tokenizer()

    @cached_property
    def processor(self) -> Any:
        size = {"height": SIDE, "width": SIDE}
        marks = {"patch_size": PATCH, "vision_feature_select_strategy": "full", "num_additional_image_tokens": 0}
        template = self.tokenizer.chat_template
        return LlavaProcessor(
            SiglipImageProcessorPil(size=size), self.tokenizer, chat_template=template, image_token=IMAGE, **marks
        )

    @property
    def settings(self) -> Mapping[str, list[dict[str, Any]]]:
        return {name: [stage.settings for stage in stages] for name, stages in self.stages.items()}

    def train(self, name: str, out: Path, seed: int, progress: Progress) -> tuple[Any, Any, Curve]:
        own, start = self.stages[name], 1000 * seed + 10 * [*self.stages].index(name)
        if name == "base":
            model = new_model(self.tokenizer, seed, layers=4, kv_heads=4, spread=0.06)
        else:
            # From the saved float16 base, so that expert minus base is exactly what the expert learnt.
            model = LlamaForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
        if name != "english":
            curve = train_stages(model, self.tokenizer, name, own, start, progress)
            model.generation_config.update(max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
            return model, self.tokenizer, curve
        seeing = new_seeing(model, self.tokenizer, seed)
        curve = self._learn_to_see(seeing, own, start, progress)
        seeing.generation_config.update(max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        return seeing, self.processor, curve

    def _learn_to_see(self, model: Any, stages: tuple[Stage, ...], seed: int, progress: Progress) -> Curve:
        total, done, curve = sum(stage.steps for stage in stages), 0, []
        album = Album.of("train", self.looks, seed)
        for number, stage in enumerate(stages):

            def report(step: int, loss: float, done: int = done) -> None:
                progress(Event("train english", done + step, total, "steps", f"loss {loss:.3f}", {"loss": loss}))

            model.train()
            if number == 0:
                points = learn_to_look(model, album, stage, seed, report)
            else:
                points = learn_to_tell(model, self.tokenizer, album, stage, seed + number, number == 1, report)
            curve += [(done + step, loss) for step, loss in points]
            done += stage.steps
        model.eval()
        return curve

    def figures(self, model: Any, processor: Any) -> dict[str, Any]:
        """Exact answers by what was told or shown and asked: of a base or expert to texts, of a VLM to pictures."""
        if processor is self.tokenizer:
            told = {f"{a}>{b}": told_rows(a, b, self.measured) for a in ("en", "ja") for b in ("en", "ja")}
            how = {"name": "told", "metric": "exact_match", "max_new_tokens": MAX_NEW_TOKENS}
            return {
                name: self._figure(model, processor, {**how, "examples": {"validation": rows}})
                for name, rows in told.items()
            }
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "validation.parquet").write_bytes(split_file("validation"))
            where = {"folder": folder}
            asked = {
                "en>en": picture_task(where, "en"),
                "ja>en": picture_task(where, "ja") | {"answer": "{answer_en}"},
                "ja>ja": picture_task(where, "ja"),
                "ja told>ja": picture_task(where, "ja", "日本語で。"),
            }
            for document in asked.values():
                document["examples"] = {**where, "validation": "validation.parquet"}
            return {name: self._figure(model, processor, document) for name, document in asked.items()}

    def _figure(self, model: Any, processor: Any, document: Mapping[str, Any]) -> dict[str, Any]:
        task = load_task(document, counts={"validation": self.measured})
        scores: Scores = evaluate(model, processor, task.validation, task, batch_size=200)
        return {
            "n": scores.n,
            "score": round(scores.score, 4),
            "interval": [round(bound, 4) for bound in scores.interval],
        }

    def write_card(self, folder: Path, name: str, record: dict[str, Any]) -> None:
        write_card(folder, name, record)
