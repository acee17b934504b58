"""What the winner of a search is compared with: base, models, untuned merges."""

from collections.abc import Mapping

from ...evaluate.measurement import Measurement
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


def contestants(search: Search, sees: bool = False) -> dict[str, Contestant]:
    """What the winner is compared with, by the name it has in tables: base, models, untuned merges.

    `sees`: pictures are shown. A plain model is then asked with the eyes of the first that sees, in the place of its
    language model.
    """
    found: dict[str, Contestant] = {}
    eyes = next((model for model in search.models if model.component is not None), None) if sees else None

    def add(name: str, model: ModelRef) -> None:
        if eyes is None or model.component is not None:
            found[name] = model
            return
        entries = (ModelEntry(eyes, {"weight": 0.0}), ModelEntry(model, {"weight": 1.0}))
        found[f"{name} with the eyes of {eyes.title}"] = Recipe("linear", models=entries, output=search.output)

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
