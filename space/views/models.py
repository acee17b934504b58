"""The models that were chosen, as cards, and a line that says whether they can be merged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from hubmerge.drawn import drawn
from hubmerge.errors import HubmergeError
from hubmerge.hub import Source
from hubmerge.hub.auto_class import class_of
from hubmerge.hub.pipeline import network
from hubmerge.lineage.likeness import YARDSTICK
from hubmerge.lineage.tree import Tree
from hubmerge.markup import Markup
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.terminal import show_tree

from ..forms.parts import AS_IS, MERGED, Drawn, network_of, state_of
from ..theme import BASE_COLOUR, colour
from ..wording import count, hub_url, short, size
from .parts import render

Found = Source | HubmergeError
"""A model, or why there is none."""


@dataclass(frozen=True)
class Line:
    """A sentence about all of them."""

    text: str
    kind: str = "problem"
    level: str = ""


@dataclass(frozen=True)
class Card:
    """What a card says of one model, or the `error` in its place."""

    title: str
    colour: str
    error: str | None = None
    url: str | None = None
    role: str = ""
    architecture: str = ""
    parameters: str = ""
    size: str = ""
    licence: str = ""
    commits: tuple[str | None, ...] = ()

    @classmethod
    def of(cls, name: str, found: Found, role: str, fill: str) -> "Card":
        """The card of the model `name`."""
        if isinstance(found, HubmergeError):
            return cls(name, fill, error=str(found))
        ref, parts = ModelRef.parse(name), found.parts
        if found.adapter is not None:
            role = " · ".join(filter(None, (role, f"LoRA on {found.listing.name}")))
        dtypes = " + ".join(sorted({tensor.dtype for tensor in found.tensors.values()}))
        return cls(
            title=short(ref.bare),
            colour=fill,
            url=hub_url(ref),
            role=" · ".join(filter(None, (parts[-1].name.rpartition("/")[0], role))),
            architecture=architecture(found),
            parameters=count(found.parameters),
            size=f"{size(found.nbytes)}, {dtypes}",
            licence=" + ".join(part.licence.id or "not stated" for part in parts),
            commits=tuple(part.commit for part in parts),
        )


def describe_models(base: str | None, names: Sequence[str], found: Sequence[Found]) -> Markup:
    """Cards of `base`, where there is one, and the other models `names`; `found` holds each in this order."""
    roles = [("base model", BASE_COLOUR)] if base else []
    roles += [("", colour(index)) for index in range(len(names))]
    wanted = [*([base] if base else []), *names]
    cards = [Card.of(name, one, *role) for name, one, role in zip(wanted, found, roles, strict=True)]
    return render("models", lines=verdict(found), cards=cards)


def verdict(found: Sequence[Found]) -> list[Line]:
    """Whether what was chosen can be merged. What cannot be read is said first: its own card says why."""
    opened = [source for source in found if isinstance(source, Source)]
    if len(opened) == len(found) or len(found) < 2:
        return _fit(opened)
    missing = len(found) - len(opened)
    unread = f"{missing} of {len(found)} cannot be read, so nothing can be merged yet: see below."
    return [Line(unread), *_fit(opened, good=False)]


def describe_parts(recipe: Recipe | None, drawn: Drawn | None) -> Markup:
    """What becomes of each part of a pipeline: merged of which models, copied from whom, or as it is."""
    if recipe is None or drawn is None or not drawn.parts:
        return Markup("")

    def told(state: str, name: str) -> str:
        if state == MERGED:
            mixed = next((part.models for part in recipe.modules if part.name == name), recipe.models)
            return "merged of " + ", ".join(dict.fromkeys(short(str(entry.model)) for entry in mixed))
        return f"as it is in {short(str(recipe.giver))}" if state == AS_IS else f"copied from {state}"

    rows = [
        {
            "name": part.name,
            "kind": part.kind,
            "parameters": count(part.parameters) if part.parameters else "",
            "merged": state == MERGED,
            "told": told(state, part.name),
        }
        for part in drawn.parts
        for state in [state_of(recipe, part)]
    ]
    return render("picked_parts", rows=rows)


def _fit(sources: Sequence[Source], good: bool = True) -> list[Line]:
    """What stands in the way of merging these; that nothing does where it is all of them (`good`)."""
    if len(sources) < 2:
        return []
    draws = any(network(source.config, source.ref.component) is not None for source in sources)
    # What one file holds by its first authors' names, the plan compares.
    compared = [
        (source.name, *_compared(source, draws)) for source in sources if source.convention.settings or not draws
    ]
    if len(compared) < len(sources):
        good = False
    first = compared[0] if compared else ("", "", {})
    for name, kind, shapes in compared[1:]:
        if kind != first[1]:
            return [Line(f"These do not fit together: {name} is a {kind}, {first[0]} a {first[1]}.")]
        clash = next((one for one, shape in shapes.items() if one in first[2] and first[2][one] != shape), None)
        if clash:
            sizes = f"{list(shapes[clash])} in {name}, {list(first[2][clash])} in {first[0]}"
            return [Line(f"One tensor differs in shape: {clash} is {sizes}.", level="warning")]
    fine = f"All {len(sources)} are {first[1]} with the same shapes: they can be merged."
    if draws:
        fine = f"All {len(sources)} draw with a {first[1]} of the same shapes: they can be merged."
    return [Line(fine, "fine")] if good else []


def describe_siblings(tree: Tree) -> Markup:
    """The models that go with those which a tree was asked about, where they were looked for, and the tree itself."""
    found = [
        {
            "name": one.repo_id,
            "url": hub_url(ModelRef(one.repo_id)),
            "alike": f"{one.kinship:.2f}",
            "apart": f"{one.distance:.1%}",
        }
        for one in tree.siblings
    ]
    if tree.base is None:
        told = "No base is known that these grew from, so nobody can say what goes with them."
    elif not found:
        told = f"Of the models tuned from {tree.base} that were looked at, none fits and has learnt something else."
    else:
        told = f"Tuned from {tree.base} like these, the most different first; they are in the list of models now."
    # What is drawn escapes all text by itself.
    picture = Markup(drawn(partial(show_tree, tree), "What these models come from"))
    yardstick = f"How far: {YARDSTICK}."
    return render("siblings", told=told, siblings=found, yardstick=yardstick, picture=picture)


def _compared(source: Source, draws: bool) -> tuple[str, Mapping[str, tuple[int, ...]]]:
    """What a model is, and its tensors' shapes; of what `draws`, the network that does."""
    if draws and source.folders:
        part = source.component or source.components[network_of(source)]
        stated = source.config.get(part.name)
        kind = str(stated[1]) if isinstance(stated, list) and len(stated) == 2 else architecture(source)
        return kind, {plain: source.weights[stored].shape for plain, stored in part.names.items()}
    return architecture(source), {name: tensor.shape for name, tensor in source.weights.items()}


def architecture(source: Source) -> str:
    """The model class its config names."""
    if (own := class_of(source.config)) is not None:
        return own
    names = source.config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else str(source.config.get("model_type", "unknown"))
