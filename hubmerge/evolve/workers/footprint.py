"""What the model of a search takes, and how much of that stays in memory."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from ...amounts import size
from ...errors import ResourceError
from ...evaluate import placement
from ...evaluate.demand import Demand
from ...evaluate.models import best_device, computing_dtype, free_memory, most_common
from ...evaluate.pipelines import is_pipeline
from ...progress import Event, Progress
from ...stream import budget
from ...stream.architecture import read_text_architecture
from ...stream.dtypes import DTYPES
from ...stream.plan import Plan
from ...stream.tensors import TensorPlan
from .offloaded import Offloaded


@dataclass(frozen=True)
class Footprint:
    """Bytes that a search holds beside its bare process.

    `sources` are mapped files, which all processes of a machine share and which the system can drop and read again;
    `model` is the one model of each process, `merging` what making a candidate takes, `generation` the keys, values and
    activations of answers (0 where nobody said how many), `gpu` what of the model and of these lies on a GPU. Within
    a limit nothing is mapped, and `disk` bytes of the model do not fit: they lie in a file and are read as they are
    computed with.
    """

    sources: int
    model: int
    merging: int = 0
    generation: int = 0
    gpu: int = 0
    disk: int = 0

    @property
    def anonymous(self) -> int:
        """Bytes of the machine's memory that one process has for itself."""
        on_gpu = self.generation if self.gpu else 0
        return self.model + self.merging + self.generation - on_gpu

    @property
    def memory(self) -> int:
        """Bytes of the machine's memory for one process."""
        return self.sources + self.anonymous


def footprint(
    plan: Plan, device: str | None = None, demand: Demand | None = None, memory: int | None = None
) -> Footprint:
    """What a `ResidentModel` of `plan` holds on `device`, by default the GPU where there is one, and takes at its peak.

    demand: what it is asked, where that is known. memory: the limit of a process, where it has one.
    """
    place = torch.device(device or best_device())
    dtype = computing(plan, place)
    model = model_bytes(plan, dtype)
    sources = sum(source.nbytes for source in plan.sources)
    generation = demand.nbytes(plan.config, dtype, place) if demand is not None else 0
    # What goes to a GPU is put together in the machine's memory first.
    gpu = model + generation if place.type == "cuda" else 0
    if memory is None:
        return Footprint(sources, model, plan.peak_memory, generation, gpu)
    kept = model
    if not fits(plan, place, memory):
        kept = min(model, placement.share_of_weights(memory, least_effort(plan)))
    left = memory - kept
    # Where a limit is too small for it, what it takes at least.
    merging = min(plan.peak_memory, max(left, least_effort(plan)))
    if demand is not None and generation > left:
        generation = max(left, replace(demand, prompts=1, run=1).nbytes(plan.config, dtype, place))
    return Footprint(0, kept, merging, generation, gpu, model - kept)


def require_room(plan: Plan, memory: int, demand: Demand | None) -> None:
    """Raises `ResourceError` where a candidate of `plan` cannot be held within a limit, or not asked one prompt of the
    `demand` (None: it does not answer in text): as what makes it and asks it would."""
    device = torch.device(best_device())
    kept, dtype = model_bytes(plan, computing(plan, device)), computing(plan, device)
    if not fits(plan, device, memory):
        outline, devices = _laid_out(plan, device, memory)
        kept = placement.kept(outline, devices) + 2 * placement.passing(outline, devices)
    if demand is not None and device.type == "cpu":
        text = read_text_architecture(plan.config)
        replace(demand, prompts=1).fitting(memory - kept, text, dtype, device)


def memory_for(plan: Plan, device: torch.device, memory: int | None) -> int | None:
    """The limit of a process that holds a model of `plan` on `device`: the one that was said, or where none was and
    not everything fits, what is free; None where everything fits."""
    if memory is not None:
        return memory
    held = footprint(plan, device.type)
    main = free_memory(torch.device("cpu"))
    return None if held.memory <= main and held.gpu <= free_memory(device) else int(main * placement.FREE)


def effort_within(plan: Plan, memory: int, held: int) -> budget.Effort:
    """How a candidate is merged within a limit of which weights hold a part.

    Raises `ResourceError` where not even one tensor at a time fits.
    """
    found = budget.effort(plan.stage, False, plan.threads, memory - held)
    if found.memory > memory - held:
        raise ResourceError(
            f"Making a candidate takes {size(found.memory)} of memory at least beside its weights, and the limit of "
            f"{size(memory)} leaves {size(max(0, memory - held))}; allow {size(found.memory + held)}."
        )
    return found


def least_effort(plan: Plan) -> int:
    """Bytes that making a candidate takes at least, one tensor at a time."""
    return budget.effort(plan.stage, False, 1, 0).memory


def offload(plan: Plan, device: torch.device, memory: int, progress: Progress) -> Offloaded:
    """A model of `plan` of which as much stays in memory as a limit allows; says how much that is."""
    outline, devices = _laid_out(plan, device, memory)
    whole, kept = sum(weight.nbytes for weight in outline.parameters()), placement.kept(outline, devices)
    progress(Event("offload", kept, whole, "B", "fit; the rest is read from disk for every answer, which is slow"))
    return Offloaded(plan, outline, devices, computing(plan, device))


def _laid_out(plan: Plan, device: torch.device, memory: int) -> tuple[Any, dict[str, placement.Device]]:
    """The outline of a model, and where each module lies within a limit. Raises `ResourceError` where none may."""
    if is_pipeline(plan):
        raise _too_large(plan, memory)
    outline, beside = placement.outline(plan.config, computing(plan, device)), least_effort(plan)
    placement.require_room(outline, "A candidate", memory, beside)
    return outline, placement.spread(outline, placement.room_for_weights(device, memory, beside))


def _too_large(plan: Plan, memory: int) -> ResourceError:
    """The error of a pipeline that does not fit into memory."""
    whole = model_bytes(plan, computing(plan, torch.device("cpu")))
    return ResourceError(
        f"A candidate of {size(whole)}, and making it, do not fit into {size(memory)}, and a pipeline is not read from "
        f"disk as it draws; allow {size(2 * whole)} or more, or search smaller models."
    )


def fits(plan: Plan, device: torch.device, memory: int) -> bool:
    """Whether all of a model of `plan` stays in memory, and on `device`, beside what making it and asking it take."""
    model = model_bytes(plan, computing(plan, device))
    if device.type == "cuda" and model > free_memory(device) * placement.FREE:
        return False
    return model <= memory * placement.WHOLE and model + least_effort(plan) <= memory


def model_bytes(plan: Plan, dtype: torch.dtype) -> int:
    """Bytes of the weights of a model of `plan` that computes in `dtype`."""
    return sum(tensor.parameters * held_dtype(tensor, dtype).itemsize for tensor in plan.tensors)


def computing(plan: Plan, device: torch.device) -> torch.dtype:
    """The dtype that a model of `plan` computes in."""
    return computing_dtype(most_common((DTYPES[t.dtype].torch, t.parameters) for t in plan.tensors), device)


def held_dtype(tensor: TensorPlan, dtype: torch.dtype) -> torch.dtype:
    """What a tensor is held in by a model that computes in `dtype`: integers as they are."""
    own = DTYPES[tensor.dtype]
    return dtype if own.is_float else own.torch
