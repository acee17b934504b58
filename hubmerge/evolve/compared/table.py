"""The final table: the winner and what it is compared with, on the test split."""

from collections.abc import Mapping

from ...errors import SearchError
from ...evaluate.table import Row
from ...progress import Progress
from ...recipe import Recipe
from ..examples.asked import Asked
from ..records.results import EVOLVED
from ..spaces.candidate import Candidate, Contestant
from ..workers.pool import Pool
from .contestants import measure_by_name


def final_rows(
    others: Mapping[str, Contestant], winner: Candidate, pool: Pool, progress: Progress, notes: Mapping[str, str]
) -> tuple[Row, ...]:
    """Scores the winner and all `others` on the test split, which is opened here and only here; `notes` for some rows.

    A merge that cannot be built (an average of models with other numbers of layers) has no row; a model that cannot
    be asked, or a winner, raises `SearchError`.
    """
    everyone = {**others, EVOLVED: winner}
    found = measure_by_name(everyone, Asked("test"), pool, progress, "test")
    for name, measured in found.items():
        if measured.error is not None and not isinstance(others.get(name), Recipe):
            raise SearchError(f"{name} could not be scored on the test split: {measured.error}")
    evolved = found[EVOLVED]
    return tuple(
        Row.of(name, found[name], None if name == EVOLVED else evolved, notes.get(name, ""))
        for name in everyone
        if found[name].error is None
    )
