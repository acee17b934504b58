"""Where blocks are computed, and how much memory there is: accelerate's view of this machine."""

import os

import torch
from accelerate.utils import get_max_memory

from ..errors import ResourceError


def free_memory() -> int:
    """Bytes of main memory that are free now."""
    return int(get_max_memory()["cpu"])


def find_device(name: str, needed: int) -> torch.device:
    """The device called `name` ("cpu", "cuda", "cuda:1", "mps"); "auto" is the first accelerator with `needed` bytes.

    Raises `ResourceError` for one that this machine does not have or whose free memory is less.
    """
    if name == "cpu":
        return torch.device("cpu")
    kind = torch.accelerator.current_accelerator()
    found = {
        f"{kind}:{place}" if isinstance(place, int) else str(place): free
        for place, free in get_max_memory().items()
        if place not in ("cpu", "disk")
    }
    roomy = [device for device, free in found.items() if free >= needed]
    if name == "auto":
        return torch.device(roomy[0] if roomy else "cpu")
    matching = [device for device in found if device == name or device.split(":")[0] == name]
    if not matching:
        raise ResourceError(f"There is no device {name!r} on this machine; it has: {', '.join([*found, 'cpu'])}.")
    if not set(matching) & set(roomy):
        raise ResourceError(
            f"{name} has {max(found[d] for d in matching):,} bytes free and the merge needs {needed:,}."
        )
    return torch.device(next(device for device in matching if device in roomy))


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
