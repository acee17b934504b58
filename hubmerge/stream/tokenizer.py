"""The tokenizer, chat template and generation settings of the result, carried over from one source."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..errors import RecipeError, SourceError
from ..hub.config import setting
from ..hub.fields import SPECIAL_TOKENS
from ..hub.listing import Listing
from ..hub.source import Source
from ..layers import is_vocabulary
from ..recipe import Recipe
from . import tokens
from .findings import Finding, error, some, warning
from .tensors import TensorPlan
from .tokens import SETTINGS_FILE, TEMPLATE_FILE, VOCABULARY_FILE
from .weights import Weights

_CARRIED = re.compile(
    r"tokenizer(_config)?\.json|tokenizer\.model(\.v\d+)?|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)"
    r"|merges\.txt|spiece\.model|sentencepiece\.bpe\.model|tekken\.json|generation_config\.json"
    r"|chat_template\.(jinja|json)|additional_chat_templates/[^/]+\.jinja"
    r"|(pre)?processor_config\.json|video_preprocessor_config\.json"
)
_NOT_TOKENIZER = re.compile(r"generation_config\.json|(video_)?(pre)?processor_config\.json")
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_OF_NO_USE = ("transformers_version", "use_cache", "output_attentions", "output_hidden_states")
SPECIAL_IDS = tuple(SPECIAL_TOKENS)


def is_carried(name: str) -> bool:
    """Whether a file belongs to the tokenizer or to generation."""
    return _CARRIED.fullmatch(name) is not None


def carried_files(source: Source, chat_template: str | None) -> dict[str, bytes]:
    """The files to write beside the weights, by name. `chat_template` (Jinja text) replaces the source's own.

    Raises `SourceError` where one of them is broken.
    """
    check_carried(source)
    files = {name: listing.read_bytes(name) for listing, names in _carried(source) for name in names}
    if _is_template(chat_template):
        files = {name: content for name, content in files.items() if "chat_template" not in name}
        files[TEMPLATE_FILE] = str(chat_template).encode()
        if SETTINGS_FILE in files:
            settings = tokens.settings(tokenizer_listing(source))
            settings.pop("chat_template", None)
            files[SETTINGS_FILE] = (json.dumps(settings, indent=2, ensure_ascii=False) + "\n").encode()
    return files


def check_carried(source: Source) -> None:
    """Raises `SourceError` for the first of the files to carry that is broken."""
    for listing, names in _carried(source):
        tokens.check_files(listing, names)


def _carried(source: Source) -> Iterator[tuple[Listing, list[str]]]:
    """The names of the files to carry, by where they are: the tokenizer may be that of the source's LoRA."""
    giver, model = tokenizer_listing(source), source.listing
    names = [name for name in sorted(model.files) if is_carried(name)]
    if giver is model:
        yield model, names
        return
    yield model, [name for name in names if _NOT_TOKENIZER.fullmatch(name)]
    yield giver, [name for name in sorted(giver.files) if is_carried(name) and not _NOT_TOKENIZER.fullmatch(name)]


def tokenizer_listing(source: Source) -> Listing:
    """What gives the tokenizer of a source: its LoRA where that comes with one, for it was trained with it."""
    if source.adapter is not None and _has_tokenizer(source.adapter.listing):
        return source.adapter.listing
    return source.listing


def _has_tokenizer(listing: Listing) -> bool:
    return any(name in listing.files for name in _VOCABULARIES)


def _is_template(chat_template: str | None) -> bool:
    return chat_template is not None and "{" in chat_template


def check_tokenizer(recipe: Recipe, chosen: Weights, config: Weights, others: Sequence[Weights]) -> Iterator[Finding]:
    """Compares the vocabularies. `chosen` gives the tokenizer, `config` the configuration; `others` are merged.

    Raises `SourceError` where a file that the result would carry is broken.
    """
    if recipe.output.tokenizer_source == "union":
        yield error(
            "`tokenizer_source: union` is not supported yet; choose models with one tokenizer and write `base`.",
            RecipeError,
        )
    if (template := recipe.output.chat_template) not in (None, "auto") and not _is_template(template):
        yield error(
            f"chat_template must be a Jinja template or `auto` (the one that most models have), got {template!r}.",
            RecipeError,
        )
    sizes = setting(chosen.config, "vocab_size"), setting(config.config, "vocab_size")
    if None not in sizes and sizes[0] != sizes[1]:
        yield error(
            f"The tokenizer of {chosen.name} has a vocabulary of {sizes[0]:,} and {config.name} has {sizes[1]:,}; "
            "take the tokenizer from a model that is merged."
        )
    giver = tokenizer_listing(chosen.tokenizer)
    if not _has_tokenizer(giver):
        yield warning(f"{chosen.name} has no tokenizer, so the result has none; name one with `tokenizer_source`.")
    check_carried(chosen.tokenizer)
    for other in others:
        try:
            yield from _compare(recipe, chosen, other)
        except SourceError as exc:
            yield warning(f"{exc} It is not compared with that of {chosen.name}.")


def _compare(recipe: Recipe, chosen: Weights, other: Weights) -> Iterator[Finding]:
    """What the tokenizer and the endings of another model say, where `chosen` gives those of the result."""
    own = tokenizer_listing(other.tokenizer)
    output = recipe.output
    kept = template_of(chosen) if output.chat_template is None else output.chat_template
    # Where the recipe names the one that it takes, nothing has to be said.
    if not (output.chat_template or output.tokenizer_source) and template_of(other) not in (None, kept):
        takes = f"`tokenizer_source: {other.name}` or `chat_template: auto` takes one"
        yield warning(
            f"{own.name} was trained with a chat template that the result does not have "
            f"({'it has another' if kept else 'it has none'}); {takes}."
        )
    if number := _differences(chosen, other):
        yield warning(
            f"The tokenizers of {other.name} and {chosen.name} give {number:,} tokens different ids: "
            "their embeddings may not mean the same; the result uses the latter."
        )
    if apart := _generation_differences(chosen, other):
        yield warning(
            f"{other.name} and {chosen.name} end or sample answers differently: {some(apart, 6)}; the result does "
            "as the latter."
        )


def check_tokens(chosen: Weights, tensors: Iterable[TensorPlan]) -> Iterator[Finding]:
    """Whether the embedding of the result has a row for every token of its tokenizer."""
    giver = tokenizer_listing(chosen.tokenizer)
    rows = min((tensor.shape[0] for tensor in tensors if is_vocabulary(tensor.key) and tensor.shape), default=None)
    if rows is not None and (highest := _highest(giver)) >= rows:
        better = (
            chosen.tokenizer.listing.name if giver is not chosen.tokenizer.listing else "(a model whose tokenizer fits)"
        )
        yield error(
            f"The tokenizer of {giver.name} has a token with the number {highest:,}, and the embedding of the result "
            f"only {rows:,} rows; write `tokenizer_source: {better}`."
        )


def template_of(weights: Weights) -> str | None:
    """The chat template (Jinja text) that goes with some weights; None where there is none."""
    return weights.chat_template or tokens.template(tokenizer_listing(weights.tokenizer))


def common_template(chosen: Weights, merged: Sequence[Weights]) -> str | None:
    """What `chat_template: auto` means: the template that most of the `merged` models have, the first of equally many.

    None where that is the one that `chosen`, which gives the tokenizer, has anyway, or where no model has any.
    """
    found = [text for one in merged if (text := template_of(one)) is not None]
    most = max(found, key=found.count, default=None)
    return None if most == template_of(chosen) else most


_HIGHEST: dict[tuple[str, str], int] = {}
_REMEMBERED = 64


def _highest(listing: Listing) -> int:
    """The highest number of a token, -1 where that cannot be told. Remembered: a search plans every candidate."""
    key = listing.name, listing.identity
    if key not in _HIGHEST:
        if len(_HIGHEST) >= _REMEMBERED:
            _HIGHEST.clear()
        _HIGHEST[key] = max(tokens.vocabulary(listing.read_text(VOCABULARY_FILE), listing.name).values(), default=-1)
    return _HIGHEST[key]


def _generation_differences(chosen: Weights, other: Weights) -> list[str]:
    """How the settings of generation of two models differ, special tokens included, as text."""
    ours, theirs = _generation(chosen), _generation(other)
    return [
        f"{key} is {theirs.get(key)} and {ours.get(key)}"
        for key in dict.fromkeys([*SPECIAL_IDS, *ours, *theirs])
        if ours.get(key) != theirs.get(key) and None not in (ours.get(key, 0), theirs.get(key, 0))
    ]


def _generation(weights: Weights) -> dict[str, Any]:
    ids = {key: value for key in SPECIAL_IDS if (value := setting(weights.config, key)) is not None}
    given = tokens.generation(weights.tokenizer.listing)
    return ids | {key: value for key, value in given.items() if not key.startswith("_") and key not in _OF_NO_USE}


def _differences(first: Weights, other: Weights) -> int:
    """How many tokens the two tokenizers number differently (0 where that cannot be told from tokenizer.json)."""
    listings = tokenizer_listing(first.tokenizer), tokenizer_listing(other.tokenizer)
    ours, theirs = (listing.files.get(VOCABULARY_FILE) for listing in listings)
    if ours is None or theirs is None or (ours.sha256 is not None and ours.sha256 == theirs.sha256):
        return 0
    texts = [listing.read_text(VOCABULARY_FILE) for listing in listings]
    if texts[0] == texts[1]:
        return 0
    numbered, renumbered = (
        tokens.vocabulary(text, listing.name) for text, listing in zip(texts, listings, strict=True)
    )
    return len(dict(numbered.items() ^ renumbered.items()))
