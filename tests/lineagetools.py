"""A Hub of made-up models: chains, diamonds, models that name no parent, and models that name a wrong one."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from hubtools import publish
from safetensors.numpy import save

Weights = dict[str, np.ndarray]
NAMES = [f"model.layers.{layer}.{name}.weight" for layer in (0, 1) for name in ("mlp.up_proj", "self_attn.q_proj")]
ROWS, WIDTH = 24, 48
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "vocab_size": 32}


@dataclass
class Made:
    """A model: its weights, what it really comes from at the root, and its card's parents."""

    repo_id: str
    weights: Weights = field(repr=False)
    root: str
    said: list[str]
    truth: list[str]


def beginning(seed: int) -> Weights:
    """Weights that nothing else has."""
    draw = np.random.default_rng(seed)
    made = {name: draw.standard_normal((ROWS, WIDTH)).astype(np.float32) for name in NAMES}
    return made | {"model.embed_tokens.weight": draw.standard_normal((32, WIDTH)).astype(np.float32)}


def tuned(weights: Weights, seed: int, much: float = 0.05) -> Weights:
    """The same with a little of its own."""
    draw = np.random.default_rng(seed)
    return {name: one + (much * draw.standard_normal(one.shape)).astype(np.float32) for name, one in weights.items()}


def drawing(seed: int) -> Weights:
    """Those of a network that draws, whose blocks are numbered otherwise."""
    draw = np.random.default_rng(seed + 500)
    names = [f"{side}_blocks.{block}.resnets.0.conv1.weight" for side in ("down", "up") for block in (0, 1)]
    return {name: draw.standard_normal((8, 8, 3, 3)).astype(np.float32) for name in names}


def pipeline(parts: Mapping[str, Weights]) -> dict[str, bytes]:
    """The files of a pipeline of these parts: `text_encoder` is one of transformers, the others of diffusers."""
    found, index = {}, {"_class_name": "StableDiffusionPipeline"}
    for part, weights in parts.items():
        speaks = part == "text_encoder"
        index[part] = ["transformers", "CLIPTextModel"] if speaks else ["diffusers", "UNet2DConditionModel"]
        config = CONFIG if speaks else {"_class_name": "UNet2DConditionModel"}
        stem = "model" if speaks else "diffusion_pytorch_model"
        found[f"{part}/config.json"] = json.dumps(config).encode()
        found[f"{part}/{stem}.safetensors"] = save(weights, {"format": "pt"})
    return found | {"model_index.json": json.dumps(index).encode()}


def files(weights: Weights, said: list[str]) -> Mapping[str, bytes]:
    card = f"---\nlicense: mit\n{f'base_model: {json.dumps(said)}' if said else ''}\n---\n# A model\n"
    return {
        "config.json": json.dumps(CONFIG).encode(),
        "README.md": card.encode(),
        "model.safetensors": save(weights, {"format": "pt"}),
    }


def population(
    count: int, owner: str, roots: int, silent: float = 0.2, wrong: float = 0.05, seed: int = 0
) -> Iterator[Made]:
    """Models, each after those that it comes from: `roots` beginnings, then tuned ones and merges of two of one root;
    a share names no parent, and another one of another root."""
    draw = random.Random(seed)
    made: list[Made] = []
    for number in range(count):
        name = f"{owner}/m{number:04d}"
        if number < roots:
            one = Made(name, beginning(seed * 1000 + number), name, [], [])
        else:
            first = draw.choice(made)
            of = [first]
            siblings = [other for other in made if other.root == first.root and other is not first]
            if siblings and draw.random() < 0.25:
                of.append(draw.choice(siblings))
            mixed = {key: sum(each.weights[key] for each in of) / len(of) for key in first.weights}
            said = [each.repo_id for each in of]
            luck = draw.random()
            if luck < silent:
                said = []
            elif luck < silent + wrong:
                said = [draw.choice([other.repo_id for other in made if other.root != first.root])]
            one = Made(name, tuned(mixed, number), first.root, said, [each.repo_id for each in of])
        made.append(one)
        yield one


def publish_all(models: Iterator[Made], done: Callable[[str, Mapping[str, bytes]], object] = publish) -> list[Made]:
    """Puts them on the Hub, in their order."""
    found = list(models)
    for one in found:
        done(one.repo_id, files(one.weights, one.said))
    return found
