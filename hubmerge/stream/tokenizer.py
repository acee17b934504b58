"""What the tokenizers, chat templates and settings of generation of merged models say of each other."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import RecipeError, SourceError
from ..guesses import guess
from ..hub.component import LANGUAGE_MODEL
from ..hub.config import setting
from ..hub.fields import SPECIAL_TOKENS
from ..layers import is_vocabulary
from ..recipe import TEMPLATES, Recipe
from .carried import Carried, is_template
from .findings import Finding, error, some, warning
from .tensors import TensorPlan
from .vocabulary import Choice
from .weights import Weights

_OF_NO_USE = ("transformers_version", "use_cache", "output_attentions", "output_hidden_states")
SPECIAL_IDS = tuple(SPECIAL_TOKENS)


def check_tokenizer(
    recipe: Recipe, choice: Choice, chosen: Weights, config: Weights, others: Sequence[Weights]
) -> Iterator[Finding]:
    """Compares the tokenizers. `chosen` gives that of the result, `config` the configuration; `others` are merged.

    Raises `SourceError` where a file that the result would carry is broken.
    """
    if (template := recipe.output.chat_template) not in (None, "auto", *TEMPLATES) and not is_template(template):
        yield error(
            f"chat_template must be a Jinja template, one of {', '.join(TEMPLATES)}, or `auto` (the one that most "
            f"models have), got {template!r}{guess(template, TEMPLATES, few=True)}.",
            RecipeError,
        )
    sizes = setting(chosen.config, "vocab_size"), setting(config.config, "vocab_size")
    if choice.vocabulary is None and None not in sizes and sizes[0] != sizes[1]:
        yield error(
            f"The tokenizer of {chosen.name} has a vocabulary of {sizes[0]:,} and {config.name} has {sizes[1]:,}; "
            "take the tokenizer from a model that is merged."
        )
    if not chosen.tokenizer.has_tokenizer:
        yield warning(f"{chosen.name} has no tokenizer, so the result has none; name one with `tokenizer_source`.")
    chosen.tokenizer.check()
    for other in others:
        try:
            yield from _compare(recipe, choice, chosen, other)
        except SourceError as exc:
            yield warning(f"{exc} It is not compared with that of {chosen.name}.")


def _compare(recipe: Recipe, choice: Choice, chosen: Weights, other: Weights) -> Iterator[Finding]:
    """What the tokenizer and the endings of another model say, where `chosen` gives those of the result."""
    own = other.tokenizer.listing
    output = recipe.output
    kept = chosen.tokenizer.chat_template if output.chat_template is None else output.chat_template
    # Where the recipe names the one that it takes, nothing has to be said.
    if not (output.chat_template or output.vocabulary) and other.tokenizer.chat_template not in (None, kept):
        takes = f"`tokenizer_source: {other.name}` or `chat_template: auto` takes one"
        yield warning(
            f"{own.name} was trained with a chat template that the result does not have "
            f"({'it has another' if kept else 'it has none'}); {takes}."
        )
    if choice.vocabulary is None and (number := _differences(chosen, other)):
        yield warning(
            f"The tokenizers of {other.name} and {chosen.name} give {number:,} tokens different ids: "
            "their rows are merged by id; `tokenizer_source: base` merges them by token."
        )
    if LANGUAGE_MODEL in other.components:  # whole, with what sees
        ours, theirs = chosen.tokenizer.processor, other.tokenizer.processor
        # What one of them leaves out is mostly what its class has anyway.
        both = sorted(ours.keys() & theirs)
        if unlike := [f"{key} is {theirs[key]} and {ours[key]}" for key in both if ours[key] != theirs[key]]:
            yield warning(
                f"{other.name} and {chosen.name} read pictures differently: {some(unlike, 6)}; the result does as the "
                "latter."
            )
    if apart := _generation_differences(chosen, other, choice.vocabulary is not None):
        yield warning(
            f"{other.name} and {chosen.name} end or sample answers differently: {some(apart, 6)}; the result does "
            "as the latter."
        )


def check_tokens(carried: Carried, tensors: Iterable[TensorPlan]) -> Iterator[Finding]:
    """Whether the embedding of the result has a row for every token of its tokenizer."""
    giver, model, numbering = carried.listing, carried.source.listing, carried.numbering
    rows = min((tensor.shape[0] for tensor in tensors if is_vocabulary(tensor.key) and tensor.shape), default=None)
    if rows is not None and numbering is not None and numbering.highest >= rows:
        better = model.name if giver is not model else "(a model whose tokenizer fits)"
        yield error(
            f"The tokenizer of {giver.name} has a token with the number {numbering.highest:,}, and the embedding of "
            f"the result only {rows:,} rows; write `tokenizer_source: {better}`."
        )


def common_template(chosen: Weights, merged: Sequence[Weights]) -> Weights | None:
    """What `chat_template: auto` means: the first model that has the template which most of the `merged` ones have.

    None where that is the one that `chosen`, which gives the tokenizer, has anyway, or where no model has any.
    """
    having = [one for one in merged if one.tokenizer.chat_template is not None]
    found = [one.tokenizer.chat_template for one in having]
    most = max(having, key=lambda one: found.count(one.tokenizer.chat_template), default=None)
    return None if most is None or most.tokenizer.chat_template == chosen.tokenizer.chat_template else most


def with_endings(carried: Carried, chosen: Weights, taken: Weights) -> tuple[Carried, list[Finding]]:
    """The small files of a result that has the chat template of `taken`: an answer ends as it does there, too.

    `chosen` gives the tokenizer, and so how answers end.
    """
    if carried.numbering is None or taken.tokenizer.numbering is None:
        return carried, []
    texts, own = taken.tokenizer.numbering.texts, _endings(chosen)
    ends = {texts[number]: carried.numbering.ids.get(texts[number]) for number in _endings(taken) if number in texts}
    more = {text: number for text, number in ends.items() if number is not None and number not in own}
    if not more:
        return carried, []
    told = warning(f"The result ends answers with {some(more)} too, as {taken.name}, whose chat template it has.")
    return replace(carried, ends=tuple(more.values())), [told]


def with_ending(carried: Carried, template: str, ends: str | None) -> tuple[Carried, list[Finding]]:
    """The small files of a result that has a named template, whose answers end with the token `ends`."""
    if ends is None or carried.numbering is None:
        return carried, []
    number = carried.numbering.ids.get(ends)
    if number is None:
        return carried, [warning(f"The chat template {template} ends answers with {ends}, which is no token here.")]
    own = carried.generation.get("eos_token_id", setting(carried.source.config, "eos_token_id"))
    if number in (own if isinstance(own, list) else [own]):
        return carried, []
    return replace(carried, ends=(number,)), []


def _endings(weights: Weights) -> list[int]:
    given = _generation(weights).get("eos_token_id")
    return given if isinstance(given, list) else [] if given is None else [given]


def _generation_differences(chosen: Weights, other: Weights, by_token: bool) -> list[str]:
    """How the settings of generation of two models differ, special tokens included, as text.

    `by_token`: tokens are compared by their texts, as a token may have two numbers.
    """
    ours, theirs = _generation(chosen), _generation(other)
    if by_token:
        ours, theirs = _with_texts(ours, chosen), _with_texts(theirs, other)
    return [
        f"{key} is {theirs.get(key)} and {ours.get(key)}"
        for key in dict.fromkeys([*SPECIAL_IDS, *ours, *theirs])
        if ours.get(key) != theirs.get(key) and None not in (ours.get(key, 0), theirs.get(key, 0))
    ]


def _with_texts(settings: dict[str, Any], weights: Weights) -> dict[str, Any]:
    numbering = weights.tokenizer.numbering
    texts: Mapping[int, str] = {} if numbering is None else numbering.texts

    def text(value: Any) -> Any:
        return [text(one) for one in value] if isinstance(value, list) else texts.get(value, value)

    return {key: text(value) if key.endswith("_token_id") else value for key, value in settings.items()}


def _generation(weights: Weights) -> dict[str, Any]:
    ids = {key: value for key in SPECIAL_IDS if (value := setting(weights.config, key)) is not None}
    given = weights.tokenizer.generation
    return ids | {key: value for key, value in given.items() if not key.startswith("_") and key not in _OF_NO_USE}


def _differences(first: Weights, other: Weights) -> int:
    """How many tokens the two tokenizers number differently (0 where that cannot be told from tokenizer.json)."""
    ours, theirs = first.tokenizer.numbering, other.tokenizer.numbering
    if ours is None or theirs is None or ours.same(theirs):
        return 0
    return len(dict(ours.ids.items() ^ theirs.ids.items()))
