"""A model and its tokenizer by Hub ID or folder, ready to answer."""

import json
import math
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

import torch

from .. import amounts
from ..errors import ResourceError, SourceError
from ..files import disk_errors
from ..guesses import guess
from ..hub.arriving import bring
from ..hub.auto_class import SEEING, auto_class
from ..hub.checkpoint import CONFIG, GGUF, INDEX, TORCH
from ..hub.errors import hub_errors
from ..hub.source import Source, open_source
from ..methods.blocks import BLOCK
from ..progress import Progress, silent
from ..recipe import ModelEntry, Output, Recipe
from ..reference import ModelRef
from ..stream.architecture import answering_class, check_counts, read_architecture, transformers_errors
from ..stream.carried import Carried, is_carried
from ..stream.device import free_memory
from ..stream.dtypes import DTYPES
from ..stream.executor import merge
from ..stream.lora import Adapted
from ..stream.mapped import map_tensors
from ..stream.plan import make_plan, weights_of
from ..stream.towers import check_towers
from ..stream.weights import Reads, Stored
from . import apart, placement
from .fitting import require_fitting, unknown_class
from .processing import require_modest
from .spool import Spool

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_LOADING = threading.Lock()


def load_model(
    name: str | ModelRef | Source,
    *,
    token: str | None = None,
    dtype: str | None = None,
    device: str | None = None,
    memory: int | None = None,
    progress: Progress = silent,
) -> tuple[Any, Any]:
    """Loads (model, tokenizer) for generation from `org/name@revision`, a folder or what is open already, with a LoRA
    added to its weights where one is named; the model is in eval mode.

    `dtype` is "float32", "float16" or "bfloat16"; by default the one of `computing_dtype` where that fits or a limit
    is given, and else the checkpoint's own. `device` defaults to the GPU where there is one. `memory`: bytes of the
    machine's memory that model and answers may take beside the bare process. A model that does not fit that, or the
    device's free memory, is spread over GPUs, memory and its own files by accelerate (see placement.py), and slow.
    No pickle is given to Python and no code of the repository is run. Raises `SourceError`, `ResourceError` or
    `HubError`.
    """
    from transformers import AutoTokenizer

    named = ModelRef.parse(name) if isinstance(name, str) else name
    source = named if isinstance(named, Source) else open_source(named, token=token)
    ref = source.ref
    source.require_words()
    if ref.component is not None:
        raise SourceError(
            f"{ref} is a part of a model, which can be merged but not asked; ask all of {source.listing.name}."
        )
    if source.listing.made and not Carried(source).has_tokenizer:
        raise SourceError(
            f"{ref} has a tokenizer of a kind that is not read from GGUF, so it cannot be asked; put tokenizer.json "
            "and tokenizer_config.json of the model that it was made from beside the file."
        )
    check_counts(source.config)
    Carried(source).check()
    for told in check_towers(weights_of(replace(source, adapter=None))) if auto_class(source.config) == SEEING else ():
        raise SourceError(told.message)
    shared: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    place = torch.device(device or best_device())
    free = free_memory(place) * placement.FREE
    if memory is not None and place.type != "cuda":
        free = memory * placement.WHOLE
    wanted = _choose_dtype(dtype, place, source, free if memory is None else math.inf)
    if wanted is None and source.quantised is not None:
        wanted = DTYPES[source.quantised.dtype].torch  # what they are unpacked to
    size = source.nbytes if wanted is None else source.parameters * wanted.itemsize
    spread: dict[str, Any] = {}
    if size > free:
        if device is not None and memory is None:
            raise ResourceError(
                f"{ref} needs {amounts.size(size)} but {place} has {amounts.size(free)} to give; leave the device open "
                "to spread it over memory and disk, or use a smaller dtype."
            )
        outline = placement.outline(source.config, wanted or most_common(_stored(source)))
        placement.require_room(outline, str(ref), memory)
        devices = placement.spread(outline, placement.room_for_weights(place, memory))
        # What transformers puts together as it loads it has to be written; all else is read where it is.
        spool = Spool()
        if source.adapter is not None or not _is_plain(source):
            source = _written(source, spool.folder / "written", wanted, memory)
        spread = {"device_map": devices, "offload_folder": str(spool.folder / "converted")}
    # Here rather than below: nobody else's model waits for this download.
    # And transformers is given a folder: it would ask the Hub for each file again, with nobody to check what comes.
    where = str(fetch(source, progress))
    apart.start()  # ready by the time that the model is
    with transformers_errors(f"transformers cannot load {ref}"), loading(), hub_errors(f"loading {ref}"):
        plain = source.adapter is None
        with _tokenizer_errors(Carried(source)):
            tokenizer = (
                _calm(AutoTokenizer.from_pretrained(where, **shared)) if plain else load_tokenizer(Carried(source))
            )
        if not _is_plain(source):
            model: Any = _load_read(source, where, wanted)
        else:
            model = answering_class(source.config).from_pretrained(
                where, dtype=wanted or "auto", use_safetensors=True, **shared, **spread
            )
    if source.adapter is not None:
        _adapt(model, source)
    if not spread:
        return model.to(place).eval(), tokenizer
    weakref.finalize(model, spool.close)
    return model.eval(), tokenizer


def fetch(source: Source, progress: Progress = silent) -> Path:
    """Brings all that loading a model reads onto this machine; the folder where it lies. Raises `HubError`."""
    weights = [tensor.file for tensor in source.tensors.values()]
    bring(source, [*weights, *(name for name in source.files if is_carried(name) or name == INDEX)], progress)
    made = source.listing.made
    if not made:
        return source.local_path(CONFIG).parent
    # What the weights' own file tells, and what lies beside it, together.
    where = source.local_path(next(iter(made))).parent
    beside = [name for name in source.files if name not in made and (name == CONFIG or is_carried(name))]
    save_files(str(where), {name: source.listing.read_bytes(name) for name in beside})
    return where


def tokenizer_files(carried: Carried) -> dict[str, bytes]:
    """All that a tokenizer is made of: the same files are the same tokenizer."""
    check_counts(carried.source.config)
    return {**carried.files(), CONFIG: json.dumps(dict(carried.source.config)).encode()}


def _calm(tokenizer: Any) -> Any:
    # Of a text that is too long transformers says that errors will come; it is cut, or refused in a sentence.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    return tokenizer


@contextmanager
def _tokenizer_errors(carried: Carried) -> Iterator[None]:
    """Around the loading of a tokenizer, of which there may be none."""
    try:
        with transformers_errors(f"The tokenizer of {carried.source.name} cannot be loaded"):
            yield
    except SourceError as exc:
        if carried.has_tokenizer:
            raise
        raise SourceError(
            f"{carried.source.name} has no tokenizer (tokenizer.json), so no text can be given to it; put the files of "
            "the one that it was trained with beside its weights."
        ) from exc


def load_tokenizer(carried: Carried, files: Mapping[str, bytes] | None = None) -> Any:
    """The tokenizer as the merge would write it, from its `tokenizer_files` where they are known.

    Raises `SourceError` where it cannot be loaded.
    """
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory(prefix="hubmerge-tokenizer-") as folder:
        save_files(folder, files or tokenizer_files(carried))
        with _tokenizer_errors(carried):
            return _calm(AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True))


def load_processor(carried: Carried) -> Any:
    """What reads pictures and text for a model, as the merge would write it. Raises `SourceError` for a broken one."""
    from transformers import AutoProcessor

    files = tokenizer_files(carried)
    if not any(name.endswith("processor_config.json") for name in files):
        raise SourceError(
            f"{carried.source.name} has no processor_config.json or preprocessor_config.json, so it cannot be shown "
            "pictures; name a model that sees."
        )
    failed, name = "transformers cannot load the processor of", carried.source.listing.name
    hint = "" if find_spec("torchvision") else " (torchvision, which many need, is not installed)"
    with tempfile.TemporaryDirectory(prefix="hubmerge-processor-") as folder:
        save_files(folder, files)
        try:
            with transformers_errors(f"{failed} {name}{hint}"):
                processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        except SourceError as exc:
            if (unknown := unknown_class(files)) is None:
                raise SourceError(str(exc).replace(folder, name)) from exc
            raise SourceError(f"{failed} {name}: {unknown}; name a model whose processor it has.") from exc
    if auto_class(carried.source.config) == SEEING and not hasattr(processor, "image_processor"):
        unknown = unknown_class(files) or "what it finds reads texts alone"
        raise SourceError(f"{failed} {name}: {unknown}; name a model whose processor it has.")
    require_modest(processor, carried.source.config, name)
    if carried.united is None:  # else the result's tokens have other numbers
        require_fitting(processor, carried.source.config, name)
    if hasattr(processor, "tokenizer"):
        _calm(processor.tokenizer).name_or_path = name
    return processor


def save_files(folder: str, files: Mapping[str, bytes]) -> None:
    """Writes small files into a folder, by their names there."""
    for name, content in files.items():
        path = Path(folder) / name
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _is_plain(source: Source) -> bool:
    """Whether transformers may be given the files themselves."""
    return source.quantised is None and not any(one.file.endswith((*TORCH, GGUF)) for one in source.tensors.values())


def _written(source: Source, folder: Path, dtype: torch.dtype | None, memory: int | None) -> Source:
    """A model whose weights are computed as they are read, as with a LoRA, written into a folder in plain safetensors:
    merged with nothing, a block at a time. Raises `ResourceError` where memory or disk do not allow that."""
    output = Output(dtype=str(dtype).removeprefix("torch.") if dtype is not None else None)
    alone = Recipe("passthrough", models=(ModelEntry(source.ref),), output=output)
    merge(make_plan(alone, sources={source.ref: source}, memory=memory, out=folder), folder)
    return open_source(str(folder))


def _load_read(source: Source, where: str, dtype: torch.dtype | None) -> Any:
    """The model of weights that transformers is given as tensors: of what torch.save wrote, or in few bits."""
    from transformers import GenerationConfig

    config = read_architecture(source.config)
    classes = answering_class(source.config)._model_mapping
    if type(config) not in classes:
        raise SourceError(f"{source.name} is a {config.model_type} model, which does not answer with text.")
    weights, mapped = weights_of(replace(source, adapter=None)), dict(map_tensors(source))
    state = {}
    for name, tensor in weights.tensors.items():
        if weights.is_stored(name):
            state[name] = mapped[name]
            continue
        reads = Reads(lambda extent: mapped[extent.tensor.name].view(-1)[extent.start : extent.stop])
        flat = torch.empty(tensor.parameters, dtype=dtype or DTYPES[tensor.dtype].torch)
        for start in range(0, tensor.parameters, BLOCK):
            stop = min(start + BLOCK, tensor.parameters)
            flat[start:stop] = weights.read(name, start, stop, reads)
        state[name] = flat.view(tensor.shape)
    stored = most_common((tensor.dtype, tensor.numel()) for tensor in state.values())
    kind: Any = classes[type(config)]
    model = kind.from_pretrained(None, config=config, state_dict=state, dtype=dtype or stored)
    if "generation_config.json" in source.files:
        model.generation_config = GenerationConfig.from_pretrained(where)
    return model


def _adapt(model: Any, source: Source) -> None:
    """Adds what the source's LoRA adds to the weights of its model, in their dtype."""
    assert source.adapter is not None
    plain = Stored(replace(source, tensors=source.weights, quantised=None))
    adapted, weights = Adapted(plain, source.adapter), dict(model.named_parameters())
    for name, factors in source.adapter.changes.items():
        weight = weights.get(name)
        if weight is None or weight.shape != factors.shape:
            raise SourceError(f"{source.name}: transformers has no {name} to add the LoRA to; merge it first.")
        flat = weight.detach().view(-1)
        # What is in memory now, in the dtype that is computed in, stands for what is stored.
        reads = Reads(lambda extent, flat=flat: flat[extent.start : extent.stop])  # type: ignore[misc]
        for start in range(0, flat.numel(), BLOCK):
            stop = min(start + BLOCK, flat.numel())
            flat[start:stop].copy_(adapted.read(name, start, stop, reads))


@contextmanager
def loading() -> Iterator[None]:
    """Around every `from_pretrained` of a model: one at a time, without progress bars of transformers' own.

    While it loads, transformers swaps functions of its classes and of torch for the whole process. Two models loaded at
    once lose weights: they stay empty, or are drawn at random without an error.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging

    offloading = getLogger("accelerate.big_modeling")  # it warns of what is said here in other words
    with _LOADING:
        shown, hub_hidden = logging.is_progress_bar_enabled(), are_progress_bars_disabled()
        logging.disable_progress_bar()
        level = offloading.level
        offloading.setLevel(ERROR)
        try:
            yield
        finally:
            offloading.setLevel(level)
            if shown:
                logging.enable_progress_bar()  # which shows those of huggingface_hub too
            if hub_hidden:
                disable_progress_bars()


def best_device() -> str:
    """The GPU where there is one, else the CPU, as torch names them."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _choose_dtype(dtype: str | None, place: torch.device, source: Source, free: float) -> torch.dtype | None:
    """The dtype to load in; None for the checkpoint's own."""
    if dtype is not None:
        if dtype not in _DTYPES:
            raise SourceError(
                f"Unknown dtype {dtype!r}{guess(dtype, _DTYPES, few=True)}; expected one of {', '.join(_DTYPES)}."
            )
        return _DTYPES[dtype]
    if place.type != "cpu":
        return None
    computing = computing_dtype(most_common(_stored(source)), place)
    return computing if source.parameters * computing.itemsize <= free else None


def _stored(source: Source) -> Iterator[tuple[torch.dtype, int]]:
    """The dtypes of a model's tensors, each with its elements."""
    known = (tensor for tensor in source.weights.values() if tensor.dtype in DTYPES)
    return ((DTYPES[tensor.dtype].torch, tensor.parameters) for tensor in known)


def computing_dtype(stored: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype that a model with weights of `stored` computes in.

    That is its own on a GPU. A CPU computes in float32, since half precision is slow there; but in bfloat16 it takes
    half the time and memory where it has instructions for that, and then it does as a GPU does.
    """
    if device.type != "cpu":
        return stored
    return torch.bfloat16 if stored == torch.bfloat16 and _has_bfloat16() else torch.float32


def _has_bfloat16() -> bool:
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.8 does not tell
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))


def most_common(sizes: Iterable[tuple[torch.dtype, int]]) -> torch.dtype:
    """The dtype with the most elements of these (dtype, elements)."""
    total: dict[torch.dtype, int] = {}
    for dtype, elements in sizes:
        total[dtype] = total.get(dtype, 0) + elements
    return max(total, key=lambda dtype: total[dtype], default=torch.float32)
