"""The models that were chosen, as cards, and a line that says whether they can be merged."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from hubmerge.drawn import drawn
from hubmerge.errors import HubmergeError
from hubmerge.hub import Source
from hubmerge.lineage.tree import Tree
from hubmerge.markup import Markup
from hubmerge.reference import ModelRef
from hubmerge.terminal import show_tree

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


def _fit(sources: Sequence[Source], good: bool = True) -> list[Line]:
    """What stands in the way of merging these; that nothing does where it is all of them (`good`)."""
    if len(sources) < 2:
        return []
    first, shapes = sources[0], {name: t.shape for name, t in sources[0].weights.items()}
    for other in sources[1:]:
        if architecture(other) != architecture(first):
            why = f"{other.name} is a {architecture(other)}, {first.name} a {architecture(first)}"
            return [Line(f"These do not fit together: {why}.")]
        shared = [name for name in other.weights if name in shapes]
        clash = next((name for name in shared if other.weights[name].shape != shapes[name]), None)
        if clash:
            sizes = f"{list(other.weights[clash].shape)} in {other.name}, {list(shapes[clash])} in {first.name}"
            return [Line(f"One tensor differs in shape: {clash} is {sizes}.", level="warning")]
    fine = f"All {len(sources)} are {architecture(first)} with the same shapes: they can be merged."
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
    return render("siblings", told=told, siblings=found, picture=picture)


def architecture(source: Source) -> str:
    """The model class its config names."""
    names = source.config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else str(source.config.get("model_type", "unknown"))
