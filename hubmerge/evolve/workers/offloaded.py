"""A model that does not fit into memory, whose weights can be replaced: what fits stays, the rest lies in a file.

accelerate decides what stays and reads the rest, module by module, whenever it is computed with. A weight is written
where it lives: through the module's hook, into the file; or into memory.
"""

import json
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.hooks import AlignDevicesHook, SequentialHook
from accelerate.utils import PrefixedDataset
from torch import Tensor

from ...evaluate import placement
from ...evaluate.models import loading
from ...evaluate.spool import Spool
from ...files import disk_errors
from ...hub.checkpoint import CONFIG
from ...stream import budget, shards
from ...stream.architecture import answering_class, read_architecture, transformers_errors
from ...stream.findings import raise_errors
from ...stream.plan import Plan
from .building import with_generation_config

Sink = Callable[[int, Tensor], object]
"""Takes a block of a tensor: the number of its first element, and its elements, flat."""


def into(target: Tensor) -> Sink:
    """What writes into a tensor in memory, in its dtype."""
    flat = target.detach().view(-1)
    return lambda start, block: flat[start : start + block.numel()].copy_(block)


class Offloaded:
    """The model of a plan, its weights written one by one; `dtype`: what it computes in.

    `outline`: the model without weights. Where it holds the plan's tensors under their own names, the model is loaded
    at once and `sinks` lead to where each weight lives. Otherwise transformers puts weights together as it loads them:
    then all are written first, and another candidate is loaded anew. Raises `ResourceError` where the disk has no room.
    """

    def __init__(self, plan: Plan, outline: Any, devices: Mapping[str, placement.Device], dtype: torch.dtype) -> None:
        self._plan = plan
        self._dtype = dtype
        self._devices = dict(devices)
        self._spool = Spool()
        raise_errors(budget.check_disk(self._spool.folder, plan.output_bytes, 0))
        with disk_errors(self._spool.folder):
            (self._spool.folder / CONFIG).write_text(json.dumps(dict(plan.config)))
        self._file = _Checkpoint(self._spool.folder, plan)
        self.model: Any = None
        standing = dict(outline.state_dict())
        self.is_written_in_place = all(
            tensor.name in standing and tuple(standing[tensor.name].shape) == tensor.shape for tensor in plan.tensors
        )
        if self.is_written_in_place:
            self.load()

    def load(self) -> None:
        """Makes the model of what is in the file."""
        config = read_architecture(self._plan.config)
        kind: Any = answering_class(self._plan.config)._model_mapping[type(config)]
        with transformers_errors("transformers cannot build the merged model"), loading():
            model = kind.from_pretrained(
                str(self._spool.folder),
                config=config,
                dtype=self._dtype,
                device_map=self._devices,
                offload_folder=str(self._spool.folder / "converted"),
                use_safetensors=True,
                local_files_only=True,
            )
        self.model = with_generation_config(model, self._plan.tokenizer).eval()

    def sinks(self) -> dict[str, Sink]:
        """What writes each of the plan's tensors where it lives."""
        if not self.is_written_in_place:
            return {tensor.name: self._file.sink(tensor.name) for tensor in self._plan.tensors}
        return {tensor.name: self._sink(tensor.name) for tensor in self._plan.tensors}

    def lies_in_file(self, name: str) -> bool:
        """Whether a weight is known to be read whenever it is needed; not before it is loaded, where all is written
        first."""
        return self.model is not None and self._index(name) is not None

    def read_from(self, name: str, file: Path, stored: str) -> None:
        """Has a weight, which `lies_in_file`, read from another safetensors file, by its name there."""
        entry = self._index(name)
        assert entry is not None
        # Tied weights share an entry, so all of them move.
        entry |= {"safetensors_file": str(file), "weight_name": stored}

    def close(self) -> None:
        """Lets go of the model and its file."""
        self.model = None
        self._file.close()
        self._spool.close()

    def _sink(self, name: str) -> Sink:
        if self._index(name) is not None:
            return self._file.sink(name)
        weights, key = self._hooked(name)
        # Beside a GPU, what waits in memory is held by the hook and not by the module.
        held = weights.state_dict.get(key) if weights is not None else None
        return into(held if held is not None else _tensor(self.model, name))

    def _index(self, name: str) -> dict[str, str] | None:
        """What accelerate knows of a weight in a file; None for one in memory."""
        weights, key = self._hooked(name)
        if weights is None or key in weights.state_dict:
            return None
        found: dict[str, str] = weights.index[key]
        return found

    def _hooked(self, name: str) -> tuple[Any, str]:
        """The weights that the hook of a weight's module reads from, and its name there; None where it has none."""
        module = self.model.get_submodule(name.rpartition(".")[0])
        for hook in _hooks(module):
            if hook.offload:
                weights = hook.weights_map
                assert isinstance(weights, PrefixedDataset)
                return weights.dataset, weights.prefix + name.rpartition(".")[2]
        return None, ""


def _hooks(module: Any) -> Iterator[AlignDevicesHook]:
    hook = getattr(module, "_hf_hook", None)
    for one in hook.hooks if isinstance(hook, SequentialHook) else [hook]:
        if isinstance(one, AlignDevicesHook):
            yield one


def _tensor(model: Any, name: str) -> Tensor:
    place, _, own = name.rpartition(".")
    found: Tensor = getattr(model.get_submodule(place), own)
    return found


class _Checkpoint:
    """A checkpoint of one safetensors file whose tensors can be written at any time; what is not, is zero and takes no
    disk."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.path = folder / "model.safetensors"
        [shard] = shards.fill_shards(plan.tensors, max(1, plan.output_bytes))
        tensors = {tensor.name: tensor for tensor in plan.tensors}
        header = shards.header([tensors[name] for name in shard.names])
        self._starts: dict[str, tuple[int, int]] = {}
        position = len(header)
        for name in shard.names:
            self._starts[name] = position, tensors[name].nbytes // max(1, tensors[name].parameters)
            position += tensors[name].nbytes
        self._lock = threading.Lock()
        with disk_errors(self.path):
            self._file = open(self.path, "w+b", buffering=0)  # noqa: SIM115 (open for as long as this object lives)
            self._file.write(header)
            os.truncate(self._file.fileno(), position)
        self._finalize = weakref.finalize(self, self._file.close)

    def sink(self, name: str) -> Sink:
        start, width = self._starts[name]

        def write(first: int, block: Tensor) -> None:
            data = block.view(torch.uint8).numpy().data
            with disk_errors(self.path), self._lock:
                self._file.seek(start + first * width)
                while len(data):
                    data = data[self._file.write(data) or 0 :]

        return write

    def close(self) -> None:
        self._finalize()
