"""Whether a merged model still is what its merge wrote: every byte of its weights hashed and held to the manifest.

>>> verify(ModelRef.parse("org/merged")).ok         # doctest: +SKIP
True

The manifest lies beside the weights, so this finds accidents - a bad disk, a broken copy, a stale shard - but not a
forger who rewrites both. Against that, `recompute` merges again from the pinned sources.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..errors import SourceError
from ..hub.headers import read_headers
from ..hub.listing import list_files
from ..hub.lora import WEIGHTS, is_adapter
from ..hub.source import Source, open_source
from ..progress import Progress, silent
from ..recipe import Recipe
from ..reference import ModelRef
from .again import Made, merge_again, plan_again, reasons
from .beside import Beside
from .findings import some
from .hashing import hash_weights
from .manifest import MANIFEST, Manifest, shown
from .plan import Plan, Wanted, make_plan


@dataclass(frozen=True)
class Verification:
    """What `verify` found in `model` (a folder, or org/name@commit).

    `matching` counts the tensors whose bytes are those of the manifest. Names of tensors: `differing` have other
    bytes, `missing` are only in the manifest, `extra` only in the model, `unreproduced` came out otherwise when the
    recipe was merged again (None: nobody asked for that, or something else was wrong already). Names of files:
    `altered` shards are missing or have another size or header, `stray` weight files are not of this merge, and
    transformers may load them all the same. `beside`: what became of the small files. `nbytes`: bytes of weights that
    were hashed. `reasons`: what may make a rightly merged tensor
    come out otherwise here, such as another version of torch.
    """

    model: str
    matching: int
    differing: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    altered: tuple[str, ...]
    stray: tuple[str, ...]
    beside: Beside
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
            (self.beside.lost, "file", "missing"),
            (self.beside.changed, "file", "with other content"),
            (self.unreproduced or (), "tensor", f"that the recipe{made} does not give again"),
        )
        return tuple(
            f"{len(names)} {noun}{'s' if len(names) > 1 else ''} {what} ({some(map(shown, names))})"
            for names, noun, what in kinds
            if names
        )

    @property
    def ok(self) -> bool:
        """Whether the model is what the merge wrote: its weights byte for byte, and what they are computed by."""
        return not self.findings

    def require(self) -> None:
        """Raises `SourceError` naming the first things that are wrong; does nothing where all is right."""
        if self.findings:
            small = bool(self.beside.lost) + bool(self.beside.changed)
            meant = f", or, where that is meant, delete {MANIFEST}, which tells of the merge"
            raise SourceError(
                f"{self.model} is not what its merge wrote: {', '.join(self.findings)}; fetch or merge it again"
                f"{meant if len(self.findings) == small else ''}."
            )

    @property
    def remark(self) -> str | None:
        """What people changed by hand, as they may."""
        edited = self.beside.edited
        return f"Edited since the merge: {some(map(shown, edited))}." if edited else None


def verify(
    ref: ModelRef,
    *,
    token: str | None = None,
    recompute: bool = False,
    read: Callable[[Mapping[str, Any]], Wanted] = Recipe.from_dict,
    plan: Callable[..., Plan] = make_plan,
    memory: int | None = None,
    progress: Progress = silent,
) -> Verification:
    """Hashes the weights of a merged model and compares them with the model's manifest (hubmerge.json).

    Files of a folder and of the Hub cache are read from disk; everything else is read from the Hub by range and not
    kept. With `recompute`, a model that is right is also merged again from its recipe, in memory; `read` and `plan`
    are how a recipe is read and planned. `memory`: bytes that it may take beside the bare process. `progress` may raise
    `Interrupted`.

    Raises `SourceError` for a model that has no manifest or a broken one, or that cannot be opened at all (a shard
    missing or cut short, no config.json, an index that lies), `HubError` for what the Hub refuses; with `recompute`
    also what `make_plan` and a merge raise.
    """
    began = time.monotonic()
    source = open_weights(ref, token)
    text = source.read_text(MANIFEST)
    if text is None:
        raise SourceError(
            f"{source.name} has no {MANIFEST}, so there is nothing to check it against: "
            "hubmerge did not make it, or the file was not copied with it."
        )
    manifest = Manifest.parse(text, source.name)
    headers, tensors = hash_weights(source, progress, memory)
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
        beside=Beside.of(manifest, source),
        nbytes=sum(sizes[file] for file in headers),
        seconds=time.monotonic() - began,
    )
    if not recompute or not result.ok:
        return result
    within = partial(plan, memory=memory)
    again = merge_again(plan_again(read(manifest.recipe), source, token, within, manifest.device), progress)
    unreproduced = [name for name in tensors if again.get(name) != Made.of(source, name, tensors[name])]
    unreproduced += [name for name in again if name not in tensors]
    return replace(
        result,
        unreproduced=tuple(unreproduced),
        reasons=tuple(reasons(manifest)),
        seconds=time.monotonic() - began,
    )


def open_weights(ref: ModelRef, token: str | None = None) -> Source:
    """A model, or the weights of a LoRA, which are verified like those of one. Raises what `open_source` does."""
    listing = list_files(ref, token)
    if not is_adapter(listing.files) or (file := listing.files.get(WEIGHTS[0])) is None:
        return open_source(ref, token=token)
    headers = read_headers(
        lambda start, stop: listing.store.read(file, start, stop), file.path, file.size, listing.name
    )
    return Source(ref, listing, {header.name: header for header in headers}, {})
