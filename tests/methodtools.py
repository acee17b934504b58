"""Tensors of models near a base, merged, and how near a result is to what is expected."""

import torch
from test_methods import tensors
from torch import Tensor


def siblings(count: int, *shape: int, seed: int = 0) -> tuple[Tensor, list[Tensor]]:
    """A base and models near it, each a little farther than the one before."""
    base, *noise = tensors(count + 1, *shape, seed=seed)
    return base, [base + 0.1 * (1 + 0.3 * number) * one for number, one in enumerate(noise)]


def close(got: Tensor, expected: Tensor, **given: float) -> None:
    torch.testing.assert_close(got.double(), expected.double(), **({"rtol": 1e-5, "atol": 1e-6} | given))
