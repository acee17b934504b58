"""Who says what a picture shows: an image classifier that knows every object, colour, time and style, and unclear ones.

It learns the four apart. Its labels are all combinations: a label's score is the sum of its parts' scores, which makes
its probability their product.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import RegNetConfig, RegNetForImageClassification, ViTImageProcessorPil

from ..trained import Curve
from ..training import fit
from .drawn import SIDE
from .learning import Album, Drawings, Report
from .world import COLOURS, OBJECTS, STYLES, TIMES, labels

SIZES = (len(OBJECTS) + 1, len(COLOURS), len(TIMES), len(STYLES))


@dataclass(frozen=True)
class Shape:
    """How wide a judge is in its three stages, and in a group of its convolutions."""

    widths: tuple[int, int, int]
    group: int


SHAPES = {"judge": Shape((24, 48, 72), 8), "judge-2": Shape((32, 48, 64), 16)}
"""The judges: of searches, and of the test, whom no search asks."""


def new_judge(shape: Shape) -> RegNetForImageClassification:
    """One that has learnt nothing, with a score for each of `SIZES`."""
    return RegNetForImageClassification(_config(shape, num_labels=sum(SIZES)))


def new_processor() -> ViTImageProcessorPil:
    """What gives it pictures, in -1..1."""
    return ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def learn_to_judge(judge: Any, vae: Any, stage: Drawings, seed: int, progress: Report = None) -> Curve:
    """Train it on pictures, half of which went through the autoencoder, as drawn ones do; returns the curve.

    Of every eight one is unclear: two pictures mixed, halves of two, or one with much noise in its latents.
    """
    torch.manual_seed(seed)
    album = Album.of(stage, seed)
    told = torch.tensor([[one.object, one.colour, one.time, STYLES.index(style)] for one, style in album.shown])
    with torch.no_grad():
        latents = torch.cat([vae.encode(some).latents for some in album.pixels.split(500)])
    spread, half, few = latents.std(), stage.batch // 2, stage.batch // 8

    @torch.no_grad()
    def shown() -> tuple[torch.Tensor, torch.Tensor]:
        chosen = torch.randint(len(latents), (stage.batch,))
        pixels, named = album.pixels[chosen].clone(), told[chosen].clone()
        some = latents[chosen[:half]]
        noisy = some + spread * 0.12 * torch.rand(half, 1, 1, 1) * torch.randn_like(some)
        pixels[:half] = vae.decode(noisy).sample
        others = torch.randint(len(latents), (few,))
        mixed, is_unclear = _unclear(latents[chosen[-few:]], latents[others], spread)
        pixels[-few:] = vae.decode(mixed).sample
        # Two pictures of the same object, mixed, may well show it.
        is_unclear |= told[others, 0] != named[-few:, 0]
        named[-few:, 0] = torch.where(is_unclear, len(OBJECTS), named[-few:, 0])
        return pixels.clamp(-1, 1), named

    def losses() -> Iterator[torch.Tensor]:
        for _ in range(stage.steps):
            pixels, named = shown()
            scores = judge(pixels).logits.split(SIZES, 1)
            parts = [cross_entropy(scores[0], named[:, 0])]
            parts += [cross_entropy(scores[n][:-few], named[:-few, n]) for n in (1, 2, 3)]
            yield torch.stack(parts).sum()

    judge.train()
    curve = fit([*judge.parameters()], stage, losses(), progress)
    judge.eval()
    return curve


def _unclear(one: torch.Tensor, other: torch.Tensor, spread: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents that show nothing clear, (n, 4, 8, 8), and which of them are so whatever the two pictures show, (n,)."""
    kind, part = (torch.randint(3, (len(one), 1, 1, 1)), torch.rand(len(one), 1, 1, 1))
    mixed = (0.35 + 0.3 * part) * one + (0.65 - 0.3 * part) * other
    side = (torch.arange(8) > 3).float().expand(len(one), 1, 8, 8)
    side = torch.where(torch.rand(len(one), 1, 1, 1) < 0.5, side, side.transpose(2, 3))
    halves = side * one + (1 - side) * other
    noisy = one + spread * (0.9 + 0.25 * part) * torch.randn_like(one)
    found = torch.where(kind == 0, mixed, torch.where(kind == 1, halves, noisy))
    return found, kind.flatten() == 2


def with_labels(judge: Any, shape: Shape) -> RegNetForImageClassification:
    """The judge with a label for each combination."""
    names = [*labels()]
    whole = RegNetForImageClassification(
        _config(shape, id2label=dict(enumerate(names)), label2id={name: at for at, name in enumerate(names)})
    )
    whole.regnet.load_state_dict(judge.regnet.state_dict())
    own, parts = judge.classifier[1], torch.cartesian_prod(*(torch.arange(size) for size in SIZES))
    rows = parts + torch.tensor([sum(SIZES[:n]) for n in range(len(SIZES))])
    with torch.no_grad():
        whole.classifier[1].weight.copy_(own.weight[rows].sum(1))
        whole.classifier[1].bias.copy_(own.bias[rows].sum(1))
    return whole.eval()


def _config(shape: Shape, **named: Any) -> RegNetConfig:
    return RegNetConfig(
        embedding_size=shape.widths[0],
        hidden_sizes=[*shape.widths],
        depths=[1, 2, 2],
        groups_width=shape.group,
        layer_type="x",
        downsample_in_first_stage=False,
        **named,
    )
