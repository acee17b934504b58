"""Which tensors the result has, and which stored tensors each comes from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from .. import layers
from ..blocks import find_blocks
from ..errors import RecipeError
from ..methods import Method
from ..recipe import ModelEntry, Parameters, Recipe, Slice, SliceSource
from ..reference import ModelRef
from .compatibility import check_layers, check_names
from .findings import Finding, error, some, warning
from .tensors import TensorId
from .views import View


@dataclass(frozen=True)
class Origin:
    """Where one output tensor comes from.

    `depth`: 0..1 within its slice, for gradients. `models`: the parameters given at each input's model;
    `levels`: those of the slice and of the recipe, nearest first. `words`: of its block, where the network has such.
    """

    name: str
    depth: float
    inputs: tuple[TensorId, ...]
    base: TensorId | None
    models: tuple[Parameters, ...]
    levels: tuple[Parameters, ...]
    words: frozenset[str] = frozenset()

    @property
    def reads(self) -> tuple[TensorId, ...]:
        """All stored tensors that it needs, base first."""
        return (() if self.base is None else (self.base,)) + self.inputs


@dataclass(frozen=True)
class Layout:
    """All output tensors in the order of the network, and what was wrong on the way.

    `layer_map`, for recipes of slices: the source and the layer there that each output layer takes its settings from.
    """

    origins: tuple[Origin, ...]
    findings: tuple[Finding, ...]
    layer_map: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class _Member:
    """A model in a slice: its index among the sources, and `names`, output name to stored name."""

    index: int
    parameters: Parameters
    names: Mapping[str, str]


@dataclass(frozen=True)
class _Span:
    """Where a slice lies: output layers `offset` to `offset + length`, at the start or the end of the network."""

    offset: int
    length: int
    first: bool
    last: bool

    def names(self, view: View, start: int) -> dict[str, str]:
        """Output name to stored name of what `view` gives to the slice, from its layer `start` on."""
        names = {}
        for name, tensor in view.tensors.items():
            parsed = layers.parse(name)
            if parsed.layer is None:
                if self.last if parsed.is_final else self.first:
                    names[name] = tensor.name
            elif start <= parsed.layer < start + self.length:
                names[parsed.at_layer(parsed.layer - start + self.offset)] = tensor.name
        return names


def lay_out(
    recipe: Recipe,
    method: Method,
    indices: Mapping[ModelRef, int],
    views: Mapping[int, View],
    outer: tuple[Parameters, ...] = (),
) -> Layout:
    """The layout of a recipe. `indices` gives each model's place in `views`; `outer`: parameters that count after the
    recipe's own."""
    findings = list(_check_base(recipe, method))
    if any(finding.level == "error" for finding in findings):
        return Layout((), tuple(findings))
    lay = _whole if recipe.models else _sliced
    layout = lay(recipe, method, indices, views)
    origins = tuple(replace(one, levels=(*one.levels, *outer)) for one in layout.origins) if outer else layout.origins
    return Layout(origins, (*findings, *layout.findings), layout.layer_map)


def order(name: str) -> tuple[int, str, int, str]:
    """Sorts tensor names as the network runs: embeddings, stacks of layers in number order, final norm and head."""
    parsed = layers.parse(name)
    if parsed.layer is not None:
        return 1, parsed.prefix, parsed.layer, parsed.suffix
    return 2 if parsed.is_final else 0, "", 0, name


def _check_base(recipe: Recipe, method: Method) -> Iterator[Finding]:
    if not method.takes_base:
        return
    based = recipe.base_model or (recipe.slices and all(piece.base_model for piece in recipe.slices))
    if not based and method.base == "required":
        yield error(f"{method.name} needs a `base_model`: the model that the others were tuned from.", RecipeError)
    named: list[ModelEntry | SliceSource] = [*recipe.models]
    named += [source for piece in recipe.slices for source in piece.sources]
    if any(entry.parameters for entry in named if entry.model == recipe.base_model):
        yield warning(f"The parameters at {recipe.base_model} are not used: in {method.name} it is the base.")


def _check_number(method: Method, number: int, based: bool, where: str) -> Iterator[Finding]:
    beside = " beside the base_model" if based else ""
    if number < method.min_models:
        yield error(
            f"{method.name} merges at least {method.min_models} model(s){beside}, got {number}{where}.", RecipeError
        )
    elif method.max_models is not None and number > method.max_models:
        yield error(
            f"{method.name} merges at most {method.max_models} model(s){beside}, got {number}{where}.", RecipeError
        )


def _whole(recipe: Recipe, method: Method, indices: Mapping[ModelRef, int], views: Mapping[int, View]) -> Layout:
    layers_at_most = max((count for view in views.values() for count in view.stacks.values()), default=0)
    span = _Span(0, layers_at_most, first=True, last=True)

    def member(ref: ModelRef, parameters: Parameters) -> _Member:
        return _Member(indices[ref], parameters, span.names(views[indices[ref]], 0))

    base_model = recipe.base_model if method.takes_base else None
    base = member(base_model, {}) if base_model else None
    members = [member(entry.model, entry.parameters) for entry in recipe.models if entry.model != base_model]
    findings = [*_check_number(method, len(members), base is not None, "")]
    everyone = [base, *members] if base else members
    if not members:
        return Layout((), tuple(findings))
    first, *others = (views[index] for index in dict.fromkeys(m.index for m in everyone))
    findings += list(check_layers(first, others)) or _compare(everyone, views, "")
    origins = _origins(base, members, (recipe.parameters,), 0, first.stacks)
    return Layout(tuple(sorted(origins, key=lambda origin: order(origin.name))), tuple(findings))


def _sliced(recipe: Recipe, method: Method, indices: Mapping[ModelRef, int], views: Mapping[int, View]) -> Layout:
    findings = list(_check_ranges(recipe, indices, views))
    if findings:
        return Layout((), tuple(findings))
    origins: list[Origin] = []
    layer_map: list[tuple[int, int]] = []
    for number, piece in enumerate(recipe.slices, 1):
        base_model = (piece.base_model or recipe.base_model) if method.takes_base else None
        where = f" in slice {number}"
        start, stop = piece.sources[0].layer_range
        span = _Span(len(layer_map), stop - start, first=number == 1, last=number == len(recipe.slices))
        members = [
            _Member(indices[s.model], s.parameters, span.names(views[indices[s.model]], s.layer_range[0]))
            for s in piece.sources
            if s.model != base_model
        ]
        findings += _check_number(method, len(members), base_model is not None, where)
        base = None
        if base_model is not None:
            index = indices[base_model]
            if (base_start := _base_start(piece, base_model)) is None:
                findings.append(
                    error(
                        f"Slice {number} merges different layer ranges; list {base_model} among its sources "
                        "to say which of its layers the task vectors start from.",
                        RecipeError,
                    )
                )
            else:
                base = _Member(index, {}, span.names(views[index], base_start))
        everyone = [base, *members] if base else members
        if members:
            findings += _compare(everyone, views, where)
            lengths = dict.fromkeys(views[everyone[0].index].stacks, span.length)
            origins += _origins(base, members, (piece.parameters, recipe.parameters), span.offset, lengths)
        layer_map += [(indices[piece.sources[0].model], layer) for layer in range(start, stop)]
    return Layout(tuple(sorted(origins, key=lambda o: order(o.name))), tuple(findings), tuple(layer_map))


def _check_ranges(recipe: Recipe, indices: Mapping[ModelRef, int], views: Mapping[int, View]) -> Iterator[Finding]:
    for ref in (ref for ref in indices if indices[ref] in views):
        stacks = views[indices[ref]].stacks
        if len(stacks) != 1:
            found = f"has {len(stacks)} stacks of layers ({some(stacks)})" if stacks else "has no numbered layers"
            yield error(f"{ref} {found}; `slices` needs models with exactly one stack, such as language models.")
            continue
        count = next(iter(stacks.values()))
        for number, piece in enumerate(recipe.slices, 1):
            for source in piece.sources:
                if source.model == ref and source.layer_range[1] > count:
                    yield error(
                        f"layer_range {list(source.layer_range)} in slice {number} ends beyond the {count} layers "
                        f"of {ref}; its last possible end is {count}.",
                        RecipeError,
                    )


def _base_start(piece: Slice, base_model: ModelRef) -> int | None:
    """The base's first layer in a slice: as listed there, or else that of the others where they agree."""
    listed = [source.layer_range[0] for source in piece.sources if source.model == base_model]
    starts = set(listed[:1] or (source.layer_range[0] for source in piece.sources))
    return starts.pop() if len(starts) == 1 else None


def _compare(everyone: Sequence[_Member], views: Mapping[int, View], where: str) -> list[Finding]:
    first = everyone[0]
    findings: list[Finding] = []
    for other in {member.index: member for member in everyone[1:]}.values():
        findings += check_names(f"{views[first.index].name}{where}", first.names, views[other.index].name, other.names)
    return findings


def _origins(
    base: _Member | None,
    members: Sequence[_Member],
    levels: tuple[Parameters, ...],
    offset: int,
    lengths: Mapping[str, int],
) -> Iterator[Origin]:
    """The tensors that all members have. `lengths`: layers of each stack in this slice, which starts at `offset`."""
    reference = base or members[0]
    blocks = find_blocks(reference.names)
    for name in reference.names:
        if all(name in member.names for member in members):
            place = blocks.get(name)
            yield Origin(
                name,
                _depth(layers.parse(name), offset, lengths) if place is None else place.depth,
                tuple((member.index, member.names[name]) for member in members),
                (base.index, base.names[name]) if base else None,
                tuple(member.parameters for member in members),
                levels,
                place.words if place is not None else frozenset(),
            )


def _depth(name: layers.TensorName, offset: int, lengths: Mapping[str, int]) -> float:
    if name.layer is None:
        return 0.0  # embeddings, final norm and head: the gradient's first value, as in mergekit
    length = lengths[name.prefix]
    # The only layer of a slice counts as its last, as in mergekit.
    return (name.layer - offset) / (length - 1) if length > 1 else 1.0
