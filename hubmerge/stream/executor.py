"""The merge itself: read, compute, write - tensor by tensor, shard by shard, the index last."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from itertools import cycle
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from .. import __version__
from ..errors import AccessError, HubError, NetworkError, PlanError, SourceError
from ..files import disk_errors, require_path
from ..hub.listing import Listing
from ..hub.push import PushResult, Upload
from ..hub.source import Source, parts_of, pins_of
from ..hub.unplaced import without_places
from ..methods.blocks import Workspace
from ..progress import Event, Progress, silent
from ..recipe import Recipe
from . import budget, shards
from .compute import merge_blocks, one_thread
from .findings import raise_errors
from .journal import Journal, open_journal
from .manifest import MANIFEST, sources_of
from .names import name_of
from .plan import SHARD_SIZE, Plan, make_plan
from .reader import Reader
from .shards import ShardPlan
from .stage import Stage
from .tensors import TensorPlan
from .writer import ShardFile

T = TypeVar("T")

_TICK = 0.25
"""Seconds between reports while nothing is finished."""

_LIBRARIES = ("torch", "safetensors", "accelerate", "huggingface_hub")


@dataclass(frozen=True)
class MergeResult:
    """A finished merge.

    `folder`: where it lies, None where it went to the Hub alone; `pushed`: the commit there, if any; `tensors`: the
    sha256 of each tensor's bytes; `kept`: how many shards an earlier run had finished.
    """

    plan: Plan
    folder: Path | None
    pushed: PushResult | None
    tensors: Mapping[str, str]
    kept: int
    seconds: float

    @property
    def repo(self) -> str | None:
        """The repository that it was pushed to."""
        return self.pushed.repo_id if self.pushed else None

    @property
    def commit(self) -> str | None:
        """The commit that it was pushed as."""
        return self.pushed.commit if self.pushed else None


def merge(
    recipe: Recipe | Plan,
    out: Path,
    *,
    token: str | None = None,
    shard_size: int = SHARD_SIZE,
    progress: Progress = silent,
    upload: Upload | None = None,
    overwrite: bool = False,
    again: bool = False,
    keep: Iterable[Path] = (),
    files: Mapping[str, bytes] | None = None,
    message: str | None = None,
) -> MergeResult:
    """Merges `recipe` into the folder `out`.

    A run that broke goes on where it stopped when the same merge is run again. With `upload`, `out` is only a place
    to work: each shard goes to the Hub when it is finished and is deleted here, and ONE commit with `message` makes
    them visible. `files` are small files to put beside the weights, such as README.md. `overwrite` allows a folder
    that holds something else; model files in it are removed. `again` replaces the finished model of another merge
    where it is still as it was written. No file that the merge reads, nor one of `keep`, is removed or written over.
    `progress` may raise `Interrupted`.

    Raises `PlanError`, `RecipeError` or `ResourceError` before any weight is read, `SourceError` for weights that
    cannot be merged, `HubError` for what the Hub refuses.
    """
    began = time.monotonic()
    pushing = upload is not None
    plan = (
        recipe if isinstance(recipe, Plan) else make_plan(recipe, token=token, shard_size=shard_size, pushing=pushing)
    )
    plan.require()
    require_path(out, PlanError)
    out = Path(os.path.realpath(out))
    _refuse_sources(plan, out)
    for one in plan.statistics:
        one.check()
    reads = [*files_read(plan), *keep]
    with disk_errors(out):
        if upload is not None:
            upload.start()
        target = f"{upload.repo_id}@{upload.revision}" if upload else None
        with open_journal(out, plan.key, target=target, overwrite=overwrite, again=again, kept=reads) as journal:
            return _Run(plan, journal, progress, upload, target).run(dict(files or {}), message, began)


class _Run:
    """One merge into one folder: shard by shard, its tensors in parallel, while the shard before it goes up."""

    def __init__(
        self, plan: Plan, journal: Journal, progress: Progress, upload: Upload | None, target: str | None
    ) -> None:
        self.plan = plan
        self.journal = journal
        self.progress = progress
        self.upload = upload
        self.target = target
        self.tensors = {tensor.name: tensor for tensor in plan.tensors}
        self.workspaces = threading.local()
        self.devices = cycle(plan.devices)
        self.lock = threading.Lock()
        self.fetching = ""
        self.fetched = 0
        files = plan.stage.stored.files.values()
        self.to_fetch = sum(not source.is_here(file) for source, file in files)
        self.done = self.kept = 0  # bytes of the result, and those that an earlier run made
        self.sending: tuple[ShardPlan, Future[str | None]] | None = None
        # A finished model that is pushed afterwards stays where it is.
        self.keeps_files = upload is None or journal.is_finished

    def run(self, files: dict[str, bytes], message: str | None, began: float) -> MergeResult:
        plan, journal, folder = self.plan, self.journal, self.journal.folder
        kept = len(journal.shards)
        out_bytes = plan.spill_bytes + budget.disk_bytes(plan.shards, not self.keeps_files, plan.shard_size)
        out_bytes -= journal.nbytes if self.keeps_files else 0
        raise_errors(budget.check_disk(folder, out_bytes, 0 if plan.ranged else plan.fetch_bytes))
        files = plan.tokenizer.files() | files
        for component in plan.components:
            if (settings := component.settings_file) is not None:
                files[settings] = _json(component.config)
            if len(component.shards) > 1:
                index = shards.index(component.shards, component.tensors)
                files[component.file(component.stem + shards.INDEX_ENDING)] = index
        files = {name: without_places(name, content) for name, content in files.items()}
        if self.keeps_files:
            journal.check(files)
        journal.begin(shard.file for shard in plan.shards)
        self._make_all()
        if self.fetched:
            self.progress(Event("fetch", self.fetched, self.fetched, "files"))
        files[MANIFEST] = _manifest(plan, journal, files)
        self._tell(MANIFEST)
        pushed = self._finish(files, message)
        digests = {
            name_of(file, name): digest
            for file, record in journal.shards.items()
            for name, digest in record.tensors.items()
        }
        tensors = {tensor.name: digests[tensor.name] for tensor in plan.tensors}
        return MergeResult(plan, folder if self.keeps_files else None, pushed, tensors, kept, time.monotonic() - began)

    def _make_all(self) -> None:
        plan = self.plan
        missing = [shard for shard in plan.shards if shard.file not in self.journal.shards]
        wanted = [self.tensors[name] for shard in missing for name in shard.names]
        room = self.journal.room
        reader = Reader(plan.stage, wanted, self._fetch, ranged=plan.ranged, ahead=plan.effort.ahead, room=room)
        with one_thread(), closing(reader), ThreadPoolExecutor(plan.threads, "hubmerge-merge") as pool:
            try:
                for shard in plan.shards:
                    if shard in missing:
                        self._make_room(shard)
                        self._make(shard, reader, pool)
                    else:
                        self.done += shard.nbytes
                        self.kept += shard.nbytes
                        self._tell(f"{shard.file} was finished before")
                    self._send(shard)
                self._wait_for_upload()
            except BaseException:
                reader.stop()
                pool.shutdown(cancel_futures=True)
                raise

    def _make_room(self, shard: ShardPlan) -> None:
        """Waits for the upload of the shard before where both would take more disk than was asked for."""
        if self.sending is not None and not self.keeps_files:
            before, _ = self.sending
            if before.nbytes + shard.nbytes > self.plan.shard_size:
                self._wait_for_upload()

    def _make(self, shard: ShardPlan, reader: Reader, pool: ThreadPoolExecutor) -> None:
        tensors = [self.tensors[name] for name in shard.names]
        with (
            self.journal.shard(shard.file) as file,
            closing(ShardFile(file, shards.header(tensors, shard.file), tensors)) as target,
        ):
            self._tell(shard.file)
            merging = {pool.submit(self._merge, tensor, reader, target): tensor for tensor in tensors}
            try:
                while merging:
                    for future in wait(merging, _TICK, FIRST_COMPLETED).done:
                        tensor = merging.pop(future)
                        future.result()
                        self._tell(tensor.name)
                    self._tell(shard.file)
            except BaseException:
                # The file must stay open until nobody writes to it.
                reader.stop()
                for future in merging:
                    future.cancel()
                wait(merging)
                raise
            # Noted before it takes its place: no moment leaves a shard that the journal does not know.
            self.journal.add(target.finish(shard.file))

    def _merge(self, tensor: TensorPlan, reader: Reader, target: ShardFile) -> None:
        if not hasattr(self.workspaces, "of_thread"):
            with self.lock:
                device = next(self.devices)
            self.workspaces.of_thread = Workspace(torch.device(device))
        with reader.reading(tensor) as read:
            blocks = merge_blocks(self.plan.stage.method, tensor, read, self.workspaces.of_thread)
            target.write(tensor.name, self._counted(blocks))

    def _counted(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        for block in blocks:
            yield block
            with self.lock:
                self.done += block.nbytes

    def _send(self, shard: ShardPlan) -> None:
        """Begins to upload a finished shard, when the one before it is on the Hub."""
        self._wait_for_upload()
        if self.upload is None:
            return
        path = self.journal.folder / shard.file
        if shard.file in self.journal.uploaded:
            _, sha256 = self.journal.uploaded[shard.file]
            self.upload.add_uploaded(shard.file, self.journal.shards[shard.file].nbytes, sha256)
            if not self.keeps_files:
                self.journal.drop(shard.file)
            return
        self._tell_upload(shard.file)
        self.sending = shard, _in_background(partial(self.upload.add, shard.file, path))

    def _wait_for_upload(self) -> None:
        if self.sending is None:
            return
        shard, sending = self.sending
        while not wait([sending], _TICK).done:
            self._tell_upload(shard.file)
        sha256 = sending.result()
        self.sending = None
        if self.keeps_files:
            return
        if sha256 is not None:
            self.journal.mark_uploaded(shard.file, str(self.target), sha256)
        self.journal.drop(shard.file)

    def _finish(self, files: Mapping[str, bytes], message: str | None) -> PushResult | None:
        folder = self.journal.folder
        if self.keeps_files:
            self.journal.write(files)
        pushed = None
        if self.upload is not None:
            for name, content in files.items():
                self.upload.add(name, content)
            try:
                pushed = self.upload.commit(message or _message(self.plan))
            except (NetworkError, AccessError):
                raise
            except HubError:
                # The Hub may have cleared away what an earlier run uploaded: do not rely on it again.
                self.journal.forget_uploaded()
                raise
        self.journal.close()
        if not self.keeps_files and not any(folder.iterdir()):
            folder.rmdir()
        return pushed

    def _tell(self, note: str) -> None:
        """Reports from the thread that runs the merge, which is also the one that Ctrl-C reaches."""
        if self.fetching:
            with self.lock:
                fetching, self.fetching = self.fetching, ""
            self.progress(Event("fetch", self.fetched - 1, self.to_fetch, "files", fetching))
        self.progress(Event("merge", self.done, self.plan.output_bytes, "B", note, kept=self.kept))

    def _tell_upload(self, file: str) -> None:
        self.progress(Event("upload", self.done, self.plan.output_bytes, "B", file, kept=self.kept))

    def _fetch(self, source: Source, file: str) -> None:
        if not source.is_here(file):
            with self.lock:
                self.fetching = f"{file} of {source.name}"
                self.fetched += 1


def _in_background(call: Callable[[], T]) -> "Future[T]":
    """Runs `call` on a thread that does not keep the program from ending."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as exc:
            future.set_exception(exc)

    threading.Thread(target=run, name="hubmerge-upload", daemon=True).start()
    return future


def files_read(plan: Plan) -> Iterator[Path]:
    """The files on this machine that the plan's models, LoRAs and tokenizer are read from."""
    for part in parts_of(plan.sources):
        for name, file in part.files.items():
            with suppress(SourceError):
                if part.store.is_here(name):
                    yield part.store.path(file)


def _refuse_sources(plan: Plan, out: Path) -> None:
    for source in plan.sources:
        for part in source.parts:
            if part.root is not None and os.path.realpath(part.root) == os.path.realpath(out):
                raise PlanError(f"{out} is one of the models to merge; choose another folder for the result.")


def _manifest(plan: Plan, journal: Journal, files: Mapping[str, bytes]) -> bytes:
    """What the model was made from: the pinned recipe, the sources, and the sha256 of every shard, tensor and file."""
    return _json(
        {
            "hubmerge": __version__,
            "key": plan.key,
            "recipe": plan.recipe.to_dict(),
            "sources": [
                {"model": pin.repo_id, "commit": pin.revision, "license": part.licence.id, **_parents(part)}
                for part, pin in zip(parts_of(plan.sources), pins_of(plan.sources), strict=True)
            ],
            **_calibration(plan),
            "device": plan.device,
            "versions": {library: version(library) for library in _LIBRARIES},
            "shards": {shard.file: asdict(journal.shards[shard.file]) for shard in plan.shards},
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            **({"made": journal.made} if journal.made else {}),
        }
    )


def _parents(part: Listing) -> dict[str, object]:
    """Of a folder, which nobody else can get: what it was made from itself."""
    found = sources_of(part) if part.commit is None else []
    kept = [{key: one.get(key) for key in ("model", "commit", "license")} for one in found]
    return {"parents": kept} if kept else {}


def _calibration(plan: Plan) -> dict[str, object]:
    """By which texts the models were measured, and what that gave."""
    told = [
        {"model": str(one.source.pinned), "kind": one.kind, **asdict(one.texts), "sha256": one.digest}
        for one in plan.statistics
    ]
    return {"calibration": told} if told else {}


def _message(plan: Plan) -> str:
    return f"Merge {len(set(_merged(plan.stage)))} models with {' and '.join(plan.methods)}"


def _merged(stage: Stage) -> Iterator[str]:
    """The names of what is merged, parts by those of their models."""
    for _, module in stage.modules:
        yield from _merged(module)
    used = {index for tensor in stage.tensors for index, _ in tensor.inputs} if not stage.modules else ()
    yield from (stage.weights[index].name.partition("#")[0] for index in used)


def _json(document: object) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
