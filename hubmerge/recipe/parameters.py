"""What a recipe's parameters may be: a number, a gradient over the layers, or values by the tensor's name."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ..blocks import fits

Scalar = float | int | bool


@dataclass(frozen=True)
class Conditional:
    """A value for the tensors whose name contains `filter`, or that are in the block of this name (see blocks.py);
    `None`: for all the rest."""

    filter: str | None
    value: "Scalar | tuple[Scalar, ...]"


Setting = Scalar | tuple[Scalar, ...] | tuple[Conditional, ...]
"""A parameter's value: one number, a gradient over depth, or conditionals tried in order."""


def value_at(
    setting: Setting, tensor_name: str, depth: float, steps: bool = False, words: Collection[str] = ()
) -> Scalar | None:
    """The value of `setting` for one tensor; `steps`: anchors of a gradient count up to the next, as for switches;
    `words`: of the tensor's place in a network that draws.

    `depth` is in 0..1: the layer's index over the last index, 0 outside the layers. A gradient of n
    anchors is interpolated linearly. Returns None where no conditional fits the tensor.

    >>> value_at((0.0, 1.0), "model.layers.3.mlp.up_proj.weight", 0.25)
    0.25
    """
    if not isinstance(setting, tuple):
        return setting
    if isinstance(setting[0], Conditional):
        for case in setting:
            assert isinstance(case, Conditional)
            if fits(case.filter, tensor_name, words):
                return value_at(case.value, tensor_name, depth, steps)
        return None
    anchors = [float(value) for value in setting]
    position = min(max(depth, 0.0), 1.0) * (len(anchors) - 1)
    low = min(int(position), len(anchors) - 1)
    if steps:
        return bool(anchors[low])
    high = min(low + 1, len(anchors) - 1)
    return anchors[low] + (position - low) * (anchors[high] - anchors[low])


Parameters = Mapping[str, Setting]
"""Parameters by their names."""
