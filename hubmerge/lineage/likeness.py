"""How alike two models are, by a few numbers of each: of the first layer's matrices in each of its parts, by range.

A model and what was trained or merged from it agree in nearly every weight; models trained from other beginnings
have nothing in common, whatever their shapes. So a few thousand numbers tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..hub.component import LANGUAGE_MODEL
from ..hub.headers import TensorHeader
from ..hub.source import Source
from ..layers import core, parse

SAMPLE = 1024
"""Numbers read of a matrix, from its middle."""
MATRICES = 4
"""Of each part."""
RELATED = 0.5
"""The cosine of what is sampled from which on two models count as kin: tuned ones lie above .9, strangers near 0."""
YARDSTICK = "0%: nothing changed; the demo's fine-tunes: 8% to 24%; a model trained apart: 121%"
"""What a `distance` means, by models that ship with this: docs/lineage.md has them all, and a test measures them."""

_FLOATS: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}

Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """What was read of a model: numbers of matrices by part, `core` name and shape. A plain model is one part, "", and
    so is the language model of one that sees. Its `kind`, as the Hub lists it, and `parameters`."""

    numbers: Mapping[tuple[str, str, tuple[int, ...]], Numbers]
    kind: str | None
    parameters: int

    @property
    def parts(self) -> list["Sample"]:
        """One of each part, without the name of it."""
        found: dict[str, dict[tuple[str, str, tuple[int, ...]], Numbers]] = {}
        for (part, name, shape), numbers in self.numbers.items():
            found.setdefault(part, {})["", name, shape] = numbers
        return [replace(self, numbers=numbers) for numbers in found.values()]


def sample(source: Source) -> Sample:
    """Reads it: the model's header is known, and `MATRICES` short ranges of each part follow. Raises what `read_range`
    does."""
    parts = {"": {name: name for name in source.tensors}}
    if source.components:
        parts = {"" if name == LANGUAGE_MODEL else name: dict(one.names) for name, one in source.components.items()}
    numbers = {}
    for part, names in parts.items():
        for name, tensor in _matrices({name: source.tensors[stored] for name, stored in names.items()}):
            kind = _FLOATS[tensor.dtype]
            count = int(np.prod(tensor.shape))
            start = max(count - SAMPLE, 0) // 2
            stop = min(start + SAMPLE, count)
            at = tensor.start + start * kind.itemsize, tensor.start + stop * kind.itemsize
            data = source.read_range(tensor.file, *at)
            numbers[part, name, tuple(tensor.shape)] = _floats(np.frombuffer(data, kind))
    model_type = source.config.get("model_type")
    return Sample(numbers, model_type if isinstance(model_type, str) else None, source.parameters)


def _matrices(tensors: Mapping[str, TensorHeader]) -> list[tuple[str, TensorHeader]]:
    """Some of the first layer's, by `core` names; of what has no layers, such as a network that draws, of all."""
    found = [(name, one) for name, one in tensors.items() if one.dtype in _FLOATS and len(one.shape) > 1]
    layered = [(name, one) for name, one in found if parse(name).layer is not None]
    first = min((parse(name).layer or 0 for name, _ in layered), default=None)
    matrices = sorted({core(name): one for name, one in layered or found if parse(name).layer == first}.items())
    return matrices[:: max(1, len(matrices) // MATRICES)][:MATRICES]


def _floats(data: NDArray[Any]) -> Numbers:
    if data.dtype == np.dtype("<u2"):  # bfloat16: the upper half of a float32
        return (data.astype("<u4") << 16).view("<f4")
    return data.astype(np.float32)


def likeness(one: Sample, other: Sample) -> float | None:
    """The cosine of what both have, -1 to 1; None where they have no matrix of one name and shape, or one is all 0 or
    not finite."""
    shared = [name for name in one.numbers if name in other.numbers]
    if not shared:
        return None
    return cosine(*(np.concatenate([each.numbers[name] for name in shared]) for each in (one, other)))


def kinship(one: Sample, other: Sample) -> float | None:
    """The likeness of the parts that are most alike: a model also comes from what one of its parts was copied from."""
    parts = (likeness(mine, its) for mine in one.parts for its in other.parts)
    return max((near for near in parts if near is not None), default=None)


def distance(one: Sample, base: Sample) -> float | None:
    """How far a model is from another: the length of the difference over that of the `base`. See `YARDSTICK`."""
    if (shift := task_vector(one, base)) is None:
        return None
    length = float(np.linalg.norm(np.concatenate([base.numbers[name] for name in base.numbers if name in one.numbers])))
    return float(np.linalg.norm(shift)) / length if length > 0 else None


def task_vector(one: Sample, base: Sample) -> Numbers | None:
    """What a model adds to its base, as far as it was sampled; None where they do not fit."""
    shared = [name for name in base.numbers if name in one.numbers]
    return np.concatenate([one.numbers[name] - base.numbers[name] for name in shared]) if shared else None


def cosine(one: Numbers, other: Numbers) -> float | None:
    """The cosine of two vectors of one length; None where one is 0 or not finite."""
    lengths = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(one @ other) / lengths if np.isfinite(lengths) and lengths > 0 else None
