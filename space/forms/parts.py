"""Pipelines that draw, in the merge form: which of their parts are merged, which copied and from whom, and the blocks
by which a parameter may vary.

>>> blocks = ("IN00", "IN01", "M00", "OUT00")
>>> filters("sides_attention", blocks)
('IN+attention', 'IN+rest', 'M+attention', 'M+rest', 'OUT+attention', 'OUT+rest')
>>> by_blocks((0.0, 1.0), "sides", blocks)
(Conditional(filter='IN', value=0.17), Conditional(filter='M', value=0.67), Conditional(filter='OUT', value=1.0))
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hubmerge.blocks import ATTENTION, BASE, REST, SIDES, block_of, find_blocks, fits, side_of
from hubmerge.errors import RecipeError
from hubmerge.hub import Source
from hubmerge.hub.auto_class import auto_class
from hubmerge.hub.pipeline import network
from hubmerge.recipe import Conditional, ModelEntry, Module, Recipe, Setting
from hubmerge.recipe.parameters import value_at
from hubmerge.reference import ModelRef

NETWORKS = ("unet", "transformer")
"""What diffusers calls the part that draws."""
MERGED = "merged"
AS_IS = ""
"""Of a part: as the model has it that the parts are put into."""
ALL_ELSE = "*"
"""The filter that fits every tensor."""
ONE, LAYERS, ATTENDS, BY_SIDE, BOTH, BY_BLOCK = "one", "layers", "attention", "sides", "sides_attention", "blocks"
SHAPES = {
    ONE: "one value",
    LAYERS: "layer by layer",
    ATTENDS: "attention, rest",
    BY_SIDE: "down, mid, up",
    BOTH: "down, mid, up, each attention and rest",
    BY_BLOCK: "block by block",
}
"""How finely a parameter may vary in a network that draws."""
ANCHORS = 5
"""Values of a gradient over the layers that the form makes."""


@dataclass(frozen=True)
class Part:
    """A part of a pipeline: its name, its class, and how many elements its weights have, 0 where it has none."""

    name: str
    kind: str
    parameters: int


@dataclass(frozen=True)
class Drawn:
    """What was chosen draws: `pipelines`, the first of which the parts are put into, with its `parts`, none where no
    pipeline was chosen; `network`, the part that draws; and its `blocks` (see hubmerge/blocks.py) in their order."""

    pipelines: tuple[str, ...]
    parts: tuple[Part, ...]
    network: str
    blocks: tuple[str, ...]

    @classmethod
    def of(cls, sources: Iterable[Source]) -> "Drawn | None":
        """What draws among these models, base first; None where none does."""
        known = list(sources)
        pipelines = [source for source in known if source.folders and source.ref.component is None]
        if pipelines:
            first = pipelines[0]
            draws = network_of(first)
            parts = tuple(
                Part(name, _class_of(first, name), sum(first.weights[one].parameters for one in part.names.values()))
                for name, part in first.components.items()
            )
            named = tuple(str(source.ref) for source in pipelines)
            return cls(named, parts, draws, _blocks(first.components[draws].names))
        for source in known:
            if network(source.config, source.ref.component) is not None:
                names = source.weights if source.component is None else source.component.names
                return cls((), (), "", _blocks(names))
        return None

    def drawing(self, name: str) -> str:
        """A model as a search names it: of a pipeline the part that draws."""
        return f"{name}#{self.network}" if name in self.pipelines else name

    def blocks_of(self, module: Module | None) -> tuple[str, ...]:
        """The blocks by which a parameter of a part may vary; `module` None: of all of a recipe without parts."""
        if module is None:
            return tuple(dict.fromkeys((*self.blocks, BASE))) if self.parts and self.blocks else self.blocks
        return self.blocks if module.name == self.network else ()


def network_of(source: Source) -> str:
    """The part of a pipeline that draws: by its name, and else the largest."""
    sizes = {
        name: sum(source.weights[stored].parameters for stored in part.names.values())
        for name, part in source.components.items()
    }
    return next((name for name in NETWORKS if sizes.get(name)), max(sizes, key=lambda name: sizes[name]))


def _class_of(source: Source, part: str) -> str:
    stated = source.config.get(part)
    return str(stated[1]) if isinstance(stated, (list, tuple)) and len(stated) == 2 else auto_class(source.config)


def _blocks(names: Iterable[str]) -> tuple[str, ...]:
    places = find_blocks(list(names)).values()
    found = {block_of(place.words): place.depth for place in places}
    return tuple(sorted(found, key=lambda block: (block == BASE, found[block])))


def divided(network: str, entries: Sequence[ModelEntry], previous: Recipe | None) -> tuple[Module, ...]:
    """The modules of a recipe over pipelines: the network that draws is merged of `entries`, and what `previous` said
    of other parts stays, those merged over the same models."""
    before = previous.modules if previous is not None else ()
    known = {(part.name, entry.model): entry for part in before for entry in part.models if part.name != network}
    kept = [
        replace(one, models=tuple(known.get((one.name, entry.model), entry) for entry in entries))
        if one.models
        else one
        for one in before
    ]
    if any(one.name == network and one.models for one in kept):
        return tuple(kept)
    return (Module(network, tuple(entries)), *(one for one in kept if one.name != network))


def state_of(recipe: Recipe, part: Part) -> str:
    """What becomes of a part: `MERGED`, the model that it is copied from, or `AS_IS`."""
    if not recipe.modules:
        return MERGED if part.parameters else AS_IS
    module = next((one for one in recipe.modules if one.name == part.name), None)
    return AS_IS if module is None else MERGED if module.copied is None else str(module.copied)


def turned(recipe: Recipe, drawn: Drawn, part: Part, state: str) -> Recipe:
    """`recipe` with another state of a part. Raises `RecipeError` where nothing would be merged any more."""
    if state == state_of(recipe, part):
        return recipe
    modules = recipe.modules or tuple(Module(one.name, recipe.models) for one in drawn.parts if one.parameters)
    others = [one for one in modules if one.name != part.name]
    if state == MERGED:
        others.append(Module(part.name, _evened(next(one.models for one in modules if one.models))))
    elif state != AS_IS:
        others.append(Module(part.name, copied=ModelRef.parse(state)))
    if all(one.copied is not None for one in others):
        raise RecipeError("At least one part must be merged; to take a pipeline as it is there is nothing to do.")
    order = [one.name for one in drawn.parts]
    others.sort(key=lambda one: order.index(one.name) if one.name in order else len(order))
    return replace(recipe, models=(), modules=tuple(others))


def _evened(entries: Iterable[ModelEntry]) -> tuple[ModelEntry, ...]:
    """The same models, for a part without their blocks: parameters that vary have their mean."""
    return tuple(
        replace(one, parameters={name: _evened_setting(setting) for name, setting in one.parameters.items()})
        for one in entries
    )


def _evened_setting(setting: Setting) -> Setting:
    if not isinstance(setting, tuple):
        return setting
    values = [one.value if isinstance(one, Conditional) else one for one in setting]
    return _mean([float(one) for value in values for one in (value if isinstance(value, tuple) else (value,))])


def filters(shape: str, blocks: Sequence[str]) -> tuple[str, ...]:
    """The filters of a setting that varies so; none of `ONE` and `LAYERS`."""
    sides = list(dict.fromkeys(side for block in blocks if (side := side_of(block)) in SIDES))
    base = [BASE] if BASE in blocks else []
    match shape:
        case "attention":
            return (ATTENTION, REST)
        case "sides":
            return (*sides, *base)
        case "sides_attention":
            return (*(f"{side}+{word}" for side in sides for word in (ATTENTION, REST)), *base)
        case "blocks":
            return tuple(blocks)
    return ()


def shape_of(setting: Setting, blocks: Sequence[str]) -> str | None:
    """How a setting varies; None where that is none of `SHAPES`."""
    if not isinstance(setting, tuple):
        return ONE
    cases = [one for one in setting if isinstance(one, Conditional)]
    if not cases:
        return LAYERS
    named = tuple(one.filter for one in cases if one.filter is not None)
    return next((shape for shape in SHAPES if named and filters(shape, blocks) == named), None)


def by_blocks(setting: Setting, shape: str, blocks: Sequence[str], whole: bool = False) -> Setting:
    """A setting that varies in another way, as near as can be to what it was: each value is the mean of what it stands
    for. `whole`: of tensors outside the network, too, which a value for all else is about."""
    inner = [block for block in blocks if block != BASE]
    depth = {block: number / max(1, len(inner) - 1) for number, block in enumerate(inner)}
    cells = [({block, word}, depth.get(block, 0.0)) for block in blocks for word in (ATTENTION, REST)]

    def value(words: set[str], at: float) -> float:
        found = value_at(setting, "", at, words=words)
        return 0.0 if found is None else float(found)

    def mean(name: str) -> float:
        return _mean([value(words, at) for words, at in cells if name == ALL_ELSE or fits(name, "", words)])

    if shape == ONE or not blocks:
        return _mean([value(*cell) for cell in cells])
    if shape == LAYERS:
        anchors = [inner[round(at * (len(inner) - 1) / (ANCHORS - 1))] for at in range(ANCHORS)]
        return tuple(mean(block) for block in anchors)
    named = [*filters(shape, blocks), *([ALL_ELSE] if whole else [])]
    return tuple(Conditional(None if name == ALL_ELSE else name, mean(name)) for name in named)


def _mean(numbers: Sequence[float]) -> float:
    return round(sum(numbers) / len(numbers), 2) if numbers else 0.0
