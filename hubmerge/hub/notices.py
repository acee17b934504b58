"""The licence texts and notices of the models that a merge is made of, which go on with it.

Apache-2.0 asks for the licence and what stands in NOTICE, the Llama and Gemma terms for their text and a notice; nearly
all others ask that their text stays with what is derived. So each model's own files lie in the result, under its name.
"""

import re
from collections.abc import Iterable

from .answers import FileInfo
from .listing import Listing
from .source import Source, parts_of

BEGINNING = "licence--"
"""How the names of these files begin; they lie beside the weights, since what is pushed of a folder lies there."""

_NAMES = re.compile(
    r"(?:licen[cs]e|notice|copying|copyright|use_policy|acceptable_use_policy|third[-_ ]?party[\w -]*)"
    r"(?:[-_.][\w.-]*)?",
    re.IGNORECASE,
)
_LARGEST = 2**20
"""Bytes of a file with a licence; what is larger is something else."""


def notices(sources: Iterable[Source]) -> dict[str, bytes]:
    """What lies beside a merge of these models for their licences: file -> content, as each model has it."""
    found = notice_files(sources).items()
    return {place: bytes(part.store.read(info, 0, info.size)) for place, (part, info) in found}


def notice_files(sources: Iterable[Source]) -> dict[str, tuple[Listing, FileInfo]]:
    """What they are called: licence--org--name--NOTICE for a NOTICE of org/name; with whose file each is.

    What a model carries on from its own parents comes as it stands there, once.
    """
    found: dict[str, tuple[Listing, FileInfo]] = {}
    for part in parts_of(sources):
        for name, info in part.files.items():
            inherited = name.startswith(BEGINNING) and "/" not in name
            if info.size <= _LARGEST and (inherited or _NAMES.fullmatch(name)):
                place = name if inherited else f"{BEGINNING}{_title(part)}--{name}"
                found.setdefault(place, (part, info))
    return found


def _title(part: Listing) -> str:
    return re.sub(r"[^\w.-]", "_", part.title.replace("/", "--")) or "model"
