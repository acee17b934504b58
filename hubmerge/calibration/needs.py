"""What is measured of a model, by the names of its weights, and what that takes: from its config.json and headers."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from torch import nn

from ..errors import SourceError
from ..evaluate.demand import reading_bytes
from ..evaluate.placement import outline
from ..hub.source import Source
from ..places import folder_name
from ..recipe import Calibration
from ..stream.architecture import answering_class, read_architecture, read_text_architecture
from ..stream.plan import weights_of
from ..stream.statistics import Cost, Statistics, Texts
from ..stream.weights import Described
from .stack import find_layers, turned, unlike
from .texts import Row

_FORMAT = 2
"""Of what is kept: another number is measured anew."""

_FLOAT32 = 4


def statistics_of(source: Source, kind: str, calibration: Calibration, rows: Sequence[Row], texts: Texts) -> Statistics:
    """What is, or is to be, measured of a model. Raises `SourceError` where it cannot be."""
    if type(read_architecture(source.config)) not in answering_class(source.config)._model_mapping:
        raise SourceError(unlike(source.name))
    model = outline(source.config, torch.float32)
    layers, _ = find_layers(model, source.name)
    weights = weights_of(source).tensors
    stored = naming(weights)
    _require_whole(model, layers, weights, source.name)
    shapes: dict[str, tuple[int, ...]] = {}
    if kind == "gram":
        if (label := turned(model)) is not None:
            raise SourceError(
                f"{source.name} stores the matrix of {label} the other way round, as GPT-2 does, which regmean does "
                "not merge; use fisher, or a method that needs no data."
            )
        embedding = model.get_input_embeddings().weight
        for label, module in model.named_modules():
            if isinstance(module, nn.Linear):
                # A head that is tied is not stored, and may stand beside one that is.
                name = stored(f"{label}.weight") or (f"{label}.weight" if module.weight is embedding else None)
                if name is not None:
                    shapes[name] = (module.in_features, module.in_features)
    else:
        for label, weight in model.named_parameters(remove_duplicate=False):
            if (name := stored(label)) is not None:
                shapes[name] = tuple(weight.shape)
    folder = Path(constants.HF_HOME) / "hubmerge" / "statistics" / _name(source, kind, calibration, rows)
    return Statistics(source, kind, shapes, folder, texts, _cost(source, model, kind, shapes, rows))


def _require_whole(model: Any, layers: str, weights: Mapping[str, Described], name: str) -> None:
    """Raises `SourceError` where transformers would draw what is beside the `layers` at random, such as a head.

    One that is stored under a name of former times is there: a weight of that shape is left over.
    """
    stored = naming(weights)
    labels: dict[nn.Parameter, list[str]] = {}
    for label, weight in model.named_parameters(remove_duplicate=False):
        labels.setdefault(weight, []).append(label)
    known = {stored(label) for tied in labels.values() for label in tied}
    left = {tuple(one.shape) for stored_name, one in weights.items() if stored_name not in known}
    for weight, tied in labels.items():
        is_there = tuple(weight.shape) in left or any(label.startswith(layers) or stored(label) for label in tied)
        if not is_there:
            raise SourceError(
                f"{name} has no {tied[0]}, and says no tokens without; it is not measured. Merge it with a method that "
                "needs no data, or name a model with its head."
            )


def naming(weights: Iterable[str]) -> Callable[[str], str | None]:
    """What a checkpoint calls a weight of the loaded model: the same, or with another beginning; None: it has none."""
    by_end: dict[str, list[str]] = {}
    names = set(weights)
    for name in names:
        parts = name.split(".")
        for start in range(1, len(parts)):
            by_end.setdefault(".".join(parts[start:]), []).append(name)

    def stored(label: str) -> str | None:
        if label in names:
            return label
        if len(longer := by_end.get(label, [])) == 1:
            return longer[0]
        parts = label.split(".")
        shorter = (".".join(parts[start:]) for start in range(1, len(parts) - 2))
        return next((name for name in shorter if name in names), None)

    return stored


def _name(source: Source, kind: str, calibration: Calibration, rows: Sequence[Row]) -> str:
    """Names what is kept: the same name is the same model, measured in the same way by the same tokens."""
    labels = [calibration.labels, calibration.seed if calibration.labels == "model" else 0] if kind == "fisher" else []
    # Of a folder, size and time of its files tell less than a sample of their bytes.
    which = [source.name, source.identity, *([str(source.pinned)] if source.is_folder else [])]
    content = json.dumps([_FORMAT, kind, labels, *which, [list(row) for row in rows]])
    what = "".join(char if char.isalnum() or char in "-_." else "-" for char in folder_name(source.name))
    commit = f"-{source.commit[:12]}" if source.commit else ""
    return f"{kind}-{what[:60]}{commit}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _cost(source: Source, model: Any, kind: str, shapes: Mapping[str, tuple[int, ...]], rows: Sequence[Row]) -> Cost:
    _, layers = find_layers(model, source.name)
    inside = {id(weight) for layer in layers for weight in layer.parameters()}
    largest = max(_parameters(layer.parameters()) for layer in layers)
    outside = _parameters(weight for weight in model.parameters() if id(weight) not in inside)
    text = read_text_architecture(source.config)
    longest, tokens = max(len(ids) for ids, _ in rows), sum(len(ids) for ids, _ in rows)
    logits = 3 * longest * int(text.vocab_size)
    reading = 2 * reading_bytes(text, longest, longest, torch.float32)
    states = tokens * int(text.hidden_size) * _FLOAT32
    module = max(_parameters(one.parameters(recurse=False)) for one in model.modules()) * _FLOAT32
    stay = 2 * module  # of weights that stay in memory, at least
    if kind == "gram":
        sums = max(sum(one.in_features**2 for one in layer.modules() if isinstance(one, nn.Linear)) for layer in layers)
        held = max(largest + sums, outside + logits + int(text.hidden_size) ** 2)
        disk = sum(rows * columns for rows, columns in shapes.values())
        return Cost(
            "all texts forwards once, a layer at a time",
            disk * _FLOAT32,
            2 * states,
            held * _FLOAT32 + reading + stay,
            module,
        )
    held = max(3 * largest, 3 * outside + 2 * logits)
    return Cost(
        "all texts forwards twice and backwards once, a layer at a time",
        _parameters(model.parameters()) * _FLOAT32,
        (len(layers) + 3) * states,
        held * _FLOAT32 + 3 * reading + stay,
        module,
    )


def _parameters(weights: Iterable[Any]) -> int:
    return sum(weight.numel() for weight in weights)
