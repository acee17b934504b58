"""RegMean and Fisher against their closed forms, written out in numpy."""

import weakref

import numpy as np
import pytest
import torch

from hubmerge.methods import METHODS
from hubmerge.methods.blocks import Whole, each

ROWS, COLUMNS, MODELS = 7, 12, 3
WEIGHTS = (1.0, 0.5, 2.0)


def drawn(seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The matrices of a linear module of three models, and what each is given: inputs that depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(COLUMNS) + 0.1 * torch.randn(COLUMNS, COLUMNS, generator=generator)
    matrices = [torch.randn(ROWS, COLUMNS, generator=generator) for _ in range(MODELS)]
    return matrices, [torch.randn(40, COLUMNS, generator=generator) @ mixing for _ in range(MODELS)]


def merged(method: str, matrices, statistics, weights=WEIGHTS, **shared: float) -> np.ndarray:
    given = [{"weight": weight} for weight in weights]
    found = METHODS[method](matrices, None, statistics, per_model=given, shared=shared, tensor_name="w")
    return found.numpy()


def grams(inputs) -> list[torch.Tensor]:
    return [one.T @ one for one in inputs]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9, 1.0])
def test_regmean_is_the_closed_form(alpha: float) -> None:
    matrices, inputs = drawn(1)
    scaled = []
    for one in grams(inputs):
        gram = one.double().numpy()
        scaled.append(alpha * gram + (1 - alpha) * np.diag(np.diag(gram)))
    above = sum(w * m.double().numpy() @ g for w, m, g in zip(WEIGHTS, matrices, scaled, strict=True))
    wanted = above @ np.linalg.inv(sum(w * g for w, g in zip(WEIGHTS, scaled, strict=True)))
    np.testing.assert_allclose(merged("regmean", matrices, grams(inputs), alpha=alpha), wanted, rtol=2e-4, atol=2e-5)


class OneAtATime(Whole):
    """Blocks of a matrix of which no two statistics are held at once."""

    given: weakref.ref | None = None

    def statistic(self, model: int) -> torch.Tensor | None:
        assert self.given is None or self.given() is None
        found = super().statistic(model)
        self.given = None if found is None else weakref.ref(found)
        return found


def test_a_matrix_of_many_rows_is_merged_in_bands_and_one_gram_matrix_is_held() -> None:
    rows, columns = 1100, 600
    generator = torch.Generator().manual_seed(8)
    matrices = [torch.randn(rows, columns, generator=generator) for _ in range(MODELS)]
    given = grams([torch.randn(columns + 20, columns, generator=generator) for _ in range(MODELS)])
    blocks = OneAtATime(matrices, None, "row", given)
    assert len(list(each(blocks))) == 3
    merge = METHODS["regmean"].prepared(
        blocks, per_model=[{"weight": weight} for weight in WEIGHTS], shared={"alpha": 1.0}, tensor_name="w"
    )
    found = np.concatenate([merge(block).clone().numpy() for block in each(blocks)]).reshape(rows, columns)
    above = sum(w * m.double().numpy() @ g.double().numpy() for w, m, g in zip(WEIGHTS, matrices, given, strict=True))
    wanted = above @ np.linalg.inv(sum(w * g.double().numpy() for w, g in zip(WEIGHTS, given, strict=True)))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    two, twelve = (METHODS["regmean"].memory((3072, 8192), models) for models in (2, 12))
    assert twelve < two * 1.02


def error(matrix: np.ndarray, matrices, inputs) -> float:
    """How far its outputs are from each model's, on that model's own inputs."""
    pairs = zip(WEIGHTS, matrices, inputs, strict=True)
    return sum(w * float(((x.double() @ (torch.tensor(matrix) - m).double().T) ** 2).sum()) for w, m, x in pairs)


@pytest.mark.parametrize("seed", range(5))
def test_no_average_comes_nearer_to_the_outputs(seed: int) -> None:
    matrices, inputs = drawn(seed)
    best = error(merged("regmean", matrices, grams(inputs), alpha=1.0), matrices, inputs)
    generator = np.random.default_rng(seed)
    shares = [np.full(MODELS, 1 / MODELS), *np.eye(MODELS), *generator.dirichlet(np.ones(MODELS), 50)]
    averages = [sum(a * m.numpy() for a, m in zip(share, matrices, strict=True)) for share in shares]
    assert best < min(error(one, matrices, inputs) for one in averages)


def test_inputs_that_no_model_was_given_are_averaged() -> None:
    matrices, inputs = drawn(2)
    for one in inputs:
        one[:, 4:7] = 0.0
    found = merged("regmean", matrices, grams(inputs), (1.0, 1.0, 1.0), alpha=1.0)
    np.testing.assert_allclose(found[:, 4:7], sum(m.numpy()[:, 4:7] for m in matrices) / MODELS, atol=1e-6)
    nothing = merged("regmean", matrices, [torch.zeros(COLUMNS, COLUMNS)] * MODELS, alpha=0.9)
    average = sum(w * m.numpy() for w, m in zip(WEIGHTS, matrices, strict=True)) / sum(WEIGHTS)
    np.testing.assert_allclose(nothing, average, atol=1e-6)


def test_a_model_that_alone_has_inputs_is_the_result_there() -> None:
    matrices, inputs = drawn(3)
    for number, one in enumerate(inputs):
        one[:, [c for c in range(COLUMNS) if c % MODELS != number]] = 0.0
    found = merged("regmean", matrices, grams(inputs), (1.0, 1.0, 1.0), alpha=0.9)
    for number, matrix in enumerate(matrices):
        np.testing.assert_allclose(found[:, number::MODELS], matrix.numpy()[:, number::MODELS], rtol=1e-4, atol=1e-5)


def test_models_that_are_one_stay_so() -> None:
    (matrix, *_), inputs = drawn(4)
    for method, shared in (("regmean", {"alpha": 1.0}), ("fisher", {"floor": 1e-6})):
        statistics = grams(inputs) if method == "regmean" else [one[:ROWS] ** 2 for one in inputs]
        np.testing.assert_allclose(merged(method, [matrix] * MODELS, statistics, **shared), matrix.numpy(), rtol=1e-6)


def test_fisher_is_the_closed_form() -> None:
    matrices, inputs = drawn(5)
    information = [one[:ROWS] ** 2 for one in inputs]
    information[0][2] = 0.0  # where one knows nothing, the others decide
    known = [w * np.maximum(f.double().numpy(), 1e-6) for w, f in zip(WEIGHTS, information, strict=True)]
    wanted = sum(f * m.numpy() for f, m in zip(known, matrices, strict=True)) / sum(known)
    np.testing.assert_allclose(merged("fisher", matrices, information, floor=1e-6), wanted, rtol=1e-4, atol=1e-5)


def test_equal_information_is_the_average() -> None:
    matrices, _ = drawn(6)
    same = [torch.full((ROWS, COLUMNS), 0.3)] * MODELS
    wanted = sum(w * m.numpy() for w, m in zip(WEIGHTS, matrices, strict=True)) / sum(WEIGHTS)
    np.testing.assert_allclose(merged("fisher", matrices, same, floor=1e-6), wanted, rtol=1e-5, atol=1e-6)
    # A floor above all that is known makes them equal too.
    unequal = [torch.rand(ROWS, COLUMNS, generator=torch.Generator().manual_seed(n)) for n in range(MODELS)]
    np.testing.assert_allclose(merged("fisher", matrices, unequal, floor=2.0), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["regmean", "fisher"])
def test_a_model_without_weight_counts_for_nothing(method: str) -> None:
    matrices, inputs = drawn(7)
    statistics = grams(inputs) if method == "regmean" else [one[:ROWS] ** 2 for one in inputs]
    shared = {"alpha": 1.0} if method == "regmean" else {"floor": 1e-6}
    found = merged(method, matrices, statistics, (0.0, 1.0, 0.0), **shared)
    np.testing.assert_allclose(found, matrices[1].numpy(), rtol=1e-4, atol=1e-5)
