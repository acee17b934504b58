"""Three made-up models of one size: a base, and two that seem to be fine-tuned from it."""

from ..errors import HubError
from .llama import LLAMAS, llama
from .model import GeneratedModel
from .wide import WIDE, DeepSeekShape

SIZES = (*LLAMAS, *WIDE)
"""The sizes of models that can be made up."""


def siblings(size: str) -> dict[str, GeneratedModel]:
    """Three models of a size of `SIZES`, by name: a base, and two that seem to be fine-tuned from it.

    Raises:
        HubError: a size that is not known.
    """
    if size not in SIZES:
        raise HubError(f"There is no model of size {size} to make up: choose one of {', '.join(SIZES)}.")
    if size in LLAMAS:
        models = [llama(size, seed, base_seed) for seed, base_seed in _SEEDS.values()]
        name = f"llama-{size.lower()}"
    else:
        shape = WIDE[size]
        config, tensors = shape.config, shape.tensors
        models = [GeneratedModel(config, tensors, seed, base_seed) for seed, base_seed in _SEEDS.values()]
        name = f"{'deepseek-v3' if isinstance(shape, DeepSeekShape) else 'qwen3'}-{size.lower()}"
    return {f"{name}{ending}": model for ending, model in zip(_SEEDS, models, strict=True)}


_SEEDS: dict[str, tuple[int, int | None]] = {"": (0, None), "-code": (1, 0), "-math": (2, 0)}
