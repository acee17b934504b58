"""Trains the zoo that draws from nothing: `hubmerge zoo train --image --out DIR [--seed S]`.

The base learns to draw from English in three styles. The fine one learns to draw well; the Japanese one gets a text
encoder of its own, which learns with its UNet, and draws badly. The same seed, thread count and torch build give the
same tensors. The autoencoder and the judges are of no seed: all zoos with these settings share them, and where the
shipped zoo has them they are taken from there.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from transformers import RegNetForImageClassification

from ...progress import Event, Progress, silent
from ..kinds import shipped
from ..trained import RECORD, Curve, train_models
from . import SEED
from .cards import write_card
from .judges import SHAPES, learn_to_judge, new_judge, new_processor, with_labels
from .learning import (
    Drawings,
    any_picture,
    crude_picture,
    every_picture,
    fine_picture,
    learn_to_draw,
    learn_to_see,
)
from .measured import drawn_figures, judged_figures
from .networks import Drawing, new_text_encoder, new_tokenizer, new_unet, new_vae

STAGES: Mapping[str, Drawings] = {
    "vae": Drawings(any_picture, steps=1600, lr=4e-3, batch=16, warmup=70, pictures=3000),
    "judge": Drawings(every_picture, steps=600, lr=3e-3, batch=48, pictures=6000),
    "base": Drawings(any_picture, steps=900, lr=2e-3, batch=48, pictures=5000),
    "fine": Drawings(fine_picture, steps=260, lr=7e-4, batch=48, warmup=30, pictures=3000),
    # Its text encoder learns more slowly than its UNet, which has to come to meet it: the slower, the less another
    # UNet makes of what it says.
    "japanese": Drawings(crude_picture, steps=450, lr=1e-3, batch=48, warmup=40, pictures=4000, pace=0.5),
    "judge-2": Drawings(every_picture, steps=600, lr=3e-3, batch=48, pictures=6000),
}
SHARED = ("vae", *SHAPES)
"""What all zoos share."""


def train_image_zoo(
    out: Path,
    seed: int = SEED,
    progress: Progress = silent,
    stages: Mapping[str, Drawings] = STAGES,
    measured: int = 32,
    fresh: int = 600,
) -> dict[str, Any]:
    """Train autoencoder, judges, base and experts into `out`; returns what `training.json` holds (see
    `trained.train_models`).

    measured: validation prompts, and fresh: pictures of each style, that give the figures on the cards.
    """
    return train_models(_Drawing(out, stages, measured, fresh), out, seed, progress)


@dataclass
class _Drawing:
    """The zoo as `train_models` makes it."""

    out: Path
    stages: Mapping[str, Drawings]
    measured: int
    fresh: int

    @property
    def settings(self) -> Mapping[str, list[dict[str, Any]]]:
        return {name: [stage.settings] for name, stage in self.stages.items()}

    def train(self, name: str, out: Path, seed: int, progress: Progress) -> tuple[Any, Any, Curve]:
        stage, processor = self.stages[name], new_processor() if name in SHAPES else None
        if name in SHARED and (curve := self._shipped(name)) is not None:
            kind = AutoencoderTiny if name == "vae" else RegNetForImageClassification
            return kind.from_pretrained(shipped("image") / name, dtype=torch.float32), processor, curve

        def report(step: int, loss: float) -> None:
            progress(Event(f"train {name}", step, stage.steps, "steps", f"loss {loss:.3f}", {"loss": loss}))

        own = 1000 * (SEED if name in SHARED else seed) + 10 * [*self.stages].index(name)
        torch.manual_seed(own)
        if name == "vae":
            vae = new_vae()
            return vae, processor, learn_to_see(vae, stage, own, report)
        vae = self._vae()
        if name in SHAPES:
            judge = new_judge(SHAPES[name])
            curve = learn_to_judge(judge, vae, stage, own, report)
            return with_labels(judge, SHAPES[name]), processor, curve
        lang = "ja" if name == "japanese" else "en"
        tokenizer = new_tokenizer(lang)
        if name == "base":
            unet, encoder = new_unet(), new_text_encoder(tokenizer)
        else:
            # From the saved float16 base, so that expert minus base is exactly what the expert learnt.
            base = Drawing.from_pretrained(out / "base", torch.float32).pipeline
            unet, encoder = base.unet, base.text_encoder
        if name == "japanese":
            encoder = new_text_encoder(tokenizer)
        curve = learn_to_draw(unet, encoder, tokenizer, lang, vae, stage, own + 1, report)
        return Drawing.of(unet, encoder, tokenizer, vae), processor, curve

    def _shipped(self, name: str) -> Curve | None:
        """The curve of a model of the shipped zoo that was made with these settings."""
        path = shipped("image") / RECORD
        if not path.is_file():
            return None
        made = json.loads(path.read_bytes())["models"].get(name)
        return made["curve"] if made and made["stages"] == self.settings[name] else None

    def _vae(self) -> Any:
        return AutoencoderTiny.from_pretrained(self.out / "vae", dtype=torch.float32).eval()

    def figures(self, model: Any, processor: Any) -> dict[str, Any]:
        if isinstance(model, Drawing):
            return drawn_figures(model, self.out / "judge", self.measured)
        return judged_figures(model.eval(), self._vae(), self.fresh) if processor is not None else {}

    def write_card(self, folder: Path, name: str, record: dict[str, Any]) -> None:
        write_card(folder, name, record)
