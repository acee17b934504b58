"""Where blocks are computed, and how much memory there is: accelerate's view of this machine."""

import os

import psutil

from ..errors import ResourceError
from ..late import torch


def free_memory(device: "torch.device | None" = None) -> int:
    """Bytes that are free now on a CUDA device, or of the machine's memory for any other and for none."""
    if device is not None and device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def find_devices(name: str, each: int, threads: int) -> tuple[str, ...]:
    """The device that each of `threads` threads or fewer computes on, with `each` bytes of its memory, by torch's name.

    `name`: "cpu", "cuda" (all GPUs of the machine), "cuda:1", "mps", or "auto": the accelerators with room, or else the
    processor. The emptiest device gets the next thread; what computes is of one kind. Raises `ResourceError` for a
    device that this machine does not have or where not even one thread fits.
    """
    if name == "cpu":
        return ("cpu",) * threads
    from accelerate.utils import get_max_memory  # much, and a merge on the processor does without

    kind = torch.accelerator.current_accelerator()
    found = {
        f"{kind}:{place}" if isinstance(place, int) else str(place): int(free)
        for place, free in get_max_memory().items()
        if place not in ("cpu", "disk")
    }
    if name != "auto" and not any(_is_named(device, name) for device in found):
        raise ResourceError(f"There is no device {name!r} on this machine; it has: {', '.join([*found, 'cpu'])}.")
    free = {device: room for device, room in found.items() if name == "auto" or _is_named(device, name)}
    chosen = []
    for _ in range(threads):
        device = max(free, key=lambda device: free[device], default=None)
        if device is None or free[device] < each:
            break
        free[device] -= each
        chosen.append(device)
    if not chosen and name != "auto":
        raise ResourceError(f"{name} has {max(free.values()):,} bytes free and the merge needs {each:,}.")
    return tuple(sorted(chosen)) or ("cpu",) * threads


def _is_named(device: str, name: str) -> bool:
    return name in (device, device.split(":")[0])


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
