"""What the winner of a search is compared with: base, models, untuned merges."""

from collections.abc import Mapping
from dataclasses import replace

from ...evaluate.measurement import Measurement
from ...evaluate.task import Task
from ...progress import Event, Progress
from ...recipe import ModelEntry, Recipe
from ...reference import ModelRef
from ..examples.asked import Asked
from ..search import Search
from ..spaces.candidate import Contestant
from ..workers.pool import Pool, measure_all
from .baselines import LABELS, baseline

EVOLVED_RECIPE = "evolved in parameter space"
COMPARED_LABELS = {"random": "random search, same budget", "grid": "grid of two scalars, same budget"}


def contestants(search: Search, task: Task) -> dict[str, Contestant]:
    """What the winner is compared with, by the name it has in tables: base, models, untuned merges.

    Where the task shows pictures a plain model is asked with the eyes of the first that sees, in the place of its
    language model; where pictures are drawn, a part that is a model of its own draws in the first pipeline.
    """
    found: dict[str, Contestant] = {}
    parts = [ref for ref in (search.references if task.draw else search.models) if ref.component is not None]
    whole = parts[0] if parts and (task.sees or task.draw) else None

    def add(name: str, model: ModelRef) -> None:
        if whole is None or model.component is not None:
            found[name] = model
            return
        entries = (ModelEntry(whole, {"weight": 0.0}), ModelEntry(model, {"weight": 1.0}))
        where = f"in {whole.title}" if task.draw else f"with the eyes of {replace(whole, component=None).title}"
        found[f"{name} {where}"] = Recipe("linear", models=entries, output=search.output)

    if search.base_model is not None:
        add(f"{search.base_model.title} (base)", search.base_model)
    titles = [model.title for model in search.models]
    for model in search.models:
        add(model.title if titles.count(model.title) == 1 else str(model), model)
    for name in search.baselines:
        if name in LABELS and (recipe := baseline(name, search)) is not None:
            found[LABELS[name]] = recipe
    return found


def measure_by_name(
    everyone: Mapping[str, Contestant], asked: Asked, pool: Pool, progress: Progress, stage: str
) -> dict[str, Measurement]:
    """The measurement of each on the same examples, by name; progress is told under the name of `stage`."""
    # Recipes first: what holds them in memory may have to make room for what holds the models.
    names = sorted(everyone, key=lambda name: not isinstance(everyone[name], Recipe))

    def tell(done: int) -> None:
        progress(Event(stage, done, len(names), "models", note=names[min(done, len(names) - 1)]))

    return dict(zip(names, measure_all(pool, [(everyone[name], asked) for name in names], tell), strict=True))
