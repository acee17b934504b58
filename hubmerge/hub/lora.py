"""A LoRA of the Hub: which tensors of its model it changes, and by what - from its config and headers alone.

Hu et al. 2021, https://arxiv.org/abs/2106.09685, as PEFT stores it: adapter_config.json, and
adapter_model.safetensors or .bin.
"""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from ..documents import parse_object
from ..errors import SourceError
from ..layers import core
from ..reference import ModelRef
from ..text import shorten
from . import fields
from .checkpoint import read_tensors
from .headers import TensorHeader
from .listing import Listing
from .pins import pin

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
"""Of both, the first is read."""

PREFIX = "base_model.model."
_POINTS = ((), (1, 1))
"""The kernels of a convolution's second factor: it takes each point by itself."""
DTYPES = ("BF16", "F16", "F32", "F64")
"""Those of factors."""
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.weight)?")
_UNSUPPORTED = {
    "use_dora": "scales the weights' columns (use_dora)",
    "bias": "changes biases (bias)",
    "lora_bias": "changes biases (lora_bias)",
    "modules_to_save": "replaces whole modules (modules_to_save)",
    "trainable_token_indices": "replaces single tokens (trainable_token_indices)",
    "target_parameters": "changes parameters that are no modules (target_parameters)",
    "layer_replication": "repeats layers (layer_replication)",
    "alora_invocation_tokens": "is at work in a part of the text only (alora_invocation_tokens)",
}
# All other fields that peft 0.21 saves and that leave a LoRA what it is: what is added, and nothing else.
_HARMLESS = {
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
}
# Ways to begin that leave the base as it is. With the others (PiSSA, OLoRA, CorDA, LoRA-GA, LoftQ, ...) an adapter is
# the difference from a base of its own.
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
_OFF: tuple[Any, ...] = (None, False, "none", [], {})
BY_PEFT = "merge it into its model with peft first"


@dataclass(frozen=True)
class Factors:
    """What is added to one weight: `scale` times the product of `b` (out, r) and `a` (r, in), turned where `turned`.

    A linear layer's weight has the shape (out, in); an embedding's, and one stored the other way round, (in, out); of a
    convolution all axes but the first are taken for one. `alpha`: where a factor of `scale` lies in the file. `rows`:
    those of `b` that are this weight's, from the first to before the last of each run, where others have the rest; none
    where it has all.
    """

    a: TensorHeader
    b: TensorHeader
    scale: float
    turned: bool
    alpha: TensorHeader | None = None
    rows: tuple[tuple[int, int], ...] = ()

    @property
    def rank(self) -> int:
        """r."""
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """That of the weight, as a matrix."""
        out = sum(stop - start for start, stop in self.rows) if self.rows else self.b.shape[0]
        into = math.prod(self.a.shape[1:])
        return (into, out) if self.turned else (out, into)


@dataclass(frozen=True)
class Adapter:
    """A LoRA opened on its model.

    `changes`: what it adds, by the model's tensor names; `base_model`: the model that it says it was trained on;
    `file`: the one with its factors. `left_out`: parts of a pipeline that it changes as well, and the model is none of.
    """

    listing: Listing = field(repr=False)
    base_model: str | None
    changes: Mapping[str, Factors] = field(repr=False)
    file: str
    left_out: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The Hub ID or the folder, without a revision."""
        return self.listing.name

    @cached_property
    def pinned(self) -> ModelRef:
        """The reference at the commit that was opened, a folder at its digest (see pins.py)."""
        return pin(self)

    @property
    def stored(self) -> Iterable[TensorHeader]:
        """All factors, where they lie; one that several weights share once."""
        lie = (one for factors in self.changes.values() for one in (factors.a, factors.b, factors.alpha))
        return list({one.name: one for one in lie if one is not None}.values())

    @property
    def nbytes(self) -> int:
        """The size of the file that holds the factors; all of it is read."""
        return self.listing.files[self.file].size

    def is_here(self) -> bool:
        """Whether that file is on this machine."""
        return self.listing.store.is_here(self.file)

    def local_path(self) -> Path:
        """That file on disk; one of the Hub is first downloaded."""
        return self.listing.store.path(self.listing.file(self.file))


def is_adapter(files: Collection[str]) -> bool:
    """Whether files are those of an adapter alone."""
    return CONFIG in files and "config.json" not in files


def trained_on(listing: Listing) -> str | None:
    """The model that an adapter's config says it was trained on; None where it names none, or a folder."""
    name = _config(listing).get("base_model_name_or_path")
    return name if isinstance(name, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", name) else None


def weights_alone(listing: Listing) -> str:
    """The file with the weights of an adapter of any kind, by itself. Raises `SourceError` where it or the settings
    cannot be read, or it is a kind of file that can hold code."""
    _config(listing)
    file = listing.files.get(WEIGHTS[0])
    if file is None:
        raise SourceError(f"{listing.name} has no {WEIGHTS[0]}; save the adapter again with safe_serialization.")
    read_tensors(lambda start, stop: listing.store.read(file, start, stop), file.path, file.size, listing.name)
    return file.path


def open_adapter(
    listing: Listing, tensors: Mapping[str, TensorHeader], where: str, network: str | None = None
) -> Adapter:
    """Opens the LoRA in `listing` on the model `where` with these `tensors`, reading no weights.

    `network`: of models of diffusers, whose LoRAs may be one file without settings (see lora_drawing.py).
    Raises `SourceError` for what is no LoRA, for one that does more than add to weights, and for one of another model.
    """
    if network is not None and CONFIG not in listing.files:
        from .lora_drawing import open_file

        return open_file(listing, tensors, where, network)
    config, name = _config(listing), listing.name
    require_lora(config, name)
    file = next((listing.files[one] for one in WEIGHTS if one in listing.files), None)
    if file is None:
        raise SourceError(f"{name} has no {WEIGHTS[0]}; save the adapter again with safe_serialization.")
    headers = read_tensors(lambda start, stop: listing.store.read(file, start, stop), file.path, file.size, name)
    changes, tied = {}, _is_tied(tensors)
    for (module, embedding), pair in paired(_factors(headers, name), name).items():
        if tied and (embedding or module.rpartition(".")[2] == "lm_head"):
            raise SourceError(f"{name} changes {module}, but {where} has one tensor for embedding and head; {BY_PEFT}.")
        tensor = _tensor_of(module, tensors, name, where)
        scale = scale_of(config, module, pair["A"], name)
        factors = Factors(pair["A"], pair["B"], scale, embedding or bool(config.get("fan_in_fan_out")))
        require_fits(factors, tensor, name, where)
        changes[tensor.name] = factors
    return Adapter(listing, trained_on(listing), changes, file.path)


def require_fits(factors: Factors, tensor: TensorHeader, name: str, where: str) -> None:
    """Raises `SourceError` where what a LoRA adds has not the shape of what it is added to."""
    if factors.shape != (tensor.shape[0], math.prod(tensor.shape[1:])):
        raise SourceError(
            f"{name} was trained on another model than {where}: it changes {tensor.name} of shape "
            f"{factors.shape}, which has the shape {tensor.shape} there."
        )


def require_lora(config: Mapping[str, Any], name: str) -> None:
    """Raises `SourceError` where settings of an adapter say that it is anything but a LoRA that adds to weights."""
    if (kind := config.get("peft_type")) != "LORA":
        raise SourceError(f"{name} is an adapter of the kind {kind!r}; only LoRA can be merged.")
    more = [what for key, what in _UNSUPPORTED.items() if config.get(key) not in _OFF]
    if more:
        raise SourceError(f"{name} is more than a LoRA: it {' and '.join(more)}; {BY_PEFT}.")
    if unknown := [key for key in config if key not in _HARMLESS and config[key] not in _OFF]:
        raise SourceError(
            f"{name} may be more than a LoRA: {shorten(str(unknown[0]), 60)} in its {CONFIG} is unknown to hubmerge; "
            f"{BY_PEFT}."
        )
    start = config.get("init_lora_weights")
    if not any(start is plain or (isinstance(start, str) and start == plain) for plain in _PLAIN_STARTS):
        raise SourceError(
            f"{name} began as {shorten(str(start), 40)!r} (init_lora_weights), so it is the difference from a base of "
            "its own, not from the model; make a plain LoRA of it with peft's save_pretrained(..., "
            f"path_initial_model_for_weight_conversion=...), or {BY_PEFT}."
        )


def _is_tied(tensors: Mapping[str, TensorHeader]) -> bool:
    # A head that is stored although the configuration ties it is one of its own: transformers computes with it.
    return not any(name.endswith("lm_head.weight") for name in tensors)


def _config(listing: Listing) -> Mapping[str, Any]:
    text = listing.read_text(CONFIG)
    if text is None:
        raise SourceError(f"{listing.name} is no adapter: it has no {CONFIG} that can be read.")
    what, hint = f"{CONFIG} of {listing.name}", "save the adapter again"
    config = parse_object(text, what, SourceError, hint=hint)
    fields.check_fields(config, fields.ADAPTER, what, hint)
    return config


def _factors(headers: Collection[TensorHeader], name: str) -> Iterator[tuple[tuple[str, bool], str, TensorHeader]]:
    """The module of each factor and whether that is an embedding, its side, and itself."""
    for header in headers:
        match = _FACTOR.fullmatch(header.name.removeprefix(PREFIX))
        if (
            match is None
            or len(header.shape) not in (2, 4)
            or (match["side"] == "B" and header.shape[2:] not in _POINTS)
        ):
            raise SourceError(
                f"{name} holds {header.name} ({header.dtype}, shape {header.shape}), which is no factor of a LoRA; "
                f"{BY_PEFT}."
            )
        yield (match["module"], bool(match["embedding"])), match["side"], header


K = TypeVar("K")


def paired(factors: Iterable[tuple[K, str, TensorHeader]], name: str) -> dict[K, dict[str, TensorHeader]]:
    """The factors A and B of each module. Raises `SourceError` where one is missing or they do not fit together."""
    found: dict[K, dict[str, TensorHeader]] = {}
    for module, side, header in factors:
        if header.dtype not in DTYPES:
            raise SourceError(f"{name} holds {header.name} ({header.dtype}), which is no factor of a LoRA; {BY_PEFT}.")
        found.setdefault(module, {})[side] = header
    for module, pair in found.items():
        if pair.keys() != {"A", "B"} or pair["A"].shape[0] != pair["B"].shape[1]:
            raise SourceError(f"{name} holds only a part of what it adds to {module}; fetch it again.")
    if not found:
        raise SourceError(f"{name} holds no factors of a LoRA; fetch it again.")
    return found


def _tensor_of(module: str, tensors: Mapping[str, TensorHeader], name: str, where: str) -> TensorHeader:
    """The model's weight of a module; some checkpoints leave out, or add, the first part of the names, or have the
    names of another generation of transformers."""
    wanted = f"{module}.weight"
    if wanted in tensors:
        return tensors[wanted]
    near = [other for other in tensors if wanted.endswith(f".{other}") or other.endswith(f".{wanted}")]
    if len(near) != 1:
        near = [other for other in tensors if core(other) == core(wanted)]
    if len(near) != 1:
        raise SourceError(f"{name} was trained on another model than {where}: it changes {wanted}, which is not there.")
    return tensors[near[0]]


def scale_of(config: Mapping[str, Any], module: str, a: TensorHeader, name: str) -> float:
    patterns = config.get("alpha_pattern") or {}
    # PEFT reads them as regular expressions; those of a stranger could take for ever.
    if not all(re.fullmatch(r"[\w.]+", key) for key in patterns):
        raise SourceError(f"{name} has an alpha_pattern whose keys are no names of modules; {BY_PEFT}.")
    key = next((key for key in patterns if f".{module}".endswith(f".{key}")), None)
    alpha = config.get("lora_alpha", 8) if key is None else patterns[key]
    rank = a.shape[0]
    if not alpha or rank == 0:  # what is multiplied by 0 adds nothing
        raise SourceError(f"{name} has the lora_alpha {alpha!r} and the rank {rank}; expected numbers other than 0.")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
