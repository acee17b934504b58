"""torch, imported when something of it is first used: that takes seconds, and what headers tell does without.

>>> from hubmerge.late import Tensor, torch

Annotations may say `Tensor`; anything else of torch in one stands in quotes, or defining the function would import it.
"""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch
    from torch import Tensor as Tensor
else:

    class _Late:
        def __getattr__(self, name: str) -> Any:
            import torch

            return getattr(torch, name)

    torch = _Late()
    Tensor = Any


def is_loaded() -> bool:
    """Whether torch is imported."""
    return "torch" in sys.modules
