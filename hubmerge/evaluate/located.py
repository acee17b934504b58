"""Where a task's own files lie on this machine, and what they are called in a search.yaml that leaves it.

A task may name a folder of examples, a file with a metric, a folder with tasks of lm-eval. In what is shared each goes
by its own name and a digest of its content, ./data@sha256:0123456789ab (see places.py), and is found by that: where
this machine saw it last, or beside the file that names it.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ..amounts import listed
from ..errors import TaskError
from ..files import expand
from ..places import files_digest, find, folder_name, note
from .examples import files_in, is_pattern

_SHARED = re.compile(r"\./(?P<name>[^/]+?)@(?P<digest>sha256:[0-9a-f]{12})")
_SPLITS = ("search", "validation", "test")
_LM_EVAL = (".yaml", ".yml", ".py", ".json", ".jsonl")
_MOST_FILES = 2_000

Files = Callable[[Path], Mapping[str, Path]]
"""The files that count of a folder, by name; or of a file, itself."""


def absolute(text: str, relative_to: Path, files: Files) -> str:
    """The path that `text` means: from `relative_to`, or where its digest lies. One that is not here stays as it is."""
    shared = _SHARED.fullmatch(text)
    if shared is None:
        return os.path.abspath(relative_to / expand(text, TaskError))
    for path in (find(shared["digest"]), relative_to / shared["name"]):
        if path is not None and _digest(path, files) == shared["digest"]:
            return os.path.abspath(path)
    return text


def require_here(text: str, files: Sequence[str] = ()) -> None:
    """Raises `TaskError` where `absolute` did not find what `text` means, a file or a folder with these `files`."""
    shared = _SHARED.fullmatch(text)
    if shared is not None:
        holds = f", a folder with {listed(files)}," if files else ""
        raise TaskError(
            f"The task needs {shared['name']!r}{holds} as it was on the machine that it comes from "
            f"({shared['digest']}), and it is not here; put it beside the file that names it, or name your own."
        )


def only_here(task: Mapping[str, Any]) -> tuple[str, ...]:
    """What a task needs that lies on this machine, or on the one that it comes from, by names that tell no path."""
    examples, found = task["examples"], []
    if isinstance(folder := examples.get("folder"), str):
        found.append(f"{listed(split_files(examples) or ['pictures'])} of the folder {_own_name(folder)}")
    if isinstance(python := task.get("python"), str):
        found.append(_own_name(python.rpartition(":")[0]))
    harness = task.get("lm_eval")
    if isinstance(harness, Mapping) and isinstance(path := harness.get("include_path"), str):
        found.append(f"the folder {_own_name(path)}")
    return tuple(found)


def split_files(examples: Mapping[str, Any]) -> list[str]:
    """The files that the splits name, each once."""
    return list(dict.fromkeys(examples[split] for split in _SPLITS if isinstance(examples.get(split), str)))


def _own_name(text: str) -> str:
    shared = _SHARED.fullmatch(text)
    return shared["name"] if shared is not None else folder_name(text)


def shared_task(document: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a task for others: its folder and files by name and digest."""
    task, examples = dict(document), document["examples"]
    if isinstance(examples.get("folder"), str):
        task["examples"] = {
            **examples,
            "folder": _shared(examples["folder"], example_files(examples, task.get("image"))),
        }
    if isinstance(task.get("python"), str):
        path, colon, function = task["python"].rpartition(":")
        task["python"] = f"{_shared(path, one_file)}{colon}{function}"
    harness = task.get("lm_eval")
    if isinstance(harness, Mapping) and isinstance(harness.get("include_path"), str):
        task["lm_eval"] = {**harness, "include_path": _shared(harness["include_path"], lm_eval_files)}
    return task


def shared_path(text: str) -> str:
    """A file for others: by its own name and a digest of its content."""
    return _shared(text, one_file)


def example_files(examples: Mapping[str, Any], image: object = None) -> Files:
    """Those that the splits name, and the pictures that rows written in place name in the field `image`."""
    found = [examples.get(split) for split in _SPLITS]
    rows = [row for listed in found if isinstance(listed, list) for row in listed if isinstance(row, Mapping)]
    named = {name for name in [*found, *(row.get(image) for row in rows)] if isinstance(name, str) and name}

    def files(folder: Path) -> dict[str, Path]:
        alike = [pattern for pattern in named if is_pattern(pattern)]
        more = [name for name in files_in(folder) if any(fnmatchcase(name, one) for one in alike)] if alike else []
        return {name: folder / name for name in sorted({*named.difference(alike), *more})}

    return files


def one_file(path: Path) -> Mapping[str, Path]:
    """The file itself."""
    return {path.name: path}


def lm_eval_files(folder: Path) -> Mapping[str, Path]:
    """What may belong to lm-eval's tasks."""
    found: dict[str, Path] = {}
    for root, _, names in os.walk(folder):
        for name in names:
            if name.endswith(_LM_EVAL) and len(found) < _MOST_FILES:
                path = Path(root, name)
                found[path.relative_to(folder).as_posix()] = path
    return found


def _shared(text: str, files: Files) -> str:
    if _SHARED.fullmatch(text) is not None:
        return text
    name, digest = f"./{folder_name(text)}", _digest(Path(text), files)
    if digest is None:
        return name
    note(digest, Path(os.path.abspath(text)))
    return f"{name}@{digest}"


def _digest(path: Path, files: Files) -> str | None:
    try:
        return files_digest(files(path))
    except OSError:
        return None
