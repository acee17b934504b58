"""Where the weights of a model lie while it is asked: on GPUs, in memory, in its files - by accelerate's arithmetic.

What does not stay in memory is read from the files, one module at a time, whenever it is computed with: slow, but it
takes no more than the largest of them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import infer_auto_device_map
from accelerate.utils import get_balanced_memory, get_max_memory, named_module_tensors

from ..amounts import size
from ..errors import ResourceError
from ..stream.architecture import answering_class, read_architecture, transformers_errors

Device = int | str
"""As accelerate names it: the number of a GPU, "mps", "cpu", or "disk"."""

WEIGHTS = 0.5
"""The share of a limit that weights take at most where not all of them stay; the rest is for answers."""

WHOLE = 0.75
"""The share of a limit that weights take at most where all of them stay."""

FREE = 0.85
"""The share of what is free that weights take where nobody said a limit."""


def share_of_weights(memory: int, beside: int = 0) -> int:
    """Bytes that weights take at most within a limit where not all of them stay, beside what else is needed."""
    return max(0, min(int(memory * WEIGHTS), memory - beside))


def room_for_weights(device: torch.device, memory: int | None, beside: int = 0) -> dict[Device, int]:
    """Bytes of weights that each device of this machine may hold where a model computes on `device` or those beside it;
    `memory`: bytes that the process may take in all."""
    free: dict[Device, int] = {
        place: int(nbytes * FREE)
        for place, nbytes in get_max_memory().items()
        if place == "cpu" or device.type != "cpu"
    }
    if memory is not None:
        free["cpu"] = share_of_weights(memory, beside)
    return free


def outline(config: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """The model that a config.json describes, with its shapes and no weights. Raises `SourceError`."""
    architecture = read_architecture(config)
    with transformers_errors("transformers cannot build the model"), torch.device("meta"):
        model = answering_class(config).from_config(architecture, dtype=dtype)
        model.tie_weights()
    return model


def spread(model: Any, room: Mapping[Device, int]) -> dict[str, Device]:
    """The device of each module of an `outline`, GPUs first and the files ("disk") last; see accelerate.

    A layer is not divided between GPUs. Where there is none, memory is filled module by module.
    """
    # A device is given to a module, not to one of the weights that it holds itself.
    undivided = sorted({type(module).__name__ for module in model.modules() if list(module.parameters(recurse=False))})
    if any(device not in ("cpu", "disk") for device in room):
        undivided += model._no_split_modules or ()
    balanced = get_balanced_memory(model, dict(room), no_split_module_classes=undivided)
    found: dict[str, Device] = infer_auto_device_map(model, balanced, no_split_module_classes=undivided)
    return found


def device_of(name: str, devices: Mapping[str, Device]) -> Device:
    """Where a device map puts a weight."""
    place = name
    while place not in devices and place:
        place = place.rpartition(".")[0]
    return devices[place]


def require_room(model: Any, name: str, memory: int | None, beside: int = 0) -> None:
    """Raises `ResourceError` where a limit has no room for the largest module of an `outline`, beside an answer and
    what else is needed."""
    if memory is None:
        return
    # Where a file's dtype is another one, both stand beside each other for a moment.
    nbytes, largest = max((2 * _own_bytes(module), label) for label, module in model.named_modules())
    if nbytes > share_of_weights(memory, beside):
        needed = max(nbytes / WEIGHTS, nbytes + beside)
        raise ResourceError(
            f"{name} needs {size(needed)} of memory at least, for {largest} and what is computed beside it, and may "
            f"take {size(memory)}; allow that much."
        )


def kept(outline: Any, devices: Mapping[str, Device]) -> int:
    """Bytes of weights that a device map leaves in memory or on GPUs."""
    named = outline.named_parameters()
    return sum(weight.nbytes for name, weight in named if device_of(name, devices) != "disk")


def passing(outline: Any, devices: Mapping[str, Device]) -> int:
    """Bytes of the largest module that a device map leaves in files, which stands in memory while it computes."""
    away: dict[str, int] = {}
    for name, weight in outline.named_parameters():
        if device_of(name, devices) == "disk":
            module = name.rpartition(".")[0]
            away[module] = away.get(module, 0) + weight.nbytes
    return max(away.values(), default=0)


def memory_left(model: Any, memory: int) -> int:
    """Bytes that a limit leaves beside the weights of a model, those included that are read while it computes."""
    passing = max((_own_bytes(module, "meta") for module in model.modules()), default=0)
    return memory - held(model) - 2 * passing


def held(model: Any) -> int:
    """Bytes of the machine's memory that the weights of a model take."""
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.nbytes for tensor in tensors.values() if tensor.device.type == "cpu")


def told(model: Any) -> str | None:
    """What to say of a model that does not fit; None for one that does."""
    if "disk" not in (getattr(model, "hf_device_map", None) or {}).values():
        return None
    weights = {id(weight): weight.nbytes for weight in model.parameters() if weight.device.type == "meta"}
    return f"{size(sum(weights.values()))} of the model are read from disk for every answer, which is slow."


def execution_device(model: Any) -> torch.device:
    """Where a model takes its input, also where its weights are not all in one place."""
    device = getattr(getattr(model, "_hf_hook", None), "execution_device", None)
    return torch.device(model.device if device is None else device)


def is_in_one_place(model: Any) -> bool:
    """Whether a model computes on one device, wherever its weights lie."""
    devices = set((getattr(model, "hf_device_map", None) or {}).values()) - {"cpu", "disk"}
    return len(devices) < 2


def _own_bytes(module: Any, device: str | None = None) -> int:
    tensors = (tensor for _, tensor in named_module_tensors(module))
    return sum(tensor.nbytes for tensor in tensors if device is None or tensor.device.type == device)
