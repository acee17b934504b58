"""How alike two models are, by a few numbers of each: of the first layer's matrices, read by range.

A model and what was trained or merged from it agree in nearly every weight; models trained from other beginnings
have nothing in common, whatever their shapes. So a few thousand numbers tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..hub.source import Source
from ..layers import core, parse

SAMPLE = 1024
"""Numbers read of a matrix, from its middle."""
MATRICES = 4
RELATED = 0.5
"""The cosine of what is sampled from which on two models count as kin: tuned ones lie above .9, strangers near 0."""

_FLOATS: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}

Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """What was read of a model: numbers of matrices by `core` name and shape, and how many tokens it has rows for."""

    numbers: Mapping[tuple[str, tuple[int, ...]], Numbers]
    vocabulary: int | None


def sample(source: Source) -> Sample:
    """Reads it: the model's header is known, and `MATRICES` short ranges follow. Raises what `read_range` does."""
    matrices = [
        (core(tensor.name), tensor)
        for tensor in source.tensors.values()
        if tensor.dtype in _FLOATS and len(tensor.shape) > 1 and parse(tensor.name).layer is not None
    ]
    first = min((parse(name).layer or 0 for name, _ in matrices), default=0)
    matrices = sorted((name, tensor) for name, tensor in matrices if parse(name).layer == first)
    step = max(1, len(matrices) // MATRICES)
    numbers = {}
    for name, tensor in matrices[::step][:MATRICES]:
        kind = _FLOATS[tensor.dtype]
        count = int(np.prod(tensor.shape))
        start = max(count - SAMPLE, 0) // 2
        stop = min(start + SAMPLE, count)
        data = source.read_range(tensor.file, tensor.start + start * kind.itemsize, tensor.start + stop * kind.itemsize)
        numbers[name, tuple(tensor.shape)] = _floats(np.frombuffer(data, kind))
    rows = source.config.get("vocab_size")
    return Sample(numbers, rows if isinstance(rows, int) else None)


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


def distance(one: Sample, base: Sample) -> float | None:
    """How far a model is from another, by the length of the difference over that of the `base`."""
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
