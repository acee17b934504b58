"""The tiny models of all families, each made once and only when it is asked for."""

import functools
import tempfile
from pathlib import Path

from architecturetools import third_parties_warn
from families_of_others import both_ends, encoders, sights, sounds
from families_of_text import decoders, experts, hybrids

FAMILIES = {
    "language models": tuple(decoders()),
    "mixtures of experts": tuple(experts()),
    "hybrids and state spaces": tuple(hybrids()),
    "encoders and retrieval": tuple(encoders()),
    "encoders with decoders": tuple(both_ends()),
    "images": tuple(sights()),
    "sounds": tuple(sounds()),
}
"""All of them, by what they are; docs/checkpoints.md lists them."""
ARCHITECTURES = tuple(architecture for few in FAMILIES.values() for architecture in few)
CASES = {f"{a.name}-{head}" if head else a.name: (a, head) for a in ARCHITECTURES for head in a.heads}


@functools.cache
def _root() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="hubmerge-architectures-")


@functools.cache
def folder_of(case: str, seed: int) -> Path:
    """The folder of a case's model number `seed`, made once."""
    architecture, head = CASES[case]
    with third_parties_warn():
        return architecture.save(Path(_root().name) / f"{case}-{seed}", seed, head)
