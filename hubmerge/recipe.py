"""A recipe: which models of the Hub, merged how. The YAML is mergekit's format, read and written.

>>> recipe = Recipe.from_yaml('''
... merge_method: linear
... models:
...   - {model: org/math, parameters: {weight: 0.6}}
...   - {model: org/japanese, parameters: {weight: 0.4}}
... ''')
>>> [str(model.model) for model in recipe.models]
['org/math', 'org/japanese']
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from .documents import check_plain, is_number, load_mapping, refuse_unknown
from .errors import RecipeError
from .guesses import guess, missing_colon
from .reference import ModelRef

DTYPES = ("float32", "float16", "bfloat16")

Scalar = float | int | bool


@dataclass(frozen=True)
class Conditional:
    """A value for the tensors whose name contains `filter` (`None`: for all the rest)."""

    filter: str | None
    value: "Scalar | tuple[Scalar, ...]"


Setting = Scalar | tuple[Scalar, ...] | tuple[Conditional, ...]
"""A parameter's value: one number, a gradient over depth, or conditionals tried in order."""


def value_at(setting: Setting, tensor_name: str, depth: float) -> Scalar | None:
    """The value of `setting` for one tensor.

    `depth` is in 0..1: the layer's index over the last index, 0 outside the layers. A gradient of n
    anchors is interpolated linearly. Returns None where no conditional fits the tensor.

    >>> value_at((0.0, 1.0), "model.layers.3.mlp.up_proj.weight", 0.25)
    0.25
    """
    if not isinstance(setting, tuple):
        return setting
    if isinstance(setting[0], Conditional):
        for case in setting:
            assert isinstance(case, Conditional)
            if case.filter is None or case.filter in tensor_name:
                return value_at(case.value, tensor_name, depth)
        return None
    anchors = [float(value) for value in setting]
    position = min(max(depth, 0.0), 1.0) * (len(anchors) - 1)
    low = min(int(position), len(anchors) - 1)
    high = min(low + 1, len(anchors) - 1)
    return anchors[low] + (position - low) * (anchors[high] - anchors[low])


Parameters = Mapping[str, Setting]


@dataclass(frozen=True)
class ModelEntry:
    """One model of a `models:` recipe with its own parameters."""

    model: ModelRef
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class SliceSource:
    """Layers `layer_range[0]` up to but not including `layer_range[1]` of one model."""

    model: ModelRef
    layer_range: tuple[int, int]
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Slice:
    """A run of output layers, merged from the same number of layers of each source."""

    sources: tuple[SliceSource, ...]
    parameters: Parameters = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.sources:
            raise RecipeError("A slice needs at least one source (model and layer_range).")
        lengths = {stop - start for start, stop in (source.layer_range for source in self.sources)}
        if len(lengths) > 1:
            raise RecipeError(f"The sources of one slice must span equally many layers, got {sorted(lengths)}.")


@dataclass(frozen=True)
class Stage:
    """A merge before the last one: what comes after it may name it as a model, `stage:NAME`. None of it is written."""

    name: str
    recipe: "Recipe"

    def __post_init__(self) -> None:
        if self.recipe.stages:
            raise RecipeError(f"The stage {self.name} has `stages` of its own; list all stages beside each other.")

    @property
    def ref(self) -> ModelRef:
        """How what comes after it refers to it."""
        return ModelRef(self.name, stage=True)


@dataclass(frozen=True)
class Recipe:
    """What to merge and how, validated; the keys are those of the YAML.

    Exactly one of `models` (whole models) and `slices` (layer ranges) is filled. All merging is done in
    float32; the checkpoint is written in `out_dtype`, or else `dtype`, or else each tensor's own.
    `tokenizer_source` is "base", "union" or a model. `stages` are merged before, in their order. Raises `RecipeError`
    at construction.
    """

    merge_method: str
    models: tuple[ModelEntry, ...] = ()
    slices: tuple[Slice, ...] = ()
    base_model: ModelRef | None = None
    parameters: Parameters = field(default_factory=dict)
    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: str | None = None
    chat_template: str | None = None
    stages: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.models) == bool(self.slices):
            raise RecipeError("A recipe needs either `models` or `slices` with at least one entry, and not both.")
        for name in ("dtype", "out_dtype"):
            if (value := getattr(self, name)) not in (None, *DTYPES):
                raise RecipeError(
                    f"{name} must be one of {', '.join(DTYPES)}, got {value!r}{guess(value, DTYPES, few=True)}."
                )
        if self.tokenizer_source not in (None, "base", "union"):
            ModelRef.parse(self.tokenizer_source)

    @property
    def references(self) -> tuple[ModelRef, ...]:
        """Every model of the Hub or in a folder that is named, once each, base_model first, those of stages last."""
        named = [*self.named, *(ref for stage in self.stages for ref in stage.recipe.named)]
        return tuple(dict.fromkeys(ref for ref in named if not ref.stage))

    @property
    def named(self) -> tuple[ModelRef, ...]:
        """All that the last merge names, models and stages, once each, base_model first."""
        named = [self.base_model] if self.base_model else []
        named += [entry.model for entry in self.models]
        named += [source.model for piece in self.slices for source in piece.sources]
        if self.tokenizer_source not in (None, "base", "union"):
            named.append(ModelRef.parse(self.tokenizer_source))
        return tuple(dict.fromkeys(named))

    @property
    def giver(self) -> ModelRef:
        """The model whose configuration the result keeps: the first of which only a part is merged, for the result is
        the whole of it; else base_model, else the first model."""
        if (part := next((ref for ref in self.named if ref.component is not None), None)) is not None:
            return part
        if self.base_model is not None:
            return self.base_model
        return self.models[0].model if self.models else self.slices[0].sources[0].model

    @property
    def tokenizer_giver(self) -> ModelRef:
        """The model that gives the tokenizer: `tokenizer_source`, else the one that gives the configuration."""
        if self.tokenizer_source in (None, "base", "union"):
            return self.giver
        return ModelRef.parse(self.tokenizer_source)

    def require_stages(self) -> None:
        """Raises `RecipeError` for two stages of one name, one that nothing names, and one named before it is there."""
        made: list[ModelRef] = []
        used: set[ModelRef] = set()
        for name, merge in [*((stage.name, stage.recipe) for stage in self.stages), (None, self)]:
            for ref in (ref for ref in merge.named if ref.stage):
                if ref not in made:
                    hint = f"it may name: {', '.join(map(str, made))}." if made else "no stage comes before it."
                    raise RecipeError(f"{f'The stage {name}' if name else 'The recipe'} names {ref}, but {hint}")
                used.add(ref)
            if name is not None:
                if (ref := ModelRef(name, stage=True)) in made:
                    raise RecipeError(f"Two stages are called {name}; give each a name of its own.")
                made.append(ref)
        if unused := [ref for ref in made if ref not in used]:
            raise RecipeError(f"Nothing names {unused[0]}; name it as a model, or leave the stage out.")

    def with_pins(self, pinned: Mapping[ModelRef, ModelRef]) -> "Recipe":
        """The same recipe with each model at its commit, as `pinned` has it; others stay as they are."""

        def pin(ref: ModelRef) -> ModelRef:
            return pinned.get(ref, ref)

        source = self.tokenizer_source
        return replace(
            self,
            stages=tuple(replace(stage, recipe=stage.recipe.with_pins(pinned)) for stage in self.stages),
            models=tuple(replace(entry, model=pin(entry.model)) for entry in self.models),
            slices=tuple(
                replace(piece, sources=tuple(replace(source, model=pin(source.model)) for source in piece.sources))
                for piece in self.slices
            ),
            base_model=pin(self.base_model) if self.base_model else None,
            tokenizer_source=source if source in (None, "base", "union") else str(pin(ModelRef.parse(source))),
        )

    @classmethod
    def from_yaml(cls, source: str | Path) -> "Recipe":
        """Reads a recipe from YAML text or from a file (pass a `Path`)."""
        return cls.from_dict(load_mapping(source, "recipe", RecipeError))

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "Recipe":
        """Reads a recipe from plain values, as YAML gives them."""
        check_plain(document, "recipe", RecipeError)
        recipe = cls._read(document)
        recipe.require_stages()
        return recipe

    @classmethod
    def _read(cls, document: Mapping[str, Any]) -> "Recipe":
        if "modules" in document:
            raise RecipeError("`modules` (merging parts of a multi-modal model) is not supported yet; use `models`.")
        if "tokenizer" in document:
            raise RecipeError("`tokenizer` is not supported yet; use `tokenizer_source: base` or a model.")
        refuse_unknown(document, cls.__dataclass_fields__, "the recipe", RecipeError)
        method = document.get("merge_method")
        if not isinstance(method, str):
            raise RecipeError(f"The recipe needs `merge_method: NAME` (linear, slerp, ties, ...), got {method!r}.")
        base = document.get("base_model")
        return cls(
            merge_method=method,
            models=tuple(_model_entry(item) for item in _items(document, "models")),
            slices=tuple(_slice(item) for item in _items(document, "slices")),
            base_model=_model(base, "base_model") if base is not None else None,
            parameters=_parameters(document.get("parameters"), "parameters"),
            dtype=_text(document, "dtype"),
            out_dtype=_text(document, "out_dtype"),
            tokenizer_source=_text(document, "tokenizer_source"),
            chat_template=_text(document, "chat_template"),
            stages=tuple(_stage(item) for item in _items(document, "stages")),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML or JSON; `Recipe.from_dict` reads them back to an equal recipe."""
        document: dict[str, Any] = {}
        if self.stages:
            document["stages"] = [{"name": stage.name, **stage.recipe.to_dict()} for stage in self.stages]
        document["merge_method"] = self.merge_method
        if self.base_model:
            document["base_model"] = str(self.base_model)
        if self.models:
            document["models"] = [_with_parameters({"model": str(e.model)}, e.parameters) for e in self.models]
        if self.slices:
            document["slices"] = [
                _with_parameters(
                    {
                        "sources": [
                            _with_parameters({"model": str(s.model), "layer_range": list(s.layer_range)}, s.parameters)
                            for s in piece.sources
                        ]
                    },
                    piece.parameters,
                )
                for piece in self.slices
            ]
        _with_parameters(document, self.parameters)
        for name in ("dtype", "out_dtype", "tokenizer_source", "chat_template"):
            if (value := getattr(self, name)) is not None:
                document[name] = value
        return document

    def to_yaml(self) -> str:
        """The recipe as YAML text."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def _items(document: Mapping[str, Any], key: str) -> Sequence[Any]:
    items = document.get(key) or ()
    if not isinstance(items, (list, tuple)):
        raise RecipeError(f"`{key}` must be a list, got {type(items).__name__}.")
    return items


def _text(document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    if value is not None and not isinstance(value, str):
        raise RecipeError(f"`{key}` must be text, got {value!r}.")
    return value


def _stage(item: Any) -> Stage:
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
        raise RecipeError(f"Each entry of `stages` needs `name: NAME` beside a merge of its own, got {item!r}.")
    try:
        return Stage(item["name"], Recipe._read({key: value for key, value in item.items() if key != "name"}))
    except RecipeError as exc:
        raise RecipeError(f"In the stage {item['name']}: {exc}") from None


def _model(value: Any, where: str) -> ModelRef:
    # mergekit also writes a reference as {model: {path, revision}, lora: ...}; the text form says the same.
    if not isinstance(value, str):
        raise RecipeError(f"{where}: expected a model as text (org/name@revision), got {value!r}.")
    return ModelRef.parse(value)


def _model_entry(item: Any) -> ModelEntry:
    if not isinstance(item, Mapping) or "model" not in item:
        raise RecipeError(f"Each entry of `models` needs `model: org/name`, got {item!r}.")
    refuse_unknown(item, ModelEntry.__dataclass_fields__, f"the entry of {item['model']}", RecipeError)
    model = _model(item["model"], "models")
    return ModelEntry(model, _parameters(item.get("parameters"), f"the parameters of {model}"))


def _slice(item: Any) -> Slice:
    if not isinstance(item, Mapping) or not isinstance(item.get("sources"), list):
        raise RecipeError(f"Each entry of `slices` needs a list `sources`, got {item!r}.")
    refuse_unknown(item, Slice.__dataclass_fields__, "a slice", RecipeError)
    sources = tuple(_slice_source(source) for source in item["sources"])
    return Slice(sources, _parameters(item.get("parameters"), "the parameters of a slice"))


def _slice_source(item: Any) -> SliceSource:
    if not isinstance(item, Mapping) or "model" not in item or "layer_range" not in item:
        raise RecipeError(f"Each source of a slice needs `model` and `layer_range: [start, stop]`, got {item!r}.")
    refuse_unknown(item, SliceSource.__dataclass_fields__, f"the source {item['model']}", RecipeError)
    model, layers = _model(item["model"], "slices"), item["layer_range"]
    whole = isinstance(layers, (list, tuple)) and len(layers) == 2 and all(type(n) is int for n in layers)
    if not whole or not 0 <= layers[0] < layers[1]:
        raise RecipeError(f"layer_range of {model} must be [start, stop] with 0 <= start < stop, got {layers!r}.")
    where = f"the parameters of {model} in a slice"
    return SliceSource(model, (layers[0], layers[1]), _parameters(item.get("parameters"), where))


def _parameters(value: Any, where: str) -> dict[str, Setting]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise RecipeError(f"{where}: expected `name: value` pairs, got {value!r}.")
    for name, setting in value.items():
        if hint := missing_colon(name, setting):
            raise RecipeError(f"{name} in {where} has no value; {hint}")
    return {name: _setting(setting, f"{name} in {where}") for name, setting in value.items()}


def _setting(value: Any, where: str) -> Setting:
    if not isinstance(value, (list, tuple)):
        return _scalar(value, where)
    if not value:
        raise RecipeError(f"{where}: an empty list has no value; give at least one.")
    if not any(isinstance(item, Mapping) for item in value):
        return tuple(_scalar(item, where) for item in value)
    return tuple(_conditional(item, where) for item in value)


def _conditional(item: Any, where: str) -> Conditional:
    if not isinstance(item, Mapping) or "value" not in item:
        raise RecipeError(f"{where}: expected `filter: text` and `value: number`, got {item!r}.")
    refuse_unknown(item, Conditional.__dataclass_fields__, where, RecipeError)
    name, value = item.get("filter"), item["value"]
    if name is not None and not isinstance(name, str):
        raise RecipeError(f"{where}: filter must be text found in tensor names, got {name!r}.")
    inner = tuple(_scalar(v, where) for v in value) if isinstance(value, (list, tuple)) else _scalar(value, where)
    if inner == ():
        raise RecipeError(f"{where}: an empty list has no value; give at least one.")
    return Conditional(None if name == "*" else name, inner)


def _scalar(value: Any, where: str) -> Scalar:
    if isinstance(value, bool) or is_number(value):
        return value
    raise RecipeError(f"{where}: expected a finite number or true/false, got {value!r}.")


def _plain(setting: Setting) -> Any:
    if not isinstance(setting, tuple):
        return setting
    return [_plain_case(item) if isinstance(item, Conditional) else item for item in setting]


def _plain_case(case: Conditional) -> dict[str, Any]:
    value = list(case.value) if isinstance(case.value, tuple) else case.value
    return {"value": value} if case.filter is None else {"filter": case.filter, "value": value}


def _with_parameters(document: dict[str, Any], parameters: Parameters) -> dict[str, Any]:
    if parameters:
        document["parameters"] = {name: _plain(setting) for name, setting in parameters.items()}
    return document
