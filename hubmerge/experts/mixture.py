"""The plan of a mixture of experts: which tensor of which model goes where, and what is wrong with it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..errors import RecipeError
from ..hub.licences import combine
from ..hub.source import Source, open_source
from ..layers import depth, parse
from ..methods import find_method
from ..progress import Progress, silent
from ..reference import ModelRef
from ..stream.architecture import completed
from ..stream.component import ComponentPlan
from ..stream.configuration import changed, dtype_changes, kept
from ..stream.dtypes import RECIPE_DTYPES
from ..stream.findings import Finding, error, raise_errors, some, warning
from ..stream.layout import order
from ..stream.plan import Plan, Settings, assess, pins_by, weights_of
from ..stream.stage import Stage
from ..stream.tensors import TensorPlan
from ..stream.views import view_all
from ..stream.weights import Described, Weights
from . import prompts
from .document import Expert, Moe
from .gates import Made, directions, drawn
from .layouts import LAYOUTS, NO_SHARED_WIDTH, PARTS, Layout, Needs, fitting

if TYPE_CHECKING:
    from typing_extensions import Unpack

_DENSE = {f"mlp.{part}.weight": part for part in PARTS}


def plan_moe(
    moe: Moe,
    *,
    token: str | None = None,
    sources: Mapping[ModelRef, Source] | None = None,
    progress: Progress = silent,
    **settings: "Unpack[Settings]",
) -> Plan:
    """Plans a mixture, reading no weights; its gates are made when the first is read, or by `make_gates`.

    `settings` as of `make_plan`; their memory also bounds the model that is asked for hidden states. Raises
    `RecipeError`, `SourceError` or `HubError`; what is wrong between the models is in the plan's findings.
    """
    opened = {ref: (sources or {}).get(ref) or open_source(ref, token=token) for ref in moe.references}
    weights = {ref: weights_of(source) for ref, source in opened.items()}
    build = _Build(moe, weights, _layout(moe, weights[moe.base_model]))
    findings = [*build.check(), *map(warning, (*moe.remarks, *combine(tuple(opened.values())).warnings))]
    see = partial(_see, moe, opened[moe.base_model], weights[moe.base_model], token, settings, progress)
    raise_errors(findings)
    stage = build.stage(see)
    return assess(moe.with_pins(pins_by(opened)), tuple(opened.values()), [stage], findings, **settings)


def make_gates(plan: Plan) -> None:
    """Makes the gates of a mixture's plan now: a model may be asked for it."""
    for weights in plan.stage.weights:
        if isinstance(weights, Made):
            weights.prepare()


def _see(
    moe: Moe,
    source: Source,
    weights: Weights,
    token: str | None,
    settings: Settings,
    progress: Progress,
    texts: Sequence[str],
) -> Tensor:
    if moe.gate_mode == "hidden":
        device, memory = settings.get("device", "cpu"), settings.get("memory")
        return prompts.hidden(source, texts, token=token, device=device, memory=memory, progress=progress)
    return prompts.embedded(source, weights, texts, depth(weights.tensors))


def _layout(moe: Moe, base: Weights) -> Layout:
    kind = str(base.config.get("model_type"))
    name = moe.architecture or fitting(kind, bool(moe.shared_experts))
    if name is None:
        known = dict.fromkeys(one for layouts in LAYOUTS.values() for layout in layouts for one in layout.takes)
        shared = " with a shared expert" if moe.shared_experts else ""
        raise RecipeError(
            f"{base.name} is a {kind} model, of which no mixture{shared} can be made; it takes {', '.join(known)}."
        )
    found = next((layout for layout in LAYOUTS[name] if kind in layout.takes), None)
    if found is None:
        takes = [kind for layout in LAYOUTS[name] for kind in layout.takes]
        raise RecipeError(
            f"A mixture of the architecture {name} is made of {' or '.join(takes)}, not of {kind} models."
        )
    if moe.shared_experts and found.shared is None:
        raise RecipeError(f"A mixture of the architecture {name} has no shared expert; leave `shared_experts` out.")
    if len(moe.shared_experts) > 1:
        raise RecipeError("At most one of `shared_experts` can be given.")
    if found.needs_shared and not moe.shared_experts and found.shared_gate is None:
        raise RecipeError(f"A {found.model_type} model always has a shared expert; name one in `shared_experts`.")
    if any(one.positive_prompts for one in moe.shared_experts) and found.shared_gate is None:
        raise RecipeError(f"The shared expert of a {found.model_type} model is always on; leave its prompts out.")
    return found


@dataclass(frozen=True)
class _Build:
    """A mixture that is put together: what it is to be, of which weights, in which layout."""

    moe: Moe
    weights: Mapping[ModelRef, Weights]
    layout: Layout

    @property
    def base(self) -> Weights:
        return self.weights[self.moe.base_model]

    @property
    def shared(self) -> Expert | None:
        return next(iter(self.moe.shared_experts), None)

    def check(self) -> Iterator[Finding]:
        """What is wrong between the models, and what to know of the result."""
        mlps = {name: tensor for name, tensor in self.base.tensors.items() if parse(name).suffix in _DENSE}
        if len(mlps) != len(PARTS) * depth(self.base.tensors):
            yield error(f"{self.base.name} has not an MLP of {', '.join(PARTS)} in each layer: it is no dense model.")
            return
        yield from self._check_biases(self.base, self.layout.biases)
        for expert in (*self.moe.experts, *self.moe.shared_experts):
            yield from self._check_expert(expert, mlps)
        if self.layout.remote is not None:
            yield warning(
                f"transformers reads a {self.layout.model_type} model only with the code of {self.layout.remote} "
                "(trust_remote_code); the architecture qwen has shared experts too, and needs no such code."
            )
        if self.layout.needs_shared and self.shared is None:
            yield warning(
                f"A {self.layout.model_type} model always has a shared expert; this one's is narrow, and zeros."
            )

    def _check_biases(self, model: Weights, beside: bool) -> Iterator[Finding]:
        """Biases of MLPs have no place; `beside`: others of the model have one."""
        biases = [name for name in model.tensors if name.endswith(".bias") and parse(name).layer is not None]
        if lost := [name for name in biases if not beside or ".mlp." in name]:
            yield error(f"{model.name} has biases ({some(lost, 1)}), for which {self.layout.model_type} has no place.")

    def _check_expert(self, expert: Expert, mlps: Mapping[str, Described]) -> Iterator[Finding]:
        model = self.weights[expert.source_model]
        if model is self.base:
            return
        yield from self._check_biases(model, beside=True)
        if (layers := depth(model.tensors)) != depth(self.base.tensors):
            yield error(
                f"{model.name} has {layers} layers and {self.base.name} {depth(self.base.tensors)}; experts are models "
                "of one size."
            )
            return
        ours, theirs = self.base.tokenizer.numbering, model.tokenizer.numbering
        if ours is not None and theirs is not None and not ours.same(theirs):
            yield warning(
                f"{model.name} was trained on other tokens than {self.base.name}, whose tokenizer the mixture has; its "
                "experts may not know what they read."
            )
        if missing := [name for name in mlps if name not in model.tensors]:
            yield error(f"{model.name} lacks {some(missing)} of {self.base.name}; experts are models of one kind.")
            return
        for name, tensor in mlps.items():
            if model.tensors[name].shape != tensor.shape:
                yield error(
                    f"{name} is {list(model.tensors[name].shape)} in {model.name} and {list(tensor.shape)} in "
                    f"{self.base.name}; experts are models of one size."
                )
                return
        acts = [one.config.get("hidden_act") for one in (model, self.base)]
        if None not in acts and acts[0] != acts[1]:
            yield error(f"{model.name} computes its MLPs with {acts[0]}, and {self.base.name} with {acts[1]}.")

    def stage(self, see: Any) -> Stage:
        """The merge that copies all of it together."""
        refs = list(self.weights)
        made = self._made(see)
        tensors: list[TensorPlan] = []
        view = view_all({0: self.base}).views[0].tensors
        for name, tensor in view.items():
            parsed = parse(name)
            if (part := _DENSE.get(parsed.suffix)) is None:
                tensors.append(self._copy(name, 0, tensor))
                continue
            place = f"{parsed.prefix}{parsed.layer}."
            for number, expert in enumerate(self.moe.experts):
                index = refs.index(expert.source_model)
                to = f"{place}{self.layout.expert.format(number)}.{self.layout.parts[PARTS.index(part)]}.weight"
                tensors.append(self._copy(to, index, self.weights[expert.source_model].tensors[name]))
            if self.shared is not None:
                index = refs.index(self.shared.source_model)
                stored = self.weights[self.shared.source_model].tensors[name]
                scale = self._shared_scale() if part == "down_proj" else 1.0
                tensors.append(self._copy(f"{place}{self.layout.shared}.{part}.weight", index, stored, scale))
        tensors += [replace(plan, inputs=((len(refs), plan.name),), carried=True) for plan in made.plans.values()]
        weights = (*self.weights.values(), made)
        component = ComponentPlan("", self._config(tensors), tuple(_by_layer(tensors)))
        return Stage("", find_method("passthrough"), weights, (component,), self.base.tokenizer, is_restacked=True)

    def _shared_scale(self) -> float:
        """The factor on what the shared expert adds; where a gate lets it through by half, twice as much."""
        assert self.shared is not None
        asked = 1.0 if self.shared.residual_scale is None else self.shared.residual_scale
        halved = self.layout.shared_gate is not None and not self.shared.positive_prompts
        return 2 * asked if halved else asked

    def _copy(self, name: str, index: int, stored: Described, scale: float = 1.0) -> TensorPlan:
        source = list(self.weights.values())[index]
        dtype = RECIPE_DTYPES[self.moe.dtype] if self.moe.dtype else stored.dtype
        plan = TensorPlan(name, stored.shape, dtype, ((index, stored.name),), carried=True)
        if dtype == stored.dtype and scale == 1 and source.is_stored(stored.name):
            return plan
        return replace(plan, carried=False, per_model=({"scale": scale, "shift": 0.0},))

    def _made(self, see: Any) -> Made:
        """Gates, and zeros where a family has tensors that this mixture needs none of."""
        layers = depth(self.base.tensors)
        prefix = next(parse(name).prefix for name in self.base.tensors if parse(name).layer is not None)
        stored = next(tensor for name, tensor in self.base.tensors.items() if parse(name).suffix in _DENSE)
        width = self._width
        dtype = RECIPE_DTYPES[self.moe.dtype] if self.moe.dtype else stored.dtype
        plans: dict[str, TensorPlan] = {}

        def add(name: str, *shape: int, kind: str = dtype) -> None:
            plans[name] = TensorPlan(name, shape, kind, ((0, name),))

        for layer in range(layers):
            place = f"{prefix}{layer}."
            add(place + self.layout.gate, len(self.moe.experts), width)
            if self.layout.shared_gate is not None:
                add(place + self.layout.shared_gate, 1, width)
            if self.layout.needs_shared and self.shared is None:
                for part in PARTS:
                    shape = (width, NO_SHARED_WIDTH) if part == "down_proj" else (NO_SHARED_WIDTH, width)
                    add(f"{place}{self.layout.shared}.{part}.weight", *shape)
            for name, kind in self.layout.zeros.items():
                add(place + name, len(self.moe.experts), kind=kind)

        def make() -> dict[str, Tensor]:
            gated = [self.shared] if self.shared and self.shared.positive_prompts else []
            count = len(self.moe.experts)
            if self.moe.gate_mode == "random":
                spread = float(self.base.config.get("initializer_range") or 0.02)
                rows = drawn(count + len(gated), layers, width, spread)
            else:
                rows = directions([*self.moe.experts, *gated], see)
            found = {f"{prefix}{layer}.{self.layout.gate}": rows[:count, layer] for layer in range(layers)}
            for layer in range(layers) if gated else ():
                found[f"{prefix}{layer}.{self.layout.shared_gate}"] = rows[count:, layer]
            return found

        return Made(self.base, plans, make)

    @property
    def _width(self) -> int:
        return next(t.shape[1] for name, t in self.base.tensors.items() if parse(name).suffix == "mlp.up_proj.weight")

    def _config(self, tensors: Sequence[TensorPlan]) -> dict[str, Any]:
        dense = kept(completed(self.base.config) | dict(self.base.config))
        shared = None
        if self.shared is not None:
            model = self.weights[self.shared.source_model].tensors
            shared = next(t.shape[0] for name, t in model.items() if parse(name).suffix == "mlp.up_proj.weight")
        needs = Needs(dense, len(self.moe.experts), self.moe.experts_per_token, shared)
        config = {key: value for key, value in self.layout.changes(needs).items() if key != "transformers_version"}
        config |= {"model_type": self.layout.model_type, "architectures": [self.layout.architecture]}
        if isinstance(rope := config.get("rope_parameters"), Mapping) and "rope_theta" in rope:
            config.setdefault("rope_theta", rope["rope_theta"])
        if self.layout.remote is not None:
            kind = self.layout.architecture.removesuffix("ForCausalLM")
            modelling = f"{self.layout.remote}--modeling_{self.layout.model_type}"
            config["auto_map"] = {
                "AutoConfig": f"{self.layout.remote}--configuration_{self.layout.model_type}.{kind}Config",
                "AutoModel": f"{modelling}.{kind}Model",
                "AutoModelForCausalLM": f"{modelling}.{self.layout.architecture}",
            }
        told = [one for one in tensors if parse(one.name).suffix not in self.layout.zeros]
        return changed(config, dtype_changes(config, told))


def _by_layer(tensors: Sequence[TensorPlan]) -> list[TensorPlan]:
    """Gates beside the layers that they are of."""
    return sorted(tensors, key=lambda one: order(one.name)[:3])
