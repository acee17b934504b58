"""What `--on` names, and what of a command lies on this machine alone, which a job cannot read."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.utils import validate_repo_id

from ..errors import HubmergeError
from ..evaluate.looking import LOOKING
from ..hub.errors import hub_errors
from ..places import folder_name
from ..reference import ModelRef

SCHEME = "jobs"
LONGEST = 24 * 30
"""Hours that may be asked for."""


@dataclass(frozen=True)
class On:
    """A machine of the Hub by its flavor ("a10g-small"), and the hours after which it is stopped."""

    flavor: str
    hours: float

    @classmethod
    def parse(cls, text: str, hours: float) -> "On":
        """Reads what `--on` was given.

        >>> On.parse("jobs:a10g-small", 6).flavor
        'a10g-small'
        """
        scheme, _, flavor = text.partition(":")
        if scheme != SCHEME or not flavor:
            raise HubmergeError(
                f"--on takes {SCHEME}:FLAVOR, as {SCHEME}:a10g-small (`hf jobs hardware` lists them), got {text!r}."
            )
        if not 0 < hours <= LONGEST:
            raise HubmergeError(f"--hours must be more than 0 and at most {LONGEST}, got {hours:g}.")
        return cls(flavor, hours)


def mirror_of(user: str, out: Path, mirror: str | None) -> str:
    """The dataset that a search's journal is copied to: `mirror`, or the user's with the name of the run folder.

    Raises `HubError` for what no dataset can be called.
    """
    name = re.sub(r"[^A-Za-z0-9_]+", "-", out.resolve().name).strip("-_") or "search"
    named = mirror or f"{user}/{name}"
    with hub_errors(f"mirroring to {named}"):
        validate_repo_id(named)
    if "/" not in named:
        raise HubmergeError(f"--mirror names a dataset as ORG/NAME, got {named!r}.")
    return named


def require_on_hub(models: Iterable[ModelRef]) -> None:
    """Raises `HubmergeError` where one of the models, or a LoRA on it, is a folder of this machine."""
    parts = [part for model in models for part in (model, model.lora) if part is not None]
    if local := [part for part in parts if part.is_folder]:
        name = folder_name(local[0].repo_id)
        raise HubmergeError(
            f"{name} is a folder of this machine, which a job cannot read; push it (`hubmerge push {name} you/{name}`) "
            "and name it by its Hub ID."
        )


def require_task_on_hub(task: Mapping[str, Any]) -> None:
    """Raises `HubmergeError` where files of this machine belong to a task (its plain values)."""
    harness = task.get("lm_eval")
    looking = {f"{key}.model": task[key].get("model") for key in LOOKING if isinstance(task.get(key), Mapping)}
    needs = {
        **{key: name for key, name in looking.items() if str(name).startswith((".", "/", "~"))},
        "examples.folder": task["examples"].get("folder"),
        "python": task.get("python"),
        "lm_eval.include_path": harness.get("include_path") if isinstance(harness, Mapping) else None,
    }
    if local := [key for key, value in needs.items() if value]:
        raise HubmergeError(
            f"The task's {local[0]} is of this machine, and a job cannot read it; put the examples into a dataset of "
            "the Hub (examples.repo_id), or write them in the task, and take a metric that needs no file."
        )


def extras_of(task: Mapping[str, Any]) -> str:
    """The package's extras that asking a task (its plain values) takes, with commas between them."""
    return "evolve,japanese,parquet,pictures" + (",diffusers" if "draw" in task else "")
