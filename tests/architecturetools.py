"""A tiny model of any class of transformers; its head is tied, untied, or tied in the settings and yet stored."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from streamtools import rewrite, weights

_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

# How a head is stored. "other": the settings tie it, and the file holds another one, which transformers computes with.
TIED, UNTIED, OTHER = "tied", "untied", "other"


@dataclass(frozen=True)
class Architecture:
    """A class of transformers, the settings that make it tiny, and what it is asked with.

    `stacks`: whether it is one stack of layers. `above`: layers of a second model that go on top of the first two of a
    first. `unlike`: what is said of the first two there.
    """

    name: str
    model: str
    settings: Mapping[str, Any]
    asked: str = "text"
    heads: tuple[str, ...] = ("",)
    stacks: bool = True
    above: tuple[int, int] | None = (0, 2)
    unlike: str = ""
    head: str = "lm_head.weight"
    configuration: str = field(default="")

    def build(self, seed: int, head: str) -> Any:
        """A model in evaluation mode; all its weights are drawn, those that start at 0 or 1 as well."""
        torch.manual_seed(seed)
        tied = {} if head == "" else {"tie_word_embeddings": head != UNTIED}
        cls = getattr(transformers, self.model)
        config = (getattr(transformers, self.configuration) if self.configuration else cls.config_class)(
            **{**_SPECIAL, **self.settings, **tied}
        )
        model = cls(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape), alpha=0.05)
        return model.eval()

    def save(self, folder: Path, seed: int, head: str) -> Path:
        """Writes the model `seed` to `folder`."""
        self.build(seed, head).save_pretrained(folder)
        if head == OTHER:
            shape = next(t.shape for t in weights(folder).values() if t.ndim == 2 and len(t) == 64)
            rewrite(folder, {self.head: torch.randn(shape)})
        return folder

    def load(self, folder: Path) -> tuple[Any, Mapping[str, Any]]:
        """The model as a plain from_pretrained reads it, and what that says about its weights."""
        cls = getattr(transformers, self.model)
        model, told = cls.from_pretrained(folder, output_loading_info=True)
        return model.eval(), told

    def ask(self, model: Any) -> torch.Tensor:
        """What a model computes from fixed inputs."""
        torch.manual_seed(5)
        with torch.no_grad():
            given = model(**_questions(self.asked))
        return given["logits"] if "logits" in given else given[0]


def _questions(kind: str) -> dict[str, torch.Tensor]:
    ids = torch.tensor([[5, 9, 33, 7, 41, 8, 12, 60]])
    if kind == "text":
        return {"input_ids": ids}
    if kind == "both":
        return {"input_ids": ids, "decoder_input_ids": ids[:, :4]}
    if kind == "image":
        return {"pixel_values": torch.randn(1, 3, 16, 16)}
    if kind == "wave":
        return {"input_values": torch.randn(1, 400)}
    if kind == "long wave":
        return {"input_values": torch.randn(1, 2000), "decoder_input_ids": ids[:, :4]}
    if kind == "features":
        return {"input_features": torch.randn(1, 12, 8)}
    if kind == "spectrum":
        return {"input_values": torch.randn(1, 32, 8)}
    if kind == "speech":
        return {"input_features": torch.randn(1, 24, 8), "decoder_input_ids": ids[:, :4]}
    if kind == "whisper":
        return {"input_features": torch.randn(1, 8, 32), "decoder_input_ids": ids[:, :4]}
    raise ValueError(kind)


@contextmanager
def third_parties_warn() -> Iterator[None]:
    """What transformers and torch warn of while they make tiny models is theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
