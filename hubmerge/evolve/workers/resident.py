"""One model in memory that becomes any candidate in place, without touching the disk."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ...evaluate import placement
from ...evaluate.drawing import Painter
from ...evaluate.models import best_device, load_tokenizer
from ...hub.source import Source
from ...layers import core
from ...methods.blocks import BLOCK, Workspace
from ...progress import Event, Progress, silent
from ...recipe import ModelEntry, Recipe
from ...reference import ModelRef
from ...stream.carried import Carried
from ...stream.compute import Read, merge_blocks, one_thread
from ...stream.mapped import map_tensors
from ...stream.plan import Plan, make_plan
from ...stream.reader import Reader
from ...stream.tensors import TensorPlan
from ...stream.weights import Extent, Reads
from .building import build_model, weights_by_name
from .footprint import computing, effort_within, fits, held_dtype, memory_for, model_bytes, offload
from .offloaded import Offloaded, Sink, into


class ResidentModel:
    """A transformers model, or a pipeline of diffusers, whose weights become those of one candidate after another.

    The sources' files stay mapped. A candidate's weights come from `stream.compute.merge_blocks`, rounded to the
    output's dtype: what is scored is exactly what would be written. It computes in `computing_dtype` of that one. As
    many tensors are merged at a time as torch may use threads.

    plan: of any candidate (its sources are the ones kept; candidates may name other methods and subsets of them).
    memory: bytes that this process may take beside what its libraries need: nothing stays mapped then, and what of the
    model does not fit lies in a file (see offloaded.py), which is slow; without a limit, so does a model that does not
    fit into what is free. load: what gives the tokenizer, or a processor in its place. `untouched` tells what of the
    model, as it is now, is in no merge. Raises `ResourceError` where not even that fits, `PlanError` for models that do
    not fit together and `SourceError` for an architecture that transformers does not know.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        device: str | None = None,
        memory: int | None = None,
        progress: Progress = silent,
        load: Callable[[Carried], Any] = load_tokenizer,
    ) -> None:
        plan.require()
        self.device = torch.device(device or best_device())
        self._sources: Mapping[ModelRef, Source] = {
            ref: source for source in plan.sources for ref in (source.ref, source.pinned)
        }
        self._memory = memory_for(plan, self.device, memory)
        self._progress = progress
        self._tensors = _map_all(plan, progress) if self._memory is None else {}
        self._load = load
        self.tokenizer = load(plan.tokenizer)
        self.untouched: object = None
        self._sinks: dict[str, Sink] = {}
        self._held: dict[str, object] = {}
        self._workspaces = threading.local()
        self._offloaded: Offloaded | None = None
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
        return self._load(Carried(source))

    @property
    def is_written_in_place(self) -> bool:
        """Whether the next candidate takes the place of this one, weight by weight."""
        return bool(self._sinks)

    def _write(self, plan: Plan) -> None:
        self.untouched = untouched(plan)
        if self._sinks and self._form(plan) == self._held:
            self._merge(plan, self._sinks)
            if isinstance(self.model, Painter):
                self.model.changed(self._sinks)
            return
        self.model = None  # two do not have to fit into memory
        self._sinks.clear()
        if self._offloaded is not None:
            self._offloaded.close()
            self._offloaded = None
        if self._memory is not None and not fits(plan, self.device, self._memory):
            self._write_offloaded(plan, self._memory)
            return
        dtype = computing(plan, self.device)
        state = {tensor.name: torch.empty(tensor.shape, dtype=held_dtype(tensor, dtype)) for tensor in plan.tensors}
        self._merge(plan, {name: into(tensor) for name, tensor in state.items()})
        self.model = build_model(plan, state, self.device)
        self._sinks = {name: into(tensor) for name, tensor in _targets(self.model, plan).items()}
        self._held = self._form(plan)

    def _form(self, plan: Plan) -> dict[str, object]:
        """What must be alike for one candidate to take another's place: in a file, dtypes too; and what is in no merge,
        which stays."""
        if self._offloaded is None:
            return {tensor.name: tensor.shape for tensor in plan.tensors} | {"": untouched(plan)}
        return {tensor.name: (tensor.shape, tensor.dtype) for tensor in plan.tensors}

    def _write_offloaded(self, plan: Plan, memory: int) -> None:
        self._offloaded = offload(plan, self.device, memory, self._progress)
        sinks = self._offloaded.sinks()
        self._merge(plan, sinks)
        if self._offloaded.is_written_in_place:
            self._sinks, self._held = sinks, self._form(plan)
        else:
            self._offloaded.load()
        self.model = self._offloaded.model

    def _merge(self, plan: Plan, sinks: Mapping[str, Sink]) -> None:
        """Writes each output tensor where the sink of its name leads to."""
        threads = min(plan.threads, torch.get_num_threads())
        if self._memory is not None:
            if self._offloaded is None:
                held = model_bytes(plan, computing(plan, self.device))
            else:
                held = placement.held(self._offloaded.model) if self._offloaded.model is not None else 0
            threads = min(threads, effort_within(plan, self._memory, held).threads)
        # The largest first, so that all threads end at about the same time.
        tensors = sorted((one for one in plan.tensors if one.name in sinks), key=lambda tensor: -tensor.parameters)
        with one_thread(), self._reading(plan) as reading:

            def write(tensor: TensorPlan) -> None:
                sink = sinks[tensor.name]
                with reading(tensor) as read:
                    for number, block in enumerate(merge_blocks(plan.stage.method, tensor, read, self._workspace())):
                        sink(number * BLOCK, block)

            if threads == 1:
                for tensor in tensors:
                    write(tensor)
                return
            with ThreadPoolExecutor(threads, "hubmerge-candidate") as pool:
                for done in [pool.submit(write, tensor) for tensor in tensors]:
                    done.result()

    @contextmanager
    def _reading(self, plan: Plan) -> Iterator[Callable[[TensorPlan], AbstractContextManager[Read]]]:
        """How a tensor's inputs are read: from mapped files, or where memory is limited a block at a time."""
        if self._memory is not None:
            with closing(Reader(plan.stage, plan.tensors)) as reader:
                yield reader.reading
            return

        def stored(extent: Extent) -> Tensor:
            return self._tensors[extent.stored].view(-1)[extent.start : extent.stop]

        yield lambda _: nullcontext(plan.stage.read(Reads(stored)))

    def _workspace(self) -> Workspace:
        if self._memory is not None:
            return Workspace()  # memory that threads keep is nobody's while the model answers
        if not hasattr(self._workspaces, "own"):
            self._workspaces.own = Workspace()
        return self._workspaces.own


def untouched(plan: Plan) -> object:
    """What the tensors are that are in no merge, such as a tower's: equal for equal ones; None where there are none."""
    stage = plan.stage
    found = [extent.stored for tensor in stage.untouched for extent in stage.needs_all(tensor)]
    return (stage.weights[-1].name, found) if found else None


def _map_all(plan: Plan, progress: Progress) -> dict[tuple[tuple[str, str], str], Tensor]:
    kept = {}
    total, done = sum(source.nbytes for source in plan.sources), 0
    for source in plan.sources:
        for name, tensor in map_tensors(source):
            kept[source.place, name] = tensor
            done += tensor.nbytes
            progress(Event("read", done, total, "B", note=source.name))
    return kept


def _targets(model: Any, plan: Plan) -> dict[str, Tensor]:
    """Where each merged tensor lives in the model; empty unless the model holds exactly these, under these names or
    those of another generation of transformers."""
    standing = weights_by_name(model)
    by_core = {core(name): tensor for name, tensor in standing.items()}
    if len(by_core) < len(standing):
        by_core = {}
    untouched = {tensor.name for tensor in plan.stage.untouched}
    targets = {}
    for tensor in (one for one in plan.tensors if one.name not in untouched):
        found = standing.get(tensor.name, by_core.get(core(tensor.name)))
        if found is None or tuple(found.shape) != tensor.shape or not found.is_contiguous():
            return {}
        targets[tensor.name] = found
    # Tied weights are there once; a parameter that no merged tensor writes would keep old values.
    written = {id(found) for found in targets.values()}
    parameters = [one for one in standing.values() if isinstance(one, torch.nn.Parameter)]
    if sum(id(parameter) not in written for parameter in parameters) > len(untouched):
        return {}
    return {name: found.detach() for name, found in targets.items()}
