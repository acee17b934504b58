"""Checkpoints as plain tensors, and merges written out naively to compare with."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hubmerge.methods.sparsify import mask_seed

Weights = dict[str, Tensor]


def weights(folder: Path) -> Weights:
    """All tensors of a checkpoint."""
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def rewrite(folder: Path, changed: Mapping[str, Tensor | None]) -> None:
    """Replaces tensors of a one-file checkpoint; None removes one."""
    state = {**weights(folder), **changed}
    save_file({name: t for name, t in state.items() if t is not None}, folder / "model.safetensors", {"format": "pt"})


def naive(method: str, name: str, models: Sequence[Tensor], base: Tensor, **parameters: object) -> Tensor:
    """One merged tensor by the papers' formulas, in float64."""
    models, base = [model.double() for model in models], base.double()
    w, d = parameters.get("weight", ()), parameters.get("density", ())
    deltas = [model - base for model in models]
    if method == "linear":
        return sum(a * model for a, model in zip(w, models, strict=True)) / sum(w)
    if method == "slerp":
        t, (p, q) = parameters["t"], (base.flatten(), models[0].flatten())
        cosine = float(p @ q / (p.norm() * q.norm()))
        if abs(cosine) > 0.9995:
            return (1 - t) * base + t * models[0]
        angle = torch.acos(torch.tensor(cosine, dtype=torch.float64))
        return (torch.sin((1 - t) * angle) * base + torch.sin(t * angle) * models[0]) / torch.sin(angle)
    if method == "task_arithmetic":
        return base + sum(a * delta for a, delta in zip(w, deltas, strict=True))
    if method == "dare_linear":
        return base + sum(a * delta for a, delta in zip(w, _dropped(deltas, d, name), strict=True))
    kept = [_trimmed(delta, k) for delta, k in zip(deltas, d, strict=True)] if method == "ties" else None
    kept = kept or _dropped(deltas, d, name)
    weighted = [a * delta for a, delta in zip(w, kept, strict=True)]
    sign = torch.where(sum(weighted) >= 0, 1.0, -1.0)
    agrees = [(delta.sign() == sign) for delta in weighted]
    total = sum(torch.where(agree, delta, 0.0) for agree, delta in zip(agrees, weighted, strict=True))
    if method == "ties":
        share = sum(agree * a for agree, a in zip(agrees, w, strict=True))
        total = total / torch.where(share == 0, 1.0, share)
    return base + total


def _trimmed(delta: Tensor, density: float) -> Tensor:
    order = delta.abs().flatten().argsort(descending=True, stable=True)
    mask = torch.zeros(delta.numel(), dtype=torch.bool)
    mask[order[: max(1, int(density * delta.numel()))]] = True
    return torch.where(mask.reshape(delta.shape), delta, 0.0)


def _dropped(deltas: Sequence[Tensor], density: Sequence[float], name: str) -> list[Tensor]:
    kept = []
    for index, (delta, share) in enumerate(zip(deltas, density, strict=True)):
        words = np.random.SFC64([mask_seed(0, name, index), 0]).random_raw(-(-delta.numel() // 4))
        draws = words.view(np.int16)[: delta.numel()].astype(int) + 32768
        mask = torch.from_numpy(draws >= 65536 - round(share * 65536)).view(delta.shape)
        some = torch.where(mask, delta, 0.0)
        kept.append(some * (delta.abs().sum() / some.abs().sum()) if some.any() else some)
    return kept
