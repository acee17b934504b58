"""The layers of several models in memory, once, that become any path through them without copying a weight."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch
from accelerate.hooks import add_hook_to_module
from torch import Tensor, nn

from ... import layers
from ...errors import PlanError
from ...evaluate.models import best_device, load_tokenizer
from ...hub.source import Source, open_source
from ...methods.blocks import BLOCK, Workspace
from ...progress import Event, Progress, silent
from ...recipe import ModelEntry, Output, Recipe, Stage
from ...reference import ModelRef
from ...stream.carried import Carried
from ...stream.compute import merge_blocks, merge_tensor, one_thread
from ...stream.dtypes import DTYPES
from ...stream.mapped import map_tensors
from ...stream.plan import Plan, made_by, make_plan, named_weights
from ...stream.reader import Reader
from ...stream.tensors import TensorPlan
from ...stream.weights import Extent, Reads, Weights
from ..spaces.families import Family, family_of, module_of
from ..spaces.layer_path import LayerPath
from .building import build_model
from .footprint import fits, memory_for, offload
from .offloaded import Offloaded
from .resident import untouched

Place = tuple[int, int]
"""A layer: the number of its model, and its own number there."""


class PathModel:
    """A transformers model whose layers are those of one path after another.

    The pool of all models' layers is itself a path, with each layer once, and is built as the export of that path would
    load. For any other path it gets other layers: each occurrence is a module of its own around the pool's very
    parameters, with its own place in the KV cache. Scales act where the export puts them (see `blocks`): what is scored
    is what is exported, up to rounding.

    load: what gives the tokenizer, or a processor in its place. `untouched`: as of a `ResidentModel`. models: the first
    gives embeddings, final norm, head, and the settings of the result; the vocabularies of the
    others do not matter. sources: models that are already open. stages: merges that the models may name. memory: bytes
    that this process may take beside what its libraries need: what of the pool does not fit is read from the models'
    files as it is computed with. The weights are read at the first path. Raises `PlanError` for models that do not fit
    together or whose layers cannot be moved.
    """

    def __init__(
        self,
        models: Sequence[ModelRef],
        sources: Mapping[ModelRef, Source] | None = None,
        *,
        stages: Sequence[Stage] = (),
        device: str | None = None,
        memory: int | None = None,
        progress: Progress = silent,
        load: Callable[[Carried], Any] = load_tokenizer,
    ) -> None:
        self.models = tuple(models)
        self.device = torch.device(device or best_device())
        self._sources = dict(sources or {})
        self._stages = tuple(stages)
        self._memory = memory
        self._progress = progress
        self._load = load
        self._offloaded: list[Offloaded] = []
        for ref in (ref for ref in self.models if not ref.stage and ref not in self._sources):
            self._sources[ref] = open_source(ref)
        self._made = made_by(self._stages, self._sources)
        self.family = family_of(self._named(self.models[0]).config)
        self.layer_counts = tuple(layer_count(self._named(ref)) for ref in self.models)
        self._plan(LayerPath(self.models, ((0, 0),), (1.0,)))
        self._output: Output | None = None
        self._pool: _Pool | None = None
        self.model: Any = None
        self.tokenizer: Any = None
        self.untouched: object = None

    def load(self, path: LayerPath) -> None:
        """Makes the model the one of `path`; takes milliseconds after the first.

        Raises `PlanError` for a path through other models or layers, `ResourceError` where not even one module at a
        time fits into memory.
        """
        if path.models != self.models:
            raise PlanError("The path runs through other models than those in memory; name the same, in this order.")
        for model, layer in path.layers:
            if layer >= self.layer_counts[model]:
                raise PlanError(
                    f"The path names layer {layer} of {self.models[model]}, which has {self.layer_counts[model]}, "
                    "counted from 0."
                )
        if self._pool is None or path.output != self._output:
            self.model = self._pool = None
            self._let_go()
            plan = self._plan(path)
            self.tokenizer = self._load(plan.tokenizer)
            self._untouched = untouched(plan)
            self._pool = _Pool(self._build(plan), pool_places(self.layer_counts), self.family)
            self._output = path.output
        self.model = self._pool.become(path)
        self.untouched = self._untouched

    def load_source(self, ref: ModelRef) -> Any:
        """Makes the model one of the models as it is, and returns that model's own tokenizer.

        It is built apart, with its own settings, embeddings and head, and stands beside the pool until the next path.
        Where memory is scarce the pool makes room for it.
        """
        self.model = None
        if self._memory is not None or self._offloaded:
            self._pool = None
            self._let_go()
        own = tuple(stage for stage in self._stages if ref.stage and stage.ref == ref.whole_stage)
        plan = make_plan(Recipe("passthrough", models=(ModelEntry(ref),), stages=own), sources=self._sources)
        plan.require()
        self.model = self._build(plan)
        self.untouched = untouched(plan)
        return self._load(plan.tokenizer)

    def _named(self, ref: ModelRef) -> Weights:
        return named_weights(ref, self._sources, self._made)

    def _plan(self, path: LayerPath) -> Plan:
        """The plan of the pool, with the output settings of `path`."""
        places = pool_places(self.layer_counts)
        pool = replace(path, layers=places, scales=(1.0,) * len(places))
        plan = make_plan(pool.recipe(self.family, self._stages), sources=self._sources)
        plan.require()
        self.family.check(tensor.name for tensor in plan.stage.merging)
        _check_layers(plan, places, self.models)
        return plan

    def _let_go(self) -> None:
        """Removes what lies in files of our own."""
        for model in self._offloaded:
            model.close()
        self._offloaded.clear()

    def _build(self, plan: Plan) -> Any:
        """The model of a plan that takes each tensor from one source, unchanged but for its dtype."""
        memory = memory_for(plan, self.device, self._memory)
        if memory is not None:
            return self._build_within(plan, memory)
        mapped: dict[object, Tensor] = {}
        needed = {extent.source.place: extent.source for t in plan.tensors for extent in plan.stage.needs_all(t)}
        for number, source in enumerate(needed.values(), 1):
            mapped |= {(source.place, name): tensor for name, tensor in map_tensors(source)}
            self._progress(Event("read", number, len(needed), "models", note=source.name))

        def stored(extent: Extent) -> Tensor:
            return mapped[extent.stored].view(-1)[extent.start : extent.stop]

        state = {}
        for tensor in plan.tensors:
            # What is in the right dtype already stays where it is, in memory that processes share.
            if (extent := _as_stored(plan, tensor)) is not None and DTYPES[extent.tensor.dtype] is DTYPES[tensor.dtype]:
                state[tensor.name] = mapped[extent.stored]
            else:
                state[tensor.name] = merge_tensor(plan.stage.method, tensor, plan.stage.read(Reads(stored)))
        return build_model(plan, state, self.device)

    def _build_within(self, plan: Plan, memory: int) -> Any:
        """The same within a limit: nothing is mapped, and what does not fit is read from the models' own files."""
        with closing(Reader(plan.stage, plan.tensors)) as reader:
            if fits(plan, self.device, memory):
                state = {}
                for tensor in plan.tensors:
                    with reader.reading(tensor) as read:
                        state[tensor.name] = merge_tensor(plan.stage.method, tensor, read)
                return build_model(plan, state, self.device)
            made = offload(plan, self.device, memory, self._progress)
            self._offloaded.append(made)
            sinks = made.sinks()
            for tensor in plan.tensors:
                extent = _as_stored(plan, tensor) if made.lies_in_file(tensor.name) else None
                if extent is not None and _is_read_there(extent, tensor):
                    made.read_from(tensor.name, extent.source.local_path(extent.tensor.file), extent.tensor.name)
                    continue
                with reader.reading(tensor) as read, one_thread():
                    for number, block in enumerate(merge_blocks(plan.stage.method, tensor, read, Workspace())):
                        sinks[tensor.name](number * BLOCK, block)
        if not made.is_written_in_place:
            made.load()
        return made.model


def _is_read_there(extent: Extent, tensor: TensorPlan) -> bool:
    """Whether accelerate can read a tensor, as it is to be, in the file that it lies in."""
    return extent.tensor.file.endswith(".safetensors") and DTYPES[extent.tensor.dtype] is DTYPES[tensor.dtype]


def _as_stored(plan: Plan, tensor: TensorPlan) -> Extent | None:
    """Where a tensor lies that a stage takes as it is; None for one that is computed."""
    index, name = tensor.inputs[0]
    if not plan.stage.weights[index].is_stored(name):
        return None
    [extent] = plan.stage.needs_all(tensor)
    return extent


class _Pool:
    """A model whose stack has each layer of all models once, at `places`, and then those of a path."""

    def __init__(self, model: Any, places: Sequence[Place], family: Family) -> None:
        self._model = model
        self._family = family
        self._config = model.config.get_text_config()
        # What sees has layers, too, and norms after them.
        speaking = model if self._config is model.config else model.get_decoder()
        last = module_of(family.final_norm)
        if speaking is model:
            self._final_norm = next(m for name, m in model.named_modules() if name.endswith(last))
        else:
            self._final_norm = speaking.get_submodule(last.rpartition(".")[2])
        # Experts and the like are lists too, but the stack of layers is the outermost of this length.
        self._stack = next(m for m in speaking.modules() if isinstance(m, nn.ModuleList) and len(m) == len(places))
        self._layers = dict(zip(places, self._stack, strict=True))
        # Settings with an entry a layer, such as layer_types; masks and caches are made by them.
        self._listed = {
            key: dict(zip(places, value, strict=True))
            for key, value in vars(self._config).items()
            if "layer" in key and isinstance(value, list) and len(value) == len(places)
        }

    def become(self, path: LayerPath) -> Any:
        self._stack._modules = {
            str(number): _occurrence(self._layers[place], number, factor, self._family)
            for number, (place, factor) in enumerate(zip(path.layers, path.factors, strict=True))
        }
        self._final_norm._forward_pre_hooks.clear()
        if path.factors[-1] < 0:
            self._final_norm.register_forward_pre_hook(_negated)
        self._config.num_hidden_layers = len(path.layers)
        for key, values in self._listed.items():
            setattr(self._config, key, [values[place] for place in path.layers])
        return self._model


def layer_count(model: Weights) -> int:
    """How many layers a model has. Raises `PlanError` unless it has exactly one stack of them."""
    numbers: dict[str, set[int]] = {}
    for name in map(layers.parse, model.tensors):
        if name.layer is not None:
            numbers.setdefault(name.prefix, set()).add(name.layer)
    if len(numbers) != 1:
        raise PlanError(f"{model.name} has {len(numbers)} stacks of layers; paths need models with exactly one.")
    return len(next(iter(numbers.values())))


def pool_places(layer_counts: Sequence[int]) -> tuple[Place, ...]:
    """All layers in order, but the first model's last at the end: its neighbours outside the layers come with it."""
    first, *others = ([(model, layer) for layer in range(count)] for model, count in enumerate(layer_counts))
    between = [place for places in others for place in places]
    # A first model of a single layer is both ends.
    return (*(first[:-1] or first if between else first[:-1]), *between, first[-1])


def _occurrence(layer: nn.Module, number: int, factor: float, family: Family) -> nn.Module:
    """A layer at one place of a path: the same parameters, in modules of its own.

    factor: how many times too small its input is, as for `Family.absorb`, whose new weights would do the same.
    """
    made = _share(layer)
    for module in made.modules():
        if hasattr(module, "layer_idx"):
            module.layer_idx = number  # type: ignore[assignment]
    if factor != 1:
        for name in family.writers:
            made.get_submodule(name).register_forward_hook(lambda _, inputs, output: _divided(output, factor))
    if factor < 0:
        for name in family.input_norms:
            made.get_submodule(module_of(name)).register_forward_pre_hook(_negated)
    return made


def _divided(output: Any, factor: float) -> Any:
    """What a module writes, over `factor`; a mixture's router may say behind it what it chose."""
    return (output[0] / factor, *output[1:]) if isinstance(output, tuple) else output / factor


def _negated(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What a norm whose weight has the other sign makes of its input, the norm itself makes of this."""
    return (-inputs[0], *inputs[1:])


def _share(module: nn.Module) -> nn.Module:
    """A module with the parameters and buffers of `module` and a tree of submodules of its own."""
    made = module.__new__(type(module))
    made.__dict__.update(module.__dict__)
    if (hook := made.__dict__.pop("_hf_hook", None)) is not None:
        # accelerate puts a forward of its own in place, which leads to the module that it was made for.
        del made.__dict__["forward"], made.__dict__["_old_forward"]
        add_hook_to_module(made, hook)
    made._modules = {name: child and _share(child) for name, child in module._modules.items()}
    made._forward_pre_hooks = type(module._forward_pre_hooks)()
    made._forward_hooks = type(module._forward_hooks)()
    return made


def _check_layers(plan: Plan, places: Sequence[Place], models: Sequence[ModelRef]) -> None:
    """Raises `PlanError` unless all layers have the same tensors in the same shapes, whatever configurations say."""
    shapes: list[dict[str, tuple[int, ...]]] = [{} for _ in places]
    for tensor in plan.stage.merging:
        name = layers.parse(tensor.name)
        # Old files of GPT-2 store its causal mask, "attn.bias", beside the weights.
        if name.layer is not None and name.suffix != "attn.bias":
            shapes[name.layer][name.suffix] = tensor.shape
    for (model, layer), found in zip(places, shapes, strict=True):
        if found != shapes[0]:
            suffix = next(iter(dict(found.items() ^ shapes[0].items())))
            raise PlanError(
                f"Layer {layer} of {models[model]} differs from layer 0 of {models[0]}: its {suffix} is "
                f"{list(found[suffix]) if suffix in found else 'missing'}, not "
                f"{list(shapes[0][suffix]) if suffix in shapes[0] else 'missing'}; take models of one size."
            )
