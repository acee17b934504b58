"""The `tokenizer:` of a recipe: whose tokens the result has, and whose row stands for single ones; mergekit's format.

>>> from hubmerge.documents import DocumentKind
>>> block = TokenizerBlock.read(
...     {"source": "union", "tokens": {"<|im_end|>": {"source": "org/chat", "force": True}}},
...     DocumentKind("recipe", RecipeError),
... )
>>> block.rows["<|im_end|>"].force, [str(model) for model in block.models]
(True, ['org/chat'])
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..documents import DocumentKind, Faults
from ..errors import RecipeError
from ..guesses import guess, nearest
from ..reference import ModelRef
from ..text import brief
from .models import read_model

BASE, UNION, SHORTEST = _WORDS = ("base", "union", "shortest")

ZERO, MODEL_TOKEN = "zero", "model_token"
_MOST_TOKENS = 10_000
_LONGEST_TOKEN = 1_000
_LARGEST_MULTIPLE = 2**20
_MOST_SHARED = 1024
_KEYS = ("source", "tokens", "pad_to_multiple_of", "transplant")


@dataclass(frozen=True)
class TokenRow:
    """The row of a token for models that lack it, or with `force` for all: that of `token` (its text, its number, or
    None: the same token) in `model`; zeros where that is None."""

    model: ModelRef | None
    token: str | int | None = None
    force: bool = False


@dataclass(frozen=True)
class TokenizerBlock:
    """Whose tokens the result has: `source` is "base", "union" or a model; "shortest": rows are merged by number, as
    many as all models have. Raises `RecipeError` at construction.

    `tokens`: what is said of single tokens; one that no model has is added. `pad_to_multiple_of`: the number of rows
    of the result is one of it; None: those that the tokens need, or as many as where they come from. `transplant`: the
    models have no row for a token that they lack taken of others; it is made of so many of their own.
    """

    source: str = UNION
    tokens: tuple[tuple[str, TokenRow], ...] = ()
    pad_to_multiple_of: int | None = None
    transplant: int | None = None

    def __post_init__(self) -> None:
        faults = Faults()
        faults.tried(named_model, self.source)
        faults.lines |= dict.fromkeys(self._faults())
        faults.require_none(RecipeError)

    def _faults(self) -> Iterator[str]:
        if self.source == SHORTEST and (self.tokens or self.pad_to_multiple_of):
            yield "A tokenizer of `source: shortest` takes neither `tokens` nor `pad_to_multiple_of`."
        if any(not text for text, _ in self.tokens):
            yield "`tokens` names a token without a character; write its text before the colon."
        if len(self.tokens) > _MOST_TOKENS or any(len(text) > _LONGEST_TOKEN for text, _ in self.tokens):
            yield f"`tokens` holds at most {_MOST_TOKENS:,} tokens of 1 to {_LONGEST_TOKEN:,} characters each."
        most = self.pad_to_multiple_of
        if most is not None and not (type(most) is int and 1 <= most <= _LARGEST_MULTIPLE):
            yield f"pad_to_multiple_of must be a whole number from 1 to {_LARGEST_MULTIPLE:,}, got {brief(most)}."
        if (count := self.transplant) is not None:
            if not (type(count) is int and 1 <= count <= _MOST_SHARED):
                yield f"transplant must be a whole number from 1 to {_MOST_SHARED:,}, got {brief(count)}."
            if self.source in _WORDS or self.tokens:
                yield "`transplant` goes with `source: org/model` whose tokens are taken, and no `tokens`."

    @property
    def model(self) -> ModelRef | None:
        """The model that `source` names; None where it names none."""
        return named_model(self.source)

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """All models that are named, once each."""
        named = [self.model, *(row.model for _, row in self.tokens)]
        return tuple(dict.fromkeys(model for model in named if model is not None))

    @property
    def rows(self) -> Mapping[str, TokenRow]:
        """What is said of single tokens, by their texts."""
        return dict(self.tokens)

    def with_pins(self, pinned: Mapping[ModelRef, ModelRef]) -> "TokenizerBlock":
        """The same with its models as `pinned` has them."""
        return replace(
            self,
            source=self.source if self.model is None else str(pinned.get(self.model, self.model)),
            tokens=tuple(
                (text, replace(row, model=row.model and pinned.get(row.model, row.model))) for text, row in self.tokens
            ),
        )

    @classmethod
    def read(cls, value: Any, kind: DocumentKind) -> "TokenizerBlock":
        """The block that plain values describe, in a document of this kind; raises its error, or `RecipeError`."""
        given = kind.mapping(value, "tokenizer")
        faults = Faults()
        faults.tried(kind.require_known, given, _KEYS, "`tokenizer`")
        source = UNION if given.get("source") is None else given["source"]
        if not isinstance(source, str):
            source = faults.tried(read_model, source, "`tokenizer.source`")
        tokens = faults.tried(kind.mapping, given.get("tokens") or {}, "tokenizer.tokens") or {}
        rows = [
            (text, faults.tried(_row, row, f"`tokenizer.tokens` of {text!r}", kind)) for text, row in tokens.items()
        ]
        read = tuple((text, row) for text, row in rows if row is not None)
        count = None if source is None else given.get("transplant")  # it goes with some sources alone
        named = UNION if source is None else str(source)
        made = faults.tried(cls, named, read, given.get("pad_to_multiple_of"), count)
        faults.require_none(kind.error)
        assert made is not None
        return made

    def to_dict(self) -> dict[str, Any]:
        """Plain values, which `read` reads back to an equal block."""
        document: dict[str, Any] = {"source": self.source}
        if self.tokens:
            document["tokens"] = {text: _row_document(row) for text, row in self.tokens}
        if self.pad_to_multiple_of is not None:
            document["pad_to_multiple_of"] = self.pad_to_multiple_of
        if self.transplant is not None:
            document["transplant"] = self.transplant
        return document


def named_model(source: str | None) -> ModelRef | None:
    """The model of a tokenizer's source, which mergekit also writes model:NAME; None where it names none."""
    if source in (None, BASE, UNION, SHORTEST):
        return None
    # A model may be called so, but hardly is where one or two letters away something else was meant.
    if "/" not in str(source) and (near := nearest(str(source), _WORDS)) and abs(len(near) - len(str(source))) < 2:
        raise RecipeError(f"The tokenizer's source {source!r} is no model and no word for one: did you mean {near}?")
    return ModelRef.parse(str(source).removeprefix("model:"))


def _row(value: Any, where: str, kind: DocumentKind) -> TokenRow:
    given = kind.mapping(value, where.replace("`", ""))
    kind.require_known(given, ("source", "force"), where)
    force = given.get("force") or False
    if not isinstance(force, bool):
        raise kind.error(f"force in {where} must be true or false, got {brief(force)}.")
    source = given.get("source")
    if isinstance(source, str) or (
        isinstance(source, Mapping) and source.keys() & {"path", "model"} and "kind" not in source
    ):
        return TokenRow(read_model(source, where), None, force)
    if not isinstance(source, Mapping):
        raise kind.error(f"{where} needs `source: org/model` or `source: {{kind: zero}}`, got {brief(source)}.")
    what = source.get("kind")
    if what == ZERO:
        kind.require_known(source, ("kind",), where)
        return TokenRow(None, None, force)
    if what != MODEL_TOKEN:
        hint = guess(what, (ZERO, MODEL_TOKEN), few=True)
        raise kind.error(f"kind in {where} must be {ZERO} or {MODEL_TOKEN}, got {brief(what)}{hint}.")
    kind.require_known(source, ("kind", "model", "token", "token_id"), where)
    model, token, number = source.get("model"), source.get("token"), source.get("token_id")
    if not isinstance(model, (str, Mapping)):
        raise kind.error(f"{where} needs `model: org/model`, got {brief(model)}.")
    if (token is None) == (number is None):
        raise kind.error(f"{where} needs either `token` or `token_id`, the token of {brief(model)} that it takes.")
    if token is not None and not isinstance(token, str):
        raise kind.error(f"token in {where} must be text, got {brief(token)}.")
    if number is not None:
        kind.whole(number, f"token_id in {where}", least=0)
    return TokenRow(read_model(model, where), number if token is None else token, force)


def _row_document(row: TokenRow) -> dict[str, Any]:
    source: Any = {"kind": ZERO}
    if row.model is not None:
        source = str(row.model)
        if row.token is not None:
            key = "token" if isinstance(row.token, str) else "token_id"
            source = {"kind": MODEL_TOKEN, "model": source, key: row.token}
    return {"source": source, "force": True} if row.force else {"source": source}
