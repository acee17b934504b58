"""Whether a merged model still is what its merge wrote: every byte of its weights hashed and held to the manifest.

>>> verify(ModelRef.parse("org/merged")).ok         # doctest: +SKIP
True

The manifest lies beside the weights, so this finds accidents - a bad disk, a broken copy, a stale shard - but not a
forger who rewrites both. Against that, `recompute` merges again from the pinned sources.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from typing import Any, NamedTuple, TypeVar

import torch

from .. import __version__
from ..errors import SourceError
from ..hub.headers import read_headers
from ..hub.listing import list_files
from ..hub.lora import WEIGHTS, is_adapter
from ..hub.source import Source, open_source
from ..hub.store import FileInfo, Folder
from ..methods.blocks import Workspace
from ..progress import Event, Progress, silent
from ..recipe import Recipe
from ..reference import ModelRef
from .compute import merge_blocks, one_thread
from .device import cores
from .findings import some
from .manifest import MANIFEST, Manifest, shown
from .plan import Plan, Wanted, make_plan
from .reader import Reader
from .tensors import TensorPlan

PIECE = 16_000_000
"""Bytes read at once by one thread, so that memory does not grow with the tensors."""

_HUB_READERS = 8
_TICK = 0.25  # seconds between events while nothing is finished

T = TypeVar("T")


@dataclass(frozen=True)
class Verification:
    """What `verify` found in `model` (a folder, or org/name@commit).

    `matching` counts the tensors whose bytes are those of the manifest. Names of tensors: `differing` have other
    bytes, `missing` are only in the manifest, `extra` only in the model, `unreproduced` came out otherwise when the
    recipe was merged again (None: nobody asked for that, or something else was wrong already). Names of files:
    `altered` shards are missing or have another size or header, `stray` weight files are not of this merge, and
    transformers may load them all the same. `nbytes`: bytes hashed. `reasons`: what may make a rightly merged tensor
    come out otherwise here, such as another version of torch.
    """

    model: str
    matching: int
    differing: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    altered: tuple[str, ...]
    stray: tuple[str, ...]
    nbytes: int
    seconds: float
    unreproduced: tuple[str, ...] | None = None
    reasons: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong, each in a few words with the first names; empty where all is right."""
        made = f", merged with {' and '.join(self.reasons)}," if self.reasons else ""
        kinds = (
            (self.differing, "tensor", "with other bytes"),
            (self.missing, "tensor", "missing"),
            (self.extra, "tensor", "that the manifest does not know"),
            (self.altered, "shard", "missing or with another size or header"),
            (self.stray, "weight file", "that the manifest does not know"),
            (self.unreproduced or (), "tensor", f"that the recipe{made} does not give again"),
        )
        return tuple(
            f"{len(names)} {noun}{'s' if len(names) > 1 else ''} {what} ({some(map(shown, names))})"
            for names, noun, what in kinds
            if names
        )

    @property
    def ok(self) -> bool:
        """Whether the weights are byte for byte what the merge wrote."""
        return not self.findings

    def require(self) -> None:
        """Raises `SourceError` naming the first things that are wrong; does nothing where all is right."""
        if self.findings:
            raise SourceError(
                f"{self.model} is not what its merge wrote: {', '.join(self.findings)}; fetch or merge it again."
            )


def verify(
    ref: ModelRef,
    *,
    token: str | None = None,
    recompute: bool = False,
    read: Callable[[Mapping[str, Any]], Wanted] = Recipe.from_dict,
    plan: Callable[..., Plan] = make_plan,
    progress: Progress = silent,
) -> Verification:
    """Hashes the weights of a merged model and compares them with the model's manifest (hubmerge.json).

    Files of a folder and of the Hub cache are read from disk; everything else is read from the Hub by range and not
    kept. With `recompute`, a model that is right is also merged again from its recipe, in memory; `read` and `plan`
    are how a recipe is read and planned. `progress` may raise `Interrupted`.

    Raises `SourceError` for a model that has no manifest or a broken one, or that cannot be opened at all (a shard
    missing or cut short, no config.json, an index that lies), `HubError` for what the Hub refuses; with `recompute`
    also what `make_plan` and a merge raise.
    """
    began = time.monotonic()
    source = _open(ref, token)
    text = source.read_text(MANIFEST)
    if text is None:
        raise SourceError(
            f"{source.name} has no {MANIFEST}, so there is nothing to check it against: "
            "hubmerge did not make it, or the file was not copied with it."
        )
    manifest = Manifest.parse(text, source.name)
    headers, tensors = hash_weights(source, progress)
    both = manifest.tensors.keys() & tensors.keys()
    shards_read = {tensor.file for tensor in source.tensors.values()}
    sizes = {
        file: info.size for file, info in source.files.items() if file in shards_read or file.endswith(".safetensors")
    }
    result = Verification(
        model=f"{source.name}@{source.commit}" if source.commit else source.name,
        matching=sum(tensors[name] == manifest.tensors[name] for name in both),
        differing=tuple(name for name in tensors if name in both and tensors[name] != manifest.tensors[name]),
        missing=tuple(name for name in manifest.tensors if name not in both),
        extra=tuple(name for name in tensors if name not in both),
        altered=tuple(
            file
            for file, size in manifest.sizes.items()
            if (sizes.get(file), headers.get(file)) != (size, manifest.headers[file])
        ),
        stray=tuple(file for file in sizes if file not in manifest.sizes),
        nbytes=sum(sizes[file] for file in headers),
        seconds=time.monotonic() - began,
    )
    if not recompute or not result.ok:
        return result
    again = _merge_again(_plan_again(manifest, source, token, read, plan), progress)
    unreproduced = [name for name in tensors if again.get(name) != _Merged.of(source, name, tensors[name])]
    unreproduced += [name for name in again if name not in tensors]
    return replace(
        result,
        unreproduced=tuple(unreproduced),
        reasons=tuple(_reasons(manifest)),
        seconds=time.monotonic() - began,
    )


def hash_weights(source: Source, progress: Progress = silent) -> tuple[dict[str, str], dict[str, str]]:
    """The sha256 of each shard's header by file, and of each tensor's stored bytes by name.

    Several parts are read and hashed at a time. Raises `SourceError` for a file that cannot be read or changes
    meanwhile, `HubError` for what the Hub refuses.
    """
    parts = _parts(source)
    here = {file: source.local_path(file) for file, _, _, _ in parts if source.is_here(file)}
    stopped = threading.Event()
    count = _Count("verify", sum(part.stop - part.start for part in parts), progress)

    def read(file: str, start: int, stop: int) -> bytes | memoryview:
        if file not in here:
            return source.read_range(file, start, stop)
        return Folder(here[file].parent).read(FileInfo(here[file].name, source.files[file].size), start, stop)

    def hash_run(run: Sequence[_Part]) -> list[str]:
        file, first, end = run[0].file, run[0].start, run[-1].stop
        digests = [sha256() for _ in run]
        for start in range(first, end, PIECE):
            if stopped.is_set():
                break
            stop = min(start + PIECE, end)
            data = memoryview(read(file, start, stop))
            for part, digest in zip(run, digests, strict=True):
                digest.update(data[max(part.start - start, 0) : max(part.stop - start, 0)])
            count.add(stop - start)
        return [digest.hexdigest() for digest in digests]

    # On disk hashing is the work, and a core each is enough; the Hub is waited for.
    workers = cores() if len(here) == len({part.file for part in parts}) else _HUB_READERS
    runs = list(_runs(parts))
    jobs = [(run[0].file, partial(hash_run, run)) for run in runs]
    headers: dict[str, str] = {}
    tensors: dict[str, str] = {}
    for run, digests in zip(runs, _in_order(jobs, workers, stopped.set, count), strict=True):
        for part, digest in zip(run, digests, strict=True):
            if part.tensor is None:
                headers[part.file] = digest
            else:
                tensors[part.tensor] = digest
    return headers, tensors


class _Part(NamedTuple):
    """Bytes of a weight file that are hashed: those of a tensor, or of the header (`tensor` None)."""

    file: str
    start: int
    stop: int
    tensor: str | None


def _parts(source: Source) -> list[_Part]:
    """All parts of the source's weight files, in the order of their bytes; together they are the whole files."""
    tensors = [_Part(tensor.file, tensor.start, tensor.stop, tensor.name) for tensor in source.tensors.values()]
    ends: dict[str, int] = {}
    for part in tensors:
        ends[part.file] = min(part.start, ends.get(part.file, part.start))
    headers = [_Part(file, 0, end, None) for file, end in ends.items()]
    return sorted([*headers, *tensors], key=lambda part: (part.file, part.start, part.stop))


def _runs(parts: Iterable[_Part]) -> Iterator[tuple[_Part, ...]]:
    """Neighbours in a file, together at most a piece long, so that small ones share one read; a larger one alone."""
    run: list[_Part] = []
    for part in parts:
        if run and (part.file != run[0].file or part.stop - run[0].start > PIECE):
            yield tuple(run)
            run = []
        run.append(part)
    if run:
        yield tuple(run)


class _Merged(NamedTuple):
    """A tensor as far as it can be compared: bytes alone do not tell float16 from bfloat16."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str

    @classmethod
    def of(cls, source: Source, name: str, digest: str) -> "_Merged":
        return cls(source.tensors[name].dtype, source.tensors[name].shape, digest)


def _open(ref: ModelRef, token: str | None) -> Source:
    """A model, or the weights of a LoRA, which are verified like those of one."""
    listing = list_files(ref, token)
    if not is_adapter(listing.files) or (file := listing.files.get(WEIGHTS[0])) is None:
        return open_source(ref, token=token)
    headers = read_headers(
        lambda start, stop: listing.store.read(file, start, stop), file.path, file.size, listing.name
    )
    return Source(ref, listing, {header.name: header for header in headers}, {})


def _plan_again(
    manifest: Manifest,
    source: Source,
    token: str | None,
    read: Callable[[Mapping[str, Any]], Wanted],
    plan_of: Callable[..., Plan],
) -> Plan:
    recipe = read(manifest.recipe)
    # A stranger's manifest must not make this machine read its own folders.
    if not source.is_folder and (folders := [str(model) for model in recipe.references if model.reads_folder]):
        raise SourceError(
            f"{source.name} was merged from folders of its maker's machine ({some(map(shown, folders))}), "
            "so it cannot be merged again here; verify it without recomputing."
        )
    if not source.is_folder and isinstance(recipe, Recipe) and recipe.local_texts:
        raise SourceError(
            f"{source.name} was merged by texts of its maker's machine ({some(map(shown, recipe.local_texts))}), so it "
            "cannot be merged again here; verify it without recomputing."
        )
    # The number of a device is that of its maker's machine; its kind is what results depend on.
    plan = plan_of(recipe, token=token, ranged=True, device=manifest.device.partition(":")[0])
    plan.require()
    return plan


def _merge_again(plan: Plan, progress: Progress) -> dict[str, _Merged]:
    """What the plan's merge writes, by name, without writing it."""
    count = _Count("recompute", plan.output_bytes, progress)
    device = torch.device(plan.devices[0])
    reader = Reader(plan.stage, plan.tensors, ranged=plan.ranged, ahead=plan.effort.ahead)

    def hash_merged(tensor: TensorPlan) -> _Merged:
        digest = sha256()
        with reader.reading(tensor) as read:
            for block in merge_blocks(plan.stage.method, tensor, read, Workspace(device)):
                digest.update(block.view(torch.uint8).numpy().data)
                count.add(block.nbytes)
        return _Merged(tensor.dtype, tensor.shape, digest.hexdigest())

    with one_thread(), closing(reader):
        jobs = [(tensor.name, partial(hash_merged, tensor)) for tensor in plan.tensors]
        return dict(zip((name for name, _ in jobs), _in_order(jobs, plan.threads, reader.stop, count), strict=True))


def _reasons(manifest: Manifest) -> Iterator[str]:
    for name, here in (("hubmerge", __version__), ("torch", version("torch"))):
        there = manifest.versions.get(name, "?")
        if there != here:
            yield f"{name} {shown(there)} (here: {here})"
    if manifest.device != "cpu":
        yield f"a device ({shown(manifest.device)}) whose last bits may vary"


class _Count:
    """Bytes done by several threads, and the events that tell of them, sent by the thread that asks for it."""

    def __init__(self, stage: str, total: int, progress: Progress) -> None:
        self._stage, self._total, self._progress = stage, total, progress
        self._done = 0
        self._lock = threading.Lock()

    def add(self, nbytes: int) -> None:
        with self._lock:
            self._done += nbytes

    def tell(self, note: str) -> None:
        self._progress(Event(self._stage, self._done, self._total, "B", note))


def _in_order(
    jobs: Sequence[tuple[str, Callable[[], T]]], workers: int, stop: Callable[[], None], count: _Count
) -> list[T]:
    """Runs jobs (a note for people, and a call) on threads, begun in their order; `stop` makes running ones end soon.

    Events come from the calling thread alone, which is also the one that Ctrl-C reaches.
    """
    results: list[T] = []
    pool = ThreadPoolExecutor(workers, "hubmerge-verify")
    try:
        for note, future in [(note, pool.submit(call)) for note, call in jobs]:
            while not wait([future], _TICK).done:
                count.tell(note)
            results.append(future.result())
            count.tell(note)
    finally:
        stop()
        pool.shutdown(cancel_futures=True)
    return results
