"""Merge methods against plain definitions, in degenerate cases, and for what must not matter."""

import doctest
import inspect
import math
import sys

import numpy as np
import pytest
import torch

from hubmerge.methods import METHODS
from hubmerge.methods.blocks import BLOCK, Whole, each
from hubmerge.methods.selection import Search, new_masks
from hubmerge.methods.sparsify import (
    bounds,
    cuts,
    keep_between,
    keep_largest,
    keep_random,
    kept_entries,
    mask_seed,
    scales,
)


def tensors(count: int, *shape: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape or (8, 6), generator=generator) for _ in range(count)]


def run(name: str, models: list[torch.Tensor], base: torch.Tensor | None, **given: object) -> torch.Tensor:
    """Calls the table's entry with its defaults, `given` replacing them (a list for per-model parameters)."""
    method = METHODS[name]
    per_model: list[dict] = [{} for _ in models]
    shared: dict = {}
    for parameter in method.parameters:
        value = given.get(parameter.name, parameter.default)
        if parameter.per_model:
            values = value if isinstance(value, list) else [value] * len(models)
            for target, each in zip(per_model, values, strict=True):
                target[parameter.name] = each
        else:
            shared[parameter.name] = value
    return method(models, base, per_model=per_model, shared=shared, tensor_name="layers.0.weight")


def test_linear_is_the_weighted_average() -> None:
    a, b = tensors(2)
    torch.testing.assert_close(run("linear", [a, b], None, weight=[1, 3]), (a + 3 * b) / 4)
    torch.testing.assert_close(run("linear", [a, b], None, weight=[1, 3], normalize=False), a + 3 * b)
    torch.testing.assert_close(run("linear", [a, b], None, weight=[1, -1]), a - b)


def test_passthrough_scales_and_shifts() -> None:
    (a,) = tensors(1)
    a[0, 0] = -0.0
    kept = run("passthrough", [a], None)
    assert torch.equal(kept.view(torch.int32), a.view(torch.int32))  # bit for bit: -0.0 stays
    torch.testing.assert_close(run("passthrough", [a], None, scale=[-2.0], shift=[0.5]), 0.5 - 2 * a)


def test_slerp_walks_the_arc() -> None:
    base, other = tensors(2)
    torch.testing.assert_close(run("slerp", [other], base, t=0.0), base)
    torch.testing.assert_close(run("slerp", [other], base, t=1.0), other)
    unit_a, unit_b = base / base.norm(), other / other.norm()
    middle = run("slerp", [unit_b], unit_a, t=0.5)
    assert middle.norm().item() == pytest.approx(1, abs=1e-6)
    assert torch.dot(middle.flatten(), unit_a.flatten()) == pytest.approx(
        torch.dot(middle.flatten(), unit_b.flatten()).item(), abs=1e-6
    )


@pytest.mark.parametrize("other", [torch.ones(4) * 2, torch.zeros(4)])
def test_slerp_of_parallel_and_zero_tensors_is_linear(other: torch.Tensor) -> None:
    torch.testing.assert_close(run("slerp", [other], torch.ones(4), t=0.25), 0.75 * torch.ones(4) + 0.25 * other)


def test_task_arithmetic_adds_what_was_learnt() -> None:
    base, a, b = tensors(3)
    expected = base + 0.8 * (0.5 * (a - base) + 2 * (b - base))
    torch.testing.assert_close(run("task_arithmetic", [a, b], base, weight=[0.5, 2], **{"lambda": 0.8}), expected)


def plain_ties(models, base, weight, density, normalize, scale):
    """TIES entry by entry, as its paper's Algorithm 1 reads."""
    trimmed = []
    for model, d in zip(models, density, strict=True):
        delta = (model - base).flatten()
        kept = torch.zeros_like(delta)
        top = delta.abs().topk(max(1, int(d * delta.numel())) if d else 0).indices
        kept[top] = delta[top]
        trimmed.append(kept)
    out = base.flatten().clone()
    for i in range(out.numel()):
        values = [w * float(t[i]) for w, t in zip(weight, trimmed, strict=True)]
        sign = 1 if sum(values) >= 0 else -1
        agree = [(w, v) for w, v in zip(weight, values, strict=True) if v * sign > 0]
        total, divisor = sum(v for _, v in agree), sum(w for w, _ in agree)
        out[i] += scale * (total / divisor if normalize and abs(divisor) > 1e-8 else total)
    return out.view_as(base)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("density", [[1.0, 1.0, 1.0], [0.5, 0.3, 0.9], [0.0, 0.1, 1.0]])
def test_ties_follows_the_paper(normalize: bool, density: list[float]) -> None:
    base, *models = tensors(4, seed=5)
    weight = [0.7, 1.3, 0.4]
    got = run("ties", models, base, weight=weight, density=density, normalize=normalize, **{"lambda": 1.2})
    torch.testing.assert_close(got, plain_ties(models, base, weight, density, normalize, 1.2))


def trimmed(delta: torch.Tensor, density: float) -> torch.Tensor:
    """What TIES keeps of one task vector."""
    blocks = Whole([delta], torch.zeros_like(delta))
    measured = cuts(blocks, [density])
    return torch.cat([keep_largest(block, measured)[0].clone() for block in each(blocks)]).view(delta.shape)


def first_largest(delta: torch.Tensor, kept: int, left_out: int = 0) -> torch.Tensor:
    """The `kept` largest entries of a task vector after `left_out` larger ones; of equal ones those that come first."""
    flat = delta.flatten().float()
    places = flat.abs().sort(descending=True, stable=True).indices[left_out : left_out + kept]
    return torch.zeros_like(flat).index_copy_(0, places, flat[places]).view(delta.shape)


@pytest.mark.parametrize(
    ("density", "gamma", "left"),
    [(0.5, 0.1, (100, 600)), (0.9, 0.0, (0, 900)), (0.95, 0.2, (50, 1000)), (0.0, 0.0, (0, 0)), (1.0, 0.5, (0, 1000))],
)
@pytest.mark.parametrize("elements", [1000, 1000 * (BLOCK // 400)])
def test_breadcrumbs_leaves_out_both_ends(density: float, gamma: float, left: tuple[int, int], elements: int) -> None:
    base, model = tensors(2, elements)
    first, last = (place * elements // 1000 for place in left)
    delta = model - base
    expected = torch.zeros_like(delta)
    kept = delta.abs().argsort(descending=True)[first:last]
    expected[kept] = delta[kept]
    for name in ("breadcrumbs", "breadcrumbs_ties"):
        got = run(name, [model], base, density=density, gamma=gamma)
        torch.testing.assert_close(got, base + expected)


def test_ties_keeps_exactly_the_share() -> None:
    (delta,) = tensors(1, 40, 25)
    for density in (0.001, 0.1, 0.5, 0.999):
        kept = trimmed(delta, density)
        assert int((kept != 0).sum()) == max(1, int(density * 1000))
        assert kept.abs()[kept != 0].min() >= delta.abs()[kept == 0].max()


MANY = tensors(1, 3 * BLOCK - 5)[0]


@pytest.mark.parametrize(
    "delta",
    [
        torch.randint(-3, 4, (5000,), generator=torch.Generator().manual_seed(1)).float(),
        torch.zeros(300),
        tensors(1, 3000)[0] * 1e-40,
        tensors(1, 60, 50)[0].t(),
        MANY,
        torch.randint(-3, 4, (2 * BLOCK,), generator=torch.Generator().manual_seed(1)).float(),
        torch.zeros(2 * BLOCK),
        MANY.bfloat16().float(),
        # What a sample cannot foresee: all that matters lies together.
        torch.cat([MANY * 1e-3, torch.full((1000,), 5.0), MANY[:BLOCK]]),
        torch.where(torch.arange(MANY.numel()) == 77, 1.0, 0.0),
    ],
    ids=["equal", "zeros", "denormal", "transposed", "blocks", "equal blocks", "zero blocks", "bf16", "lumps", "one"],
)
def test_what_is_kept_is_what_a_stable_sort_keeps(delta: torch.Tensor) -> None:
    for density in (0, 1e-9, 0.3, 0.9, 0.9999):
        kept = max(1, int(density * delta.numel())) if density else 0
        assert torch.equal(trimmed(delta, density), first_largest(delta, kept))


@pytest.mark.parametrize("kind", ["normal", "few values", "two values", "sorted", "heavy", "zeros"])
@pytest.mark.parametrize("sampled", [0, 50, 1000])
def test_selection_is_exact_however_little_it_may_keep(kind: str, sampled: int) -> None:
    random = np.random.default_rng(3)
    values = {
        "normal": np.abs(random.standard_normal(50_000)),
        "few values": random.integers(0, 7, 50_000),
        "two values": random.integers(0, 2, 50_000),
        "sorted": np.arange(50_000),
        "heavy": np.where(random.random(50_000) < 0.6, 0.25, random.random(50_000) ** 9),
        "zeros": np.zeros(50_000),
    }[kind].astype(np.float32)
    ordered = np.sort(values)[::-1]
    sample = np.sort(values[:sampled])  # the first ones: for sorted values the worst that can be
    for rank in (1, 2, 100, 25_000, 49_999, 50_000):
        search = Search(rank, values.size, sample, 200, new_masks(values.size))
        passes = 0
        blocks = np.array_split(values, 7)
        while passes == 0 or not search.ends():
            passes += 1
            for block in blocks:
                search.feed(block)
                assert search._size <= 200
        cut = search.found
        assert cut is not None
        assert cut.threshold == ordered[rank - 1]
        equal = [int((block == cut.threshold).sum()) for block in blocks]
        assert int((values > cut.threshold).sum()) + sum(equal[: cut.block]) + cut.ties == rank
        assert cut.ties == 0 or cut.ties < equal[cut.block]
        assert passes < 12


DENSITIES = (0, 0.05, 0.2, 0.5, 1)


def bfloat16_siblings(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A tensor of some shape and what a little fine-tuning makes of it: few distinct differences, many equal."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (int(n) for n in torch.randint(4, 60, (2,), generator=generator))
    base = torch.randn(rows, columns, generator=generator).mul_(0.02).bfloat16()
    return base, (base.float() + torch.randn(rows, columns, generator=generator) * 3e-5).bfloat16()


@pytest.mark.parametrize("block", [256, 1000, BLOCK])
def test_ties_keeps_exactly_the_share_of_bfloat16_siblings(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("blocks", "method", "sparsify"):
        monkeypatch.setattr(sys.modules[f"hubmerge.methods.{module}"], "BLOCK", block)
    for seed in range(200):
        base, model = bfloat16_siblings(seed)
        delta = model.float() - base.float()
        for density in DENSITIES:
            kept = int(density * delta.numel())
            expected = first_largest(delta, kept)
            assert int((expected != 0).sum()) == min(kept, int((delta != 0).sum()))
            assert torch.equal(trimmed(delta, density), expected)


@pytest.mark.parametrize("block", [256, 1000, BLOCK])
def test_breadcrumbs_leaves_out_exactly_the_share_of_bfloat16_siblings(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("blocks", "method", "sparsify"):
        monkeypatch.setattr(sys.modules[f"hubmerge.methods.{module}"], "BLOCK", block)
    for seed in range(20):
        base, model = bfloat16_siblings(seed)
        delta = model.float() - base.float()
        inputs = Whole([model], base)
        for density in DENSITIES:
            for gamma in (0, 0.01, 0.3):
                measured = bounds(inputs, [density], [gamma])
                got = torch.cat([keep_between(part, measured)[0].clone() for part in each(inputs)]).view(delta.shape)
                kept = int(density * delta.numel())
                left_out = min(int(gamma * delta.numel()), delta.numel() - kept)
                assert torch.equal(got, first_largest(delta, kept, left_out))


@pytest.mark.parametrize("name", ["ties", "breadcrumbs", "breadcrumbs_ties"])
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("elements", [3000, 2 * BLOCK + 7])
def test_what_is_not_finite_ends_and_shows_in_the_result(name: str, broken: float, elements: int) -> None:
    base, model, other = tensors(3, elements)
    model[::5] = broken
    for density in (0.0, 0.1, 0.9, 1.0):
        given = {"density": density} | ({} if name == "ties" else {"gamma": 0.25})
        assert not torch.isfinite(run(name, [other, model], base, **given)).all()
    model[:] = broken
    assert not torch.isfinite(run(name, [other, model], base, **given)).all()


def test_products_are_rounded_as_mergekit_rounds() -> None:
    """What mergekit 0.1.5 keeps of 100, 37 and 3 entries; .29 x 100 is a little below 29 in floating point."""
    assert [kept_entries(d, 100) for d in (0.29, 0.57, 0.58, 0.7, 0.999, 1.0)] == [28, 56, 57, 70, 99, 100]
    assert [kept_entries(d, 37) for d in (0.0, 0.05, 0.29, 0.999, 1.0)] == [0, 1, 10, 36, 37]
    assert [kept_entries(d, 3) for d in (0.0, 0.05, 0.29, 0.7, 0.999, 1.0)] == [0, 1, 1, 2, 2, 3]
    assert kept_entries(0.5, 0) == 0


def dropped(delta: torch.Tensor, density: float, seed: int) -> torch.Tensor:
    """What DARE keeps of a task vector of at most one block, not rescaled."""
    block = Whole([delta], torch.zeros_like(delta)).read(0, delta.numel())
    return keep_random(block, [density], [seed])[0].clone().view(delta.shape)


def test_dare_keeps_the_share_and_the_magnitude() -> None:
    (delta,) = tensors(1, 200, 100)
    kept = dropped(delta, 0.3, 7)
    assert float((kept != 0).float().mean()) == pytest.approx(0.3, abs=0.02)
    assert torch.equal(kept[kept != 0], delta[kept != 0])
    (scale,) = scales(Whole([delta], torch.zeros_like(delta)), [0.3], [7])
    assert float(kept.abs().sum()) * scale == pytest.approx(float(delta.abs().sum()), rel=1e-5)


def test_masks_are_nested_and_depend_on_nothing_but_their_seed() -> None:
    (delta,) = tensors(1, 50, 50)
    low, high = (dropped(delta, d, 3) != 0 for d in (0.2, 0.6))
    assert bool((high | ~low).all())
    torch.manual_seed(99)
    assert torch.equal(dropped(delta, 0.2, 3) != 0, low)
    assert len({mask_seed(s, n, m) for s in (0, 1) for n in ("a", "b") for m in (0, 1)}) == 8


def test_blocks_of_one_tensor_have_different_masks() -> None:
    ones = Whole([torch.ones(2 * BLOCK)], torch.zeros(2 * BLOCK))
    masks = []
    for start in (0, BLOCK):
        block = ones.read(start, start + BLOCK)
        masks.append(keep_random(block, [0.5], [1])[0].clone())
    assert float((masks[0] == masks[1]).float().mean()) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    "name", sorted(name for name, method in METHODS.items() if not method.random and not method.placed)
)
def test_a_tensor_of_several_blocks_is_merged_as_one_of_a_single_block_would_be(name: str) -> None:
    """Against the same formula on a tensor whose elements repeat, so that every statistic stays what it was."""
    method = METHODS[name]
    base, *models = tensors(1 + min(method.max_models or 2, 2), BLOCK // 2)
    given = {p.name: 0.5 for p in method.parameters if p.default is None or p.name == "density"} | {"gamma": 0.125}
    bases = (base, torch.cat([base] * 5)) if method.base == "required" else (None, None)
    small = run(name, models, bases[0], **given)
    large = run(name, [torch.cat([model] * 5) for model in models], bases[1], **given)
    torch.testing.assert_close(large.view(5, -1), small.expand(5, -1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["dare_linear", "dare_ties"])
def test_dare_at_full_density_drops_nothing(name: str) -> None:
    base, a, b = tensors(3)
    plain = {"dare_linear": "task_arithmetic", "dare_ties": "ties"}[name]
    given = {"weight": [0.5, 0.9], "normalize": False}
    torch.testing.assert_close(run(name, [a, b], base, **given), run(plain, [a, b], base, **given))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_keeps_inputs_shape_and_dtype(name: str) -> None:
    method = METHODS[name]
    count = min(method.max_models or 3, 3)
    base, *models = tensors(count + 1)
    before = [tensor.clone() for tensor in (base, *models)]
    given = {p.name: 0.4 for p in method.parameters if p.default is None or p.name == "density"}
    result = run(name, models, base if method.base == "required" else None, **given)
    assert (result.shape, result.dtype) == (base.shape, torch.float32)
    assert all(torch.equal(x, y) for x, y in zip((base, *models), before, strict=True))
    assert all(result.data_ptr() != tensor.data_ptr() for tensor in (base, *models))


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.base == "required" and m.max_models is None])
def test_models_equal_to_the_base_change_nothing(name: str) -> None:
    (base,) = tensors(1)
    torch.testing.assert_close(run(name, [base.clone(), base.clone()], base), base)


def test_the_table_is_complete() -> None:
    for name, method in METHODS.items():
        assert method.name == name
        assert method.paper.startswith("https://")
        assert method.summary.endswith(".")
        assert method.merge.__name__ == name
        assert (method.measure is None) == ("measured" not in inspect.signature(method.merge).parameters)


@pytest.mark.parametrize("module", ["linear", "slerp", "sparsify", "task_vectors"])
def test_docstring_examples(module: str) -> None:
    assert doctest.testmod(sys.modules[f"hubmerge.methods.{module}"]).failed == 0
