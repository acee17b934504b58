"""The VLM of the zoo that sees: a LLaVA over a small SigLIP tower and the base, and how it learns.

First the tower learns what lies in each cell, by labels. Then the projector learns to tell it to the base, whose
weights stay. Last the language model is tuned a little, but for its embeddings: so what it is told of a picture stays
readable for the base's other offspring.
"""

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)

from ..trained import Curve
from ..training import Stage, answer_loss, batches, encode, fit
from .drawn import draw
from .tokenizer import IMAGE
from .world import COLOURS, PLACES, SIZES, THINGS, Scene, scenes

SIDE, PATCH = 96, 32
"""Pixels of a picture as the tower sees it, and of one of its nine patches: a cell."""
CELLS = (SIDE // PATCH) ** 2
Report = Callable[[int, float], None] | None


@dataclass(frozen=True)
class Album:
    """Pictures to learn from, each scene in several looks: what each shows, and uint8 (n, 3, SIDE, SIDE)."""

    scenes: tuple[Scene, ...]
    pixels: torch.Tensor

    @classmethod
    def of(cls, split: str, looks: int, seed: int) -> "Album":
        """Every combination of a split."""
        import numpy
        from PIL import Image

        rng, shown = random.Random(seed), scenes(split) * looks
        small = (draw(one, rng).image.resize((SIDE, SIDE), Image.Resampling.BICUBIC) for one in shown)
        return cls(shown, torch.stack([torch.from_numpy(numpy.array(image)).permute(2, 0, 1) for image in small]))

    def looks(self) -> Mapping[Scene, Sequence[int]]:
        """Which pictures show a scene."""
        once = len(set(self.scenes))
        return {scene: range(at, len(self.scenes), once) for at, scene in enumerate(self.scenes[:once])}


def new_seeing(base: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlavaForConditionalGeneration:
    """The base with eyes that have learnt nothing."""
    torch.manual_seed(seed)
    vision = SiglipVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        vision_use_head=False,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=copy.deepcopy(base.config),
        image_token_id=tokenizer.vocab[IMAGE],
        image_seq_length=CELLS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(base.model.state_dict())
    model.tie_weights()
    return model


def learn_to_look(model: Any, album: Album, stage: Stage, seed: int, progress: Report = None) -> Curve:
    """Train the tower to name place, thing, size and colour of each cell; returns the curve.

    It looks at pictures that were cut up and put together anew, half of their cells empty. Of whole ones it would learn
    by heart which things are where, and see no others.
    """
    torch.manual_seed(seed)
    rng, tower, looks = random.Random(seed), model.model.vision_tower, album.looks()
    sizes = (len(PLACES), len(THINGS) + 1, len(SIZES) + 1, len(COLOURS) + 1)
    head = torch.nn.Linear(tower.config.hidden_size, sum(sizes))
    known = torch.tensor([[one.thing, one.size, one.colour] for one in album.scenes])
    filled = torch.tensor([one.place for one in album.scenes])
    cut = album.pixels.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)

    def losses() -> Iterator[torch.Tensor]:
        for _ in range(stage.steps):
            cells = [[rng.choice(looks[stage.sampler(rng)]) for _ in range(CELLS)] for _ in range(stage.batch)]
            shown = torch.tensor(cells)
            empty = torch.rand(stage.batch, CELLS) < 0.5
            pieces = cut[shown, (filled[shown] + empty * torch.randint(1, CELLS, empty.shape)) % CELLS]
            rows = pieces.unflatten(1, (3, 3)).permute(0, 3, 1, 4, 2, 5).reshape(stage.batch, 3, SIDE, SIDE)
            moved = rows.roll((rng.randint(-2, 2), rng.randint(-2, 2)), (2, 3))
            nothing = torch.tensor([size - 1 for size in sizes[1:]])
            named = torch.where(empty[..., None], nothing, known[shown])
            labels = torch.cat([torch.arange(CELLS).expand(stage.batch, -1)[..., None], named], 2).flatten(0, 1)
            found = head(_features(tower, moved)).flatten(0, 1).split(sizes, 1)
            parts = [torch.nn.functional.cross_entropy(one, labels[:, n]) for n, one in enumerate(found)]
            yield torch.stack(parts).sum()

    return fit([*tower.parameters(), *head.parameters()], stage, losses(), progress)


def learn_to_tell(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    album: Album,
    stage: Stage,
    seed: int,
    projector_only: bool,
    progress: Report = None,
) -> Curve:
    """Train projector, or projector and language model but for its embeddings, on English questions; the curve."""
    rng, inner, looks = random.Random(seed), model.model, album.looks()
    with torch.no_grad():
        features = torch.cat([_features(inner.vision_tower, some) for some in album.pixels.split(256)])
    asked = [stage.sampler(rng) for _ in range(stage.steps * stage.batch)]
    marks = IMAGE * CELLS
    encoded = encode(tokenizer, [sample._replace(prompt=marks + sample.prompt) for _, sample in asked])
    shown = [rng.choice(looks[scene]) for scene, _ in asked]
    image = tokenizer.vocab[IMAGE]

    def losses() -> Iterator[torch.Tensor]:
        for tokens, labels, rows in batches(encoded, stage.batch, rng, tokenizer.pad_token_id):
            embedded = inner.language_model.embed_tokens(tokens)
            told = inner.multi_modal_projector(features[[shown[row] for row in rows]])
            embedded = embedded.masked_scatter((tokens == image)[..., None], told)
            hidden = inner.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
            yield answer_loss(model, hidden, labels)

    chosen = [*inner.multi_modal_projector.parameters()]
    if not projector_only:
        chosen += [one for name, one in inner.language_model.named_parameters() if "embed" not in name]
    for one in model.parameters():
        one.requires_grad_(False)
    for one in chosen:
        one.requires_grad_(True)
    curve = fit(chosen, stage, losses(), progress)
    for one in model.parameters():
        one.requires_grad_(True)
    return curve


def _features(tower: Any, pixels: torch.Tensor) -> torch.Tensor:
    """What a LLaVA's projector is given of pictures in uint8: (n, CELLS, width)."""
    return tower(pixel_values=pixels / 127.5 - 1, output_hidden_states=True).hidden_states[-1]
