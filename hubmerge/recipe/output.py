"""How a result is written: its dtype, its tokenizer, its chat template. A recipe, a path and a search say it alike."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..documents import DocumentKind
from ..errors import RecipeError
from ..guesses import guess
from ..reference import ModelRef

DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Output:
    """How a result is written; the keys are those of the YAML. Raises `RecipeError` at construction.

    A checkpoint is written in `out_dtype`, or else `dtype`, or else each tensor in its own. `tokenizer_source` is
    "base", "union" or a model; `chat_template` is Jinja text, or "auto".
    """

    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: str | None = None
    chat_template: str | None = None

    def __post_init__(self) -> None:
        for name in ("dtype", "out_dtype"):
            if (value := getattr(self, name)) not in (None, *DTYPES):
                raise RecipeError(
                    f"{name} must be one of {', '.join(DTYPES)}, got {value!r}{guess(value, DTYPES, few=True)}."
                )
        _ = self.tokenizer_model

    @property
    def written(self) -> str | None:
        """The dtype of the checkpoint; None: each tensor has its own."""
        return self.out_dtype or self.dtype

    @property
    def tokenizer_model(self) -> ModelRef | None:
        """The model that `tokenizer_source` names; None where it names none."""
        named = self.tokenizer_source not in (None, "base", "union")
        return ModelRef.parse(self.tokenizer_source) if named and self.tokenizer_source is not None else None

    def with_pins(self, pinned: Mapping[ModelRef, ModelRef]) -> "Output":
        """The same with its model as `pinned` has it."""
        model = self.tokenizer_model
        return self if model is None else replace(self, tokenizer_source=str(pinned.get(model, model)))

    @classmethod
    def read(cls, document: Mapping[str, Any], kind: DocumentKind) -> "Output":
        """What a document of this kind says of it, among its other keys; raises the kind's error."""
        given = {key: kind.text(document, key) for key in OUTPUT_KEYS}
        try:
            return cls(**given)
        except RecipeError as exc:
            raise kind.error(str(exc)) from None

    def to_dict(self) -> dict[str, str]:
        """The keys that are given."""
        return {key: value for key in OUTPUT_KEYS if (value := getattr(self, key)) is not None}


OUTPUT_KEYS = tuple(item.name for item in fields(Output))
"""The keys of a document that say it."""

AS_GIVEN = Output()
"""All as the models have it."""
