"""A model as one GGUF file: planned from headers, written a few rows at a time, read back and compared."""

import importlib.util
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..errors import PlanError, ResourceError, SourceError
from ..files import TEMPORARY, atomic, disk_errors
from ..hub.arriving import bring
from ..hub.gguf.naming import Architecture
from ..hub.licences import combine
from ..hub.patience import check_stopped
from ..hub.source import Source, open_alone
from ..places import folder_name
from ..progress import Event, Progress, silent
from ..stream.architecture import completed
from ..stream.dtypes import STORED
from ..stream.experts import each_apart
from ..stream.plan import Plan, weights_of
from ..stream.reader import check_finite
from ..stream.weights import Extent, Reads, Weights
from . import settings, tokens
from .formats import FORMATS, Format, allowed, find_format
from .tensors import Laid, bytes_of, lay_out, numbers


@dataclass(frozen=True)
class Conversion:
    """What is to be written: `keys` of the header, `small` tensors that belong to it, and `tensors`; `remarks`: what
    llama.cpp does otherwise in rare cases."""

    source: Source
    weights: Weights = field(repr=False)
    known: Architecture = field(repr=False)
    format: Format
    keys: Mapping[str, Any] = field(repr=False)
    small: Mapping[str, list[float]] = field(repr=False)
    tokenizer: bytes = field(repr=False)
    tensors: tuple[Laid, ...] = field(repr=False)
    remarks: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the weights in the file."""
        return sum(map(bytes_of, self.tensors))


def plan_gguf(source: Source, kind: str) -> Conversion:
    """What `source` is as GGUF in a format ("Q8_0"). No weight is read.

    Raises `SourceError` for a model that llama.cpp lacks or would compute otherwise, `RecipeError` for a format that
    is not written here, `ResourceError` where the package `gguf` is not installed.
    """
    chosen = require_gguf(kind)
    weights = each_apart(weights_of(source))
    what = source.name
    known = settings.architecture(weights.config, what, weights.components)
    config = completed(weights.config)
    tensors = lay_out(weights, known, config, chosen)
    embedding = next((one for one in tensors if one.name == "token_embd.weight"), None)
    if embedding is None:
        raise SourceError(f"{what} has no embedding of tokens, so llama.cpp cannot run it.")
    blocks = {one.name.split(".")[1] for one in tensors if one.name.startswith("blk.")}
    for key, told, held in (
        ("num_hidden_layers", config["num_hidden_layers"], len(blocks)),
        ("hidden_size", config["hidden_size"], embedding.shape[1]),
    ):
        if told != held:
            raise SourceError(f"config.json of {what} says {key}: {told}, its weights say {held}; mend config.json.")
    config["vocab_size"] = embedding.shape[0]
    keys, small, remarks = settings.keys_of(config, known, what)
    words = tokens.keys_of(weights.tokenizer, config, embedding.shape[0], what, _name(source))
    keys = {f"{known.name}.{key}": value for key, value in keys.items()}
    return Conversion(
        source,
        weights,
        known,
        chosen,
        _general(source, chosen) | keys | words.keys,
        small,
        words.file,
        tuple(tensors),
        (*remarks, *words.remarks),
    )


def require_gguf(kind: str, plan: Plan | None = None) -> Format:
    """The format `kind`; raises what `plan_gguf` does where a merge that is planned cannot become GGUF, as far as its
    configuration tells."""
    chosen = find_format(kind)
    if importlib.util.find_spec("gguf") is None:
        raise ResourceError(
            "GGUF is written with the package gguf, which is not installed; run pip install 'hubmerge[gguf]'."
        )
    if plan is not None:
        known = settings.architecture(plan.config, "The result")
        settings.keys_of(completed(plan.config), known, "The result")
    return chosen


def file_name(conversion: Conversion) -> str:
    """What the file of a model is called, if nobody says: after the model and the format."""
    return f"{_name(conversion.source)}-{conversion.format.name}.gguf"


def _name(source: Source) -> str:
    name = source.ref.inside.rpartition("/")[2]
    if name.endswith((".gguf", ".safetensors")):  # one file of several, which is called after what it is
        stem = name.rpartition(".")[0]
        return next((stem.removesuffix(f"-{kind}") for kind in FORMATS if stem.endswith(f"-{kind}")), stem)
    return folder_name(source.listing.name) if source.is_folder else source.title.rpartition("/")[2]


def _general(source: Source, kind: Format) -> dict[str, Any]:
    licence = combine([source])
    keys: dict[str, Any] = {
        "general.type": "model",
        "general.license": licence.license,
        "general.license.name": licence.license_name,
        "general.license.link": licence.license_link,
        "general.file_type": kind.file_type,
        "general.quantization_version": 2,
    }
    bases = source.base_models
    if bases:
        keys["general.base_model.count"] = len(bases)
    for number, base in enumerate(bases):
        organization, _, name = base.rpartition("/")
        told = {"name": name, "organization": organization, "repo_url": f"https://huggingface.co/{base}"}
        keys |= {f"general.base_model.{number}.{key}": value for key, value in told.items()}
    return {key: value for key, value in keys.items() if value not in (None, "")}


def write_gguf(conversion: Conversion, out: Path, progress: Progress = silent) -> int:
    """Writes the file, whole or not at all, and compares what it holds with the model. Returns its size in bytes.

    Raises `SourceError` for weights that cannot be read or stored, `PlanError` where what is read back is something
    else, `ResourceError` for what the disk refuses.
    """
    # Each is read twice.
    bring(conversion.source, [tensor.file for tensor in conversion.source.tensors.values()], progress)
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        room = out.with_name(
            f".{out.name}{TEMPORARY}"
        )  # a folder, so that what is not checked is no model beside others
        room.mkdir(exist_ok=True)
    unchecked = room / out.name
    try:
        with atomic(unchecked) as file:
            _write(conversion, file, progress)
        check(conversion, unchecked, progress)
        with disk_errors(out):
            unchecked.replace(out)
    finally:
        unchecked.unlink(missing_ok=True)
        room.rmdir()
    return out.stat().st_size


class _Rows:
    """A tensor as llama.cpp's writer takes an array: it asks for the size, and then for the bytes."""

    def __init__(self, nbytes: int, rows: Callable[[], Iterable[Any]]) -> None:
        self.nbytes = nbytes
        self._rows = rows

    def tofile(self, file: BinaryIO) -> None:
        for rows in self._rows():
            file.write(memoryview(rows).cast("B"))


def _write(conversion: Conversion, file: BinaryIO, progress: Progress) -> None:
    from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter, size_label
    from gguf.gguf_writer import WriterState

    writer = GGUFWriter(None, conversion.known.name)
    for name, values in conversion.small.items():
        writer.add_tensor_info(name, (len(values),), numbers(values).dtype, 4 * len(values))
    for laid in conversion.tensors:
        kind = GGMLQuantizationType[laid.format.name]
        writer.add_tensor_info(laid.name, laid.shape, numbers([]).dtype, bytes_of(laid), kind)
    kinds = {
        bool: GGUFValueType.BOOL,
        int: GGUFValueType.UINT32,
        float: GGUFValueType.FLOAT32,
        str: GGUFValueType.STRING,
    }
    keys = {"general.size_label": size_label(*writer.get_total_parameter_count()), **conversion.keys}
    for key, told in keys.items():
        if isinstance(told, list):
            writer.add_array(key, told)
        else:
            writer.add_key_value(key, told, kinds[type(told)])
    writer.fout, writer.state = [file], WriterState.EMPTY  # open already
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for values in conversion.small.values():
        content = numbers(values)
        writer.write_tensor_data(_Rows(content.nbytes, partial(iter, [content])))
    done, total = 0, conversion.nbytes
    for laid in conversion.tensors:
        progress(Event("write", done, total, "B", laid.name))
        with closing(_reading()) as reads:
            writer.write_tensor_data(_Rows(bytes_of(laid), partial(laid.packed, conversion.weights, reads)))
        done += bytes_of(laid)
    progress(Event("write", done, total, "B"))


def _reading() -> Reads:
    """How to read stored tensors."""

    def stored(extent: Extent) -> Tensor:
        check_stopped()
        data = bytearray(extent.source.read_range(extent.tensor.file, *extent.bytes))
        values = torch.frombuffer(data, dtype=STORED[extent.tensor.dtype].torch) if data else torch.empty(0)
        check_finite(extent.source, extent.tensor.name, values)
        return values

    return Reads(stored)


def check(conversion: Conversion, file: Path, progress: Progress = silent) -> None:
    """Compares what a file holds with the model that it was made of: every number within what its format allows.

    Raises `PlanError` for the first that is not.
    """
    made = open_alone(file)
    back, own = each_apart(weights_of(made)), conversion.weights
    if lost := sorted(own.tensors.keys() ^ back.tensors.keys()):
        raise PlanError(f"{file.name} was read back without {lost[0]}, or with it alone.")
    if sum(tensor.nbytes for tensor in made.tensors.values()) != conversion.nbytes:
        raise PlanError(f"{file.name} holds weights in other formats than {conversion.format.name}.")
    told, config = completed(made.config), completed(own.config)
    for key in (*conversion.known.settings.values(), "rope_parameters"):
        if not _alike(told.get(key), config.get(key)):
            raise PlanError(f"{file.name} was read back with {key}: {told.get(key)!r}, and not {config.get(key)!r}.")
    if made.listing.read_bytes("tokenizer.json") != conversion.tokenizer:
        raise PlanError(f"{file.name} was read back with another tokenizer.")
    compare(conversion, back, file, progress)


def compare(conversion: Conversion, back: Weights, file: Path, progress: Progress = silent) -> None:
    """Compares the numbers `back` that a file holds with those that it was made of; raises what `check` does."""
    own = conversion.weights
    done, total = 0, conversion.nbytes
    for laid in conversion.tensors:
        progress(Event("read back", done, total, "B", laid.name))
        with closing(_reading()) as reads, closing(_reading()) as again:
            for wanted, found in zip(laid.blocks(own, reads), laid.blocks(back, again), strict=True):
                if bool(((wanted - found).abs() > allowed(wanted, laid.format) + _SUM * laid.added).any()):
                    raise PlanError(
                        f"{laid.name} of {file.name} was read back otherwise than {laid.format.name} allows; this is a "
                        "fault of hubmerge or of the disk, so do not use the file."
                    )
        done += bytes_of(laid)
    progress(Event("read back", done, total, "B"))


_SUM = 2.0**-21
"""How far a small number may be off to which one was added, and taken off again, in float32."""


def _alike(told: Any, own: Any) -> bool:
    """Whether two settings are the same, as float32 has them."""
    if isinstance(told, dict) and isinstance(own, dict):
        return all(_alike(told.get(key), own[key]) for key in own if own[key] is not None)
    if isinstance(told, list) and isinstance(own, list):
        return len(told) == len(own) and all(map(_alike, told, own))
    if isinstance(told, float) or isinstance(own, float):
        return (
            isinstance(told, (int, float)) and isinstance(own, (int, float)) and math.isclose(told, own, rel_tol=1e-6)
        )
    return bool(told == own)
