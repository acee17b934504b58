"""Which search a run folder can go on with: one that would have measured what is in its journal.

A search in which no candidate has a score yet may be changed in everything. After that the models, the task with all
that is asked of it, the genome, the seed and the searcher decide what was measured, and stay. `batch_size` and
`baselines` may be changed at any time; and in a search of one stage in one space so may the budget (`evaluations`,
`minutes`) and `select`, until the search is finished: its test split was opened then, and what goes on after that
would be chosen in the knowledge of it. `popsize` may not: it decides what is asked in a generation. A grid follows
its budget.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import HubmergeError, SearchError
from ...evaluate.located import shared_task
from ...evaluate.looking import LOOKING
from ...evaluate.task import Task
from ...hub.source import Source, open_source
from ...places import folder_name
from ...reference import ModelRef
from ..search import Search
from .folder import FROM_FILE, JOURNAL_FILE, PS_FOLDER, RESULTS_FILE, SEARCH_FILE
from .journal import VERSION, evaluations, require_version
from .learnt import Learnt, is_pinned, learn, name_of

_FREE = frozenset(("batch_size", "baselines"))
_BUDGET = frozenset(("searcher.evaluations", "searcher.minutes", "select"))


def resumed(search: Search, out: Path, token: str | None = None) -> Search:
    """`search` as it goes on in the folder `out`: at the commits that the run began with, folders at their digests.

    Where nothing was measured there it is `search` itself, and may be another one than began.
    Raises `SearchError` where it is another than the one that was measured.
    """
    saved_file = out / SEARCH_FILE
    if not saved_file.exists():
        return search
    require_version(out / JOURNAL_FILE)
    saved = Search.from_yaml(saved_file)
    given, search = search, replace(_named(search, token), origin=_same_origin(search.origin, saved.origin, out))
    is_over = (out / RESULTS_FILE).exists()
    then, now = (_decisive(_unpinned(one), one, is_over) for one in (saved, search))
    changed = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    if changed and not has_scores(out):
        return given
    if changed:
        since = "its test split was opened" if is_over else "candidates were scored already"
        raise SearchError(
            f"{saved_file} is another search than the one given: {', '.join(changed)} "
            f"{'differs' if len(changed) == 1 else 'differ'}, and {since}; put it back as it was, or give another "
            "output folder."
        )
    commits = {ref.bare: ref for ref in saved.references}
    pins = {ref: commits[ref.bare] for ref in search.references if ref.bare in commits}
    task_pins = {f"{key}.model": saved.task[key]["model"] for key in _looking(saved)}
    if (revision := saved.task["examples"].get("revision")) is not None:
        task_pins["examples.revision"] = revision
    return search.with_pins(pins, task_pins)


def has_scores(out: Path) -> bool:
    """Whether any candidate of the run has a score."""
    journals = [out / JOURNAL_FILE, out / PS_FOLDER / JOURNAL_FILE]
    return any(not one.failed for path in journals if path.is_file() for one in evaluations(path))


def search_key(search: Search, sources: Mapping[ModelRef, Source], task: Task) -> str:
    """A sha256 of all that decides a search's result."""
    return _key(search.to_dict(), sources, task)


def measured_key(search: Search, sources: Mapping[ModelRef, Source], task: Task) -> str:
    """A sha256 of all that decides a search's path: two runs with one key ask for the same candidates, and one may ask
    for more of them."""
    return _key(_decisive(search.to_dict(), search), sources, task)


def _key(document: Mapping[str, Any], sources: Mapping[ModelRef, Source], task: Task) -> str:
    content = {
        "journal": VERSION,
        "search": document,
        "sources": [sources[ref].identity for ref in sorted(sources, key=str)],
        "task": task.key,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _decisive(document: Mapping[str, Any], search: Search, is_over: bool = False) -> dict[str, Any]:
    """What of a search decides which candidates are asked what, by names such as searcher.seed.

    `is_over`: and what decides which of them won.
    """
    # The winner among recipes joins the models of the paths: what chooses it decides what comes after.
    one_stage = len(search.spaces) == 1 and len(search.granularity) == 1 and search.searcher.name != "grid"
    free = _FREE | _BUDGET if one_stage and not is_over else _FREE
    return {name: value for name, value in _flat(document).items() if name not in free and value is not None}


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _unpinned(search: Search) -> dict[str, Any]:
    """The search without revisions, which a saved search has and the user's may not."""
    bare_refs = {ref: ModelRef.parse(ref.bare) for ref in search.references}
    document = replace(search, output=search.output.with_pins(bare_refs)).to_dict()
    bare = {str(ref): ref.bare for ref in search.references}
    document["models"] = [bare[model] for model in document["models"]]
    document["base_model"] = bare.get(str(document.get("base_model")), document.get("base_model"))
    task = shared_task(search.task)
    looking = {key: {**task[key], "model": ref.bare} for key, ref in _looking(search).items()}
    document["task"] = {**task, "examples": {**task["examples"], "revision": None}, **looking}
    return document


def _same_origin(given: ModelRef | None, saved: ModelRef | None, out: Path) -> ModelRef | None:
    """The run that a search began with as `saved` has it, where the `given` one is that: by its name, and where its
    folder is still there by its journal, which may have gone on since."""
    if given is None or saved is None or is_pinned(given):
        return given
    # Where the folder is gone, its path may read as a name on the Hub.
    name = folder_name(given.repo_id) if saved.is_folder else name_of(given)
    if name != name_of(saved):
        return given
    if given.is_folder:
        with suppress(HubmergeError):
            if (out / FROM_FILE).is_file() and learn(given).key != Learnt.read(out / FROM_FILE).key:
                return given
    return saved


def _named(search: Search, token: str | None) -> Search:
    """The search with its folders as its files name them."""
    folders = [ref for ref in search.references if ref.reads_folder]
    looking = {key: ref for key, ref in _looking(search).items() if ref.is_folder}
    return search.with_pins(
        {ref: open_source(ref, token=token).pinned for ref in folders},
        {f"{key}.model": str(open_source(ref, token=token).pinned) for key, ref in looking.items()},
    )


def _looking(search: Search) -> dict[str, ModelRef]:
    """The models that look at pictures, by the task's key of each; what names none is refused where it is opened."""
    given = {key: search.task[key].get("model") for key in LOOKING if isinstance(search.task.get(key), Mapping)}
    return {key: ModelRef.parse(name) for key, name in given.items() if isinstance(name, str) and name.strip()}
