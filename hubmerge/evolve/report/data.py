"""What a report is made of: the files of a run folder, as far as they are there yet."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...documents import load_mapping, parse_json
from ...errors import SearchError
from ...files import require_path
from ...places import folder_name
from ..pareto import fronts
from ..records.evaluation import Evaluation
from ..records.folder import FROM_FILE, JOURNAL_FILE, PS_FOLDER, RECIPE_FILE, RESULTS_FILE, SEARCH_FILE
from ..records.journal import read_evaluations
from ..records.learnt import Ancestor, Learnt
from ..records.results import results_document
from ..spec.baselines import COMPARED
from .canvas import is_number

_OBJECTIVES = {
    "score": "score",
    "metric": "right answers",
    "language": "in the right language",
    "short": "shortness",
    "brief": "brevity",
}


@dataclass(frozen=True)
class Run:
    """One search's files. Every mapping may lack any key: a search that still goes on has written little.

    `header`: the journal's first line; `spec`: search.yaml; `results`: results.json, empty until the search is done;
    `best_recipe`: best.yaml; `compared`: evaluations of other searchers with the same budget, by name. `second`: it is
    a search for paths that came after one for recipes. `ancestors`: the run that it began with, and those that
    come before that.
    """

    folder: Path
    name: str
    header: Mapping[str, Any]
    spec: Mapping[str, Any]
    evaluations: tuple[Evaluation, ...]
    results: Mapping[str, Any]
    best_recipe: Mapping[str, Any]
    compared: Mapping[str, tuple[Evaluation, ...]]
    second: bool = False
    ancestors: tuple[Ancestor, ...] = ()

    @classmethod
    def read(cls, folder: Path, name: str | None = None) -> "Run":
        """Reads a run folder; raises `SearchError` where it has no journal, or where a file is damaged."""
        journal = folder / JOURNAL_FILE
        require_path(journal, SearchError)
        if not journal.is_file():
            raise SearchError(f"{folder} is not the folder of a search: it has no {JOURNAL_FILE}.")
        others = {label: folder / other / JOURNAL_FILE for other, label in COMPARED.items()}
        return cls(
            folder=folder,
            name=name or os.path.basename(os.path.realpath(folder)),
            header=_header(journal),
            spec=_yaml(folder / SEARCH_FILE, "search"),
            evaluations=_evaluations(journal),
            results=results_document(folder / RESULTS_FILE) if (folder / RESULTS_FILE).is_file() else {},
            best_recipe=_yaml(folder / RECIPE_FILE, "recipe"),
            compared={label: _evaluations(path) for label, path in others.items() if path.is_file()},
            second=(folder / PS_FOLDER / JOURNAL_FILE).is_file(),
            ancestors=Learnt.read(folder / FROM_FILE).runs if (folder / FROM_FILE).is_file() else (),
        )

    @property
    def done(self) -> bool:
        """Whether the search has come to its end."""
        return bool(self.results)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What results.json tells of the search."""
        return mapping(self.results, "search")

    @property
    def winner(self) -> Mapping[str, Any]:
        """What results.json tells of the winner."""
        return mapping(self.results, "winner")

    @property
    def rows(self) -> tuple[Mapping[str, Any], ...]:
        """The contestants on the test split; those without a score are left out."""
        rows = self.results.get("rows")
        found = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
        return tuple(row for row in found if is_number(row.get("value")) and "model" in row)

    @property
    def searcher(self) -> Mapping[str, Any]:
        """The searcher as the spec has it."""
        paths = mapping(mapping(self.spec, "data_flow"), "searcher")
        return (self.second and paths) or mapping(self.spec, "searcher")

    @property
    def planned(self) -> int | None:
        """How many evaluations the spec asks for."""
        planned = self.searcher.get("evaluations")
        return planned if isinstance(planned, int) else None

    @cached_property
    def candidate(self) -> Mapping[str, Any]:
        """The winner, a recipe or a path; the best so far until there is one, empty where nothing is measured."""
        best = max(self.measured, key=lambda e: e.fitness[0], default=None)
        found = mapping(self.winner, "candidate") or ({} if self.done or best is None else best.solution)
        return mapping(found, "path") or found

    @property
    def path(self) -> Mapping[str, Any] | None:
        """The candidate's path through the layers; None where it is a recipe, or not known yet."""
        found = self.candidate.get("layers")
        return self.candidate if isinstance(found, list) and found else None

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The candidate's recipe: for a path, the checkpoint that the winner became."""
        own = {} if self.path else self.candidate
        return self.best_recipe or mapping(self.winner, "recipe") or own

    @property
    def space(self) -> str:
        """What was searched: "ps" (recipes) or "dfs" (paths)."""
        only_paths = "merge_method" not in self.spec and "data_flow" in self.spec
        return "dfs" if self.path or self.second or only_paths else "ps"

    @property
    def models(self) -> tuple[str, ...]:
        """The models that the search was given."""
        named = self.spec.get("models")
        return tuple(map(str, named)) if isinstance(named, list) else ()

    @cached_property
    def objectives(self) -> tuple[str, ...]:
        """What every fitness of an evaluation is called."""
        names = self.facts.get("objectives") or mapping(self.spec, "fitness").get("objectives")
        return objective_names(self.evaluations, names if isinstance(names, list) else ())

    @cached_property
    def measured(self) -> tuple[Evaluation, ...]:
        """The evaluations that came to an end."""
        return tuple(e for e in self.evaluations if e.error is None)

    @cached_property
    def failed(self) -> tuple[Evaluation, ...]:
        """Those that did not."""
        return tuple(e for e in self.evaluations if e.error is not None)

    @cached_property
    def first_asked(self) -> tuple[Evaluation, ...]:
        """Each candidate's first evaluation: the one that was paid for."""
        return tuple({e.candidate_key: e for e in reversed(self.evaluations)}.values())[::-1]

    @cached_property
    def front(self) -> tuple[Evaluation, ...]:
        """The Pareto front, by the first objective: as results.json has it, or of what is measured so far."""
        by_number = {e.number: e for e in self.measured}
        named = self.results.get("front")
        found = [by_number[n] for n in named if n in by_number] if isinstance(named, list) else []
        if not found:
            found = _first_front(self.measured)
        return tuple(sorted(found, key=lambda e: (tuple(-value for value in e.fitness), e.number)))

    @property
    def chosen(self) -> Evaluation | None:
        """The winner's evaluation; None where it is not known, or where the winner never was a candidate."""
        number = self.winner.get("number")
        return next((e for e in self.measured if e.number == number), None)


def read_stages(folder: Path) -> tuple[Run, ...]:
    """The searches of a run folder in the order they ran: one, or two where data flow came after parameter space."""
    runs = [Run.read(folder)]
    if runs[0].second:
        runs.insert(0, Run.read(folder / PS_FOLDER))
    return tuple(runs)


def objective_names(evaluations: Sequence[Evaluation], names: Sequence[object] = ()) -> tuple[str, ...]:
    """One name for each number of an evaluation's fitness: "fitness" for a single one, else those of the spec."""
    count = max((len(e.fitness) for e in evaluations), default=1)
    if count == 1:
        return ("fitness",)
    if len(names) != count:
        return tuple(f"objective {number}" for number in range(1, count + 1))
    return tuple(_OBJECTIVES.get(str(name), str(name)) for name in names)


def _first_front(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Those that no other beats in every objective, once each."""
    if not evaluations:
        return []
    distinct = list({e.fitness: e for e in reversed(evaluations)}.values())
    return [distinct[row] for row in fronts(np.array([e.fitness for e in distinct]))[0]]


def model_name(reference: object) -> str:
    """A model as people call it: without what it is pinned to, a folder by its last part.

    >>> model_name(f"org/name@{'0' * 40}#unet"), model_name("./math@sha256:" + "0" * 12)
    ('org/name#unet', 'math')
    """
    text = re.sub(r"@([0-9a-f]{40}|sha256:[0-9a-f]{12})(?=$|[+#])", "", str(reference))
    return folder_name(text) if text.startswith(("/", "~", ".")) else text


def mapping(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping under `key`, an empty one where there is none."""
    found = document.get(key)
    return found if isinstance(found, Mapping) else {}


def _yaml(path: Path, what: str) -> Mapping[str, Any]:
    return load_mapping(path, what, SearchError) if path.is_file() else {}


def _evaluations(journal: Path) -> tuple[Evaluation, ...]:
    # Actors finish in any order: the journal is in theirs, a report in the searcher's.
    return tuple(sorted(read_evaluations(journal), key=lambda e: e.number))


def _header(journal: Path) -> Mapping[str, Any]:
    with journal.open("rb") as lines:
        try:
            document = parse_json(lines.readline() or "{}", str(journal), SearchError)
        except SearchError:
            document = {}
    return document if isinstance(document, Mapping) else {}
