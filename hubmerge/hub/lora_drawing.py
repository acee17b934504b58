"""LoRAs of networks that draw: one file, by the names of diffusers and peft, or of kohya's trainer and its kind.

diffusers: unet.down_blocks.1.attentions.0...to_q.lora_A.weight, and older ...to_q.lora.down.weight; what the factors
are multiplied by is in the file's metadata, or 1. kohya: lora_unet_down_blocks_1_attentions_0..._to_q.lora_down.weight,
or with the first authors' names of blocks, and an alpha beside each. Of FLUX these name what is several modules in
diffusers, each of which has some of the rows.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..documents import parse_object
from ..errors import SourceError
from .checkpoint import SAFE, read_tensors
from .fields import ADAPTER, check_fields
from .first_names import TURNED, first_names, joined_names
from .headers import TensorHeader, read_metadata
from .listing import Listing
from .lora import BY_PEFT, DTYPES, Adapter, Factors, paired, require_fits, require_lora, scale_of

FILE = "pytorch_lora_weights.safetensors"
"""What diffusers calls it."""

_METADATA = "lora_adapter_metadata"
_FACTOR = re.compile(
    r"(?P<module>.+?)(?:\.lora_(?P<peft>[AB])(?:\.default)?|[._]lora(?:_linear_layer)?\.(?P<older>down|up)"
    r"|\.lora_(?P<kohya>down|up))\.weight"
)
_SIDES = {"A": "A", "B": "B", "down": "A", "up": "B"}
_PREFIXES = (
    (re.compile(r"(?:lora_unet_|lora_transformer_|diffusion_model\.)(?P<rest>.+)"), ""),
    (re.compile(r"lora_te1?_(?P<rest>.+)"), "text_encoder"),
    (re.compile(r"lora_te(?P<number>[23])_(?P<rest>.+)"), "text_encoder_"),
    (re.compile(r"(?P<part>unet|transformer|text_encoder(?:_\d)?)\.(?P<rest>.+)"), ""),
)
_OLDER = (("self_attn.to_out", "self_attn.out_proj"), ("self_attn.to_", "self_attn."))


def open_file(listing: Listing, tensors: Mapping[str, TensorHeader], where: str, network: str) -> Adapter:
    """Opens the LoRA in `listing` on the model `where` with these `tensors`, reading no weights.

    `network`: the part of a pipeline that these are, "" for a whole pipeline, whose names begin with their folders.
    Raises `SourceError` for what is no LoRA, for one that does more than add to weights, and for one of another model.
    """
    file, name = _file(listing), listing.name
    how = (lambda start, stop: listing.store.read(file, start, stop)), file.path, file.size, name
    headers = {header.name: header for header in read_tensors(*how)}
    told = _told(read_metadata(*how).get(_METADATA), name)
    parts = _parts(tensors, network)
    main = network or next((part for part in ("unet", "transformer") if part in parts), "unet")
    alphas = {key.removesuffix(".alpha"): headers.pop(key) for key in [*headers] if key.endswith(".alpha")}
    if odd := next((one for one in alphas.values() if one.parameters != 1 or one.dtype not in DTYPES), None):
        raise SourceError(
            f"{name} holds {odd.name} ({odd.dtype}, shape {odd.shape}); expected one number in floating point."
        )
    changes: dict[str, Factors] = {}
    left_out: dict[str, None] = {}
    for module, pair in paired(_factors(headers, name), name).items():
        part, path = _place(module, main)
        if part not in parts:
            if not network:
                raise SourceError(f"{name} was trained on another model than {where}, which has no {part}.")
            left_out[part] = None
            continue
        joined = next((parts[part][one] for one in _spelt(path) if one in parts[part]), None)
        if joined is None:
            raise SourceError(
                f"{name} was trained on another model than {where}: it changes {path}, which is not there."
            )
        config, rank = told.get(part), pair["A"].shape[0]
        if alphas and module not in alphas:
            raise SourceError(f"{name} has no alpha for {module}, and for others it has; fetch it again.")
        scale = 1 / rank if alphas else scale_of(config, path, pair["A"], name) if config is not None else 1.0
        whole = Factors(pair["A"], pair["B"], scale, False, alphas.get(module))
        if joined[1:] and whole.shape[0] != sum(tensor.shape[0] for tensor in joined):
            there = " + ".join(str(tensor.shape[0]) for tensor in joined)
            raise SourceError(
                f"{name} was trained on another model than {where}: it changes {path} of {whole.shape[0]} rows, which "
                f"has {there} there."
            )
        for tensor, rows in zip(joined, _rows(path, whole, joined), strict=True):
            factors = replace(whole, rows=rows)
            require_fits(factors, tensor, name, where)
            if changes.setdefault(tensor.name, factors) is not factors:
                raise SourceError(f"{name} changes {tensor.name} twice, by two names; fetch it again.")
    if not changes:
        raise SourceError(f"{name} changes nothing of {where}, but {', '.join(left_out)}; name the whole pipeline.")
    base = next(iter(listing.base_models), None)
    return Adapter(listing, base, changes, file.path, tuple(left_out))


def _file(listing: Listing) -> Any:
    named = listing.ref.inside.rpartition("/")[2]
    files = [name for name in listing.files if name.endswith(SAFE[0]) and "/" not in name]
    wanted = next((name for name in (named, FILE) if name in files), files[0] if len(files) == 1 else None)
    if wanted is None:
        has = (
            f"it has {', '.join(sorted(files)[:5])}; name one of them: {listing.name}/{sorted(files)[0]}"
            if files
            else ""
        )
        raise SourceError(f"{listing.name} is no LoRA in one file: {has or f'it has no file {SAFE[0]}'}.")
    return listing.files[wanted]


def _told(text: str | None, name: str) -> dict[str, dict[str, Any]]:
    """What the metadata say of each part: the settings of its LoRA, as adapter_config.json has them."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in (parse_object(text, f"{_METADATA} of {name}", SourceError) if text else {}).items():
        part, _, setting = key.partition(".")
        found.setdefault(part, {})[setting] = value
    for config in found.values():
        check_fields(config, ADAPTER, f"{_METADATA} of {name}", "save the LoRA again")
        require_lora(config, name)
    return found


def _factors(headers: Mapping[str, TensorHeader], name: str) -> Iterator[tuple[str, str, TensorHeader]]:
    """The module of each factor, its side, and itself."""
    for header in headers.values():
        match = _FACTOR.fullmatch(header.name)
        if match is None or len(header.shape) not in (2, 4) or 0 in header.shape:
            raise SourceError(
                f"{name} holds {header.name} (shape {header.shape}), which is no factor of a LoRA; {BY_PEFT}."
            )
        side = match["peft"] or match["older"] or match["kohya"]
        if _SIDES[side] == "B" and header.shape[2:] not in ((), (1, 1)):
            raise SourceError(
                f"{name} holds {header.name} of shape {header.shape}, which no product of two is; {BY_PEFT}."
            )
        yield match["module"].replace(".processor.", "."), _SIDES[side], header


_Names = dict[str, tuple[TensorHeader, ...]]
"""Weights by every name that a LoRA may have for their module; several where one name is for all of them."""


def _rows(path: str, whole: Factors, joined: Sequence[TensorHeader]) -> Iterator[tuple[tuple[int, int], ...]]:
    """Which rows of a module's factor each of the weights that it is made of has; none for all, in their order."""
    # A file by the first authors' names has these rows as they have them.
    if path.replace(".", "_") == TURNED.replace(".", "_") and TURNED not in joined[0].name:
        count = whole.shape[0]
        yield (count // 2, count), (0, count // 2)
    elif not joined[1:]:
        yield ()
    else:
        start = 0
        for tensor in joined:
            yield ((start, start + tensor.shape[0]),)
            start += tensor.shape[0]


def _parts(tensors: Mapping[str, TensorHeader], network: str) -> dict[str, _Names]:
    """The weights of each part."""
    found: dict[str, _Names] = {}
    for name, header in tensors.items():
        part, _, own = name.rpartition("/") if not network else (network, "", name)
        if own.endswith(".weight") and len(header.shape) > 1:
            module = own.removesuffix(".weight").removeprefix("model.diffusion_model.")
            found.setdefault(part, {})[module] = (header,)
    for known in found.values():
        more = {first: known[name] for name, first in first_names(known).items()}
        more |= {f"text_model.{name}": one for name, one in known.items() if not name.startswith("text_model.")}
        more |= {
            first: tuple(header for name in joined for header in known[name])
            for first, joined in joined_names(known).items()
        }
        known |= more
        known |= {name.replace(".", "_"): one for name, one in known.items()}
    # kohya's trainer calls T5 the third of the text encoders, whichever it is of a pipeline.
    if "text_encoder_2" in found:
        found.setdefault("text_encoder_3", found["text_encoder_2"])
    return found


def _place(module: str, main: str) -> tuple[str, str]:
    """The part that a module is in, and what it is called there."""
    for pattern, part in _PREFIXES:
        if (one := pattern.fullmatch(module)) is not None:
            groups = one.groupdict()
            return groups.get("part") or part + groups.get("number", "") or main, groups["rest"]
    return main, module


def _spelt(path: str) -> Iterator[str]:
    """The names that a module may have: as it stands, and for what older files call it."""
    yield path
    yield f"{path}.0"
    for older, newer in _OLDER:
        if older in path:
            end = "" if newer.endswith("out_proj") else "_proj"
            yield path.replace(older, newer) + end
