"""How long computing a merge takes on this machine: a trial of a few milliseconds tells, and is remembered.

A trial needs torch, which takes seconds to load; so a process without it takes what was found the last time, where the
same method was tried with as many models by the same versions on this machine.
"""

import hashlib
import json
import math
import platform
import time
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import constants

from .. import __version__
from ..files import note_down
from ..late import is_loaded, torch
from ..methods import Method
from ..methods.blocks import BLOCK, Workspace
from ..methods.method import Unit
from .compute import merge_blocks, one_thread
from .stage import Merged, Stage
from .tensors import TensorPlan
from .weights import Over, Weights

_ELEMENTS = 2 * BLOCK

_SHAPES: dict[Unit, tuple[int, int]] = {
    "block": (512, _ELEMENTS // 512),
    "row": (512, _ELEMENTS // 512),
    "tensor": (256, 256),  # what such methods take grows faster than their elements
}


def compute_seconds(stage: Stage, at_a_time: int) -> float:
    """Seconds that computing and hashing takes on this machine, `at_a_time` tensors at a time.

    Methods that take products of whole matrices are tried on a small one: what no longer fits into a core's cache takes
    longer than it says.
    Reading, fetching and writing go on meanwhile, and take longer where the disk or the network is slow.
    """
    before = [one.stage for one in map(_innermost, stage.weights) if isinstance(one, Merged)]
    seconds = sum(compute_seconds(one, at_a_time) for one in before)
    merged = [tensor for tensor in stage.tensors if not tensor.copied]
    merged = [tensor for tensor in merged if tensor.statistics] or merged  # beside which averages take no time
    if not merged:
        return seconds
    method = stage.method
    largest = max(merged, key=lambda tensor: tensor.parameters * len(tensor.reads))
    shape = _SHAPES["tensor" if method.multiplies or method.statistic == "gram" else method.unit]
    work = sum(method.work(tensor.shape) for tensor in merged)
    return seconds + _found(method, replace(largest, shape=shape)) / method.work(shape) * work / at_a_time


def _innermost(weights: Weights) -> Weights:
    return _innermost(weights.inner) if isinstance(weights, Over) else weights


def _found(method: Method, trial: TensorPlan) -> float:
    """Seconds that merging a tensor took: now, where torch is loaded, or else the last time."""
    note = Path(constants.HF_HOME) / "hubmerge" / "speeds" / _name(method, trial)
    if not is_loaded():
        with suppress(OSError, ValueError):
            if 0 < (seconds := float(note.read_text(encoding="utf-8"))) < math.inf:
                return seconds
    seconds = _tried(method, trial)
    note_down(note, f"{seconds}\n")
    return seconds


def _name(method: Method, trial: TensorPlan) -> str:
    """What a trial depends on. Weights and densities make little difference, unlike a number of steps."""
    fixed = [one.name for one in method.parameters if not one.is_gene and one.name != "seed"]
    given = [[values.get(name) for name in fixed] for values in (trial.shared, *trial.per_model)]
    inputs = len(trial.reads), len(trial.statistics), trial.base is None, trial.dtype
    by = platform.node(), __version__, version("torch")
    return hashlib.sha256(json.dumps([by, method.name, inputs, given]).encode()).hexdigest()


def _tried(method: Method, trial: TensorPlan) -> float:
    # Each of its own: equal models have learnt nothing, and nothing is quickly merged.
    random = torch.Generator().manual_seed(0)
    stored = {one: torch.randn(_ELEMENTS, generator=random).to(torch.bfloat16) for one in trial.reads}
    # What may be a Gram matrix, or Fisher information.
    stored |= {one: torch.eye(trial.shape[-1]).view(-1) for one in trial.statistics}
    fastest = math.inf
    with one_thread():
        for _ in range(2):  # the first time is slower than those that follow
            began, digest, workspace = time.perf_counter(), hashlib.sha256(), Workspace()
            for block in merge_blocks(method, trial, lambda *at: stored[at[:2]][slice(*at[2:])], workspace):
                digest.update(block.view(torch.uint8).numpy().data)
            fastest = min(fastest, time.perf_counter() - began)
    return fastest
