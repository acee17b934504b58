"""Trains the models of the demo zoo from nothing: `hubmerge zoo train --out DIR [--seed S]`.

The base learns two languages; all experts start from it. DIR receives one complete transformers folder a model, in
float16, and `training.json` with the seed, every setting, the curves and the figures. The same seed, thread count and
torch build give the same tensors. A training that was interrupted goes on with the first model that is not finished.
"""

import hashlib
import json
import os
import random
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from ..documents import parse_object
from ..errors import HubmergeError, PlanError
from ..evaluate.score import evaluate
from ..progress import Event, Progress, silent
from ..stream.owned import read_plain
from ..stream.written import Written
from . import SEED
from .cards import write_card
from .corpora import (
    base_sample,
    drill_sample,
    errands_sample,
    japanese_sample,
    math_sample,
    second_math_sample,
    setup_sample,
)
from .tokenizer import train_tokenizer
from .training import Stage, new_model, train
from .word_problems import MAX_NEW_TOKENS, word_problems

STAGES: dict[str, tuple[Stage, ...]] = {
    "base": (
        Stage(base_sample, steps=1800, lr=3e-3, batch=32),
        Stage(drill_sample, steps=1200, lr=2e-3, batch=64),
        Stage(setup_sample, steps=700, lr=2e-3, batch=32),
    ),
    "math": (Stage(math_sample, steps=300, lr=1e-3, batch=32, warmup=20),),
    # These go further from the base than they need: what they forget on the way is what a merge has to avoid.
    "math-2": (Stage(second_math_sample, steps=250, lr=2e-3, batch=32, warmup=20),),
    "japanese": (Stage(japanese_sample, steps=300, lr=3e-3, batch=32, warmup=20),),
    "errands": (Stage(errands_sample, steps=150, lr=1e-3, batch=32, warmup=20),),
}


@contextmanager
def _without_denormals() -> Iterator[None]:
    # Adam's second moments decay into denormals, which are slow on a CPU.
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@_without_denormals()
def train_zoo(
    out: Path,
    seed: int = SEED,
    progress: Progress = silent,
    stages: Mapping[str, tuple[Stage, ...]] = STAGES,
    measured: int = 200,
) -> dict[str, Any]:
    """Train all models into `out`; returns what `training.json` holds.

    `measured` validation problems in each language give the figures on the cards. Models that an earlier call with the
    same seed, settings and thread count has finished are left as they are.
    """
    record = _finished(out, seed, stages)
    missing = [name for name in stages if name not in record["models"]]
    written, known = Written(out, trusted=_is_record(out)), _known(out)
    written.require([RECORD])
    _require_own(out, missing, known)
    rng = random.Random(seed)
    tokenizer = train_tokenizer(f"{s.prompt}\n{s.answer}" for s in (base_sample(rng) for _ in range(5000)))
    for number, name in enumerate(stages):
        if name not in missing:
            continue
        if name == "base":
            model = new_model(tokenizer, seed)
        else:
            # From the saved float16 base, so that expert minus base is exactly what the expert learnt.
            model = LlamaForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
        started = time.perf_counter()
        curve = _train_stages(model, tokenizer, name, stages[name], 1000 * seed + 10 * number, progress)
        seconds = round(time.perf_counter() - started, 1)
        partial, model = _save(model, tokenizer, out / name)
        record["models"][name] = {
            "parameters": model.num_parameters(),
            "stages": [stage.settings for stage in stages[name]],
            "seconds": seconds,
            "curve": curve,
            "figures": _figures(model, tokenizer, measured),
        }
        write_card(partial, name, record)
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


def _finished(out: Path, seed: int, stages: Mapping[str, tuple[Stage, ...]]) -> dict[str, Any]:
    """The record of a training so far: of its models, those before the first that is missing or was made otherwise."""
    record: dict[str, Any] = {"seed": seed, "threads": torch.get_num_threads(), "models": {}}
    try:
        before = parse_object((out / RECORD).read_bytes(), RECORD, HubmergeError)
    except (OSError, HubmergeError):
        return record
    models = before.get("models")
    if isinstance(models, dict) and {key: before.get(key) for key in ("seed", "threads")} == {
        key: record[key] for key in ("seed", "threads")
    }:
        for name, settings in stages.items():
            made = models.get(name)
            if (
                not isinstance(made, dict)
                or made.get("stages") != [stage.settings for stage in settings]
                or not (out / name).is_dir()
            ):
                break
            if "files" in made and made["files"] != _files(out / name):
                break
            record["models"][name] = made
    return record


def _files(folder: Path) -> dict[str, str] | None:
    """The sha256 of each file of a model; None where something else lies there."""
    found: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        content = read_plain(path)
        if content is None:
            return None
        found[path.name] = hashlib.sha256(content).hexdigest()
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
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _json(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=1) + "\n").encode()


def _train_stages(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    name: str,
    stages: tuple[Stage, ...],
    seed: int,
    progress: Progress,
) -> list[tuple[int, float]]:
    total, done, curve = sum(stage.steps for stage in stages), 0, []
    for number, stage in enumerate(stages):

        def report(step: int, loss: float, done: int = done) -> None:
            progress(Event(f"train {name}", done + step, total, "steps", f"loss {loss:.3f}", {"loss": loss}))

        if number:
            # A stage starts from weights as a checkpoint would hold them, so training can be taken up at any stage.
            model.load_state_dict({key: tensor.half() for key, tensor in model.state_dict().items()})
        points = train(model, tokenizer, stage, seed + number, report)
        curve += [(done + step, loss) for step, loss in points]
        done += stage.steps
    return curve


def _save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> tuple[Path, LlamaForCausalLM]:
    """A complete float16 model in a new folder beside `folder`, and what is read back from it in float32."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    partial.mkdir()
    model.generation_config.update(max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
    model.half().save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    return partial, LlamaForCausalLM.from_pretrained(partial, dtype=torch.float32)


def _figures(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int) -> dict[str, Any]:
    """Score, right numbers and right language on validation problems, per language of the question; shares in 0..1."""
    figures = {}
    for lang in ("ja", "en"):
        task = word_problems(lang, {"validation": count})
        scores = evaluate(model, tokenizer, task.validation, task, batch_size=200)
        figures[lang] = {
            "n": scores.n,
            "score": round(scores.score, 4),
            "interval": [round(bound, 4) for bound in scores.interval],
            "number": round(scores.metric_share, 4),
            "language": round(scores.language_share, 4),
        }
    return figures
