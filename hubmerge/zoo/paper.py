"""The paper's main table (arXiv 2403.13187, table 1) in small: searches over the zoo, several seeds, nothing left out.

Every search is an ordinary one, by Hub ID, in a run folder of its own, and goes on where it was interrupted. Untuned
merges, the grid of two scalars and random search with the same budget are what each run is compared with anyway.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from ..progress import Event, Progress, silent
from ..typed import typed
from .cards import NAMESPACE, REPOS
from .kinds import demo_search, shipped
from .trade_off import ENGLISH_FILE, TRADE_OFF_FILE, english, trade_off

if TYPE_CHECKING:
    from ..evolve.search import Search
    from ..reference import ModelRef

PAIR = ("math", "japanese")
ALL = ("math", "math-2", "japanese", "errands")
USEFUL = ("math", "math-2", "japanese")
PATHS: Mapping[str, Any] = {"repeats": 1, "scaling": "matrix", "max_layers": 14}
PATH_SEARCHER = {"name": "cmaes", "popsize": 16}


@dataclass(frozen=True)
class Zoo:
    """A trained zoo: its folder, the seed that it was trained with, and where it is published."""

    folder: Path
    seed: int
    namespace: str

    def models(self, names: Sequence[str]) -> tuple["ModelRef", ...]:
        """Some of its models by Hub ID."""
        from ..reference import ModelRef

        return tuple(ModelRef(f"{self.namespace}/{REPOS[name]}") for name in names)

    @classmethod
    def of(cls, folder: Path) -> "Zoo":
        """The zoo that `hubmerge zoo train` left in a folder. Raises `SearchError` where there is none."""
        from ..documents import parse_object
        from ..errors import SearchError

        try:
            record = parse_object((folder / "training.json").read_bytes(), "training.json", SearchError)
            seed, missing = int(record["seed"]), [name for name in REPOS if not (folder / name).is_dir()]
        except (OSError, ValueError, KeyError, TypeError, SearchError) as exc:
            raise SearchError(
                f"{folder} is no zoo ({exc}); `{typed(f'zoo train --out {folder}')}` makes one."
            ) from None
        if missing:
            raise SearchError(
                f"{folder} lacks {', '.join(missing)}; `{typed(f'zoo train --out {folder}')}` goes on there."
            )
        return cls(folder, seed, NAMESPACE if folder == shipped() else f"{NAMESPACE}-{seed}")


@dataclass(frozen=True)
class Run:
    """One search of the table: what it is called, over which zoo, the seed of the search.

    mixed: whether its winner is also mixed with the math expert, to see what English it gave up.
    """

    name: str
    zoo: Zoo
    seed: int
    search: "Search"
    mixed: bool = False

    def folder(self, out: Path) -> Path:
        """Where it runs and is kept."""
        return out / self.zoo.namespace / f"{self.name}-s{self.seed}"


def runs(zoo: Zoo, seeds: Sequence[int], evaluations: int, splits: Mapping[str, int]) -> Iterator[Run]:
    """All searches over one zoo, for each seed of a search.

    Recipes for the pair (`ps`, with all it is compared with), for all experts and for all but the irrelevant one; paths
    (`dfs`); both (`ps-dfs`, half of the evaluations each).
    """
    from ..evolve.search import Search

    demo = replace(demo_search(namespace=zoo.namespace), splits=dict(splits))
    document = {
        key: value for key, value in demo.to_dict().items() if key not in ("merge_method", "genome", "parameters")
    }
    for seed in seeds:
        whole, half = (
            replace(demo.searcher, evaluations=number, seed=seed) for number in (evaluations, evaluations // 2)
        )
        recipes = replace(demo, searcher=whole)
        paths = Search.from_dict(
            document
            | {"data_flow": dict(PATHS), "searcher": {**PATH_SEARCHER, "evaluations": evaluations, "seed": seed}}
        )
        yield Run("ps", zoo, seed, replace(recipes, models=zoo.models(PAIR)).compared(), mixed=seed == seeds[0])
        # With more models, which of them matter is asked first, by one weight a model.
        more = replace(recipes, granularity=("model", "layer"))
        yield Run("ps-all", zoo, seed, replace(more, models=zoo.models(ALL)))
        yield Run("ps-useful", zoo, seed, replace(more, models=zoo.models(USEFUL), baselines=()))
        yield Run("dfs", zoo, seed, replace(paths, models=zoo.models(PAIR), baselines=()))
        both = replace(recipes, models=zoo.models(PAIR), baselines=(), searcher=half, data_flow=paths.data_flow)
        second = replace(paths.searcher, evaluations=evaluations // 2)
        yield Run("ps-dfs", zoo, seed, replace(both, path_searcher=second))


def run_all(todo: Sequence[Run], out: Path, jobs: int, progress: Progress = silent, memory: int | None = None) -> None:
    """Makes the runs that are not finished, `jobs` at a time, each on one thread in a process of its own, with `memory`
    bytes of its own."""
    from ..evolve.records.folder import RESULTS_FILE

    os.environ["OMP_NUM_THREADS"] = "1"  # read by the processes when they start
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_end_with_the_parent) as pool:
        doing = {
            pool.submit(_make, run.search.to_dict(), run.zoo.namespace, run.folder(out), run.mixed, memory): run
            for run in todo
        }
        kept = sum((run.folder(out) / RESULTS_FILE).is_file() for run in todo)
        progress(Event("searches", 0, len(todo), "runs"))
        try:
            for number, done in enumerate(as_completed(doing), 1):
                done.result()
                run = doing[done]
                note = f"{run.name} {run.zoo.namespace} s{run.seed}"
                progress(Event("searches", number, len(todo), "runs", note, kept=min(kept, number)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # else those that have not begun would be waited for
            raise


def _end_with_the_parent() -> None:
    """Ends this process, a worker of a pool, when the one that made it was killed: nobody waits for its run."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _make(document: Mapping[str, Any], namespace: str, folder: Path, mixed: bool, memory: int | None) -> None:
    """Makes one run, or finds it finished, and asks its winner the same problems in English."""
    from ..evaluate.task import load_task
    from ..evolve.records.folder import MODEL_FOLDER
    from ..evolve.run import evolve
    from ..evolve.search import Search
    from ..evolve.workers.workers import Workers

    search = Search.from_dict(document)
    evolve(search, folder, resume=True, workers=Workers(memory=memory))
    model = str(folder / MODEL_FOLDER)
    task = load_task(search.task, counts=search.splits)
    english(model, namespace, task, folder / ENGLISH_FILE, memory)
    if mixed:
        trade_off(model, namespace, task, folder / TRADE_OFF_FILE, memory)
