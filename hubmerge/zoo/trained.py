"""Trains the models of a zoo into a folder, one after another; a training that was interrupted goes on.

The folder receives one complete folder of transformers or diffusers a model, in float16, and `training.json` with the
seed, every setting, the curves and the figures.
"""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import torch

from ..documents import parse_object
from ..errors import HubmergeError, PlanError
from ..files import make_folder
from ..hub.unplaced import without_places
from ..progress import Progress, silent
from ..stream.owned import read_plain
from ..stream.written import Written

Curve = list[tuple[int, float]]


class Zoo(Protocol):
    """The models of a zoo: how each is trained, measured and told of."""

    @property
    def settings(self) -> Mapping[str, list[dict[str, Any]]]:
        """What each model is trained with, as plain values, in the order that they are trained in."""

    def train(self, name: str, out: Path, seed: int, progress: Progress) -> tuple[Any, Any, Curve]:
        """A model, its tokenizer or processor if it has one beside it, and its curve; those before it are in `out`."""

    def figures(self, model: Any, processor: Any) -> dict[str, Any]:
        """What is measured of a model."""

    def write_card(self, folder: Path, name: str, record: dict[str, Any]) -> None:
        """README.md of a model."""


@contextmanager
def _without_denormals() -> Iterator[None]:
    # Adam's second moments decay into denormals, which are slow on a CPU.
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@_without_denormals()
def train_models(zoo: Zoo, out: Path, seed: int, progress: Progress = silent) -> dict[str, Any]:
    """Train all models into `out`; returns what `training.json` holds.

    Models that an earlier call with the same settings has finished are left as they are. Raises `PlanError` for a
    folder with another zoo, or one of another seed or thread count, which make other models; and for one that holds
    something else.
    """
    make_folder(out, PlanError)
    written, known = Written(out, trusted=_is_record(out)), _known(out)
    if others := [name for name in known if name not in zoo.settings]:
        raise PlanError(f"{out} holds another zoo, with {others[0]}; choose another --out.")
    record = _finished(out, seed, zoo.settings, known)
    missing = [name for name in zoo.settings if name not in record["models"]]
    written.require([RECORD])
    _require_own(out, missing, known)
    _require_empty(out)
    for name in missing:
        started = time.perf_counter()
        model, processor, curve = zoo.train(name, out, seed, progress)
        seconds = round(time.perf_counter() - started, 1)
        partial, model = _save(model, processor, out / name)
        record["models"][name] = {
            "parameters": model.num_parameters(),
            "stages": zoo.settings[name],
            "seconds": seconds,
            "curve": curve,
            "figures": zoo.figures(model, processor),
        }
        zoo.write_card(partial, name, record)
        record["models"][name]["files"] = _files(partial)
        # What the models that it takes the place of hold is known until they are gone.
        left = [other for other in missing[missing.index(name) :] if (out / other).is_dir()]
        record["replaced"] = {other: _files(out / other) for other in left}
        written.write(RECORD, _json(record))
        _require_own(out, [name], known)
        _take_away(out / name)
        partial.replace(out / name)
    if record.pop("replaced", None):
        written.write(RECORD, _json(record))
    return record


RECORD = "training.json"


def _finished(out: Path, seed: int, settings: Mapping[str, list[dict[str, Any]]], known: "Known") -> dict[str, Any]:
    """The record of a training so far: of its models, those before the first that is missing or was made otherwise."""
    record: dict[str, Any] = {"seed": seed, "threads": torch.get_num_threads(), "models": {}}
    try:
        before = parse_object((out / RECORD).read_bytes(), RECORD, HubmergeError)
    except (OSError, HubmergeError):
        return record
    models = before.get("models")
    if isinstance(models, dict):
        theirs, used, threads = before.get("seed"), before.get("threads"), record["threads"]
        other = (theirs, used) != (seed, threads)
        if other and any(files in kept for name, kept in known.items() if (files := _files(out / name))):
            raise PlanError(
                f"{out} holds a zoo of seed {theirs}, trained with {used} threads; seed {seed} and {threads} threads "
                f"make other models. Choose another --out, or go on with --seed {theirs} and OMP_NUM_THREADS={used}."
            )
        for name, own in settings.items():
            made = models.get(name)
            if not isinstance(made, dict) or made.get("stages") != own or not (out / name).is_dir():
                break
            if "files" in made and made["files"] != _files(out / name):
                break
            record["models"][name] = made
    return record


def _files(folder: Path) -> dict[str, str] | None:
    """The sha256 of each file of a model, by its path inside, none where it is not there; None where there is
    something else."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink() and any(path.iterdir()):
            continue
        content = read_plain(path)
        if content is None:
            return None
        found[path.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


Known = Mapping[str, Sequence[Mapping[str, str]]]
"""The files that the record tells of, by model: of the newest training, and of the one that it takes the place of."""


def _require_own(out: Path, names: Iterable[str], known: Known) -> None:
    """Raises `PlanError` where a folder to write a model into holds anything but a model as a training wrote it."""
    for name in names:
        folder = out / name
        if not os.path.lexists(folder):
            continue
        plain = folder.is_dir() and not folder.is_symlink()
        if not plain or (any(folder.iterdir()) and _files(folder) not in known.get(name, ())):
            raise PlanError(
                f"{folder} is there already and is not a model as a training wrote it; move it away, or choose another "
                "--out."
            )


def _require_empty(out: Path) -> None:
    """Raises `PlanError` where a folder without a record, in which no training was, holds something to be seen."""
    found = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    if found and RECORD not in found:
        raise PlanError(f"{out} is no zoo and not empty, it holds {found[0]}; choose another --out, a new folder.")


def _known(out: Path) -> dict[str, list[dict[str, str]]]:
    known: dict[str, list[dict[str, str]]] = {}
    with suppress(HubmergeError, KeyError, TypeError, AttributeError):
        record = parse_object(read_plain(out / RECORD) or b"{}", RECORD, HubmergeError)
        for name, made in ((name, made) for name, made in record["models"].items() if made.get("files")):
            known.setdefault(name, []).append(made["files"])
        for name, files in record.get("replaced", {}).items():
            known.setdefault(name, []).append(files)
    return known


def _is_record(out: Path) -> bool:
    """Whether training.json is the record of a training, which earlier versions wrote without noting it."""
    try:
        return {"seed", "threads", "models"} <= parse_object(
            read_plain(out / RECORD) or b"{}", RECORD, HubmergeError
        ).keys()
    except HubmergeError:
        return False


def _take_away(folder: Path) -> None:
    with suppress(FileNotFoundError):
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()
        folder.rmdir()


def _json(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=1) + "\n").encode()


def _save(model: Any, processor: Any, folder: Path) -> tuple[Path, Any]:
    """A complete float16 model in a new folder beside `folder`, and what is read back from it in float32."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    partial.mkdir()
    model.half().save_pretrained(partial)
    if processor is not None:
        processor.save_pretrained(partial)
    for file in partial.rglob("*.json"):  # transformers notes where a model was loaded from
        content = file.read_bytes()
        if (left := without_places(file.name, content)) != content:
            file.write_bytes(left)
    return partial, type(model).from_pretrained(partial, dtype=torch.float32)
