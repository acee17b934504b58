"""A package in mergekit's place that merges with hubmerge, for mergekit's own tests (mergekit_tests.py).

What a user's program calls is here: configurations, `run_merge`, models' names, merges in memory. Everything else of
mergekit is an `Inside`: a test that touches one is skipped, as it asks how mergekit works and not what it makes. That
something is refused is compared, and not in which words.
"""

import importlib.abc
import importlib.machinery
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from mergekit_models import make_gpt2size, make_picogranite, make_picollama, make_picollava

INSIDE = "asks for mergekit's insides"
GRADIENTS = "asks for gradients through the merge"


class _Inside(type):
    """Anything of mergekit that is no part of what a user calls."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _inside(name)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        # While tests are collected, what they are parametrised with is made.
        return pytest.skip(INSIDE) if "PYTEST_CURRENT_TEST" in os.environ else cls

    def __getitem__(cls, key: Any) -> Any:
        return cls

    def __iter__(cls) -> Iterator[Any]:
        return iter([_inside(f"{cls.__name__}{n}") for n in range(3)])


def _inside(name: str) -> Any:
    return _Inside(name, (), {})


class _Module(ModuleType):
    """A module in which whatever is not listed below is an `Inside`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _inside(name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds every module of mergekit, and `tests.common`, which its archive lacks."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name == "tests.common" or name.split(".")[0] == "mergekit":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__path__ = []
        module.__dict__.update(_PUBLIC.get(module.__name__, {}))


class Refused(ValueError, RuntimeError):
    """hubmerge's refusal, of the kinds that mergekit raises."""


def _raises(expected: Any, *args: Any, **kwargs: Any) -> Any:
    """`pytest.raises`, where what a refusal says is not compared: the words are each program's own."""
    said = kwargs.pop("match", None)
    return _pytest_raises(Refused if said and issubclass(Refused, expected) else expected, *args, **kwargs)


_pytest_raises = pytest.raises


class Values(dict):
    """Plain values whose keys are attributes, as a configuration has them."""

    def __init__(self, **given: Any) -> None:
        super().__init__({key: _deep(value) for key, value in given.items()})

    @classmethod
    def model_validate(cls, raw: dict[str, Any]) -> "Values":
        return cls(**raw)

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name in ("model_copy", "model_dump", "input_parameters", "shared_parameters"):
            pytest.skip(INSIDE)
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = _deep(value)


def _deep(value: Any) -> Any:
    if isinstance(value, dict):
        return value if isinstance(value, Values) else Values(**{str(key): item for key, item in value.items()})
    return [_deep(item) for item in value] if isinstance(value, (list, tuple)) else value


def _plain(value: Any) -> Any:
    """Without what is not given."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def run_merge(config: Values, out_path: str, options: Values | None = None, **_: Any) -> None:
    """mergekit's entry: the recipe merged into a folder."""
    from hubmerge import Recipe, make_plan
    from hubmerge.errors import HubmergeError
    from hubmerge.stream.executor import merge

    document = _plain(config)
    if (options or {}).get("unsafe_truncate_embeddings") and not {"tokenizer", "tokenizer_source"} & document.keys():
        document["tokenizer_source"] = "shortest"  # what hubmerge calls it: a recipe says all that makes its result
    try:
        plan = make_plan(Recipe.from_dict(document))
        plan.require()
        for finding in plan.warnings:
            logging.getLogger("hubmerge").warning(finding.message)
        merge(plan, Path(out_path))
    except HubmergeError as exc:
        raise Refused(str(exc)) from exc


class ModelPath(dict):
    """A model without its LoRA."""

    def __init__(self, path: str, revision: str | None = None) -> None:
        super().__init__(path=path, revision=revision)


class ModelReference:
    """A model by name, as hubmerge reads it."""

    def __init__(self, ref: Any) -> None:
        self._ref = ref
        self.model = ModelPath(ref.repo_id, ref.revision)
        self.lora = ModelPath(ref.lora.repo_id, ref.lora.revision) if ref.lora else None

    @classmethod
    def parse(cls, text: str) -> "ModelReference":
        from hubmerge import ModelRef
        from hubmerge.errors import HubmergeError

        try:
            return cls(ModelRef.parse(text))
        except HubmergeError as exc:
            raise Refused(str(exc)) from exc

    model_validate = parse

    def __str__(self) -> str:
        return str(self._ref)


class LazyTensorLoader:
    """What lies in a folder, read by hubmerge: copied from there into memory by a merge that changes nothing."""

    def __init__(self, folder: Path) -> None:
        from hubmerge import Recipe, make_plan
        from hubmerge.stream.compute import merge_tensor
        from hubmerge.stream.reader import Reader

        if not (folder / "config.json").exists():
            (folder / "config.json").write_text(
                json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
            )
        plan = make_plan(Recipe.from_dict({"merge_method": "passthrough", "models": [{"model": str(folder)}]}))
        self._tensors: dict[str, torch.Tensor] = {}
        reader = Reader(plan.stage, plan.tensors)
        for tensor in plan.tensors:
            with reader.reading(tensor) as read:
                self._tensors[tensor.name] = merge_tensor(plan.stage.method, tensor, read)
        reader.close()
        self.index = Values(tensor_paths=dict.fromkeys(self._tensors, ""))

    @classmethod
    def from_disk(cls, path: str) -> "LazyTensorLoader":
        return cls(Path(path))

    def get_tensor(self, name: str) -> torch.Tensor:
        return self._tensors[name]


@dataclass(frozen=True, eq=False)
class TensorEntry:
    """A tensor of one model."""

    id: Any
    tensor: torch.Tensor
    is_base: bool = False


@dataclass(frozen=True)
class TensorMetadata:
    """What a tensor is called."""

    name: str = "w"
    vocabulary_axis: int | None = None


@dataclass(frozen=True, eq=False)
class TensorGroup:
    """The tensors that one is merged from."""

    entries: tuple[TensorEntry, ...]
    metadata: TensorMetadata = field(default_factory=TensorMetadata)

    def __post_init__(self) -> None:
        if any(entry.id is None for entry in self.entries):
            raise Refused("IDs cannot be None")

    @classmethod
    def from_tensors(
        cls,
        tensors: Any,
        *,
        ids: Any = None,
        base_index: int | None = None,
        name: str = "w",
        vocabulary_axis: Any = None,
    ) -> "TensorGroup":
        named = zip(ids if ids is not None else range(len(tensors)), tensors, strict=True)
        entries = tuple(TensorEntry(one, tensor, number == base_index) for number, (one, tensor) in enumerate(named))
        return cls(entries, TensorMetadata(name, vocabulary_axis))

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return tuple(entry.tensor for entry in self.entries)

    @property
    def base(self) -> TensorEntry | None:
        return next((entry for entry in self.entries if entry.is_base), None)

    @property
    def non_base(self) -> tuple[TensorEntry, ...]:
        return tuple(entry for entry in self.entries if not entry.is_base)

    def __getattr__(self, name: str) -> Any:
        pytest.skip(INSIDE)


class BasePolicy(Enum):
    """Whether a method takes a base."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    IGNORED = "none"


class Asked:
    """A merge method of hubmerge, called as mergekit's are."""

    def __init__(self, method: Any) -> None:
        contract = Values(base="", max_inputs=None)
        contract["base"] = BasePolicy(method.base)
        # With a base that is one of them, or need not be there, the number of the others counts.
        contract["max_inputs"] = None if method.base == "optional" else method.max_models and method.max_models + 1
        if method.base == "none":
            contract["max_inputs"] = method.max_models
        parameters = [Values(name=parameter.name) for parameter in method.parameters]
        self.method, self.spec = method, Values(name=method.name)
        self.spec.update(contract=contract, parameters=parameters)

    def __call__(self, groups: Any, *, parameters: Any = None, dtype: Any = None, out_dtype: Any = None) -> Any:
        results = []
        for group in groups:
            ids = [entry.id for entry in group.entries]
            base = next((entry.id for entry in group.entries if entry.is_base), None)
            name = "model.embed_tokens.weight" if group.metadata.vocabulary_axis is not None else group.metadata.name
            models = {entry.id: {name: entry.tensor} for entry in group.entries}
            assert list(models) == ids
            merged = merge_state_dicts(
                models, self.method.name, base=base, parameters=parameters, dtype=dtype, out_dtype=out_dtype
            )
            results.append(merged[name])
        return tuple(results)

    def __getattr__(self, name: str) -> Any:
        pytest.skip(INSIDE)


def get(name: str) -> Asked:
    """The method of this name."""
    from hubmerge import METHODS

    return Asked(METHODS[name])


def registered_methods() -> list[Asked]:
    """Those that both have."""
    return [get(name) for name in THEIRS.split()]


THEIRS = (
    "arcee_fusion breadcrumbs breadcrumbs_ties dare_linear dare_ties della della_linear karcher linear model_stock "
    "multislerp nearswap nuslerp passthrough ram ramplus_tl sce slerp task_arithmetic ties"
)


def merge_state_dicts(
    models: Any,
    method: Any,
    *,
    base: Any = None,
    parameters: Any = None,
    dtype: Any = None,
    out_dtype: Any = None,
    **_: Any,
) -> dict[str, torch.Tensor]:
    """mergekit's call in memory, answered by `hubmerge.merge_state_dicts`."""
    import hubmerge
    from hubmerge.errors import HubmergeError

    if not isinstance(method, (str, Asked)):
        pytest.skip(INSIDE)
    asked = get(method) if isinstance(method, str) else method
    given = dict(models) if isinstance(models, dict) else dict(enumerate(models))
    if None in given:
        raise Refused("IDs cannot be None")
    states = {key: one.state_dict() if hasattr(one, "state_dict") else one for key, one in given.items()}
    for one in (dtype, out_dtype):
        if one is not None and not one.is_floating_point:
            raise Refused("expected a floating-point torch.dtype")
    if dtype is not None:
        # `dtype` casts what is read, in mergekit; hubmerge rounds once, at the end.
        states = {
            key: {name: one.to(dtype) if one.is_floating_point() else one for name, one in state.items()}
            for key, state in states.items()
        }
    takes_base = asked.method.base != "none"
    origin = states.pop(base) if base is not None and takes_base else None
    own: list[dict[str, Any]] = [{} for _ in states]
    shared: dict[str, Any] = {}
    for name, value in (parameters or {}).items():
        parameter = next((one for one in asked.method.parameters if one.name == name), None)
        if isinstance(value, _PerGroup):
            pytest.skip(INSIDE)
        if parameter is None or not parameter.per_model:
            shared |= {name: value} if parameter is not None else {}
        elif isinstance(value, dict):
            for values, key in zip(own, states, strict=True):
                values[name] = value[key]
        elif isinstance(value, (list, tuple)):
            for values, one in zip(own, value, strict=True):
                values[name] = one
        else:
            shared[name] = value
    written = next((str(one).removeprefix("torch.") for one in (out_dtype, dtype) if one is not None), None)
    try:
        return hubmerge.merge_state_dicts(
            asked.method.name, list(zip(states.values(), own, strict=True)), origin, parameters=shared, dtype=written
        )
    except HubmergeError as exc:
        raise Refused(str(exc)) from exc


class _PerGroup(list):
    """Values for each tensor of a call: no recipe says that."""


def merge_tensors(
    tensors: Any, method: Any, *, ids: Any = None, base_index: int | None = None, name: str = "w", **how: Any
) -> torch.Tensor:
    """One tensor merged in memory."""
    keys = list(ids) if ids is not None else list(range(len(tensors)))
    models = {key: {name: tensor} for key, tensor in zip(keys, tensors, strict=True)}
    return merge_state_dicts(models, method, base=None if base_index is None else keys[base_index], **how)[name]


def run_and_check_merge(config: Values, check_nan: bool = True, validate: Any = None, **options: Any) -> None:
    """Merges into a folder of its own, which has to hold finite tensors, and lets the test look at it."""
    options.pop("auto_arch", None)
    with tempfile.TemporaryDirectory() as folder:
        run_merge(config, folder, Values(**options))
        loader = LazyTensorLoader.from_disk(folder)
        for name in loader.index["tensor_paths"]:
            tensor = loader.get_tensor(name)
            assert not check_nan or torch.isfinite(tensor).all(), f"{name} is not finite"
        if validate is not None:
            validate(folder)


_CONFIGURATIONS = dict.fromkeys(
    ["MergeConfiguration", "InputModelDefinition", "InputSliceDefinition", "OutputSliceDefinition"], Values
)
_IN_MEMORY = {
    "BasePolicy": BasePolicy,
    "PerGroupValues": _PerGroup,
    "TensorEntry": TensorEntry,
    "TensorGroup": TensorGroup,
    "TensorMetadata": TensorMetadata,
    "get": get,
    "merge_state_dicts": merge_state_dicts,
    "merge_tensors": merge_tensors,
    "registered_methods": registered_methods,
}
_PUBLIC: dict[str, dict[str, Any]] = {
    "mergekit.common": {"ModelPath": ModelPath, "ModelReference": ModelReference},
    "mergekit.config": {**_CONFIGURATIONS, "ParameterSetting": Any},
    "mergekit.io": {"LazyTensorLoader": LazyTensorLoader},
    "mergekit.merge": {"run_merge": run_merge},
    "mergekit.merge_methods": _IN_MEMORY,
    "mergekit.options": {"MergeOptions": Values},
    "mergekit.tokenizer": {"TokenizerConfig": Values},
    "tests.common": {
        "make_gpt2size": make_gpt2size,
        "make_picoLlaVa": make_picollava,
        "make_picogranite": make_picogranite,
        "make_picollama": make_picollama,
        "run_and_check_merge": run_and_check_merge,
    },
}

_outcomes: dict[str, dict[str, str]] = {}


def pytest_configure(config: pytest.Config) -> None:
    """Puts this in mergekit's place."""
    sys.meta_path.insert(0, _Finder())
    pytest.raises = _raises  # type: ignore[assignment]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keeps what came of a test."""
    if report.when == "call" or report.outcome != "passed":
        reason = ""
        if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
        elif report.outcome == "failed":
            reason = str(report.longrepr).strip().splitlines()[-1][:300]
            reason = getattr(getattr(report.longrepr, "reprcrash", None), "message", reason).splitlines()[0][:300]
        outcome = report.outcome
        if "does not require grad" in reason or "GradcheckError" in reason:
            outcome, reason = "skipped", GRADIENTS
        _outcomes[report.nodeid] = {"outcome": outcome, "reason": reason}


def pytest_sessionfinish() -> None:
    """Writes the outcomes."""
    if path := os.environ.get("MERGEKIT_TESTS_REPORT"):
        Path(path).write_text(json.dumps(_outcomes))
