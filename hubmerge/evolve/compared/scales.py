"""The merge that people make with a few tries: task arithmetic with the best of five scales of the task vectors.

What a search is worth shows against this, not against one guess: the scale is what the paper of task arithmetic
(arXiv 2212.04089) picks on held-out examples too. It is chosen where the winner of a search is: on the validation
split, or on the search split where there is none.
"""

from dataclasses import replace

from ...evaluate.task import Task
from ...progress import Event, Progress
from ...recipe import Recipe
from ..examples.asked import Asked
from ..search import Search
from ..workers.pool import Pool, measure_all
from .baselines import baseline

SCALES = (0.2, 0.4, 0.6, 0.8, 1.0)
SCALED_LABEL = "task arithmetic, best of five scales"


def best_scale(search: Search, task: Task, pool: Pool, progress: Progress) -> tuple[Recipe, str] | None:
    """The recipe with the best scale, the smaller of equals, and in words which it is and what chose it.

    None where the search has no base model, or where no such merge can be built.
    """
    plain = baseline("task_arithmetic", search)
    if plain is None:
        return None
    split = "validation" if task.validation else "search"
    recipes = [replace(plain, parameters={**plain.parameters, "lambda": scale}) for scale in SCALES]

    def tell(done: int) -> None:
        progress(Event("scales", done, len(recipes), "models"))

    found = measure_all(pool, [(recipe, Asked(split)) for recipe in recipes], tell)
    scores = [measured.score if measured.error is None else -1.0 for measured in found]
    best = scores.index(max(scores))
    if found[best].error is not None:
        return None
    tried = ", ".join(f"{scale:g}" for scale in SCALES)
    return recipes[best], f"{SCALES[best]:g} of {tried}, chosen on {len(task.split(split))} {split} examples"
