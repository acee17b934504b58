"""What an earlier run taught, for a search that begins with it: its winner, the best of its journal, its ancestors.

All of it lies in the new run's folder (from.json), and search.yaml pins it by a digest, as `./first@sha256:...`: so the
search goes on, and is made again, without the run that it began with. No fitness is kept: candidates stand in their
order, the best first, so that what another task measured never mixes with what this one does.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from ...documents import parse_object
from ...errors import HubmergeError, NotFoundError, RecipeError, SearchError
from ...files import expand
from ...hub.listing import open_repository
from ...hub.session import find_token
from ...places import folder_name, short
from ...recipe import Recipe
from ...reference import ModelRef
from ...typed import typed
from ..pareto import best_first
from ..search import Search
from ..spaces.candidate import Candidate, read_candidate
from ..spaces.layer_path import LayerPath
from .evaluation import Evaluation
from .folder import FROM_FILE, JOURNAL_FILE, PS_FOLDER, RESULTS_FILE
from .journal import read_evaluations
from .results import EVOLVED, Results

PROMISING = 10
"""One candidate in so many is kept: the best tenth, as in Nomura et al. 2021 (https://arxiv.org/abs/2012.06932)."""
MOST = 64
"""Candidates that are kept of a space at most."""

Find = Callable[[str], Path | None]
"""A file of a run by its name: where it lies; None where there is none."""

_CALLED = {"ps": "recipes", "dfs": "paths"}


@dataclass(frozen=True)
class Ancestor:
    """A run in the line that a search comes from: its name, task, candidates scored, and its winner's held-out score
    with its 95% interval over n problems (None without a test split)."""

    run: str
    task: str = ""
    evaluations: int = 0
    n: int = 0
    score: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Learnt:
    """What a search that begins with a run knows of it: the content of from.json, as plain values.

    `run`: its name for everybody. `key`: of its journal. `spaces`: by "ps" and "dfs", of each the `winner`, the `best`
    others, best first, and out of how many different candidates (`tried`). `runs`: it, and those that it comes from
    itself, the nearest first.
    """

    document: Mapping[str, Any]

    def to_json(self) -> bytes:
        """The content of from.json."""
        return (json.dumps(self.document, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @property
    def key(self) -> str:
        """The key of the run's journal."""
        return str(self.document["key"])

    @cached_property
    def origin(self) -> ModelRef:
        """The run, as everybody may read it."""
        return ModelRef(str(self.document["run"]))

    @cached_property
    def spaces(self) -> Mapping[str, tuple[Candidate, ...]]:
        """The winner and the best others of each space."""
        found = {name: (one["winner"], *one["best"]) for name, one in self.document["spaces"].items()}
        return {name: tuple(map(read_candidate, solutions)) for name, solutions in found.items()}

    @property
    def runs(self) -> tuple[Ancestor, ...]:
        """The run and those that it comes from, the nearest first."""
        return tuple(Ancestor(**run) for run in self.document["runs"])

    @property
    def pinned(self) -> ModelRef:
        """The run as search.yaml names it: with a digest of all that it taught."""
        return replace(self.origin, revision=short(hashlib.sha256(self.to_json()).hexdigest()))

    @property
    def told(self) -> str:
        """What of it a search begins with, in a line."""
        parts = []
        for name, found in self.spaces.items():
            others = f" and {len(found) - 1} of the best" if found[1:] else ""
            tried = self.document["spaces"][name]["tried"]
            parts.append(f"{_CALLED[name]}: the winner{others} of {tried:,} candidates")
        return f"{name_of(self.origin)} ({'; '.join(parts)})"

    @classmethod
    def read(cls, path: Path) -> "Learnt":
        """Reads from.json; raises `SearchError` where it is damaged."""
        try:
            found = cls(parse_object(path.read_bytes(), "it", SearchError))
            _ = found.key, found.origin, found.told, found.runs
        except (OSError, HubmergeError, KeyError, TypeError, ValueError, AttributeError) as exc:
            raise SearchError(f"{path} does not say what a run taught ({exc}); put it back as it was.") from None
        return found

    def require_fit(self, search: Search) -> None:
        """Raises `SearchError` where `search` can begin with nothing of the run."""
        space = search.spaces[0]
        name = name_of(self.origin)
        if space not in self.spaces:
            other = next(iter(self.spaces))
            more = "; with `merge_method` and `genome` as well it begins with the recipe, and paths follow"
            raise SearchError(
                f"{name} searched {_CALLED[other]}, and this search begins with {_CALLED[space]}, which do not mix"
                f"{more if other == 'ps' else ''}; begin with a run that searched {_CALLED[space]}."
            )
        if search.data_flow is not None and not search.by_edits and space == "dfs":
            raise SearchError("`from` is for recipes, and for paths by edits; leave out data_flow.paper, or `from`.")
        winner = self.spaces[space][0]
        known = [entry.model for entry in winner.models] if isinstance(winner, Recipe) else list(winner.models)
        titles = {model.title for model in known}
        if not any(model.title in titles for model in search.models):
            raise SearchError(
                f"{name} is of other models ({', '.join(sorted(titles))}): none of this search's is among them, so it "
                "teaches nothing here; leave out `from`, or begin with a run of these models."
            )
        genes = {gene.name for gene in search.genes}
        if isinstance(winner, Recipe) and not genes & _parameters(winner):
            raise SearchError(
                f"{name} has none of this search's genes ({', '.join(sorted(genes))}), so it teaches nothing here; "
                "leave out `from`, or begin with a run of these genes."
            )
        most = search.data_flow.max_layers if search.data_flow is not None else None
        if isinstance(winner, LayerPath) and most is not None and len(winner.layers) > most:
            raise SearchError(
                f"The winner of {name} is a path of {len(winner.layers)} layers, and data_flow.max_layers is {most}; "
                f"allow {len(winner.layers)}."
            )


def open_learnt(search: Search, out: Path | None = None, token: str | None = None) -> Learnt | None:
    """What the run taught that `search` begins with; None where it begins with none.

    Where that is pinned it is read from the run folder `out`, or beside search.yaml, and the run itself is only
    looked at where neither has it. Raises `SearchError` where the run has no winner yet, does not fit the search, or is
    not the one that is meant, and `HubError` as the Hub does.
    """
    origin = search.origin
    if origin is None:
        return None
    found = _pinned(origin, out, token) if is_pinned(origin) else learn(origin, token)
    found.require_fit(search)
    return found


def name_of(origin: ModelRef) -> str:
    """A run as people call it: its folder's own name, or its dataset."""
    return folder_name(origin.repo_id) if origin.is_folder else origin.repo_id


def _parameters(recipe: Recipe) -> set[str]:
    return {*recipe.parameters, *(name for entry in recipe.models for name in entry.parameters)}


def is_pinned(origin: ModelRef) -> bool:
    """Whether a run is named with a digest of what it taught."""
    return (origin.revision or "").startswith("sha256:")


def _pinned(origin: ModelRef, out: Path | None, token: str | None) -> Learnt:
    """What just the pinned run taught, from where that is noted, else from the run."""
    places = [out, Path(origin.place) if origin.place else None]
    reads: list[Callable[[], Learnt]] = [partial(Learnt.read, folder / FROM_FILE) for folder in places if folder]
    reads.append(partial(learn, replace(origin, revision=None), token))
    for read in reads:
        with suppress(SearchError):
            if (found := read()).pinned == origin:
                return found
    raise SearchError(
        f"{origin} means what that run had taught when it was pinned, and neither {FROM_FILE} beside search.yaml nor "
        f"the run itself says that now; put {FROM_FILE} back as it was, or name the run without its digest."
    )


def learn(origin: ModelRef, token: str | None = None) -> Learnt:
    """Reads a finished run: a folder, or the dataset that it is mirrored at (org/name).

    Raises `SearchError` where it is no run, has no winner yet, or is damaged, and `HubError` as the Hub does.
    """
    find, name = _files(origin, token), name_of(origin)
    journal = find(JOURNAL_FILE)
    if journal is None:
        raise SearchError(
            f"{name} is no run that a search could begin with: it has no {JOURNAL_FILE}; name a run's folder, or the "
            "dataset that it is mirrored at."
        )
    places = {prefix: path for prefix in (f"{PS_FOLDER}/", "") if (path := find(f"{prefix}{JOURNAL_FILE}"))}
    found = {prefix: read_evaluations(path) for prefix, path in places.items()}  # what is damaged is not unfinished
    results = find(RESULTS_FILE)
    if results is None:
        raise SearchError(
            f"{name} has no winner yet: finish it with `{typed('evolve')} ... --resume` (on the page: Resume), and "
            "begin with it then."
        )
    spaces: dict[str, Any] = {}
    for prefix, evaluations in found.items():
        spaces |= _taught(evaluations, find(f"{prefix}{RESULTS_FILE}"), name, prefix)
    before = find(FROM_FILE)
    line = [_ancestor(name, Results.read(results)), *(Learnt.read(before).runs if before is not None else ())]
    return Learnt(
        {
            "run": f"./{name}" if origin.is_folder else name,
            "key": _key(journal, name),
            "spaces": spaces,
            "runs": [asdict(run) for run in line],
        }
    )


def _files(origin: ModelRef, token: str | None) -> Find:
    if origin.is_folder:
        root = expand(origin.repo_id, SearchError)
        if not root.is_dir():
            raise SearchError(f"There is no folder {origin.repo_id}; name the folder of the run to begin with.")
        return lambda name: root / name if (root / name).is_file() else None
    try:
        store, facts = open_repository(origin, find_token(token), "dataset")
    except NotFoundError as exc:
        raise SearchError(
            f"There is no folder {origin.repo_id} here to begin with, and as the dataset of a run: {exc}"
        ) from None
    return lambda name: store.path(facts.files[name]) if name in facts.files else None


def _taught(evaluations: list[Evaluation], results: Path | None, name: str, prefix: str) -> dict[str, Any]:
    """What a run found in the space of one of its folders, by the name of the space."""
    try:
        assert results is not None
        winner = read_candidate(next(iter(Results.read(results).winner["candidate"].values())))
        best, tried = _best(evaluations)
        others = [one.to_dict() for one in (read_candidate(one.solution) for one in best) if one != winner]
    except (RecipeError, KeyError, TypeError, AttributeError, StopIteration, AssertionError) as exc:
        raise SearchError(
            f"{name} does not say what it found ({exc}): {prefix}{RESULTS_FILE} or {prefix}{JOURNAL_FILE} is damaged, "
            "or another version of hubmerge wrote it; begin with another run."
        ) from None
    space = "ps" if isinstance(winner, Recipe) else "dfs"
    return {space: {"winner": winner.to_dict(), "best": others, "tried": tried}}


def _best(evaluations: list[Evaluation]) -> tuple[list[Evaluation], int]:
    """The best tenth of the different candidates that could be measured, best first, and how many these are."""
    done = {one.candidate_key: one for one in sorted(evaluations, key=lambda one: -one.number) if not one.failed}
    different = sorted(done.values(), key=lambda one: one.number)
    if not different:
        return [], 0
    points = np.array([one.fitness for one in different])
    order = np.argsort(-points[:, 0], kind="stable") if points.shape[1] == 1 else best_first(points)
    count = min(MOST, math.ceil(len(different) / PROMISING))
    return [different[row] for row in order[:count]], len(different)


def _ancestor(name: str, results: Results) -> Ancestor:
    row = next((row for row in results.rows if row.model == EVOLVED), None)
    scored = () if row is None else (row.n, row.value, row.low, row.high)
    evaluations = results.facts.get("evaluations")
    return Ancestor(
        name, str(results.task.get("name") or ""), evaluations if isinstance(evaluations, int) else 0, *scored
    )


def _key(journal: Path, name: str) -> str:
    with journal.open("rb") as file:
        header = parse_object(file.readline(), f"The first line of the journal of {name}", SearchError)
    return str(header.get("key"))
