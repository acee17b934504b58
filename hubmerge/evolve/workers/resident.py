"""One model in memory that becomes any candidate in place, without touching the disk."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...amounts import size
from ...errors import ResourceError
from ...evaluate.demand import Demand
from ...evaluate.models import best_device, computing_dtype, free_memory, load_tokenizer, most_common
from ...hub.source import Source
from ...methods.blocks import BLOCK, Workspace
from ...progress import Event, Progress, silent
from ...recipe import ModelEntry, Recipe
from ...reference import ModelRef
from ...stream.compute import merge_blocks, one_thread
from ...stream.dtypes import DTYPES
from ...stream.mapped import map_tensors
from ...stream.plan import Plan, make_plan
from ...stream.tensors import TensorPlan
from ...stream.weights import Extent, Reads
from .building import build_model


@dataclass(frozen=True)
class Footprint:
    """Bytes that a search holds beside its bare process.

    `sources` are mapped files, which all processes of a machine share and which the system can drop and read again;
    `model` is the one model of each process, `merging` what making a candidate takes, `generation` the keys, values and
    activations of answers (0 where nobody said how many), `gpu` what of the model and of these lies on a GPU.
    """

    sources: int
    model: int
    merging: int = 0
    generation: int = 0
    gpu: int = 0

    @property
    def anonymous(self) -> int:
        """Bytes of the machine's memory that one process has for itself."""
        on_gpu = self.generation if self.gpu else 0
        return self.model + self.merging + self.generation - on_gpu

    @property
    def memory(self) -> int:
        """Bytes of the machine's memory for one process."""
        return self.sources + self.anonymous

    def require(self, what: str, device: torch.device) -> None:
        """Raises `ResourceError` where the machine, or `device`, has not that much memory free."""
        if self.memory > (free := free_memory(torch.device("cpu"))):
            raise ResourceError(f"{what} take {size(self.memory)} of memory; {size(free)} are free.")
        if self.gpu > (free := free_memory(device)):
            raise ResourceError(f"{what} take {size(self.gpu)} of GPU memory; {size(free)} are free.")


def footprint(plan: Plan, device: str | None = None, demand: Demand | None = None) -> Footprint:
    """What a `ResidentModel` of `plan` holds on `device`, by default the GPU where there is one, and takes at its peak.

    demand: what it is asked, where that is known.
    """
    place = torch.device(device or best_device())
    dtype = _computing(plan, place)
    sizes = (tensor.parameters * _held(tensor, dtype).itemsize for tensor in plan.tensors)
    model = sum(sizes)
    sources = sum(source.nbytes for source in plan.sources)
    generation = demand.nbytes(plan.config, dtype, place) if demand is not None else 0
    # What goes to a GPU is put together in the machine's memory first.
    gpu = model + generation if place.type == "cuda" else 0
    return Footprint(sources, model, plan.peak_memory, generation, gpu)


class ResidentModel:
    """A transformers model whose weights are replaced by those of one candidate after another.

    The sources' files stay mapped. A candidate's weights come from `stream.compute.merge_blocks`, rounded to the
    output's dtype: what is scored is exactly what would be written. It computes in `computing_dtype` of that one. As
    many tensors are merged at a time as torch may use threads.

    plan: of any candidate (its sources are the ones kept; candidates may name other methods and subsets of them).
    Raises `ResourceError` where sources and model do not fit into memory, `PlanError` for models that do not fit
    together and `SourceError` for an architecture that transformers does not know.
    """

    def __init__(self, plan: Plan, *, device: str | None = None, progress: Progress = silent) -> None:
        plan.require()
        self.device = torch.device(device or best_device())
        self._sources: Mapping[ModelRef, Source] = {
            ref: source for source in plan.sources for ref in (source.ref, source.pinned)
        }
        what = f"The search's {len(plan.sources)} models and one candidate"
        footprint(plan, self.device.type).require(what, self.device)
        self._tensors = _map_all(plan, progress)
        self.tokenizer = load_tokenizer(plan.tokenizer, plan.chat_template)
        self._targets: dict[str, Tensor] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._workspaces = threading.local()
        self.model: Any = None
        self._write(plan)

    def load(self, recipe: Recipe) -> None:
        """Makes the model the merge that `recipe` describes. Raises as `merge` does; the model is then undefined."""
        plan = make_plan(recipe, sources=self._sources)
        plan.require()
        self._write(plan)

    def load_source(self, ref: ModelRef) -> Any:
        """Makes the model one of the sources, and returns that source's own tokenizer."""
        source = self._sources[ref]
        self.load(Recipe("linear", models=(ModelEntry(ref),)))
        return load_tokenizer(source, None)

    def _write(self, plan: Plan) -> None:
        if self._targets and {t.name: t.shape for t in plan.tensors} == self._shapes:
            self._merge(plan, self._targets)
            return
        self.model = None  # two do not have to fit into memory
        self._targets.clear()
        dtype = _computing(plan, self.device)
        state = {tensor.name: torch.empty(tensor.shape, dtype=_held(tensor, dtype)) for tensor in plan.tensors}
        self._merge(plan, state)
        self.model = build_model(plan, state, self.device)
        self._targets = _targets(self.model, plan)
        self._shapes = {tensor.name: tensor.shape for tensor in plan.tensors}

    def _merge(self, plan: Plan, targets: Mapping[str, Tensor]) -> None:
        """Writes each output tensor into the one of its name."""

        def stored(extent: Extent) -> Tensor:
            return self._tensors[extent.stored].view(-1)[extent.start : extent.stop]

        def write(tensor: TensorPlan) -> None:
            target, read = targets[tensor.name].view(-1), plan.stage.read(Reads(stored))
            for number, block in enumerate(merge_blocks(plan.stage.method, tensor, read, self._workspace())):
                target[number * BLOCK :][:BLOCK].copy_(block)

        threads = min(plan.threads, torch.get_num_threads())
        # The largest first, so that all threads end at about the same time.
        tensors = sorted(plan.tensors, key=lambda tensor: -tensor.parameters)
        with one_thread():
            if threads == 1:
                for tensor in tensors:
                    write(tensor)
                return
            with ThreadPoolExecutor(threads, "hubmerge-candidate") as pool:
                for done in [pool.submit(write, tensor) for tensor in tensors]:
                    done.result()

    def _workspace(self) -> Workspace:
        if not hasattr(self._workspaces, "own"):
            self._workspaces.own = Workspace()
        return self._workspaces.own


def _map_all(plan: Plan, progress: Progress) -> dict[tuple[tuple[str, str], str], Tensor]:
    kept = {}
    total, done = sum(source.nbytes for source in plan.sources), 0
    for source in plan.sources:
        for name, tensor in map_tensors(source):
            kept[source.place, name] = tensor
            done += tensor.nbytes
            progress(Event("read", done, total, "B", note=source.name))
    return kept


def _computing(plan: Plan, device: torch.device) -> torch.dtype:
    return computing_dtype(most_common((DTYPES[t.dtype].torch, t.parameters) for t in plan.tensors), device)


def _held(tensor: TensorPlan, computing: torch.dtype) -> torch.dtype:
    own = DTYPES[tensor.dtype]
    return computing if own.is_float else own.torch


def _targets(model: Any, plan: Plan) -> dict[str, Tensor]:
    """Where each merged tensor lives in the model; empty unless the model holds exactly these, under these names."""
    standing = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    targets = {}
    for tensor in plan.tensors:
        found = standing.get(tensor.name)
        if found is None or tuple(found.shape) != tensor.shape or not found.is_contiguous():
            return {}
        targets[tensor.name] = found
    # named_parameters lists tied weights once; a parameter that no merged tensor writes would keep old values.
    written = {id(found) for found in targets.values()}
    if any(id(parameter) not in written for parameter in model.parameters()):
        return {}
    return {name: found.detach() for name, found in targets.items()}
