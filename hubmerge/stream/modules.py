"""A merge of parts of models: each part is merged by itself, and put into one model with all else as it is.

Each module is a stage over parts, taken for models of their own. What is written is one more stage, which copies: the
modules' results, and from the model that they are put into what no module makes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import RecipeError
from ..guesses import guess
from ..hub.component import ALIASES, LANGUAGE_MODEL, Component
from ..layers import is_by_token
from ..methods import find_method
from ..recipe import Parameters, Recipe
from ..reference import ModelRef
from .agreement import check_configs
from .component import ComponentPlan
from .configuration import DTYPE_KEYS, TIED, changed, dtype_changes, kept, renumbered
from .converted import converted, is_one_file
from .copied import Copy, check_copies, copies
from .findings import Finding, error, some, warning
from .own_rows import with_own_rows
from .rows import Rows
from .settings import Resolver
from .shards import in_stored_order
from .stage import Merged, Stage
from .tensors import TensorPlan
from .towers import bare, check_towers
from .weights import Alone, Described, Part, Weights

PlanStage = Callable[[str, Recipe, Mapping[ModelRef, Weights], tuple[Parameters, ...]], tuple[Stage, list[Finding]]]
"""Plans one merge: its name, its recipe, what its models are, and the parameters that count after its own."""


@dataclass(frozen=True)
class _Module:
    """A part to merge: what the recipe calls it, what models call it, how, and the parameters that count after."""

    name: str
    part: str
    recipe: Recipe
    outer: tuple[Parameters, ...] = ()
    copied: ModelRef | None = None


@dataclass(frozen=True)
class _Done:
    """A module's result and where it goes; `giver`: the part whose configuration it keeps."""

    component: Component
    stage: Stage
    giver: Weights


def plan_modules(
    name: str, recipe: Recipe, made: Mapping[ModelRef, Weights], plan: PlanStage
) -> tuple[Stage, list[Finding]]:
    """A merge of parts, over weights that are `made`, and what is wrong with it.

    Raises `RecipeError` for modules that the model which is carried does not have.
    """
    modules = list(_modules(recipe, made))
    merged = [module for module in modules if module.copied is None]
    whole = _whole(recipe, modules, made)
    taken = list(copies(recipe, whole, made, {module.name: module.part for module in modules}))
    done: list[_Done] = []
    findings: dict[str, Finding] = {}
    for module in merged:
        component = whole.components[module.part]
        if not component.names:
            raise RecipeError(
                f"The part {module.name} of {whole.name} has no weights to merge; name the one model that it comes "
                f"from: `{module.name}: {module.recipe.named[0].repo_id}`."
            )
        merge, alone = _of_parts(module, made, whole)
        stage, told = plan(module.name or name, merge, alone, module.outer)
        giver = alone[merge.giver]
        if merge.giver.component is None:
            told += check_configs(Alone(Part(whole, component), True), [giver])
        told += _check_names(whole, component, merge, stage) if stage.tensors else ()
        done.append(_Done(component, stage, giver))
        where = f"In the module {module.name}: " if module.name else ""
        for one in told:
            # What is wrong with a model is wrong in each of its parts.
            findings.setdefault(one.message, replace(one, message=where + one.message))
    stage, told = _put_together(name, recipe, whole, done, taken)
    told += check_copies(whole, taken)
    return stage, [*findings.values(), *told, *check_towers(whole), *_whose(recipe, whole, modules, made)]


def _whose(
    recipe: Recipe, whole: Weights, modules: Sequence[_Module], made: Mapping[ModelRef, Weights]
) -> Iterator[Finding]:
    """Tells whose parts the result has beside those that are merged, where several models have them."""
    named = [module.part for module in modules]
    beside = [name for name, part in whole.components.items() if part.names and name not in named]
    models = [made[ref] if (part := made[ref].whole) is None else part.inner for ref in recipe.named]
    loras = [f"+{ref.lora}" for ref in recipe.named if ref.lora is not None]

    def plain(weights: Weights) -> str:
        """The model's name without that of a LoRA: what else a LoRA changes is told as such."""
        name = bare(weights)
        return next((name.removesuffix(lora) for lora in loras if name.endswith(lora)), name)

    others = dict.fromkeys(plain(one) for one in models if set(beside) & one.components.keys())
    others.pop(plain(whole), None)
    if beside and others:
        yield warning(
            f"{', '.join(beside)} of the result {'is that' if len(beside) == 1 else 'are those'} of {bare(whole)}, "
            f"not of {some(others)}; the model that is named first, or the base_model, gives them."
        )


def _modules(recipe: Recipe, made: Mapping[ModelRef, Weights]) -> Iterator[_Module]:
    named: dict[str, str] = {}
    for module in recipe.modules:
        part = ALIASES.get(module.name, module.name)
        if part in named:
            raise RecipeError(
                f"`modules` merges the part {part} twice, as {named[part]} and as {module.name}; keep one of them."
            )
        named[part] = module.name
        outer = () if module.merge_method else (recipe.parameters,)
        own = recipe if module.copied else module.recipe(recipe)
        yield _Module(module.name, part, own, outer, module.copied)
    if recipe.modules:
        return
    giver = made[recipe.giver]
    if (whole := giver.whole) is not None:
        yield _Module("", whole.component.name, recipe)
        return
    for ref in recipe.merged:
        if not made[ref].in_folders:
            raise RecipeError(
                f"{ref} is one model, and {recipe.giver} is made of {', '.join(giver.components)}; say under `modules` "
                "which of them it is merged with."
            )
    for name, component in giver.components.items():
        if component.names and all(name in made[ref].components for ref in recipe.merged):
            yield _Module(name, name, recipe)


def _whole(recipe: Recipe, modules: Sequence[_Module], made: Mapping[ModelRef, Weights]) -> Weights:
    """The model that the parts are put into: the base or the first named that has them all."""
    wanted = [module.part for module in modules]
    candidates = [made[ref] if (part := made[ref].whole) is None else part.inner for ref in recipe.named]
    for one in candidates:
        if all(part in one.components for part in wanted):
            return one
    known = list(dict.fromkeys(part for one in candidates for part in one.components))
    unknown = next((module for module in modules if module.part not in known), modules[0])
    has = f"their parts: {', '.join(known)}" if known else "they are models without parts"
    others = " beside the others that `modules` names" if len(modules) > 1 else ""
    names = [*known, *(name for name, part in ALIASES.items() if part in known)]
    raise RecipeError(f"None of the models has the part {unknown.name}{guess(unknown.name, names)}{others}; {has}.")


def _of_parts(
    module: _Module, made: Mapping[ModelRef, Weights], whole: Weights
) -> tuple[Recipe, dict[ModelRef, Weights]]:
    """The module's recipe over parts, and what these are. A model without parts stands for the part itself; of a
    pipeline in one file it is taken by the names that the `whole` has."""
    renamed: dict[ModelRef, ModelRef] = {}
    alone: dict[ModelRef, Weights] = {}
    for ref in module.recipe.named:
        weights = made[ref]
        if weights.whole is None and (parts := weights.components):
            if module.part not in parts:
                raise RecipeError(
                    f"{weights.name} has no part called {module.part}, which the recipe merges; its parts: "
                    f"{', '.join(parts)}."
                )
            renamed[ref] = replace(ref, component=module.part)
            weights = Part(weights, parts[module.part])
        elif whole.components[module.part].folder and is_one_file(weights):
            weights = converted(weights, Part(whole, whole.components[module.part]))
        alone[renamed.get(ref, ref)] = Alone(weights, module.part == LANGUAGE_MODEL)
    return module.recipe.with_pins(renamed), alone


def _check_names(whole: Weights, component: Component, recipe: Recipe, stage: Stage) -> Iterator[Finding]:
    """Whether a plain model that gives a part has the tensors that the part has."""
    if recipe.slices:
        return
    merged = {tensor.name for tensor in stage.tensors}
    if left := [name for name in component.names if name not in merged]:
        expected = whole.tensors[component.names[left[0]]]
        if recipe.giver.component is None:
            yield error(
                f"{recipe.giver} lacks {left[0]} {list(expected.shape)} of {whole.name}#{component.name}; choose a "
                "model of its kind."
            )
    for tensor in stage.tensors:
        stored = component.names.get(tensor.name)
        # Rows of its vocabulary may be more or fewer.
        begins = 1 if is_by_token(tensor.name) else 0
        if stored is not None and whole.tensors[stored].shape[begins:] != tensor.shape[begins:]:
            yield error(
                f"{tensor.name} would be {list(tensor.shape)}, and {whole.name}#{component.name} has "
                f"{list(whole.tensors[stored].shape)}; choose models of its kind."
            )
            return


def _put_together(
    name: str, recipe: Recipe, whole: Weights, done: Sequence[_Done], taken: Sequence[Copy]
) -> tuple[Stage, list[Finding]]:
    """The stage that copies - the modules' results under their names in the whole, what is `taken` from other models,
    and all else of the whole - and what is wrong with it."""
    method = find_method("passthrough")
    results = [with_own_rows(one.stage) if one.component.name == LANGUAGE_MODEL else Merged(one.stage) for one in done]
    weights: tuple[Weights, ...] = (*results, *(one.giver for one in taken), whole)
    per_model, shared = Resolver(method).resolve([{}], [], "", 0.0)

    def read(tensor: Described, index: int, exact: bool) -> TensorPlan:
        inputs = ((index, tensor.name),)
        if exact:
            return TensorPlan(tensor.name, tensor.shape, tensor.dtype, inputs, carried=True)
        # What a LoRA changes, or rows are put into, is no copy of anything.
        return TensorPlan(tensor.name, tensor.shape, tensor.dtype, inputs, None, per_model, shared)

    placed = [
        replace(
            read(tensor, index, not _is_made(results[index], tensor)),
            name=one.component.outer(tensor.name),
            inner=tensor.name,
        )
        for index, one in enumerate(done)
        for tensor in one.stage.tensors
    ]
    placed += [
        replace(read(tensor, index, not one.giver.rounds(tensor.name)), name=one.component.outer(tensor.name))
        for index, one in enumerate(taken, len(done))
        for tensor in one.giver.tensors.values()
    ]
    parts = [*(one.component for one in done), *(one.component for one in taken)]
    made = {stored for part in parts for stored in part.names.values()}
    rest = [
        read(tensor, len(weights) - 1, not whole.rounds(tensor.name))
        for tensor in whole.tensors.values()
        if tensor.name not in made
    ]
    tensors: tuple[TensorPlan, ...] = (*placed, *rest)
    if not any(one.stage.is_restacked for one in done):
        tensors = in_stored_order(tensors, weights)
    speaking = next((one.stage for one in done if one.component.name == LANGUAGE_MODEL), None)
    tokenizer = speaking.tokenizer if speaking else whole.tokenizer
    if speaking is None and recipe.output.chat_template not in (None, "auto"):
        tokenizer = replace(tokenizer, template=recipe.output.template)
    if taken:
        tokenizer = replace(tokenizer, placed={**tokenizer.placed, **{one.folder: one.files for one in taken}})
    own, *folders = _component_plans(whole, done, taken, tensors)
    found: list[Finding] = []
    if speaking is not None and speaking.tokenizer is not whole.tokenizer:
        ours, theirs = speaking.tokenizer.numbering, whole.tokenizer.numbering
        config, found = renumbered(own.config, whole.name, theirs, ours)
        own = replace(own, config=config)
    modules = tuple((one.component.name, one.stage) for one in done)
    return Stage(name, method, weights, (own, *folders), tokenizer, modules), found


def _is_made(weights: Weights, tensor: Described) -> bool:
    return isinstance(weights, Rows) and tensor.name in weights.made


def _component_plans(
    whole: Weights, done: Sequence[_Done], taken: Sequence[Copy], tensors: Sequence[TensorPlan]
) -> tuple[ComponentPlan, ...]:
    """What is written: the result itself, and each part that lies in a folder of its own."""
    config = kept(whole.config)
    own = {part.folder: kept(part.config) for part in whole.components.values() if part.folder}
    for one in done:
        changes = {
            key: value
            for key, value in one.stage.config.items()
            if key not in DTYPE_KEYS and one.giver.config.get(key) != value
        }
        if one.component.folder:
            own[one.component.folder] = changed(own[one.component.folder], changes)
        elif one.component.name == LANGUAGE_MODEL:
            config = changed(config, changes)
            # That of the whole counts, whatever its class has by default.
            config |= {key: value for key, value in changes.items() if key == TIED}
        elif one.component.key is not None:
            config[one.component.key] |= changes
    folders = [part for part in whole.components.values() if part.folder]
    parts = [(part, tuple(one for one in tensors if one.name.startswith(f"{part.folder}/"))) for part in folders]
    named = {one.name for _, few in parts for one in few}
    rest = tuple(one for one in tensors if one.name not in named)
    config |= {one.folder: entry for one in taken if (entry := one.entry) is not None}
    copied = {one.folder: one for one in taken}
    return (
        ComponentPlan("", _of_dtype(config, rest), rest, settings=whole.tokenizer.source.convention.settings),
        *(
            copied[part.folder].planned(few)
            if part.folder in copied
            else ComponentPlan(part.folder, _of_dtype(own[part.folder], few), few, part.stem)
            for part, few in parts
        ),
    )


def _of_dtype(config: dict[str, Any], tensors: Sequence[TensorPlan]) -> dict[str, Any]:
    """A configuration with the dtype of its tensors."""
    return changed(config, dtype_changes(config, tensors))
