"""Each method that looks at whole matrices against its formula, written a second time in plain numpy in float64."""

import numpy as np
import pytest
import torch
from methodtools import close, siblings
from test_methods import run, tensors
from torch import Tensor

from hubmerge.methods import METHODS


def tasks(rows: int, columns: int, count: int = 3) -> tuple[Tensor, list[Tensor], list[np.ndarray]]:
    """A base, models, and what each learnt as float64 matrices."""
    base, models = siblings(count, rows, columns)
    return base, models, [(m.double() - base.double()).numpy() for m in models]


def svd(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.linalg.svd(matrix, full_matrices=False)


def polar(matrix: np.ndarray) -> np.ndarray:
    left, _, right = svd(matrix)
    return left @ right


MATRICES = [(12, 9), (9, 12), (10, 10), (90, 7), (7, 90)]


@pytest.fixture
def thin_slices(monkeypatch) -> None:
    """Slices of a few rows or columns, the last one smaller."""
    monkeypatch.setattr("hubmerge.methods.products.SLICE", 50)


@pytest.mark.usefixtures("thin_slices")
@pytest.mark.parametrize("shape", MATRICES)
def test_tsv_gives_each_model_its_share_of_the_rank(shape: tuple[int, int]) -> None:
    base, models, learnt = tasks(*shape)
    k = min(shape) // 3
    cut = [(u[:, :k], w * s[:k], v[:k]) for w, (u, s, v) in zip((1.0, 0.5, 2.0), map(svd, learnt), strict=True)]
    u, v = polar(np.concatenate([c[0] for c in cut], 1)), polar(np.concatenate([c[2] for c in cut], 0))
    expected = 0.7 * u @ np.diag(np.concatenate([c[1] for c in cut])) @ v
    got = run("tsv_m", models, base, weight=[1.0, 0.5, 2.0], **{"lambda": 0.7})
    close(got, base.double() + torch.from_numpy(expected))
    close(run("tsv_m", models[:1], base), models[0], atol=1e-5)  # one model has the whole rank


@pytest.mark.usefixtures("thin_slices")
@pytest.mark.parametrize("shape", MATRICES)
def test_iso_makes_all_directions_equally_strong(shape: tuple[int, int]) -> None:
    base, models, learnt = tasks(*shape)
    u, s, v = svd(sum(learnt))
    close(run("iso_c", models, base), base.double() + torch.from_numpy(s.mean() * u @ v))
    got = (run("iso_c", models, base) - base).double().numpy()
    assert np.allclose(svd(got)[1], s.mean(), rtol=1e-4)
    close(run("iso_cts", models, base, common=1.0), run("iso_c", models, base), atol=1e-5)
    own = int(0.5 * min(shape)) // 3
    k = min(shape) - 3 * own
    cut = [(u[:, :k], s[:k], v[:k])]
    for d in learnt:
        a, b, c = svd(d - u[:, :k] @ (u[:, :k].T @ d))
        cut.append((a[:, :own], b[:own], c[:own]))
    left, right = polar(np.concatenate([c[0] for c in cut], 1)), polar(np.concatenate([c[2] for c in cut], 0))
    expected = np.concatenate([c[1] for c in cut]).mean() * left @ right
    close(run("iso_cts", models, base, common=0.5), base.double() + torch.from_numpy(expected))


@pytest.mark.parametrize("shape", MATRICES[:3])
def test_what_nobody_learnt_is_not_filled_in(shape: tuple[int, int]) -> None:
    base, (model, *_), (learnt, *_) = tasks(*shape)
    u, s, v = svd(learnt)
    half = min(shape) // 2
    # Two equal models: the same directions twice, none made up so that all may be orthogonal.
    close(run("tsv_m", [model, model], base), base.double() + torch.from_numpy(u[:, :half] * s[:half] @ v[:half]))
    thin = torch.outer(torch.arange(1.0, shape[0] + 1), torch.arange(1.0, shape[1] + 1))
    for name in ("tsv_m", "iso_c", "iso_cts", "wudi"):
        assert torch.equal(run(name, [base, base], base), base), name
    for name in ("tsv_m", "iso_c", "iso_cts"):
        merged = run(name, [thin, 2 * thin], torch.zeros(shape))
        assert int((torch.linalg.svdvals(merged.double()) > 1e-4).sum()) == 1, name
    merged = run("iso_c", [thin], torch.zeros(shape)).double()  # the mean of all values, those that are 0 among them
    close(merged, thin.double() / min(shape), rtol=1e-6, atol=1e-9)


def test_knots_merges_in_shared_coordinates() -> None:
    base, models, learnt = tasks(8, 11)
    full = {"density": 1.0, "weight": [0.5, 0.5, 0.5], "normalize": False}
    u, s, v = svd(np.concatenate(learnt, 1))
    parts = [0.5 * v[:, 11 * n : 11 * (n + 1)] for n in range(3)]
    sign = np.where(sum(parts) >= 0, 1, -1)
    merged = sum(np.where(part * sign > 0, part, 0) for part in parts)
    close(run("knots_ties", models, base, **full), base.double() + torch.from_numpy((u * s) @ merged), atol=1e-5)
    close(run("knots_ties", models[:1], base), models[0], atol=1e-5)  # nobody to disagree with
    # LoRAs: changes of rank 2. All that rounding adds to it stays out of the count of directions.
    thin = [base + torch.outer(*pair) for pair in zip(tensors(2, 8), tensors(2, 11, seed=1), strict=True)]
    got = (run("knots_ties", thin, base, density=0.5) - base).double()
    assert int((torch.linalg.svdvals(got) > 1e-4).sum()) <= 2


@pytest.mark.parametrize("size", [1e-23, 1e-30])
def test_a_change_too_small_to_be_squared_is_no_trouble(size: float) -> None:
    base = torch.zeros(12, 9)
    models = [base + size, base - 2 * size]
    for name, method in METHODS.items():
        if name == "passthrough":
            continue
        given = models[: method.max_models or 2]
        values = {one.name: 0.5 if one.default is None else one.default for one in method.parameters}
        per_model = [{one.name: values[one.name] for one in method.parameters if one.per_model} for _ in given]
        shared = {one.name: values[one.name] for one in method.parameters if not one.per_model}
        merged = method(given, base, per_model=per_model, shared=shared, tensor_name="a.weight")
        assert merged.isfinite().all(), name


@pytest.mark.usefixtures("thin_slices")
def test_wudi_disturbs_models_less_than_their_sum_does() -> None:
    for shape in ((12, 9), (9, 12), (3, 20)):
        base, models, learnt = tasks(*shape)

        def interference(merged: np.ndarray, learnt: list[np.ndarray] = learnt) -> float:
            return sum(np.linalg.norm((merged - d) @ d.T) ** 2 / np.linalg.norm(d) ** 2 for d in learnt)

        leaf = torch.from_numpy(sum(learnt)).requires_grad_()
        adam = torch.optim.Adam([leaf], lr=1e-2)
        for _ in range(25):
            adam.zero_grad()
            terms = [((leaf - d) @ d.T).norm() ** 2 / d.norm() ** 2 for d in map(torch.from_numpy, learnt)]
            sum(terms).backward()
            adam.step()
        got = run("wudi", models, base, steps=25, learning_rate=1e-2)
        close(got, base.double() + leaf.detach(), atol=1e-4)
        assert interference((got - base).double().numpy()) < 0.8 * interference(sum(learnt))


def test_consensus_keeps_what_several_models_want() -> None:
    base, models, learnt = tasks(15, 10)
    total = sum(learnt)
    votes = sum(np.abs(d) >= 0.4 * np.abs(total - d) for d in learnt)
    for agreement in (1, 2, 3):
        expected = 0.3 * np.where(votes >= agreement, total, 0)
        got = run("consensus_ta", models, base, agreement=agreement, **{"lambda": 0.3})
        close(got, base.double() + torch.from_numpy(expected))
