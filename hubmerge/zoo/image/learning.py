"""How the networks of the zoo that draws learn: an autoencoder of pictures, then to draw what a prompt says.

What is kept of a training is the moving average of its weights.
"""

import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import l1_loss, mse_loss

from ..trained import Curve
from ..training import Stage, fit
from .drawn import draw
from .networks import new_scheduler, token_ids
from .world import FRAMES, STYLES, Scene, every_scene, known_scenes

Report = Callable[[int, float], None] | None
Shown = tuple[Scene, str]
_SLOWEST = 0.99
"""What a moving average keeps of itself at a step, at most."""


@dataclass(frozen=True)
class Drawings(Stage):
    """A stretch of training on `pictures` pictures; `pace`: the text encoder's rate, in parts of the UNet's."""

    pictures: int = 6000
    pace: float = 1.0


def any_picture(rng: random.Random) -> Shown:
    """A known combination in any style."""
    return rng.choice(known_scenes()), rng.choice(STYLES)


def fine_picture(rng: random.Random) -> Shown:
    """A known combination, drawn well."""
    return rng.choice(known_scenes()), "fine"


def crude_picture(rng: random.Random) -> Shown:
    """A known combination, drawn badly."""
    return rng.choice(known_scenes()), "crude"


_EVERY = tuple(every_scene())


def every_picture(rng: random.Random) -> Shown:
    """Any combination in any style: what judges learn from."""
    return rng.choice(_EVERY), rng.choice(STYLES)


@dataclass(frozen=True)
class Album:
    """Pictures to learn from: what each shows, and float32 (n, 3, 32, 32) in -1..1."""

    shown: tuple[Shown, ...]
    pixels: torch.Tensor

    @classmethod
    def of(cls, stage: Drawings, seed: int, style: str | None = None) -> "Album":
        """The pictures of a stage; `style`: of all of them."""
        import numpy

        rng, look = random.Random(seed), numpy.random.default_rng(seed)
        sampled = (stage.sampler(rng) for _ in range(stage.pictures))
        shown = tuple((scene, style or own) for scene, own in sampled)
        pixels = numpy.stack([draw(scene, style, look) for scene, style in shown])
        return cls(shown, torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1)


@torch.no_grad()
def encode(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Latents of pictures as a UNet sees them: float32 (n, 4, 8, 8) of standard deviation 1."""
    return torch.cat([vae.encode(some).latents for some in pixels.split(500)]) * vae.config.scaling_factor


def learn_to_see(vae: Any, stage: Drawings, seed: int, progress: Report = None) -> Curve:
    """Train the autoencoder; neighbours of a latent look alike. Returns the curve."""
    torch.manual_seed(seed)
    pixels = Album.of(stage, seed).pixels

    def losses() -> Iterator[torch.Tensor]:
        for _ in range(stage.steps):
            some = pixels[torch.randint(len(pixels), (stage.batch,))]
            latents = vae.encode(some).latents
            back = vae.decode(latents + 0.03 * torch.randn_like(latents)).sample
            yield l1_loss(back, some) + mse_loss(back, some) + 1e-3 * latents.square().mean()

    curve = fit([*vae.parameters()], stage, losses(), progress)
    with torch.no_grad():
        vae.register_to_config(scaling_factor=float(1 / vae.encode(pixels[:1000]).latents.std()))
    return curve


def learn_to_draw(
    unet: Any, text_encoder: Any, tokenizer: Any, lang: str, vae: Any, stage: Drawings, seed: int, report: Report = None
) -> Curve:
    """Train UNet and text encoder in place, on prompts in a language; returns the curve."""
    torch.manual_seed(seed)
    album = Album.of(stage, seed)
    latents = encode(vae, album.pixels)
    ids = token_ids(tokenizer, (scene.say(frame, lang) for frame in FRAMES for scene in _EVERY)).unflatten(0, (2, -1))
    places = torch.tensor([_EVERY.index(scene) for scene, _ in album.shown])
    parts, noising = (unet, text_encoder), new_scheduler()
    kept = [copy.deepcopy(part) for part in parts]
    for part in parts:
        part.train()

    def losses() -> Iterator[torch.Tensor]:
        for step in range(stage.steps):
            chosen = torch.randint(len(latents), (stage.batch,))
            clean = latents[chosen]
            noise, times = torch.randn_like(clean), torch.randint(0, 1000, (stage.batch,))
            texts = text_encoder(ids[torch.randint(len(FRAMES), (stage.batch,)), places[chosen]])[0]
            found = unet(noising.add_noise(clean, noise, times), times, texts).sample
            yield mse_loss(found, noising.get_velocity(clean, noise, times))
            _follow(kept, parts, min(_SLOWEST, (step + 1) / (step + 10)))

    groups: list[dict[str, Any]] = [
        {"params": [*part.parameters()], "pace": pace} for part, pace in zip(parts, (1.0, stage.pace), strict=True)
    ]
    curve = fit(groups, stage, losses(), report)
    for part, average in zip(parts, kept, strict=True):
        part.load_state_dict(average.state_dict())
        part.eval()
    return curve


@torch.no_grad()
def _follow(averages: list[Any], parts: tuple[Any, ...], keeps: float) -> None:
    for average, part in zip(averages, parts, strict=True):
        torch._foreach_lerp_([*average.parameters()], [*part.parameters()], 1 - keeps)
