"""The differences of a model and its base, read and factored on all cores; what is done is kept, and not done again.

Of both models one tensor a thread is in memory. What is found does not depend on how many threads there are.
"""

import hashlib
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from ..hub.source import Source
from ..methods import find_method
from ..methods.blocks import BLOCK
from ..progress import Event, Progress, silent
from ..stream.component import ComponentPlan
from ..stream.compute import Read, one_thread
from ..stream.prefetch import far_ahead
from ..stream.reader import Reader
from ..stream.stage import Stage
from ..stream.tensors import TensorPlan
from ..stream.weights import Weights
from .candidates import Candidates
from .kept import Facts, Kept
from .lowrank import low_rank

_TICK = 0.25  # seconds between events while nothing is finished


@dataclass(frozen=True)
class Wish:
    """How near the factors are to come: at most `rank` (None: whatever it takes), and `energy`, the share of the
    square of each difference that is enough (None: all that the rank gives)."""

    rank: int | None
    energy: float | None


def factor_all(
    base: Weights,
    model: Weights,
    candidates: Candidates,
    wish: Wish,
    kept: Kept,
    *,
    threads: int,
    ranged: bool = False,
    device: str = "cpu",
    progress: Progress = silent,
) -> None:
    """Factors each candidate's difference and keeps what is found by its number, then how much the rest differs.

    `progress` may raise `Interrupted`.

    Raises `SourceError` for weights that are not finite, `HubError` for what the Hub refuses.
    """
    stage = differences(base, model, candidates)
    missing = [number for number in range(len(stage.tensors)) if kept.facts(number) is None]
    wanted = [stage.tensors[number] for number in missing]
    fetching: list[str] = []

    def fetch(source: Source, file: str) -> None:
        if not source.is_here(file):
            fetching.append(f"fetching {file} of {source.name}")

    reader = Reader(stage, wanted, fetch, ranged=ranged, ahead=far_ahead())

    def factor(number: int) -> str:
        tensor = stage.tensors[number]
        with reader.reading(tensor) as read:
            difference = _difference(read, tensor).to(device)
        if number >= len(candidates.found):
            kept.note(number, Facts(0, float(difference.double().norm()), 0.0))
            return tensor.name
        kept.put(number, low_rank(difference, rank=wish.rank, energy=wish.energy, seed=_seed(tensor.name)))
        return tensor.name

    done, total = len(stage.tensors) - len(missing), len(stage.tensors)
    with one_thread(), closing(reader), ThreadPoolExecutor(threads, "hubmerge-extract") as pool:
        try:
            waiting = {pool.submit(factor, number) for number in missing}
            while waiting:
                finished, waiting = wait(waiting, _TICK, FIRST_COMPLETED)
                done += len(finished)
                names = [future.result() for future in finished]
                progress(Event("factor", done, total, "tensors", (names or fetching or [""])[-1]))
        except BaseException:
            reader.stop()
            pool.shutdown(cancel_futures=True)
            raise


def differences(base: Weights, model: Weights, candidates: Candidates) -> Stage:
    """What is read: of each tensor the base's and the model's."""
    wanted: list[tuple[str, tuple[int, ...], tuple[str, str]]]
    wanted = [(one.module, one.shape, one.stored) for one in candidates.found]
    wanted += [(one.name, one.tensor.shape, one.stored) for one in candidates.rest]  # only to see whether they differ
    tensors = tuple(TensorPlan(name, shape, "F32", ((1, theirs),), (0, ours)) for name, shape, (ours, theirs) in wanted)
    method = find_method("task_arithmetic")
    return Stage("", method, (base, model), (ComponentPlan("", {}, tensors),), base.tokenizer)


def _difference(read: Read, tensor: TensorPlan) -> Tensor:
    """The model's tensor minus the base's, in float32."""
    (base, stored), (model, other) = tensor.reads
    found = torch.empty(tensor.parameters)
    for start in range(0, tensor.parameters, BLOCK):
        part = found[start : start + BLOCK]
        part.copy_(read(base, stored, start, start + part.numel())).neg_()
        part.add_(read(model, other, start, start + part.numel()).to(torch.float32))
    return found.view(tensor.shape)


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "little")
