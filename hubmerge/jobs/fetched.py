"""What a job left on the Hub, brought here: the run of a search, or what a command printed."""

from pathlib import Path
from typing import Any

from ..documents import parse_object
from ..errors import HubError, SearchError
from ..evolve.records.folder import RESULTS_FILE, small_files
from ..evolve.records.results import Results
from ..hub.listing import open_repository
from ..hub.session import find_token
from ..reference import ModelRef
from ..stream.written import Written
from .script import SAVED, Work


def fetch_run(mirror: str, out: Path, token: str | None) -> Results:
    """Brings all small files of a mirrored run into `out`, over those of an earlier fetch; what the search found.

    Raises `SearchError` where the mirror does not hold the end of a search, `PlanError` for a file of somebody else.
    """
    store, facts = open_repository(ModelRef.parse(mirror), find_token(token), "dataset")
    names = [name for name in small_files(out) if name in facts.files]
    if RESULTS_FILE not in names:
        raise SearchError(f"The dataset {mirror} does not hold the end of the search; look at the job's log.")
    written = Written(out)
    for name in sorted(names, key=lambda name: name == RESULTS_FILE):  # without it the folder is no finished run
        written.write(name, store.path(facts.files[name]).read_bytes())
    return Results.read(out / RESULTS_FILE)


def fetch_printed(work: Work, dataset: str, token: str | None) -> dict[str, Any]:
    """What the command of a job printed, as JSON. Raises `HubError` where the dataset does not hold it."""
    name = f"{work.key}/{SAVED}"
    store, facts = open_repository(ModelRef.parse(dataset), find_token(token), "dataset")
    if name not in facts.files:
        raise HubError(f"The dataset {dataset} holds no {name}; look at the job's log.")
    return parse_object(store.path(facts.files[name]).read_bytes(), name, HubError)
