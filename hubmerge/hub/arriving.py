"""Files that come onto this machine, and how far that is."""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ..progress import Event, Progress, silent

if TYPE_CHECKING:
    from .source import Source

_told: ContextVar[Callable[[int], None] | None] = ContextVar("hubmerge_told", default=None)


def bring(source: "Source", names: Iterable[str], progress: Progress = silent) -> None:
    """Downloads these files of a model, and its LoRA, unless they are here, and tells how many bytes of them came.

    Raises what `Source.local_path` does, and whatever `progress` does: files that are whole by then stay.
    """
    files = [(source.listing, name) for name in dict.fromkeys(names)]
    if source.adapter is not None:
        files.append((source.adapter.listing, source.adapter.file))
    missing = [name not in listing.made and not listing.store.is_here(name) for listing, name in files]
    sizes = [listing.file(name).size if lacks else 0 for (listing, name), lacks in zip(files, missing, strict=True)]
    before, total = 0, sum(sizes)
    for (listing, name), nbytes in zip(files, sizes, strict=True):
        came = 0

        def tell(count: int, first: int = before, most: int = nbytes, name: str = name) -> None:
            nonlocal came
            came = min(came + count, most)  # what arrives damaged comes twice
            progress(Event("fetch", first + came, total, "B", name))

        outer = _told.set(tell if nbytes else None)
        try:
            listing.path(name)
        finally:
            _told.reset(outer)
        before += nbytes
    if total:
        progress(Event("fetch", total, total, "B"))


class Arrival:
    """Takes the place of a bar of huggingface_hub's. It is made on the thread that waits, and told on any."""

    def __init__(self, *, initial: int = 0, **of_a_bar: Any) -> None:
        self._tell = _told.get()
        self.update(initial)

    def update(self, count: float = 1) -> None:
        """So many bytes more are written."""
        if self._tell is not None:
            self._tell(int(count))

    def update_transfer(self, count: float = 1) -> None:
        """So many came: they count when they are written."""

    def set_postfix_str(self, *words: Any, **how: Any) -> None:
        """How fast: not told."""

    set_transfer_postfix_str = set_postfix_str

    def close(self) -> None:
        """The file is here, or will not come."""

    def __enter__(self) -> "Arrival":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
