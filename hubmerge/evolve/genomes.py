"""The genomes of a search, one a stage, and the way from their candidates to recipes."""

from collections.abc import Mapping, Sequence

from ..hub.source import Source
from ..recipe import Recipe
from ..reference import ModelRef
from ..stream.plan import made_by, make_plan, named_weights
from .explore import MakeGenome
from .search import Search
from .spaces.candidate import Candidate
from .spaces.data_flow import DataFlow
from .spaces.edits import Edits
from .spaces.families import family_of
from .spaces.genome import Genome
from .spaces.recipes import ParameterGenome
from .workers.path_model import layer_count


def stages_of(search: Search, sources: Mapping[ModelRef, Source], token: str | None) -> list[MakeGenome]:
    """What makes the genome of each stage: recipes at each granularity, or paths."""
    if search.data_flow is not None:
        paths = _paths(search, sources, token)
        return [lambda start: paths]
    plan = make_plan(search.starting_recipe, sources=sources, token=token)
    plan.require()
    names = [tensor.name for tensor in plan.stage.merging]

    def recipes(granularity: str) -> MakeGenome:
        def make(start: Candidate | None) -> Genome:
            assert start is None or isinstance(start, Recipe)
            return ParameterGenome(search, names, granularity, start)

        return make

    return [recipes(granularity) for granularity in search.granularity]


def path_genome(search: Search, models: Sequence[ModelRef], layer_counts: Sequence[int]) -> DataFlow | Edits:
    """The genome of the search's paths through models with so many layers each."""
    assert search.data_flow is not None
    made = Edits if search.by_edits else DataFlow
    return made(search.data_flow, models, layer_counts, search.output)


def _paths(search: Search, sources: Mapping[ModelRef, Source], token: str | None) -> DataFlow | Edits:
    made = made_by(search.stages, sources, token)
    counts = tuple(layer_count(named_weights(ref, sources, made)) for ref in search.models)
    return path_genome(search, search.models, counts)


def recipe_of(candidate: Candidate, search: Search, sources: Mapping[ModelRef, Source]) -> Recipe:
    """The recipe that makes a candidate an ordinary checkpoint."""
    if isinstance(candidate, Recipe):
        return candidate
    first = named_weights(candidate.models[0], sources, made_by(search.stages, sources))
    return candidate.recipe(family_of(first.config), search.stages)
