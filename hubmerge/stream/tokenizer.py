"""The tokenizer, chat template and generation settings of the result, carried over from one source."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import RecipeError
from ..hub.listing import Listing
from ..hub.source import Source
from ..recipe import ModelRef, Recipe
from .problems import Problem, error, some, warning
from .tensors import TensorPlan
from .views import is_vocabulary, setting

_CARRIED = re.compile(
    r"tokenizer(_config)?\.json|tokenizer\.model(\.v\d+)?|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)"
    r"|merges\.txt|spiece\.model|sentencepiece\.bpe\.model|tekken\.json|generation_config\.json"
    r"|chat_template\.(jinja|json)|additional_chat_templates/[^/]+\.jinja"
    r"|(pre)?processor_config\.json|video_preprocessor_config\.json"
)
_NOT_TOKENIZER = re.compile(r"generation_config\.json|(video_)?(pre)?processor_config\.json")
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
TEMPLATE_FILE = "chat_template.jinja"
GENERATION_FILE = "generation_config.json"
_OF_NO_USE = ("transformers_version", "use_cache", "output_attentions", "output_hidden_states")
SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def tokenizer_ref(recipe: Recipe) -> ModelRef:
    """The model that gives the tokenizer: `tokenizer_source`, else base_model, else the first model."""
    if recipe.tokenizer_source not in (None, "base", "union"):
        return ModelRef.parse(recipe.tokenizer_source)
    return config_ref(recipe)


def config_ref(recipe: Recipe) -> ModelRef:
    """The model whose configuration the result keeps: base_model, else the first model."""
    if recipe.base_model is not None:
        return recipe.base_model
    return recipe.models[0].model if recipe.models else recipe.slices[0].sources[0].model


def is_carried(name: str) -> bool:
    """Whether a file belongs to the tokenizer or to generation."""
    return _CARRIED.fullmatch(name) is not None


def carried_files(source: Source, chat_template: str | None) -> dict[str, bytes]:
    """The files to write beside the weights, by name. `chat_template` (Jinja text) replaces the source's own."""
    giver = tokenizer_listing(source)
    names = [name for name in sorted(source.files) if is_carried(name)]
    if giver is not source.listing:
        names = [name for name in names if _NOT_TOKENIZER.fullmatch(name)]
    files = {name: source.listing.read_bytes(name) for name in names}
    if giver is not source.listing:
        own = [name for name in sorted(giver.files) if is_carried(name) and not _NOT_TOKENIZER.fullmatch(name)]
        files |= {name: giver.read_bytes(name) for name in own}
    if _is_template(chat_template):
        files = {name: content for name, content in files.items() if "chat_template" not in name}
        files[TEMPLATE_FILE] = str(chat_template).encode()
        if "tokenizer_config.json" in files:
            settings = json.loads(files["tokenizer_config.json"])
            settings.pop("chat_template", None)
            files["tokenizer_config.json"] = (json.dumps(settings, indent=2, ensure_ascii=False) + "\n").encode()
    return files


def tokenizer_listing(source: Source) -> Listing:
    """What gives the tokenizer of a source: its LoRA where that comes with one, for it was trained with it."""
    if source.adapter is not None and _has_tokenizer(source.adapter.listing):
        return source.adapter.listing
    return source.listing


def _has_tokenizer(listing: Listing) -> bool:
    return any(name in listing.files for name in _VOCABULARIES)


def _template(listing: Listing) -> str | None:
    """The chat template of a tokenizer; None where it has none."""
    if TEMPLATE_FILE in listing.files:
        return listing.read_text(TEMPLATE_FILE)
    try:
        template = json.loads(listing.read_text("tokenizer_config.json") or "{}").get("chat_template")
    except (ValueError, AttributeError):
        return None
    return template if isinstance(template, str) else None


def _is_template(chat_template: str | None) -> bool:
    return chat_template is not None and "{" in chat_template


def check_tokenizer(recipe: Recipe, chosen: Source, config: Source, others: list[Source]) -> Iterator[Problem]:
    """Compares the vocabularies. `chosen` gives the tokenizer, `config` the configuration; `others` are merged."""
    if recipe.tokenizer_source == "union":
        yield error(
            "`tokenizer_source: union` is not supported yet; choose models with one tokenizer and write `base`.",
            RecipeError,
        )
    if recipe.chat_template is not None and recipe.chat_template != "auto" and not _is_template(recipe.chat_template):
        yield error(
            "chat_template must be a Jinja template or `auto` (the one that most models have), "
            f"got {recipe.chat_template!r}.",
            RecipeError,
        )
    sizes = setting(chosen.config, "vocab_size"), setting(config.config, "vocab_size")
    if None not in sizes and sizes[0] != sizes[1]:
        yield error(
            f"The tokenizer of {chosen.name} has a vocabulary of {sizes[0]:,} and {config.name} has {sizes[1]:,}; "
            "take the tokenizer from a model that is merged."
        )
    giver = tokenizer_listing(chosen)
    if not _has_tokenizer(giver):
        yield warning(f"{chosen.name} has no tokenizer, so the result has none; name one with `tokenizer_source`.")
    kept = _template(giver) if recipe.chat_template is None else recipe.chat_template
    for other in others:
        own = tokenizer_listing(other)
        # Where the recipe names the one that it takes, nothing has to be said.
        if not (recipe.chat_template or recipe.tokenizer_source) and _template(own) not in (None, kept):
            takes = f"`tokenizer_source: {other.name}` or `chat_template: auto` takes one"
            yield warning(
                f"{own.name} was trained with a chat template that the result does not have "
                f"({'it has another' if kept else 'it has none'}); {takes}."
            )
        number = _differences(chosen, other)
        if number:
            yield warning(
                f"The tokenizers of {other.name} and {chosen.name} give {number:,} tokens different ids: "
                "their embeddings may not mean the same; the result uses the latter."
            )
        if apart := _generation_differences(chosen, other):
            yield warning(
                f"{other.name} and {chosen.name} end or sample answers differently: {some(apart, 6)}; the result does "
                "as the latter."
            )


def check_tokens(chosen: Source, tensors: Iterable[TensorPlan]) -> Iterator[Problem]:
    """Whether the embedding of the result has a row for every token of its tokenizer."""
    giver = tokenizer_listing(chosen)
    rows = min((tensor.shape[0] for tensor in tensors if is_vocabulary(tensor.name) and tensor.shape), default=None)
    if rows is not None and (highest := _highest(giver)) >= rows:
        better = chosen.listing.name if giver is not chosen.listing else "(a model whose tokenizer fits)"
        yield error(
            f"The tokenizer of {giver.name} has a token with the number {highest:,}, and the embedding of the result "
            f"only {rows:,} rows; write `tokenizer_source: {better}`."
        )


def common_template(chosen: Source, merged: Sequence[Source]) -> str | None:
    """What `chat_template: auto` means: the template that most of the `merged` models have, the first of equally many.

    None where that is the one that `chosen`, which gives the tokenizer, has anyway, or where no model has any.
    """
    found = [text for source in merged if (text := _template(tokenizer_listing(source))) is not None]
    most = max(found, key=found.count, default=None)
    return None if most == _template(tokenizer_listing(chosen)) else most


_HIGHEST: dict[tuple[str, str], int] = {}
_REMEMBERED = 64


def _highest(listing: Listing) -> int:
    """The highest number of a token, -1 where that cannot be told. Remembered: a search plans every candidate."""
    key = listing.name, listing.identity
    if key not in _HIGHEST:
        if len(_HIGHEST) >= _REMEMBERED:
            _HIGHEST.clear()
        numbers = _vocabulary(listing.read_text("tokenizer.json")).values()
        _HIGHEST[key] = max((number for number in numbers if isinstance(number, int)), default=-1)
    return _HIGHEST[key]


def _generation_differences(chosen: Source, other: Source) -> list[str]:
    """How the settings of generation of two models differ, special tokens included, as text."""
    ours, theirs = _generation(chosen), _generation(other)
    return [
        f"{key} is {theirs.get(key)} and {ours.get(key)}"
        for key in dict.fromkeys([*SPECIAL_IDS, *ours, *theirs])
        if ours.get(key) != theirs.get(key) and None not in (ours.get(key, 0), theirs.get(key, 0))
    ]


def _generation(source: Source) -> dict[str, Any]:
    ids = {key: value for key in SPECIAL_IDS if (value := setting(source.config, key)) is not None}
    try:
        given = json.loads(source.read_text(GENERATION_FILE) or "{}")
    except (ValueError, RecursionError):
        given = {}
    given = given if isinstance(given, dict) else {}
    return ids | {key: value for key, value in given.items() if not key.startswith("_") and key not in _OF_NO_USE}


def _differences(first: Source, other: Source) -> int:
    """How many tokens the two tokenizers number differently (0 where that cannot be told from tokenizer.json)."""
    listings = tokenizer_listing(first), tokenizer_listing(other)
    ours, theirs = (listing.files.get("tokenizer.json") for listing in listings)
    if ours is None or theirs is None or (ours.sha256 is not None and ours.sha256 == theirs.sha256):
        return 0
    texts = [listing.read_text("tokenizer.json") for listing in listings]
    if texts[0] == texts[1]:
        return 0
    numbered, renumbered = (_vocabulary(text) for text in texts)
    return len(dict(numbered.items() ^ renumbered.items()))


def _vocabulary(text: str | None) -> dict[str, int]:
    try:
        document = json.loads(text or "{}")
        return _ids(document["model"]["vocab"]) | {t["content"]: t["id"] for t in document.get("added_tokens") or ()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _ids(vocabulary: Any) -> dict[str, int]:
    # Unigram models store a list of [piece, score] in the order of ids, the others token -> id.
    if isinstance(vocabulary, Mapping):
        return dict(vocabulary)
    return {piece[0]: number for number, piece in enumerate(vocabulary)}
