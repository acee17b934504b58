"""The final table: the winner and what it is compared with, on the test split."""

from collections.abc import Mapping

from ...errors import SearchError
from ...evaluate.table import Row
from ...progress import Event, Progress
from ...recipe import Recipe
from ..examples.job import Job
from ..records.results import EVOLVED
from ..workers.pool import Pool, measure_all
from .contestants import Candidate


def final_rows(
    others: Mapping[str, Candidate], winner: Candidate, pool: Pool, progress: Progress, notes: Mapping[str, str]
) -> tuple[Row, ...]:
    """Scores the winner and all `others` on the test split, which is opened here and only here; `notes` for some rows.

    A merge that cannot be built (an average of models with other numbers of layers) has no row; a model that cannot
    be asked, or a winner, raises `SearchError`.
    """
    everyone = {**others, EVOLVED: winner}
    # Recipes first: what holds them in memory may have to make room for what holds the winner.
    names = sorted(everyone, key=lambda name: not isinstance(everyone[name], Recipe))

    def tell(done: int) -> None:
        progress(Event("test", done, len(names), "models", note=names[min(done, len(names) - 1)]))

    results = dict(zip(names, measure_all(pool, [(everyone[name], Job("test")) for name in names], tell), strict=True))
    for name, result in results.items():
        if result.measurement is None and not isinstance(others.get(name), Recipe):
            raise SearchError(f"{name} could not be scored on the test split: {result.error}")
    found = {name: results[name].measurement for name in everyone}
    evolved = found[EVOLVED]
    return tuple(
        Row.of(name, measured, None if name == EVOLVED else evolved, notes.get(name, ""))
        for name, measured in found.items()
        if measured is not None
    )
