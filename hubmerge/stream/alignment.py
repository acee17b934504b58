"""The same tensors under names that begin otherwise, as generations of transformers and its classes write them.

A base saved without its head has `layers.0...` where others have `model.layers.0...`; GPT-2 has `h.0...` and
`transformer.h.0...`; a model that sees has had `language_model.model.layers.0...`, `model.layers.0...` and
`model.language_model.layers.0...`. Names that are the same without these words mean the same tensor.
"""

import re
from collections.abc import Iterator, Mapping

from ..layers import core, is_head
from .findings import Finding, warning
from .weights import Described, Weights

_EXPERT = {".block_sparse_moe.": ".mlp.", ".w1.weight": ".gate_proj.weight", ".w2.weight": ".down_proj.weight"}
_EXPERT |= {".w3.weight": ".up_proj.weight"}
_MIXTRAL = re.compile(r"\.block_sparse_moe\.|\.w[123]\.weight$")


def align(weights: Mapping[int, Weights], stored: dict[int, dict[str, Described]]) -> Iterator[Finding]:
    """Gives the tensors of all models the names that the first has for them.

    A model's names stay where two of its own would become one, or where a shape would not fit.
    """
    if not stored:
        return
    first, *others = stored
    names = _by_core(stored[first])
    for index in others:
        own = stored[index]
        if names is None or own.keys() <= stored[first].keys() or (cores := _by_core(own)) is None:
            continue
        new = {cores[core]: names[core] for core in cores if core in names}
        # A model that holds such a model as a part has names in common by this, and more: it is no sibling. A head that
        # is not tied is.
        more = [name for name in own if name not in new and not is_head(name)]
        if more or all(name == ours for name, ours in new.items()):
            continue
        if all(stored[first][ours].shape[1:] == own[name].shape[1:] for name, ours in new.items()):
            stored[index] = {new.get(name, _core(name)): tensor for name, tensor in own.items()}
            name, ours = next((name, ours) for name, ours in new.items() if name != ours)
            yield warning(
                f"{weights[index].name} has {name} where {weights[first].name} has {ours}, and so on: the same, "
                "taken under the latter names."
            )


def _by_core(tensors: Mapping[str, Described]) -> dict[str, str] | None:
    """Each name by what is left of it without the words; None where that would be the same for two."""
    found = {_core(name): name for name in tensors}
    return found if len(found) == len(tensors) else None


def _core(name: str) -> str:
    # Mixtral's layers have one name in files, and another in memory; so have the tensors of each of its experts.
    return core(_MIXTRAL.sub(lambda found: _EXPERT[found[0]], name))
