"""Which function unpacks which kind of weight."""

from collections.abc import Callable, Mapping
from typing import Any

from ...hub.quantised.bitsandbytes import Chosen
from ...hub.quantised.fp4 import Fp4
from ...hub.quantised.ggml import Ggml
from ...hub.quantised.grouped import Awq, Gptq
from ...hub.quantised.packed import Packed
from ...hub.quantised.rows import InRows
from ...hub.quantised.scaled import Scaled
from ...late import Tensor
from .bitsandbytes import unpack_chosen
from .fp4 import unpack_fp4
from .ggml import unpack_ggml
from .grouped import unpack_awq, unpack_gptq
from .rows import unpack_in_rows
from .scaled import unpack_scaled

_UNPACK: Mapping[type[Packed], Callable[[Any, Mapping[str, Tensor], int, int, int], Tensor]] = {
    Scaled: unpack_scaled,
    Gptq: unpack_gptq,
    Awq: unpack_awq,
    Chosen: unpack_chosen,
    Fp4: unpack_fp4,
    Ggml: unpack_ggml,
    InRows: unpack_in_rows,
}


def unpack(packed: Packed, parts: Mapping[str, Tensor], unit: int, start: int, stop: int) -> Tensor:
    """The elements `start` up to but not including `stop` of a weight: flat, in float32.

    `parts`: the stored elements, flat; of those that lie by units, from `unit` on.
    """
    return _UNPACK[type(packed)](packed, parts, unit, start, stop)
