"""What is measured of the zoo's models as they are trained: by validation prompts, and on fresh pictures."""

import random
from pathlib import Path
from typing import Any

import torch

from ...evaluate.drawing import Painter
from ...evaluate.score import evaluate
from ...evaluate.statistics import interval
from ...evaluate.task import load_task
from .learning import Album, Drawings, every_picture
from .networks import Drawing
from .prompts import drawing_task, rows
from .world import STYLES, labels


def drawn_figures(model: Drawing, judge: Path, prompts: int) -> dict[str, Any]:
    """The share of pictures that are right and fine, of validation prompts in English and Japanese."""
    pipeline = model.pipeline
    painter = Painter(pipeline, {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder})
    found = {}
    for lang in ("en", "ja"):
        looks = {"model": str(judge), "value": "right"}
        document = drawing_task({"validation": rows("validation")}, "", lang, classifier=looks)
        task = load_task(document, counts={"validation": prompts})
        scores = evaluate(painter, None, task.validation, task, batch_size=64)
        found[lang] = {
            "n": scores.n,
            "score": round(scores.score, 4),
            "interval": [round(bound, 4) for bound in scores.interval],
        }
    return found


@torch.no_grad()
def judged_figures(judge: Any, vae: Any, pictures: int) -> dict[str, Any]:
    """The share of fresh pictures, drawn by the autoencoder, that a judge names whole, by style."""
    names, found = [*labels()], {}
    for style in STYLES:
        stage = Drawings(every_picture, 0, 0.0, pictures=pictures)
        album = Album.of(stage, random.Random(f"fresh {style}").randrange(2**32), style)
        back = vae.decode(vae.encode(album.pixels).latents).sample.clamp(-1, 1)
        said = judge(back).logits.argmax(-1).tolist()
        right = [float(names[one] == scene.label(style)) for one, (scene, _) in zip(said, album.shown, strict=True)]
        found[style] = {"n": pictures, "score": round(sum(right) / pictures, 4), "interval": list(interval(right))}
    return found
