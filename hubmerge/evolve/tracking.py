"""A search told to a tracker as it goes: trackio, Weights & Biases, or TensorBoard.

A tracker is told of every evaluation (`step` is how many there were), and of the final table at the end. It is told the
figures of the progress and names of models, no texts and no paths. It is told by a thread of its own: neither what it
breaks at nor a server that does not answer costs the search more than `PATIENCE`. That is logged once, and it is told
no more.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from ..errors import HubmergeError
from ..evaluate.table import Row
from ..extras import require
from ..guesses import guess
from ..places import folder_name
from ..progress import Event, Progress
from .search import Search

_log = logging.getLogger(__name__)


class Tracker(Protocol):
    """What a search tells."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Figures after `step` evaluations."""

    def end(self) -> None:
        """Nothing more will come."""


class _Runs:
    """trackio and wandb, which share their functions."""

    def __init__(self, module: str, project: str, name: str, config: Mapping[str, Any], folder: Path) -> None:
        self._library = import_module(module)
        self._library.init(project=project, name=name, config=dict(config))

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._library.log(dict(values), step=step)

    def end(self) -> None:
        self._library.finish()


class _Board:
    """TensorBoard: files in the run folder's tensorboard/."""

    def __init__(self, module: str, project: str, name: str, config: Mapping[str, Any], folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("search", "\n".join(f"    {key}: {value}" for key, value in config.items()))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def end(self) -> None:
        self._writer.close()


TRACKERS: Mapping[str, Callable[..., Tracker]] = {"trackio": _Runs, "wandb": _Runs, "tensorboard": _Board}
"""By the library that they need."""

AUTO, NONE = "auto", "none"
"""trackio where it is installed; nothing."""

PROJECT = "hubmerge"
PATIENCE = 30.0
"""Seconds that a search waits for its tracker: before it begins, and at its end."""


class Told:
    """A search as it is told to a tracker: `progress` in place of the one it would have, `rows` at its end.

    `begin` opens the tracker; that, too, may not come to an end, and what it broke at is in `refused`.
    """

    def __init__(self, begin: Callable[[], Tracker], progress: Progress) -> None:
        self._waiting: SimpleQueue[Callable[[Tracker], None] | None] = SimpleQueue()
        self._begun, self._late = threading.Event(), False
        self.refused: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(begin,), name="hubmerge-tracker", daemon=True)
        self._thread.start()
        self._late = not self._begun.wait(PATIENCE)
        self._inner = progress
        self._before = self._last = 0  # evaluations of searches that are over, and of this one

    def progress(self, event: Event) -> None:
        """Tells the tracker of an evaluation, and passes every event on."""
        if event.stage == "search" and event.data and event.done != self._last:
            if event.done < self._last:  # another search of the run: paths after recipes, or one to compare with
                self._before += self._last
            self._last = event.done
            self._tell(event.data, self._before + event.done)
        self._inner(event)

    def rows(self, rows: tuple[Row, ...]) -> None:
        """Tells the tracker of the final table."""
        scores = {f"test/{row.model}": row.value for row in rows}
        if scores:
            self._tell(scores, self._before + self._last)

    def end(self) -> None:
        """Closes the tracker."""
        self._waiting.put(None)
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            _log.warning("hubmerge: the tracker has not answered for %.0f s; it may lack the end.", PATIENCE)

    def _tell(self, values: Mapping[str, float], step: int) -> None:
        if self._thread.is_alive():
            self._waiting.put(lambda tracker: tracker.log(values, step))

    def _work(self, begin: Callable[[], Tracker]) -> None:
        try:
            tracker = begin()
            self._begun.set()
            while (tell := self._waiting.get()) is not None:
                tell(tracker)
            tracker.end()
        except BaseException as exc:  # whatever a library or its server does, the search goes on
            if self._begun.is_set() or self._late:
                _log.warning("hubmerge: the search is tracked no more (%s: %s).", type(exc).__name__, exc)
            else:
                self.refused = exc
            self._begun.set()


def chosen(name: str | None) -> str | None:
    """The tracker that is meant by a name, `AUTO` or `NONE`. Raises `HubmergeError` where there is none of that name,
    or its library is missing."""
    known = (*TRACKERS, AUTO, NONE)
    if name is None or name == NONE or (name == AUTO and find_spec("trackio") is None):
        return None
    if name not in known:
        raise HubmergeError(f"There is no tracker {name!r}{guess(name, known)}; known: {', '.join(known)}.")
    if name != AUTO:
        require(name)
    return "trackio" if name == AUTO else name


@contextmanager
def tracking(name: str, search: Search, out: Path, progress: Progress, *, asked: bool = True) -> Iterator[Told]:
    """Opens the tracker of that name, and closes it. Raises `HubmergeError` where it does not open; where nobody
    `asked` for it, that is logged, and nothing is tracked."""
    config = {
        "models": ", ".join(folder_name(ref.repo_id) if ref.is_folder else ref.whole for ref in search.references),
        "merge_method": search.merge_method or "a path through the layers",
        "task": str(search.task.get("name", "")),
        "searcher": search.searcher.name,
        "evaluations": search.searcher.evaluations,
        "seed": search.searcher.seed,
    }
    begin = partial(TRACKERS[name], name, PROJECT, out.resolve().name, config, out)
    told = Told(begin, progress)
    if (exc := told.refused) is not None:
        said = f"{name} does not begin ({type(exc).__name__}: {exc})"
        if asked:
            raise HubmergeError(f"{said}; mend that, or leave out --track.") from exc
        _log.warning("hubmerge: the search is not tracked, for %s.", said)
    try:
        yield told
    finally:
        told.end()
