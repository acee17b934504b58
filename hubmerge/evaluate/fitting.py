"""Whether what reads pictures for a model fits its tower, as far as their files tell; one sentence where it fails."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import HubmergeError, SourceError

_OF_ONE_SIZE = ("clip_vision_model", "siglip_vision_model")
"""Towers that take pictures of their own size alone."""

_STEPS = (("do_center_crop", "crop_size"), ("do_resize", "size"))
"""What a processor does to the size of a picture, the last first, and where it says to which."""

_MEND = "take both from the repository of the model that they were trained with"


def unknown_class(files: Mapping[str, bytes]) -> str | None:
    """Which class of a processor's files transformers does not have, in words for a message; None where it has all."""
    import transformers

    from ..stream.tokens import PROCESSOR_FILES

    known = set(dir(transformers))
    for file in PROCESSOR_FILES:
        document = json.loads(files.get(file, b"{}"))
        for one in (document, document.get("image_processor")):
            for key in ("processor_class", "image_processor_type"):
                named = one.get(key) if isinstance(one, Mapping) else None
                if isinstance(named, str) and not {named, named.removesuffix("Fast")} & known:
                    own = "is code of its own, which is never run" if document.get("auto_map") else "it does not have"
                    return f"its {file} names {named[:60]!r} as {key}, which {own}"
    return None


def require_fitting(processor: Any, config: Mapping[str, Any], name: str) -> None:
    """Raises `SourceError` where the processor of the model `name` makes of a picture what its tower cannot take."""
    if not isinstance(config.get("vision_config"), Mapping):
        return
    from ..stream.architecture import read_architecture  # opens the Hub's client, which a task is read without

    whole = read_architecture(config)
    for flaw in _flaws(processor, whole, whole.vision_config):
        raise SourceError(f"{name} cannot be shown pictures: {flaw}; {_MEND}.")


def _flaws(processor: Any, whole: Any, tower: Any) -> Iterator[str]:
    layers, read = getattr(tower, "num_hidden_layers", None), getattr(whole, "vision_feature_layer", None)
    for layer in read if isinstance(read, (list, tuple)) else [read]:
        if isinstance(layer, int) and isinstance(layers, int) and not -layers - 1 <= layer <= layers:
            yield f"config.json reads layer {layer} of its tower (vision_feature_layer), which has {layers}"
    if hasattr(processor, "num_additional_image_tokens"):  # those that count patches as the tower does
        for key, owner in (("patch_size", tower), ("vision_feature_select_strategy", whole)):
            ours, theirs = getattr(processor, key, None), getattr(owner, key, None)
            if None not in (ours, theirs) and ours != theirs:
                yield f"{key} of its processor is {ours}, and of its tower {theirs}"
        ours, theirs = getattr(processor, "image_token_id", None), getattr(whole, "image_token_id", None)
        if None not in (ours, theirs) and ours != theirs:
            mark = processor.image_token
            yield f"token {ours} of its processor ({mark}) marks a picture, and {theirs} in config.json"
    made, taken = _size(getattr(processor, "image_processor", processor)), getattr(tower, "image_size", None)
    if getattr(tower, "model_type", None) in _OF_ONE_SIZE and made and isinstance(taken, int) and made != (taken,) * 2:
        yield f"its processor makes pictures of {made[1]} x {made[0]} pixels, and its tower takes {taken} x {taken}"


def _size(reader: Any) -> tuple[int, int] | None:
    """Height and width of all pictures that a processor makes; None where they differ."""
    last = next((key for does, key in _STEPS if getattr(reader, does, None)), "")
    size: Any = getattr(reader, last, None) or {}
    height, width = size.get("height"), size.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


@contextmanager
def shape_errors(name: str) -> Iterator[None]:
    """Around the model `name` as it looks at what its processor made: where that does not fit it, `SourceError`."""
    try:
        yield
    except HubmergeError:
        raise
    except (ValueError, IndexError, RuntimeError) as exc:
        told = (str(exc).strip() or type(exc).__name__).splitlines()[0]
        if "memory" in told or isinstance(exc, NotImplementedError):
            raise
        raise SourceError(
            f"{name or 'The model'} cannot be shown pictures, for its tower does not take "
            f"what its processor makes: {told[:200].rstrip('.')}; {_MEND}."
        ) from exc
