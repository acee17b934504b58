"""Each method against its formula, written a second time in plain torch and numpy on whole tensors in float64."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from methodtools import close, siblings
from test_methods import run, tensors
from torch import Tensor

from hubmerge.errors import RecipeError
from hubmerge.methods import METHODS, find_method
from hubmerge.methods.method import step_of
from hubmerge.methods.page import methods_page
from hubmerge.methods.sparsify import draws, mask_seed


def arc(a: Tensor, b: Tensor, t: float) -> Tensor:
    angle = math.acos(float(a.flatten() @ b.flatten() / (a.norm() * b.norm())))
    return (math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)


@pytest.mark.parametrize("based", [False, True])
def test_nuslerp_walks_the_arc_between_models_or_what_they_learnt(based: bool) -> None:
    base, (a, b) = siblings(2, 9, 7)
    weight, origin = [0.3, 0.9], base.double() if based else torch.zeros(9, 7).double()
    p, q = a.double() - origin, b.double() - origin
    given = {"weight": weight}
    close(run("nuslerp", [a, b], base if based else None, **given), origin + arc(p, q, 0.75))
    rows = torch.stack([arc(x, y, 0.75) for x, y in zip(p, q, strict=True)])
    columns = torch.stack([arc(x, y, 0.75) for x, y in zip(p.T, q.T, strict=True)]).T
    apart = given | {"nuslerp_flatten": False}
    close(run("nuslerp", [a, b], base if based else None, **apart), origin + rows)
    close(run("nuslerp", [a, b], base if based else None, **apart, nuslerp_row_wise=True), origin + columns)


def test_nuslerp_along_the_first_dimension_of_any_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["hubmerge.methods.method"], "BLOCK", 50)
    for shape in ((5, 4, 3), (40, 30), (7,), (1, 9), (120, 2)):
        base, (a, b) = siblings(2, *shape)
        p, q = ((x - base).double().reshape(shape[0], -1) for x in (a, b))
        expected = torch.stack([arc(x, y, 0.5) for x, y in zip(p.T, q.T, strict=True)]).T.reshape(shape)
        if shape[0] == 1:
            expected = (p + q).reshape(shape) / 2  # vectors of one number point the same way or the other
        got = run("nuslerp", [a, b], base, nuslerp_flatten=False, nuslerp_row_wise=True)
        close(got, base.double() + expected)


@pytest.mark.parametrize("split", [0.0, 0.3, 1.0])
def test_split_slerp_changes_sides_at_the_split(split: float) -> None:
    base, (model,) = siblings(1, 10, 10)
    b, m, at = base.double().flatten(), model.double().flatten(), round(100 * split)
    parts = [arc(b[:at], m[:at], 0.2)] * (at > 0) + [arc(b[at:], m[at:], 0.8)] * (at < 100)
    close(run("split_slerp", [model], base, t=0.2, split=split), torch.cat(parts).view(10, 10), atol=1e-5)


def test_multislerp_keeps_the_mean_length_in_the_mean_direction() -> None:
    base, models = siblings(3)
    for origin in (None, base):
        vectors = [m.double() - (0 if origin is None else origin.double()) for m in models]
        w = np.array([0.3, 0.5, 0.4]) / 1.2
        mean = sum(a * v / v.norm() for a, v in zip(w, vectors, strict=True))
        expected = mean / mean.norm() * sum(a * v.norm() for a, v in zip(w, vectors, strict=True))
        got = run("multislerp", models, origin, weight=[0.3, 0.5, 0.4])
        close(got, expected if origin is None else origin.double() + expected)


def test_karcher_balances_the_arcs() -> None:
    models = [m * (n + 1) for n, m in enumerate(tensors(4))]
    got = run("karcher", models, None, max_iter=50, tol=1e-9).double()
    units = [m.double() / m.double().norm() for m in models]
    point = got / got.norm()
    arcs = [(u - (u * point).sum() * point) for u in units]
    pulls = [a / a.norm() * math.acos(float((u * point).sum())) for a, u in zip(arcs, units, strict=True)]
    assert float(sum(pulls).norm()) < 1e-6
    assert float(got.norm()) == pytest.approx(sum(float(m.norm()) for m in models) / 4, rel=1e-6)
    two = run("karcher", models[:2], None).double()
    middle = arc(units[0], units[1], 0.5)
    close(two / two.norm(), middle)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("rows", [False, True])
def test_model_stock_goes_as_far_as_the_angle_says(count: int, rows: bool) -> None:
    base, models = siblings(count, 11, 13)
    models = [m + 0.2 * models[0] for m in models]  # something in common
    b, ms = base.double(), [m.double() for m in models]

    def stock(origin: Tensor, near: list[Tensor]) -> Tensor:
        d = [m - origin for m in near]
        pairs = [(i, j) for i in range(count) for j in range(i)]
        c = sum(float(d[i].flatten() @ d[j].flatten() / d[i].norm() / d[j].norm()) for i, j in pairs) / len(pairs)
        t = count * c / (1 + (count - 1) * c)
        return t * sum(near) / count + (1 - t) * origin

    expected = torch.stack([stock(b[r], [m[r] for m in ms]) for r in range(11)]) if rows else stock(b, ms)
    close(run("model_stock", models, base, filter_wise=rows), expected)


@pytest.mark.parametrize("share", [1.0, 0.6, 0.1, 0.0])
def test_sce_selects_calculates_and_erases(share: float) -> None:
    base, models = siblings(3, 20, 15)
    for model in models[1:]:
        model.view(-1)[:60] = models[0].view(-1)[:60]  # no variance: never selected
    d = np.stack([(m.double() - base.double()).numpy().ravel() for m in models])
    variance = d.var(axis=0)
    varied = int((variance > 1e-20).sum())
    selected = np.ones(300, bool)
    if share < 1:
        selected[np.argsort(-variance)[int(share * varied) :]] = False
    d = d * selected
    w = (d**2).mean(axis=1)
    w = w / w.sum() if w.sum() else w
    agree = np.sign(d) == np.where(d.sum(axis=0) >= 0, 1, -1)
    below = (w[:, None] * agree).sum(axis=0)
    merged = (w[:, None] * agree * d).sum(axis=0) / np.where(below > 0, below, 1)
    close(run("sce", models, base, select_topk=share), base.double() + torch.from_numpy(merged).view(20, 15))


def test_ram_averages_what_is_shared_and_keeps_what_is_not() -> None:
    base = torch.zeros(6)
    models = [torch.tensor(x) for x in ([1.0, 2, 0, 0, 3, 1e-6], [3.0, 0, 5, 0, -1, 0], [0.0, 0, 7, 9, 5, 0])]
    close(run("ram", models, base), torch.tensor([2, 2, 6, 9, 7 / 3, 0]))
    close(run("ram", models, base, epsilon=2.5), torch.tensor([3.0, 0, 6, 9, 4, 0]))
    # Shared to own: 2 / 1, 3 / 0, 2 / 1.
    close(run("ramplus_tl", models, base, r=0.1, alpha=5.0), torch.tensor([2, 2 * 1.2, 6, 9 * 1.2, 7 / 3, 0]))
    close(run("ramplus_tl", models, base), torch.tensor([2, 2 * 1.02, 6, 9 * 1.02, 7 / 3, 0]))


def test_nearswap_steps_no_farther_than_t() -> None:
    base, (model,) = siblings(1)
    b, m = base.double(), model.double()
    share = (0.05 / (m - b).abs()).clamp(0, 1)
    close(run("nearswap", [model], base, t=0.05), share * m + (1 - share) * b)
    assert torch.equal(run("nearswap", [model], base, t=0.0), base)
    close(run("nearswap", [base.clone()], base, t=0.0), base)


@pytest.mark.parametrize("shape", [(60, 50), (3000,), (30, 4, 25)])
def test_arcee_fusion_takes_what_matters_most(shape: tuple[int, ...]) -> None:
    base, (model,) = siblings(1, *shape)
    b, m = base.double().numpy(), model.double().numpy()
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (m, b))
    importance = np.abs(m - b) * (p * np.log(p / q)).sum(-1, keepdims=True)
    low, middle, high = np.quantile(importance, (0.25, 0.5, 0.75), method="lower")
    taken = importance >= middle + 1.5 * (high - low)
    got = run("arcee_fusion", [model], base)
    assert 0.02 < taken.mean() < 0.2
    assert float((got != base).double().mean()) == pytest.approx(taken.mean(), abs=2 / taken.size)
    wrong = ~np.isclose(got.numpy(), np.where(taken, m, b), atol=1e-6)
    assert wrong.sum() <= 2  # of a distance in the last bit to the threshold


def test_della_keeps_large_entries_more_often() -> None:
    base = torch.zeros(400, 50)
    (model,) = tensors(1, 400, 50)
    given = {"density": 0.5, "epsilon": 0.3, "weight": 1.0}
    kept = run("della_linear", [model], base, **given, rescale=False) != 0
    ranks = model.abs().argsort(1).argsort(1)
    by_rank = torch.stack([kept[ranks == rank].float().mean() for rank in range(50)])
    expected = 0.5 - 0.3 + 0.6 * torch.arange(50) / 49
    assert float((by_rank - expected).abs().max()) < 0.1  # 400 draws each
    assert float((by_rank - expected).mean()) == pytest.approx(0, abs=0.01)
    scaled = run("della_linear", [model], base, **given)
    assert float(scaled.abs().sum()) == pytest.approx(float(model.abs().sum()), rel=1e-5)
    assert torch.equal(scaled != 0, kept)


FEW = torch.tensor([3.0, -1e-40, 1.0, 2.0, -2.0, 1.0 + 2**-20, 1.0 + 2**-9, -7e30])


CHANGES = {
    "few": lambda some: FEW[some.mul(1e6).long() % len(FEW)],
    "all": lambda some: some,
    "of 16 bits": lambda some: some.bfloat16().float(),
    "first the one, then the other": lambda some: torch.where(torch.arange(len(some))[:, None] < 20, some, some.half()),
    "nearly equal": lambda some: 1 + some * 1e-5,
    "far apart": lambda some: some.double().pow(31).float(),
}


@pytest.mark.parametrize("shape", [(50, 40), (40, 3000), (3, 70_000)], ids=str)
@pytest.mark.parametrize("kind", CHANGES)
def test_della_ranks_a_row_by_magnitude_and_equal_entries_by_their_place(kind: str, shape: tuple[int, int]) -> None:
    model = CHANGES[kind](torch.randn(shape, generator=torch.Generator().manual_seed(5)))
    ranks = model.abs().numpy().argsort(axis=1, kind="stable").argsort(axis=1)
    chance = 0.5 - 0.3 + 0.6 * ranks / (shape[1] - 1)
    drawn = draws(mask_seed(4, "layers.0.weight", 0), 0, model.numel()).reshape(shape).astype(int)
    given = {"density": 0.5, "epsilon": 0.3, "weight": 1.0, "rescale": False, "seed": 4}
    kept = run("della_linear", [model], torch.zeros(shape), **given) != 0
    expected = drawn + 32768 >= 65536 - np.round(chance.astype(np.float32) * 65536)
    assert np.array_equal(kept.numpy(), expected & (model != 0).numpy())


def test_della_draws_the_same_masks_for_one_seed_and_others_for_another() -> None:
    base, models = siblings(2, 30, 40)
    given = {"density": 0.5, "weight": [0.5, 0.9]}
    one, again, other = (run("della", models, base, **given, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    whole = {"weight": [0.5, 0.9], "density": 1.0}
    close(run("della", models, base, **whole), run("ties", models, base, **whole))
    close(run("della_linear", models, base, **whole), run("task_arithmetic", models, base, weight=[0.5, 0.9]))


def test_della_with_no_spread_keeps_what_dare_keeps() -> None:
    base, models = siblings(2, 30, 40)
    given = {"density": [0.3, 0.6], "weight": [0.5, 0.9]}
    close(run("della_linear", models, base, **given, epsilon=0.0), run("dare_linear", models, base, **given))


ORDERLY = sorted(name for name, method in METHODS.items() if not method.random)


def given_for(name: str) -> dict[str, object]:
    """Parameters that leave none of a method's steps out."""
    method = METHODS[name]
    values: dict[str, object] = {"density": 0.4, "select_topk": 0.4, "t": 0.03, "gamma": 0.1, "nuslerp_flatten": False}
    return {p.name: values[p.name] for p in method.parameters if p.name in values}


@pytest.mark.parametrize("name", ORDERLY)
def test_blocks_of_any_size_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method = METHODS[name]
    base, models = siblings(max(method.min_models, min(method.max_models or 3, 3)), 37, 29)
    results = []
    for size in (1 << 18, 400, 64, 7):
        for module in ("method", "blocks", "sparsify"):
            monkeypatch.setattr(sys.modules[f"hubmerge.methods.{module}"], "BLOCK", size)
        results.append(run(name, models, base if method.takes_base else None, **given_for(name)))
    for result in results[1:]:
        close(result, results[0])


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.parametrize("shape", [(), (1,), (0,), (1, 1), (5, 1), (1, 5), (0, 4), (4, 0), (2, 3, 4), (9,)])
def test_every_shape_is_merged(name: str, shape: tuple[int, ...]) -> None:
    method = METHODS[name]
    count = max(method.min_models, min(method.max_models or 3, 3))
    for base, models in (
        siblings(count, *shape) if shape else (torch.tensor(0.5), [torch.tensor(1.0 + n) for n in range(count)]),
        (torch.zeros(shape), [torch.zeros(shape) for _ in range(count)]),
        (torch.ones(shape), [torch.ones(shape) for _ in range(count)]),
        (torch.zeros(shape), [torch.ones(shape) * (-1) ** n for n in range(count)]),
    ):
        for given in ({}, given_for(name), {"weight": 0.0} if "weight" in METHODS[name].genes else {}):
            required = {p.name: 0.5 for p in method.parameters if p.default is None}
            result = run(name, models, base if method.takes_base else None, **(required | given))
            assert result.shape == shape
            assert bool(torch.isfinite(result).all()), (name, shape, given, result)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_what_is_not_finite_shows(name: str) -> None:
    method = METHODS[name]
    count = max(method.min_models, min(method.max_models or 3, 3))
    base, models = siblings(count, 12, 10)
    models[-1][3, 4] = math.nan
    required = {p.name: 0.5 for p in method.parameters if p.default is None}
    result = run(name, models, base if method.takes_base else None, **(required | given_for(name)))
    assert not bool(torch.isfinite(result).all())


TASK_VECTORS = [name for name, method in METHODS.items() if method.base == "required" and method.max_models is None]


@pytest.mark.parametrize("name", TASK_VECTORS)
def test_one_model_alone_keeps_its_direction(name: str) -> None:
    """Where there is nobody to disagree with, no method turns a change around."""
    if METHODS[name].min_models > 1:
        pytest.skip("needs more than one model")
    base, (model,) = siblings(1, 16, 16)
    result = run(name, [model], base)
    assert float(((result - base) * (model - base)).sum()) >= 0


def test_steps_are_whole_rows_or_all() -> None:
    assert step_of("row", (10, 300_000)) == 300_000
    assert step_of("row", ()) == step_of("row", (3, 0)) == 1 << 18
    assert step_of("tensor", ()) == step_of("tensor", (0, 4)) == 1


@pytest.mark.parametrize("name", ["EMR", "adamerging"])
def test_no_other_method_is_suggested_for_one_that_is_known(name: str) -> None:
    with pytest.raises(RecipeError, match="is not here") as refused:
        find_method(name)
    assert "did you mean" not in str(refused.value)


@pytest.mark.parametrize(("given", "meant"), [("tise", "ties"), ("model-stock", "model_stock"), ("dela", "della")])
def test_a_misspelt_method_is_guessed(given: str, meant: str) -> None:
    with pytest.raises(RecipeError, match=f"did you mean {meant}"):
        find_method(given)


def test_the_page_of_methods_is_what_the_table_says() -> None:
    page = Path(__file__).parent.parent / "docs" / "methods.md"
    assert page.read_text() == methods_page(), "run: python -m hubmerge.methods.page > docs/methods.md"
    for method in METHODS.values():
        assert method.formula and method.use.endswith("."), method.name
