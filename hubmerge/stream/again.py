"""A merge done again in memory, tensor by tensor, to be compared with what is stored."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from typing import NamedTuple

import torch

from .. import __version__
from ..hub.source import Source
from ..methods.blocks import Workspace
from ..progress import Progress
from .compute import merge_blocks, one_thread
from .hashing import Count, in_order
from .manifest import Manifest, require_public, shown
from .plan import Plan, Wanted
from .reader import Reader
from .tensors import TensorPlan


class Made(NamedTuple):
    """A tensor as far as it can be compared: bytes alone do not tell float16 from bfloat16."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str

    @classmethod
    def of(cls, source: Source, name: str, digest: str) -> "Made":
        """One that is stored, whose bytes have this sha256."""
        return cls(source.tensors[name].dtype, source.tensors[name].shape, digest)


def plan_again(
    recipe: Wanted, source: Source, token: str | None, plan_of: Callable[..., Plan], device: str = "cpu"
) -> Plan:
    """The plan of the recipe that `source` says it was made by, on a `device` of that kind.

    Raises `SourceError` where a model of the Hub names what only its maker has: a stranger's recipe must not make this
    machine read its own folders.
    """
    if not source.is_folder:
        require_public(recipe, source.name, "verify it without recomputing")
    # The number of a device is that of its maker's machine; its kind is what results depend on.
    plan = plan_of(recipe, token=token, ranged=True, device=device.partition(":")[0])
    plan.require()
    return plan


def merge_again(plan: Plan, progress: Progress) -> dict[str, Made]:
    """What the plan's merge writes, by name, without writing it."""
    count = Count("recompute", plan.output_bytes, progress)
    device = torch.device(plan.devices[0])
    reader = Reader(plan.stage, plan.tensors, ranged=plan.ranged, ahead=plan.effort.ahead)

    def hash_merged(tensor: TensorPlan) -> Made:
        digest = sha256()
        with reader.reading(tensor) as read:
            for block in merge_blocks(plan.stage.method, tensor, read, Workspace(device)):
                digest.update(block.view(torch.uint8).numpy().data)
                count.add(block.nbytes)
        return Made(tensor.dtype, tensor.shape, digest.hexdigest())

    with one_thread(), closing(reader):
        jobs = [(tensor.name, partial(hash_merged, tensor)) for tensor in plan.tensors]
        return dict(zip((name for name, _ in jobs), in_order(jobs, plan.threads, reader.stop, count), strict=True))


def reasons(manifest: Manifest) -> Iterator[str]:
    """What may make a rightly merged tensor come out otherwise here."""
    for name, here in (("hubmerge", __version__), ("torch", version("torch"))):
        there = manifest.versions.get(name, "?")
        if there != here:
            yield f"{name} {shown(there)} (here: {here})"
    if manifest.device != "cpu":
        yield f"a device ({shown(manifest.device)}) whose last bits may vary"
