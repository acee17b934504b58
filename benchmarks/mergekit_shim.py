"""A package in mergekit's place that merges with hubmerge, for mergekit's own tests (mergekit_tests.py).

What a user's program calls is in mergekit_calls.py and mergekit_in_memory.py. Everything else of mergekit is an
`Inside`: a test that touches one is skipped, as it asks how mergekit works and not what it makes. That something is
refused is compared, and not in which words.
"""

import importlib.abc
import importlib.machinery
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from mergekit_calls import INSIDE, LazyTensorLoader, ModelPath, ModelReference, Refused, Values, run_merge
from mergekit_in_memory import (
    BasePolicy,
    PerGroup,
    TensorEntry,
    TensorGroup,
    TensorMetadata,
    get,
    merge_state_dicts,
    merge_tensors,
    registered_methods,
)
from mergekit_models import make_gpt2size, make_picogranite, make_picollama, make_picollava

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


def _raises(expected: Any, *args: Any, **kwargs: Any) -> Any:
    """`pytest.raises`, where what a refusal says is not compared: the words are each program's own."""
    said = kwargs.pop("match", None)
    return _pytest_raises(Refused if said and issubclass(Refused, expected) else expected, *args, **kwargs)


_pytest_raises = pytest.raises


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
    "PerGroupValues": PerGroup,
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
