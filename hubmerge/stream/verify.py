"""Whether a merged model still is what its merge wrote: every tensor's bytes hashed and held against the manifest.

>>> verify(ModelRef.parse("org/merged")).ok         # doctest: +SKIP
True

The manifest lies beside the weights, so this finds accidents - a bad disk, a broken copy, a stale shard - and not a
forger who rewrites both.
"""

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from ..errors import SourceError
from ..hub.headers import TensorHeader
from ..hub.source import Source, open_source
from ..progress import Event, Progress, silent
from ..recipe import ModelRef
from .journal import MANIFEST
from .problems import some

PIECE = 16_000_000
"""Bytes read at once by one thread, so that memory does not grow with the tensors."""

_HUB_READERS = 8
_TICK = 0.25  # seconds between events while a large tensor is hashed
_SHA256 = re.compile(r"[0-9a-f]{64}")

Read = Callable[[str, int, int], bytes | bytearray]
"""Reads a file's bytes from start up to but not including stop."""


@dataclass(frozen=True)
class Manifest:
    """What a merge says it wrote: `shards` maps each file to its size in bytes, `tensors` each name to its sha256."""

    shards: Mapping[str, int]
    tensors: Mapping[str, str]

    @classmethod
    def parse(cls, text: str, where: str) -> "Manifest":
        """Reads hubmerge.json of the model `where`; raises `SourceError` where it is not one."""
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            raise SourceError(f"{MANIFEST} of {where} is not valid JSON; fetch or merge the model again.") from None
        shards = document.get("shards") if isinstance(document, dict) else None
        if not isinstance(shards, dict) or not shards:
            raise _broken(where, "it lists no shards")
        sizes: dict[str, int] = {}
        tensors: dict[str, str] = {}
        for file, record in shards.items():
            size, digests = (record.get("nbytes"), record.get("tensors")) if isinstance(record, dict) else (None, None)
            if type(size) is not int or size < 0:
                raise _broken(where, f"the shard {_shown(file)} has no size in bytes (nbytes)")
            if not isinstance(digests, dict):
                raise _broken(where, f"the shard {_shown(file)} has no table of tensors")
            for name, digest in digests.items():
                if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
                    raise _broken(where, f"the tensor {_shown(name)} has no sha256 of 64 hex digits")
                if name in tensors:
                    raise _broken(where, f"the tensor {_shown(name)} is in two shards")
                tensors[name] = digest
            sizes[file] = size
        return cls(sizes, tensors)


@dataclass(frozen=True)
class Verification:
    """What `verify` found in `model` (a folder, or org/name@commit).

    `matching` counts the tensors whose bytes are those of the manifest. Names of tensors: `differing` have other
    bytes, `missing` are only in the manifest, `extra` only in the model. Names of files: `resized` shards are missing
    or have another size, `stray` weight files are not of this merge (transformers may load them all the same).
    `nbytes`: bytes hashed.
    """

    model: str
    matching: int
    differing: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    resized: tuple[str, ...]
    stray: tuple[str, ...]
    nbytes: int
    seconds: float

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong, each in a few words with the first names; empty where all is right."""
        kinds = (
            (self.differing, "tensor", "with other bytes"),
            (self.missing, "tensor", "missing"),
            (self.extra, "tensor", "that the manifest does not know"),
            (self.resized, "shard", "missing or of another size"),
            (self.stray, "weight file", "that the manifest does not know"),
        )
        return tuple(
            f"{len(names)} {noun}{'s' if len(names) > 1 else ''} {what} ({some(map(_shown, names))})"
            for names, noun, what in kinds
            if names
        )

    @property
    def ok(self) -> bool:
        """Whether the model is byte for byte what the merge wrote."""
        return not self.findings

    def require(self) -> None:
        """Raises `SourceError` naming the first things that are wrong; does nothing where all is right."""
        if self.findings:
            raise SourceError(
                f"{self.model} is not what its merge wrote: {', '.join(self.findings)}; fetch or merge it again."
            )


def verify(ref: ModelRef, *, token: str | None = None, progress: Progress = silent) -> Verification:
    """Hashes every tensor of a merged model and compares it with the model's manifest (hubmerge.json).

    Files of a folder and of the Hub cache are read from disk; everything else is read from the Hub by range and not
    kept. `progress` may raise `Interrupted`. Raises `SourceError` for a model that has no manifest or a broken one, or
    that cannot be opened at all (a shard missing or cut short, no config.json, an index that lies), `HubError` for what
    the Hub refuses.
    """
    began = time.monotonic()
    source = open_source(ref, token=token)
    text = source.read_text(MANIFEST)
    if text is None:
        raise SourceError(
            f"{source.name} has no {MANIFEST}, so there is nothing to check it against: "
            "hubmerge did not make it, or the file was not copied with it."
        )
    manifest = Manifest.parse(text, source.name)
    digests = hash_tensors(source, progress)
    stored, promised = source.tensors.keys(), manifest.tensors.keys()
    both = [name for name in manifest.tensors if name in stored]
    differing = tuple(name for name in both if digests[name] != manifest.tensors[name])
    sizes = {file: info.size for file, info in source.files.items() if file.endswith(".safetensors")}
    return Verification(
        model=f"{source.name}@{source.commit}" if source.commit else source.name,
        matching=len(both) - len(differing),
        differing=differing,
        missing=tuple(name for name in manifest.tensors if name not in stored),
        extra=tuple(name for name in source.tensors if name not in promised),
        resized=tuple(file for file, size in manifest.shards.items() if sizes.get(file) != size),
        stray=tuple(file for file in sizes if file not in manifest.shards),
        nbytes=source.nbytes,
        seconds=time.monotonic() - began,
    )


def hash_tensors(source: Source, progress: Progress = silent) -> dict[str, str]:
    """The sha256 of each tensor's stored bytes by name, several tensors at a time.

    Raises `SourceError` for a file that cannot be read or changes meanwhile, `HubError` for what the Hub refuses.
    """
    read, threads = _reader(source)
    stopped = threading.Event()
    counted = threading.Lock()
    done = 0

    def hash_run(run: Sequence[TensorHeader]) -> dict[str, str]:
        nonlocal done
        first, end = run[0].start, run[-1].stop
        digests = {tensor.name: sha256() for tensor in run}
        for start in range(first, end, PIECE):
            if stopped.is_set():
                break
            stop = min(start + PIECE, end)
            data = memoryview(read(run[0].file, start, stop))
            for tensor in run:
                digests[tensor.name].update(data[max(tensor.start - start, 0) : max(tensor.stop - start, 0)])
            with counted:
                done += stop - start
        return {name: digest.hexdigest() for name, digest in digests.items()}

    def tell(run: Sequence[TensorHeader]) -> None:
        progress(Event("verify", done, source.nbytes, "B", run[0].file))

    digests: dict[str, str] = {}
    pool = ThreadPoolExecutor(threads)
    try:
        runs = [(run, pool.submit(hash_run, run)) for run in _runs(source.tensors.values())]
        for run, future in runs:
            # Events come from this thread alone, which is also the one that Ctrl-C reaches.
            while not wait([future], timeout=_TICK).done:
                tell(run)
            digests |= future.result()
            tell(run)
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)
    return digests


def _runs(tensors: Iterable[TensorHeader]) -> Iterator[tuple[TensorHeader, ...]]:
    """Neighbours in a file, together at most a piece long, so that small tensors share one read; a larger one alone."""
    run: list[TensorHeader] = []
    for tensor in sorted(tensors, key=lambda tensor: (tensor.file, tensor.start, tensor.stop)):
        if run and (tensor.file != run[0].file or tensor.stop - run[0].start > PIECE):
            yield tuple(run)
            run = []
        run.append(tensor)
    if run:
        yield tuple(run)


def _reader(source: Source) -> tuple[Read, int]:
    """How the source's weights are read, and by how many threads."""
    files = {tensor.file for tensor in source.tensors.values()}
    here = {file: source.local_path(file) for file in files if source.is_here(file)}

    def read(file: str, start: int, stop: int) -> bytes | bytearray:
        if file not in here:
            return source.read_range(file, start, stop)
        try:
            with open(here[file], "rb") as opened:
                opened.seek(start)
                data = opened.read(stop - start)
        except OSError as exc:
            raise SourceError(f"{file} of {source.name} cannot be read ({exc.strerror or exc}).") from exc
        if len(data) != stop - start:
            raise SourceError(f"{file} of {source.name} became shorter while it was read; run the same again.")
        return data

    # On disk hashing is the work, and a core each is enough; the Hub is waited for.
    return read, (os.cpu_count() or 1) if len(here) == len(files) else _HUB_READERS


def _broken(where: str, problem: str) -> SourceError:
    return SourceError(f"{MANIFEST} of {where} is broken: {problem}; fetch or merge the model again.")


def _shown(name: Any) -> str:
    # Names come from files of strangers: nothing in them may steer the terminal.
    return name if name.isprintable() else ascii(name)
