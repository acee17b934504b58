"""What to make a mixture of experts of: mergekit-moe's YAML, read into values and written from them.

>>> experts = "[{source_model: org/a}, {source_model: org/b}]"
>>> moe = Moe.from_yaml(f"{{base_model: org/a, gate_mode: random, experts: {experts}}}")
>>> [str(expert.source_model) for expert in moe.experts], moe.experts_per_token
(['org/a', 'org/b'], 2)
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from ..documents import DocumentKind, is_number, unknown_key
from ..errors import RecipeError
from ..guesses import guess
from ..recipe.models import read_model
from ..recipe.output import DTYPES
from ..reference import ModelRef
from ..text import brief

MOE = "moe"
"""What plans and cards call it."""

GATE_MODES = ("hidden", "cheap_embed", "random")
ARCHITECTURES = ("mixtral", "qwen", "qwen3", "deepseek")

_DOCUMENT = DocumentKind("mixture", RecipeError)
_KEYS = (
    "base_model",
    "gate_mode",
    "dtype",
    "experts",
    "shared_experts",
    "experts_per_token",
    "architecture",
    "merge_method",
)
_EXPERT_KEYS = ("source_model", "positive_prompts", "negative_prompts", "residual_scale")


def is_moe(document: Mapping[str, Any]) -> bool:
    """Whether a document asks for a mixture of experts."""
    return "experts" in document


@dataclass(frozen=True)
class Expert:
    """A model that gives an expert, and prompts that it is for and not for.

    `residual_scale`: of a shared expert, the factor on what it adds.
    """

    source_model: ModelRef
    positive_prompts: tuple[str, ...] = ()
    negative_prompts: tuple[str, ...] = ()
    residual_scale: float | None = None

    @property
    def cancels(self) -> bool:
        """Whether its prompts are for it and against it, each in the same share: then their means are the same."""
        positive, negative = map(_shares, (self.positive_prompts, self.negative_prompts))
        return bool(positive) and positive == negative

    def to_dict(self) -> dict[str, Any]:
        """Plain values, which `Moe.from_dict` reads back."""
        document: dict[str, Any] = {"source_model": str(self.source_model)}
        for key in ("positive_prompts", "negative_prompts"):
            if prompts := getattr(self, key):
                document[key] = list(prompts)
        return document | ({} if self.residual_scale is None else {"residual_scale": self.residual_scale})


@dataclass(frozen=True)
class Moe:
    """A mixture to make; the keys are those of the YAML. Raises `RecipeError` at construction.

    `base_model` gives all but the experts: attention, norms, embedding, head, tokenizer. `architecture`: the layout of
    the result; None: the one that fits the models.
    """

    base_model: ModelRef
    experts: tuple[Expert, ...]
    shared_experts: tuple[Expert, ...] = ()
    gate_mode: str = "hidden"
    dtype: str | None = None
    experts_per_token: int = 2
    architecture: str | None = None
    remarks: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        for key, known in (
            ("gate_mode", GATE_MODES),
            ("dtype", (None, *DTYPES)),
            ("architecture", (None, *ARCHITECTURES)),
        ):
            if (value := getattr(self, key)) not in known:
                names = [name for name in known if name]
                raise RecipeError(
                    f"{key} must be {' or '.join(names)}, got {brief(value)}{guess(value, names, few=True)}."
                )
        if len(self.experts) < 2:
            raise RecipeError(f"A mixture needs at least two `experts`, got {len(self.experts)}.")
        if not 1 <= self.experts_per_token <= len(self.experts):
            raise RecipeError(
                f"experts_per_token must be from 1 to {len(self.experts)}, the number of experts, got "
                f"{self.experts_per_token}."
            )
        for number, expert in enumerate(self.experts, 1):
            if self.gate_mode != "random" and not expert.positive_prompts:
                raise RecipeError(
                    f"Expert {number} ({expert.source_model}) needs `positive_prompts`, by which the gate "
                    f"{self.gate_mode} knows what it is for; or write `gate_mode: random`."
                )
            if self.gate_mode != "random" and expert.cancels:
                raise RecipeError(
                    f"Expert {number} ({expert.source_model}) has the same `positive_prompts` and `negative_prompts`, "
                    "which cancel out: its gate would be zeros; leave out the negative ones."
                )
            if expert.residual_scale is not None:
                raise RecipeError(f"Expert {number} ({expert.source_model}) has a residual_scale: shared ones take it.")

    @property
    def merge_method(self) -> str:
        """What is done."""
        return MOE

    @property
    def references(self) -> tuple[ModelRef, ...]:
        """All models, once each, the base first."""
        named = (*self.experts, *self.shared_experts)
        return tuple(dict.fromkeys([self.base_model, *(expert.source_model for expert in named)]))

    @property
    def merges(self) -> "Mapping[str, Moe]":
        """Itself alone."""
        return {"": self}

    def with_pins(self, pinned: Mapping[ModelRef, ModelRef]) -> "Moe":
        """The same with each model as `pinned` has it."""

        def pin(expert: Expert) -> Expert:
            return replace(expert, source_model=pinned.get(expert.source_model, expert.source_model))

        return replace(
            self,
            base_model=pinned.get(self.base_model, self.base_model),
            experts=tuple(map(pin, self.experts)),
            shared_experts=tuple(map(pin, self.shared_experts)),
        )

    @classmethod
    def from_yaml(cls, source: str | Path) -> "Moe":
        """Reads YAML text, or a file (a `Path`, or its name as text). Raises `RecipeError`."""
        return cls.from_dict(_DOCUMENT.load(_DOCUMENT.source(source)))

    @classmethod
    def from_text(cls, text: str) -> "Moe":
        """Reads YAML text that somebody else wrote: whatever it holds, it is no path. Raises `RecipeError`."""
        return cls.from_dict(_DOCUMENT.load(text))

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "Moe":
        """Reads plain values, as YAML gives them. Raises `RecipeError`."""
        _DOCUMENT.require_plain(document)
        if (method := document.get("merge_method", MOE)) != MOE:
            raise RecipeError(f"A document with `experts` has the merge_method {MOE}, got {brief(method)}.")
        if document.get("base_model") is None:
            raise RecipeError("The mixture needs a `base_model`, which gives all but the experts.")
        per_token = document.get("experts_per_token")
        experts = _experts(document, "experts")
        return cls(
            read_model(document["base_model"], "base_model"),
            experts,
            _experts(document, "shared_experts"),
            _DOCUMENT.text(document, "gate_mode") or "hidden",
            _DOCUMENT.text(document, "dtype"),
            min(2, len(experts)) if per_token is None else _DOCUMENT.whole(per_token, "experts_per_token", 1),
            _DOCUMENT.text(document, "architecture"),
            tuple(_unread(document)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, which `from_dict` reads back to an equal mixture."""
        document: dict[str, Any] = {"base_model": str(self.base_model), "gate_mode": self.gate_mode}
        for key in ("dtype", "architecture"):
            if (value := getattr(self, key)) is not None:
                document[key] = value
        document["experts_per_token"] = self.experts_per_token
        document["experts"] = [expert.to_dict() for expert in self.experts]
        if self.shared_experts:
            document["shared_experts"] = [expert.to_dict() for expert in self.shared_experts]
        return document

    def to_yaml(self) -> str:
        """The mixture as YAML text."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def _unread(document: Mapping[str, Any]) -> Iterator[str]:
    """What is left out of a document, as mergekit leaves it out: a sentence for each key that nothing reads."""
    places: list[tuple[str, Mapping[str, Any], Sequence[str]]] = [("the mixture", document, _KEYS)]
    for key in ("experts", "shared_experts"):
        places += [(f"{key}, number {at}", one, _EXPERT_KEYS) for at, one in enumerate(document.get(key) or [], 1)]
    for where, given, known in places:
        for key in (key for key in given if key not in known):
            yield f"{unknown_key(key, given[key], known, where)} It is not read."


def _shares(prompts: Sequence[str]) -> dict[str, Fraction]:
    return {text: Fraction(count, len(prompts)) for text, count in Counter(prompts).items()}


def _experts(document: Mapping[str, Any], key: str) -> tuple[Expert, ...]:
    return tuple(
        _expert(item, f"{key}, number {number}")
        for number, item in enumerate(_DOCUMENT.listed(document.get(key) or [], key), 1)
    )


def _expert(item: Any, where: str) -> Expert:
    given = _DOCUMENT.mapping(item, where)
    if given.get("source_model") is None:
        raise RecipeError(f"{where} needs a `source_model`.")
    scale = given.get("residual_scale")
    if scale is not None and not is_number(scale):
        raise RecipeError(f"residual_scale of {where} must be a number, got {brief(scale)}.")
    return Expert(
        read_model(given["source_model"], where),
        _prompts(given, "positive_prompts", where),
        _prompts(given, "negative_prompts", where),
        None if scale is None else float(scale),
    )


def _prompts(given: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    prompts = _DOCUMENT.listed(given.get(key) or [], f"{key} of {where}")
    if wrong := [one for one in prompts if not isinstance(one, str)]:
        raise RecipeError(f"{key} of {where} must be texts, got {brief(wrong[0])}.")
    return tuple(one for one in prompts if one.strip())  # people write "" where the gate is random
