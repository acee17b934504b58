"""Pictures that a pipeline makes of prompts, each from seeds of its own, so that none depends on those beside it.

What the text encoders make of a prompt is computed once for all candidates of a search, as these only draw.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..documents import is_number
from ..errors import TaskError
from ..files import disk_errors, make_folder
from ..progress import Event, Progress, silent
from .examples import TASK, Example

if TYPE_CHECKING:
    from torch import Tensor

MOST_TEXTS = 2**30
"""Bytes that are kept of what text encoders made of prompts."""

_SIDE, _LARGEST = 8, 8192
_STEPS = 1000  # as many as schedulers are trained with
_CALLED = {
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "height": "height",
    "width": "width",
    "negative": "negative_prompt",
}
"""What diffusers calls the settings of `Draw`."""


@dataclass(frozen=True)
class Draw:
    """How a task has pictures made: `draw:` in its YAML. Raises `TaskError` at construction.

    steps: of the scheduler, at most 1,000. seeds: each prompt is drawn once with each. guidance, height, width (pixels,
    at most 8,192), negative: as the pipeline has them where they are None.
    """

    steps: int = 20
    seeds: tuple[int, ...] = (1,)
    guidance: float | None = None
    height: int | None = None
    width: int | None = None
    negative: str | None = None

    def __post_init__(self) -> None:
        TASK.whole(self.steps, "draw.steps", 1, _STEPS)
        for seed in self.seeds:
            TASK.whole(seed, "A seed of draw.seeds", least=0)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise TaskError("draw.seeds needs one seed or more, each once, as in `seeds: [1, 2]`.")
        if self.guidance is not None and (not is_number(self.guidance) or self.guidance < 0):
            raise TaskError(f"draw.guidance must be a number of at least 0, got {self.guidance!r}.")
        for name in ("height", "width"):
            side = getattr(self, name)
            if side is not None and TASK.whole(side, f"draw.{name}", _SIDE, _LARGEST) % _SIDE:
                raise TaskError(f"draw.{name} must be a multiple of {_SIDE} pixels, got {side}.")

    @classmethod
    def from_document(cls, given: Any) -> "Draw":
        """What a task's `draw:` says; nothing is all as it is by default."""
        return TASK.build(cls, given, "draw")

    @property
    def said(self) -> dict[str, Any]:
        """What it says, by the names that diffusers has for it."""
        return {_CALLED[name]: value for name, value in vars(self).items() if name in _CALLED and value is not None}

    def require_takes(self, kind: Any) -> None:
        """Raises `TaskError` where a class of pipelines does not take all that this says."""
        takes = signature(kind.__call__).parameters
        for name, called in _CALLED.items():
            if called in self.said and called not in takes:
                raise TaskError(f"A {kind.__name__} takes no {called}; leave out draw.{name}.")


def seed_of(prompt: str, seed: int) -> int:
    """The seed of a prompt's picture, by the task's seed: other prompts begin with other noise.

    >>> seed_of("a torii", 1), seed_of("a torii", 2)
    (3556630426, 2711865667)
    """
    return int.from_bytes(hashlib.sha256(f"{seed}\n{prompt}".encode()).digest()[:4], "big")


class Painter:
    """A pipeline of diffusers that draws, with what its text encoders made of prompts.

    pipeline: of diffusers' `DiffusionPipeline`; `parts`: those of its models whose weights may change meanwhile.
    """

    def __init__(self, pipeline: Any, parts: Mapping[str, Any]) -> None:
        self.pipeline = pipeline
        self.parts = parts
        self.keep: Callable[[Example, int, Any], object] | None = None
        """Told of each picture as it is drawn: its example, its seed, and itself."""
        pipeline.set_progress_bar_config(disable=True)
        pipeline.encode_prompt = _remembering(pipeline.encode_prompt)

    @property
    def weights(self) -> "dict[str, Tensor]":
        """The parts' tensors, by the names that they have in the whole ("unet/conv_in.weight")."""
        return {
            f"{folder}/{name}": tensor
            for folder, part in self.parts.items()
            for name, tensor in (*part.named_buffers(), *part.named_parameters())
        }

    def changed(self, names: Iterable[str]) -> None:
        """Forgets what text encoders made, where weights of these names in the whole are theirs."""
        if any("text_encoder" in name.partition("/")[0] for name in names):
            self.pipeline.encode_prompt.kept.clear()

    def draw(
        self, examples: Sequence[Example], how: Draw, batch_size: int, progress: Progress = silent
    ) -> Iterator[tuple[Example, int, Any]]:
        """Yields, for each example and each seed, the example, the seed that it was drawn with, and the picture (of
        Pillow). `batch_size`: pictures at a time. Raises `TaskError` for what the pipeline refuses."""
        import torch

        asked = [(example, seed_of(example.prompt, seed)) for example in examples for seed in how.seeds]
        for at in range(0, len(asked), batch_size):
            batch = asked[at : at + batch_size]
            said = how.said
            if "negative_prompt" in said:
                said["negative_prompt"] = [said["negative_prompt"]] * len(batch)
            # On the CPU, where noise is the same for every device.
            noise = [torch.Generator().manual_seed(seed) for _, seed in batch]
            try:
                made = self.pipeline(
                    prompt=[one.prompt for one, _ in batch], generator=noise, output_type="pil", **said
                )
            except (ValueError, TypeError) as exc:  # what pipelines refuse
                told = (str(exc) or type(exc).__name__).splitlines()[0][:200]
                raise TaskError(f"The {type(self.pipeline).__name__} does not draw as the task says: {told}") from exc
            progress(Event("draw", at + len(batch), len(asked), "pictures"))
            for (example, seed), picture in zip(batch, made.images, strict=True):
                if self.keep is not None:
                    self.keep(example, seed, picture)
                yield example, seed, picture


def keep_in(folder: Path) -> Callable[[Example, int, Any], None]:
    """What puts each picture into a folder: 003-seed-1234.png is of the third example. Raises `TaskError`."""
    make_folder(folder, TaskError)
    seen: dict[str, int] = {}

    def keep(example: Example, seed: int, picture: Any) -> None:
        number = seen.setdefault(example.prompt, len(seen) + 1)
        path = folder / f"{number:03d}-seed-{seed}.png"
        with disk_errors(path):
            picture.save(path)

    return keep


def _remembering(encode: Callable[..., Any]) -> Any:
    """A pipeline's `encode_prompt` that is asked once for the same."""
    kept: dict[object, Any] = {}

    @wraps(encode)
    def given(*arguments: Any, **named: Any) -> Any:
        if any(_nbytes(one) for one in (*arguments, *named.values())):
            return encode(*arguments, **named)  # of tensors, which have no short name
        asked = repr((arguments, sorted(named.items())))
        if asked not in kept:
            made = encode(*arguments, **named)
            if sum(map(_nbytes, (made, *kept.values()))) > MOST_TEXTS:
                kept.clear()
            kept[asked] = made
        return kept[asked]

    given.kept = kept  # type: ignore[attr-defined]
    return given


def _nbytes(value: Any) -> int:
    """Bytes of the tensors in what `encode_prompt` gives: tensors, and lists of them."""
    if isinstance(value, (list, tuple)):
        return sum(map(_nbytes, value))
    return int(getattr(value, "nbytes", 0))
