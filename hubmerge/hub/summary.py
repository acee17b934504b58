"""The first sentences of a card: what a model was made of, and how."""

import re
from typing import TYPE_CHECKING

from huggingface_hub import constants

from ..amounts import listed
from ..methods import METHODS
from ..methods.papers import PURSUIT
from ..places import folder_name
from .listing import Listing
from .markdown import link
from .source import Source

if TYPE_CHECKING:
    from .card import Card

PATH = "passthrough"
"""The method of recipes that put layers one after another."""
_SCALED = re.compile(r"^ +(?:scale|shift):", re.MULTILINE)


def _method_link(name: str) -> str:
    """A merge method with where it comes from; what a path through layers is called as it is."""
    return f"[`{name}`]({METHODS[name].paper})" if name in METHODS else f"`{name}`"


def summary(card: "Card") -> str:
    """What `card`'s model was made of and how, in Markdown."""
    beside = (card.base_model, *card.speakers, *card.givers)
    merged = [source for source in card.sources if source.name not in beside]
    base = next((source for source in card.sources if source.name == card.base_model), None)
    names = [source_link(source) for source in merged or card.sources]
    methods = (*card.before, card.method)
    whose = f"a {card.kind} of " if names[1:] or base else "made of the layers of " if PATH in methods else ""
    text = f"This model is {whose}{listed(names)}"
    if base is not None and merged:
        text += f", built on {source_link(base)}"
    if card.speakers:
        text += f", with the tokenizer of {listed([source_link(s) for s in card.sources if s.name in card.speakers])}"
    how = "each weight is computed from the parents' weights"
    if set(methods) == {PATH}:
        scaled = ", some of them scaled" if _SCALED.search(card.recipe_yaml) else ""
        how = f"its layers are those of its parents{scaled}, put one after another"
    text += f". No training took place: {how} with {', then '.join(map(_method_link, methods))}."
    if card.calibration:
        text += " How much each counts where follows from what it does with a few texts, which are named below."
    if card.transplanted:
        text += (
            " Tokens that both have keep their rows. The row of a new one is the sum of rows of shared tokens that"
            f" comes nearest to it in the other model ([orthogonal matching pursuit]({PURSUIT})), of this model's rows."
        )
    if card.whole is not None:
        own = card.whole.component
        parts = [part.replace("_", " ") for part in card.parts or ([own.name] if own else [])]
        were = "were" if parts[1:] else "was"
        text += f" Only the {listed(parts)} {were} merged; {_copied(card)}"
        text += f"all else is that of {source_link(card.whole)}, as it was."
    if card.search:
        tried = card.search.get("evaluations")
        count = f"{tried:,} candidates" if isinstance(tried, int) else "many candidates"
        found = "Which layers follow one another" if PATH in methods else "How much of each parent goes in"
        if PATH in methods[1:]:
            found = "How much of each parent goes in, and which layers follow one another,"
        text += f" {found} was found by an evolutionary search that scored {count}."
    return text


def _copied(card: "Card") -> str:
    """What is here as another model has it, by that model."""
    by_source: dict[str, list[str]] = {}
    for part, source in card.copied.items():
        by_source.setdefault(source_link(source), []).append(part.replace("_", " "))
    return "".join(
        f"the {listed(parts)} {'are those' if parts[1:] else 'is that'} of {one}; " for one, parts in by_source.items()
    )


def source_link(source: Source) -> str:
    """What went in, with its LoRA: links to the Hub, and names of folders."""
    return " + ".join(map(part_link, source.parts))


def part_link(part: Listing) -> str:
    """A model or a LoRA: a link to the Hub, or the name of a folder."""
    if part.commit is None:
        name = folder_name(part.name).replace("`", "'").replace("|", "_")
        return f"local folder `{name}`"
    return link(part.name, f"{constants.ENDPOINT}/{part.name}")
