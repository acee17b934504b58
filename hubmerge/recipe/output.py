"""How a result is written: its dtype, its tokenizer, its chat template. A recipe, a path and a search say it alike."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..documents import DocumentKind, Faults
from ..errors import RecipeError
from ..guesses import guess
from ..reference import ModelRef
from .models import read_model
from .templates import TEMPLATES
from .tokenizer import TokenizerBlock

DTYPES = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True)
class Output:
    """How a result is written; the keys are those of the YAML. Raises `RecipeError` at construction.

    A checkpoint is written in `out_dtype`, or else `dtype`, or else each tensor in its own. `tokenizer_source` is
    "base", "union" or a model; `tokenizer`, in place of it, says more. `chat_template` is Jinja text, the name
    of a template (templates.py), or "auto".
    """

    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: str | None = None
    tokenizer: TokenizerBlock | None = None
    chat_template: str | None = None

    def __post_init__(self) -> None:
        for name in ("dtype", "out_dtype"):
            if (value := getattr(self, name)) not in (None, *DTYPES):
                raise RecipeError(
                    f"{name} must be one of {', '.join(DTYPES)}, got {value!r}{guess(value, DTYPES, few=True)}."
                )
        if self.tokenizer is not None and self.tokenizer_source is not None:
            raise RecipeError("`tokenizer` and `tokenizer_source` say the same; write one of them.")
        _ = self.tokenizer_model

    @property
    def written(self) -> str | None:
        """The dtype of the checkpoint; None: each tensor has its own."""
        return self.out_dtype or self.dtype

    @property
    def template(self) -> str | None:
        """The chat template as Jinja text, a named one written out; "auto" as it is."""
        named = TEMPLATES.get(self.chat_template or "")
        return named.text if named is not None else self.chat_template

    @property
    def vocabulary(self) -> TokenizerBlock | None:
        """Whose tokens the result has; None where nothing is said of it."""
        return self.tokenizer or (TokenizerBlock(self.tokenizer_source) if self.tokenizer_source is not None else None)

    @property
    def tokenizer_model(self) -> ModelRef | None:
        """The model that gives the tokenizer by name; None where none does."""
        return self.vocabulary.model if self.vocabulary is not None else None

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """All models that are named here."""
        return self.vocabulary.models if self.vocabulary is not None else ()

    def with_pins(self, pinned: Mapping[ModelRef, ModelRef]) -> "Output":
        """The same with its models as `pinned` has them."""
        if self.tokenizer is not None:
            return replace(self, tokenizer=self.tokenizer.with_pins(pinned))
        model = self.tokenizer_model
        return self if model is None else replace(self, tokenizer_source=str(pinned.get(model, model)))

    @classmethod
    def read(cls, document: Mapping[str, Any], kind: DocumentKind) -> "Output":
        """What a document of this kind says of it, among its other keys; raises the kind's error."""
        faults = Faults()
        given = {key: faults.tried(cls.value, document, key, kind) for key in document if key in OUTPUT_KEYS}
        faults.require_none(kind.error)
        try:
            return cls(**given)
        except RecipeError as exc:
            raise kind.error(str(exc)) from None

    @classmethod
    def value(cls, document: Mapping[str, Any], key: str, kind: DocumentKind) -> Any:
        """What a document of this kind says at one of these keys; raises the kind's error."""
        if key == "tokenizer":
            block = document.get(key)
            return None if block is None else TokenizerBlock.read(block, kind)
        if key == "tokenizer_source" and isinstance(document.get(key), Mapping):
            return str(read_model(document[key], key))
        value = kind.text(document, key)
        if value is not None and key in ("dtype", "out_dtype"):
            value = value.removeprefix("torch.")
        alone: dict[str, Any] = {key: value}
        try:
            return getattr(cls(**alone), key)
        except RecipeError as exc:
            raise kind.error(str(exc)) from None

    def to_dict(self) -> dict[str, Any]:
        """The keys that are given."""
        document = {key: value for key in OUTPUT_KEYS if (value := getattr(self, key)) is not None}
        return document | ({} if self.tokenizer is None else {"tokenizer": self.tokenizer.to_dict()})


OUTPUT_KEYS = tuple(item.name for item in fields(Output))
"""The keys of a document that say it."""

AS_GIVEN = Output()
"""All as the models have it."""
