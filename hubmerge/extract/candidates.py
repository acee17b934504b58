"""Which tensors a LoRA can say, and what is said of those that it cannot.

A LoRA of peft adds to the weights of modules: linear layers and embeddings. Norms, biases and convolutions it leaves
as they are, and of a mixture's experts transformers makes one tensor, which is no module.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import SourceError
from ..layers import is_head, is_vocabulary, parse
from ..stream.dtypes import DTYPES
from ..stream.findings import Finding, error, some, warning
from ..stream.views import view_all
from ..stream.weights import Described, Weights

Kind = Literal["linear", "embedding"]

# What is a matrix and yet no linear layer.
_EXPERT = re.compile(r"\.experts?\.|(?:^|\.)(?:router|gate)\.")
_TABLE = re.compile(r"embed|(?:^|\.)w[tp]e\.|position|relative_attention_bias|rel_pos")


_SMALL = 2**20
"""Elements of a tensor that is read only to say that it has changed."""


@dataclass(frozen=True)
class Candidate:
    """A tensor of both models that a LoRA can change: `module` is whose weight it is, `stored` its names in the base
    and in the model."""

    module: str
    kind: Kind
    stored: tuple[str, str]
    shape: tuple[int, int]


@dataclass(frozen=True)
class Rest:
    """A tensor of both models that a LoRA cannot change: `why` is None where it can be saved whole."""

    name: str
    stored: tuple[str, str]
    tensor: Described
    why: str | None


@dataclass(frozen=True)
class Candidates:
    """The tensors that two models share: those that a LoRA can change, and small ones that it cannot."""

    found: tuple[Candidate, ...]
    rest: tuple[Rest, ...]
    findings: tuple[Finding, ...]


def find_candidates(base: Weights, model: Weights) -> Candidates:
    """Sorts the tensors of a model and its base. Raises `SourceError` where they have no weight in common."""
    views = view_all({0: base, 1: model})
    ours, theirs = (views.views[index].tensors for index in (0, 1))
    findings = [*views.findings, *_apart(base, ours, model, theirs)]
    found, rest = [], []
    large: dict[str, list[str]] = {}
    # Where either has one tensor for both, peft merges what is added to one of them into the other.
    tied = any(not any(is_head(name) for name in one.tensors) for one in (base, model))
    for name, tensor in ours.items():
        other = theirs.get(name)
        if other is None or other.shape != tensor.shape or not _is_float(tensor, other):
            continue
        stored = tensor.name, other.name
        kind, why = _kind(name, tensor, tied)
        if kind is not None:
            found.append(Candidate(name.removesuffix(".weight"), kind, stored, (tensor.shape[0], tensor.shape[1])))
        elif other.parameters <= _SMALL:
            rest.append(Rest(name, stored, other, why))
        else:
            large.setdefault(str(why), []).append(name)
    for why, names in large.items():
        findings.append(warning(f"{len(names):,} tensor(s) {why} cannot be in a LoRA ({some(names)}); none is read."))
    if not found:
        raise SourceError(
            f"{model.name} and {base.name} have no matrix of the same name and shape in common; name the base that "
            "the model was tuned from."
        )
    return Candidates(tuple(found), tuple(rest), tuple(findings))


def _is_float(*tensors: Described) -> bool:
    return all(tensor.dtype in DTYPES and DTYPES[tensor.dtype].is_float for tensor in tensors)


def _kind(name: str, tensor: Described, tied: bool) -> tuple[Kind | None, str | None]:
    """What it is to peft; else why it is nothing."""
    if len(tensor.shape) != 2 or not name.endswith(".weight"):
        return None, None if parse(name).group == "norm" else _not_a_module(name)
    if _EXPERT.search(name):
        return None, "of experts and routers, which transformers does not keep as modules"
    if is_vocabulary(name) and not is_head(name):
        return (None, "of an embedding that is the head too") if tied else ("embedding", None)
    if _TABLE.search(name):
        return None, "of positions"
    return "linear", None


def _not_a_module(name: str) -> str:
    return "biases" if name.endswith("bias") else "of no linear layer"


def _apart(
    base: Weights, ours: Mapping[str, Described], model: Weights, theirs: Mapping[str, Described]
) -> Iterator[Finding]:
    only = [name for name in theirs if name not in ours]
    lost = [name for name in ours if name not in theirs]
    for names, holder, other in ((only, model, base), (lost, base, model)):
        if names:
            yield warning(f"{holder.name} has {some(names)} and {other.name} has not: a LoRA cannot say that.")
    resized = [name for name in ours if name in theirs and theirs[name].shape != ours[name].shape]
    rows = [name for name in resized if is_vocabulary(name)]
    if rows:
        yield warning(
            f"{some(rows)} has {theirs[rows[0]].shape[0]:,} rows in {model.name} and {ours[rows[0]].shape[0]:,} in "
            f"{base.name}: it is left out, and so are the tokens that were added."
        )
    if others := [name for name in resized if name not in rows]:
        first = others[0]
        yield error(
            f"{first} is {list(theirs[first].shape)} in {model.name} and {list(ours[first].shape)} in {base.name}; "
            "name the base that the model was tuned from."
        )


def targets(moved: Sequence[str], all_modules: Sequence[str]) -> list[str]:
    """The shortest names that say just these modules to peft: the last part of their names where all that end so are
    among them, else the whole name.

    >>> targets(["layers.0.q", "layers.1.q", "layers.0.k"], ["layers.0.q", "layers.1.q", "layers.0.k", "layers.1.k"])
    ['q', 'layers.0.k']
    """
    wanted = set(moved)
    whole = {last(name) for name in all_modules} - {last(name) for name in all_modules if name not in wanted}
    return list(dict.fromkeys(last(name) if last(name) in whole else name for name in moved))


def last(module: str) -> str:
    """The last part of a module's name."""
    return module.rpartition(".")[2]
