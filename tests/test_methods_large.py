"""Numbers of 1e30, whose squares overflow float32: what squares them is right, or not finite and refused."""

import pytest
import torch
from test_methods import run, tensors

from hubmerge.methods import METHODS

# Whose result is as large as its models: a parameter is a length, or what they do is not linear.
SETTINGS: dict[str, dict[str, object]] = {
    "slerp": {"t": 0.3},
    "split_slerp": {"t": 0.3},
    "nearswap": {"t": 0.5},
    "sce": {"select_topk": 0.5},
    "multislerp": {"eps": 1e-8},
    "ties": {"density": 0.5},
    "knots_ties": {"density": 0.5},
    "breadcrumbs": {"density": 0.5},
    "dare_ties": {"density": 0.5},
    "della": {"density": 0.5},
}
LARGE = 2.0**100
NOTHING_SMALL = {"sce", "wudi", "multislerp", "karcher", "model_stock", "ram", "ramplus_tl", "nuslerp"}
"""For which 1e-30 is as good as nothing, by their own parameters or the program's."""
REFUSED = {"sce", "wudi"}
"""That need the squares themselves."""


def _merged(name: str, scale: float, dtype: torch.dtype, **more: object) -> torch.Tensor:
    method = METHODS[name]
    base, *models = tensors(1 + (method.max_models or 3), 6, 8)
    large = [(tensor.to(dtype).double() * scale).to(dtype).float() for tensor in (base, *models)]
    given = {**SETTINGS.get(name, {}), **more}
    if name == "nearswap":
        given["t"] = 0.5 * scale
    return run(name, large[1:], large[0] if method.takes_base else None, **given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("name", "scale"),
    [
        (name, scale)
        for name in METHODS
        if name != "arcee_fusion"
        for scale in (LARGE, 1 / LARGE)
        if scale > 1 or name not in NOTHING_SMALL
    ],
)
def test_a_merge_of_large_numbers_is_the_large_merge(name: str, dtype: torch.dtype, scale: float) -> None:
    found, expected = _merged(name, scale, dtype).double() / scale, _merged(name, 1.0, dtype).double()
    if name in REFUSED:
        assert not found.isfinite().all()
    else:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("nuslerp", {"nuslerp_flatten": False}),
        ("nuslerp", {"nuslerp_flatten": False, "nuslerp_row_wise": True}),
        ("model_stock", {"filter_wise": True}),
        ("sce", {"select_topk": 1.0}),
    ],
)
def test_so_it_is_row_by_row(name: str, how: dict[str, object]) -> None:
    found = _merged(name, LARGE, torch.float32, **how).double() / LARGE
    torch.testing.assert_close(found, _merged(name, 1.0, torch.float32, **how).double(), rtol=1e-4, atol=1e-4)
