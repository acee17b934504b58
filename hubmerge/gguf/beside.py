"""Whether the GGUF files that lie beside a model's weights are that model: those of a merge before are not."""

import re
from contextlib import suppress
from pathlib import Path

from ..errors import HubmergeError, PlanError, SourceError
from ..hub.gguf.header import read_header
from ..hub.source import Source, open_alone, open_source
from ..progress import Progress, silent
from ..stream.experts import each_apart
from ..stream.plan import weights_of
from .conversion import compare, plan_gguf
from .formats import FORMATS

_PART = re.compile(r".*-\d{5}-of-\d{5}\.gguf")
_HEAD = "lm_head.weight"


def require_same(folder: Path, progress: Progress = silent) -> None:
    """Raises `SourceError` for a GGUF file in `folder` that is damaged, or another model than the weights there.

    Numbers are compared where the file has a format that hubmerge writes, laid out as it does; else names and shapes.
    What is no whole language model, such as a projector of pictures, is left alone.
    """
    files = [file for file in sorted(folder.glob("*.gguf")) if not _PART.fullmatch(file.name)]
    source = open_source(str(folder)) if files else None
    for file in files:
        assert source is not None
        kind = _kind(file, folder)
        try:
            back = each_apart(weights_of(made := open_alone(file)))
        except SourceError:
            continue
        own = each_apart(weights_of(source)).tensors
        if any(
            (name not in back.tensors and name != _HEAD)
            or (name in back.tensors and back.tensors[name].shape != one.shape)
            for name, one in own.items()
        ):
            raise _other(file, source)
        conversion = None
        with suppress(HubmergeError):  # a model, or a machine, of which hubmerge makes no GGUF
            conversion = plan_gguf(source, kind) if kind else None
        if conversion is None or sum(tensor.nbytes for tensor in made.tensors.values()) != conversion.nbytes:
            continue
        try:
            compare(conversion, back, file, progress)
        except PlanError:
            raise _other(file, source) from None


def _kind(file: Path, folder: Path) -> str | None:
    """The format that a file says it has, if hubmerge writes it. Raises `SourceError` for a file that is damaged."""
    with open(file, "rb") as opened:

        def read(start: int, stop: int) -> bytes:
            opened.seek(start)
            return opened.read(stop - start)

        told = read_header(read, file.name, file.stat().st_size, str(folder)).values.get("general.file_type")
    return next((one.name for one in FORMATS.values() if one.file_type == told), None)


def _other(file: Path, source: Source) -> SourceError:
    return SourceError(
        f"{file.name} in {source.name} is another model than the weights beside it, such as that of a merge before; "
        "delete it, move it away, or write it anew (hubmerge gguf, with --overwrite)."
    )
