"""A published merge, merged again from its repository alone, and every tensor compared.

>>> reproduce(ModelRef.parse("org/merged")).ok         # doctest: +SKIP
True
"""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .errors import NotFoundError, SourceError
from .evaluate.bred import BRED_FILE
from .hub.listing import list_files
from .planning import plan_again
from .progress import Progress, silent
from .publish import merge
from .published import Published, read_published
from .reference import ModelRef
from .stream import again
from .stream.again import Made, merge_again, reasons
from .stream.findings import some
from .stream.hashing import hash_weights
from .stream.manifest import shown
from .stream.verify import open_weights


@dataclass(frozen=True)
class Reproduction:
    """What came of merging `model` (a folder, or org/name@commit) again by the recipe in its `file`.

    `identical` counts the tensors that came out as they are stored: dtype, shape and bytes. Names of tensors:
    `differing` came out otherwise, `missing` are only in what the recipe makes, `extra` only in the model. `unpinned`:
    models that the recipe names without a commit, which may have changed since. `reasons`: what else may make a
    rightly merged tensor come out otherwise here. `nbytes`: bytes of stored weights that were compared. `folder`: where
    what was merged lies; None where it was only hashed.
    """

    model: str
    file: str
    identical: int
    differing: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    unpinned: tuple[str, ...]
    reasons: tuple[str, ...]
    nbytes: int
    seconds: float
    folder: Path | None = None

    @property
    def findings(self) -> tuple[str, ...]:
        """What is not the same, each in a few words with the first names; empty where all is."""
        kinds = (
            (self.differing, "with other bytes"),
            (self.missing, "that the model lacks"),
            (self.extra, "that the recipe does not make"),
        )
        return tuple(
            f"{len(names)} tensor{'s' if len(names) > 1 else ''} {what} ({some(map(shown, names))})"
            for names, what in kinds
            if names
        )

    @property
    def ok(self) -> bool:
        """Whether every tensor came out as it is stored."""
        return not self.findings

    def require(self) -> None:
        """Raises `SourceError` naming the first things that differ, and why they may; does nothing where none does."""
        if self.ok:
            return
        why = [f"it was merged with {' and '.join(self.reasons)}"] if self.reasons else []
        if self.unpinned:
            they = "they" if self.unpinned[1:] else "it"
            named = some(map(shown, self.unpinned))
            why.append(f"its recipe names {named} without a commit, so {they} may have changed since")
        raise SourceError(
            f"{self.model} is not what the recipe in its {self.file} makes: {', '.join(self.findings)}"
            f"{'; ' + ', and '.join(why) if why else ''}."
        )


def reproduce(
    ref: ModelRef,
    *,
    token: str | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    device: str | None = None,
    memory: int | None = None,
    progress: Progress = silent,
) -> Reproduction:
    """Merges a published model again, from the recipe in its repository or folder, and compares every tensor.

    Weights of the Hub are read by range, those of the parents and those of the result, and nothing is kept; with `out`
    what is merged is written there, with the model's own card. `device`: where to merge, in place of the kind that the
    manifest names. `memory`: bytes that it may take beside the bare process. `progress` may raise `Interrupted`.

    Raises `SourceError` for a model that tells no recipe or cannot be opened, `NotFoundError` naming the parents or
    commits that are gone, and what planning and merging raise.
    """
    began = time.monotonic()
    published = read_published(ref, token=token)
    source, manifest = open_weights(ref, token), published.manifest
    try:
        plan = again.plan_again(
            published.recipe,
            source,
            token,
            partial(plan_again, memory=memory),
            device or (manifest.device if manifest else "cpu"),
        )
    except NotFoundError as exc:
        if gone := _gone(published, token):
            raise NotFoundError(
                f"{source.name} cannot be merged again, for what it was made of is not there: {' '.join(gone)}"
            ) from exc
        raise
    stored = {name: Made.of(source, name, digest) for name, digest in hash_weights(source, progress, memory)[1].items()}
    if out is None:
        made = merge_again(plan, progress)
    else:
        card, bred = source.read_text("README.md"), source.read_text(BRED_FILE)
        more = None if bred is None else {BRED_FILE: bred.encode()}
        done = merge(plan, out, token=token, overwrite=overwrite, card=card, more=more, progress=progress)
        made = {one.name: Made(one.dtype, one.shape, done.tensors[one.name]) for one in plan.tensors}
    both = stored.keys() & made.keys()
    return Reproduction(
        model=f"{source.name}@{source.commit}" if source.commit else source.name,
        file=published.file,
        identical=sum(stored[name] == made[name] for name in both),
        differing=tuple(name for name in stored if name in both and stored[name] != made[name]),
        missing=tuple(name for name in made if name not in both),
        extra=tuple(name for name in stored if name not in both),
        unpinned=published.unpinned,
        reasons=tuple(reasons(manifest)) if manifest else (),
        nbytes=sum(tensor.nbytes for tensor in source.tensors.values()),
        seconds=time.monotonic() - began,
        folder=out,
    )


def _gone(published: Published, token: str | None) -> list[str]:
    """What the Hub says of each model that is named and not there, at its commit."""
    said = []
    for part in published.parts:
        try:
            list_files(part, token)
        except NotFoundError as exc:
            said.append(str(exc))
    return said
