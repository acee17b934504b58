"""The small files that go with weights: tokenizer, chat template, settings of generation, what reads pictures."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..hub.checkpoint import TOKENIZERS
from ..hub.fields import SPECIAL_TOKENS
from ..hub.listing import Listing
from ..hub.source import Source
from . import tokens
from .numbering import Numbering, numbering_of
from .tokens import GENERATION_FILE, SETTINGS_FILE, TEMPLATE_FILE

if TYPE_CHECKING:
    from .united import United

_CARRIED = re.compile(
    r"tokenizer(_config)?\.json|tokenizer\.model(\.v\d+)?|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)"
    r"|merges\.txt|spiece\.model|sentencepiece\.bpe\.model|tekken\.json|generation_config\.json"
    r"|chat_template\.(jinja|json)|additional_chat_templates/[^/]+\.jinja"
    r"|(pre)?processor_config\.json|video_preprocessor_config\.json"
)
_NOT_TOKENIZER = re.compile(r"generation_config\.json|(video_)?(pre)?processor_config\.json")
# What else tells a tokenizer's tokens: of one alone, where the result has those of several.
_OF_ONE = re.compile(
    r"tokenizer\.model(\.v\d+)?|added_tokens\.json|vocab\.(json|txt)|merges\.txt|spiece\.model|sentencepiece\.bpe\.model"
    r"|tekken\.json"
)


def is_carried(name: str) -> bool:
    """Whether a file belongs to the tokenizer or to generation."""
    return _CARRIED.fullmatch(name) is not None


def is_template(text: str | None) -> bool:
    """Whether a `chat_template` is Jinja text."""
    return text is not None and "{" in text


@dataclass(frozen=True, eq=False)
class Carried:
    """The small files of `source`, or of its LoRA where that comes with a tokenizer.

    `template`: Jinja text in place of its chat template. `united`: a tokenizer made of several in place of its own.
    `ends`: numbers of tokens that end an answer, beside those that it names itself. `placed`: folders whose files come
    from another's folder, or from nowhere (None).
    """

    source: Source
    template: str | None = None
    united: "United | None" = None
    ends: tuple[int, ...] = ()
    placed: Mapping[str, "tuple[Carried, str] | None"] = field(default_factory=dict)

    @property
    def listing(self) -> Listing:
        """What gives the tokenizer: the LoRA where that comes with one, for it was trained with it."""
        adapter = self.source.adapter
        if adapter is not None and _has_tokenizer(adapter.listing):
            return adapter.listing
        return self.source.listing

    @property
    def has_tokenizer(self) -> bool:
        """Whether there is one."""
        return _has_tokenizer(self.listing)

    @property
    def tokens(self) -> "Listing | United":
        """What has its tokens."""
        return self.united or self.listing

    @property
    def numbering(self) -> Numbering | None:
        """Its tokens; None where they cannot be told. Raises `SourceError` where its tokenizer.json is broken."""
        return self.united.numbering if self.united is not None else numbering_of(self.listing)

    @property
    def chat_template(self) -> str | None:
        """The chat template (Jinja text); None where there is none."""
        return self.template or tokens.template(self.listing)

    @property
    def generation(self) -> Mapping[str, Any]:
        """The settings of generation."""
        return tokens.generation(self.source.listing)

    @property
    def processor(self) -> Mapping[str, Any]:
        """How pictures are read. Raises `SourceError` where a file that says it is broken."""
        return tokens.processor(self.source.listing)

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for equal files."""
        united = None if self.united is None else self.united.numbering.key
        placed = tuple((folder, one and (one[0].key, one[1])) for folder, one in self.placed.items())
        return self.source.name, self.source.identity, self.template, united, self.ends, placed

    def check(self) -> None:
        """Raises `SourceError` for the first of its files that is broken."""
        for listing, names in self._names():
            tokens.check_files(listing, names)

    def files(self) -> dict[str, bytes]:
        """The files, by name. Raises `SourceError` where one of them is broken."""
        self.check()
        files = {name: listing.read_bytes(name) for listing, names in self._names() for name in names}
        if self.united is not None:
            files = {name: content for name, content in files.items() if not _OF_ONE.fullmatch(name)}
            files |= self.united.files(tokens.settings(self.listing))
        if is_template(self.template):
            files = {name: content for name, content in files.items() if "chat_template" not in name}
            files[TEMPLATE_FILE] = str(self.template).encode()
            if SETTINGS_FILE in files:
                settings = json.loads(files[SETTINGS_FILE])
                settings.pop("chat_template", None)
                files[SETTINGS_FILE] = _json(settings)
        if (generation := self.generation_file) is not None:
            files[GENERATION_FILE] = generation
        for folder, taken in self.placed.items():
            there = {} if taken is None else taken[0].in_folder(taken[1])
            files |= {f"{folder}/{name}": content for name, content in there.items()}
        return files

    def in_folder(self, folder: str) -> dict[str, bytes]:
        """The files of a part in a folder of its own, by their names there. Raises `SourceError` as `files` does."""
        if folder in self.placed:
            taken = self.placed[folder]
            return {} if taken is None else taken[0].in_folder(taken[1])
        listing, names = self.source.listing, self.source.folders[folder].files
        tokens.check_files(listing, [f"{folder}/{name}" for name in names])
        return {name: listing.read_bytes(f"{folder}/{name}") for name in names}

    @property
    def generation_file(self) -> bytes | None:
        """generation_config.json; None where there is none."""
        if not self.ends:
            listing = self.source.listing
            return listing.read_bytes(GENERATION_FILE) if GENERATION_FILE in listing.files else None
        given = self.generation or {key: value for key, value in self.source.config.items() if key in SPECIAL_TOKENS}
        own = given.get("eos_token_id")
        ends = [*(own if isinstance(own, list) else [] if own is None else [own]), *self.ends]
        return _json({**given, "eos_token_id": ends})

    def _names(self) -> Iterator[tuple[Listing, list[str]]]:
        """The names of the files, by where they are."""
        giver, model = self.listing, self.source.listing
        names = [name for name in sorted(model.files) if is_carried(name)]
        folders = {name: one for name, one in self.source.folders.items() if name not in self.placed}
        names += [f"{folder}/{name}" for folder, one in folders.items() for name in one.files]
        if giver is model:
            yield model, names
            return
        yield model, [name for name in names if _NOT_TOKENIZER.fullmatch(name)]
        yield giver, [name for name in sorted(giver.files) if is_carried(name) and not _NOT_TOKENIZER.fullmatch(name)]


def _has_tokenizer(listing: Listing) -> bool:
    return any(name in listing.files for name in TOKENIZERS)


def _json(document: object) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
