"""The genomes of a search, one a stage, and the way from their candidates to recipes."""

from collections.abc import Mapping, Sequence

from ..hub.source import Source
from ..recipe import Recipe
from ..reference import ModelRef
from ..stream.plan import made_by, make_plan, named_weights
from .explore import MakeGenome
from .records.learnt import Learnt
from .search import Search
from .spaces.candidate import Candidate
from .spaces.data_flow import DataFlow
from .spaces.edits import Edits
from .spaces.families import family_of
from .spaces.genome import Genome
from .spaces.layer_path import LayerPath
from .spaces.recipes import ParameterGenome
from .workers.path_model import layer_count


def stages_of(
    search: Search, sources: Mapping[ModelRef, Source], token: str | None, learnt: Learnt | None = None
) -> list[MakeGenome]:
    """What makes the genome of each stage: recipes at each granularity, or paths. `learnt`: what an earlier run
    taught."""
    if search.data_flow is not None:
        paths = _paths(search, sources, token, learnt)
        return [lambda start: paths]
    plan = make_plan(search.starting_recipe, sources=sources, token=token)
    plan.require()
    names = [tensor.name for tensor in plan.stage.merging]
    taught = [one for one in candidates_of(learnt, "ps") if isinstance(one, Recipe)]

    def recipes(granularity: str) -> MakeGenome:
        def make(start: Candidate | None) -> Genome:
            assert start is None or isinstance(start, Recipe)
            return ParameterGenome(search, names, granularity, start, taught)

        return make

    return [recipes(granularity) for granularity in search.granularity]


def path_genome(
    search: Search, models: Sequence[ModelRef], layer_counts: Sequence[int], learnt: Learnt | None = None
) -> DataFlow | Edits:
    """The genome of the search's paths through models with so many layers each."""
    assert search.data_flow is not None
    if not search.by_edits:
        return DataFlow(search.data_flow, models, layer_counts, search.output)
    taught = [one for one in candidates_of(learnt, "dfs") if isinstance(one, LayerPath)]
    return Edits(search.data_flow, models, layer_counts, search.output, taught)


def candidates_of(learnt: Learnt | None, space: str) -> tuple[Candidate, ...]:
    """The winner and the best of an earlier run in a space, where there are any."""
    return learnt.spaces.get(space, ()) if learnt is not None else ()


def _paths(
    search: Search, sources: Mapping[ModelRef, Source], token: str | None, learnt: Learnt | None
) -> DataFlow | Edits:
    made = made_by(search.stages, sources, token)
    counts = tuple(layer_count(named_weights(ref, sources, made)) for ref in search.models)
    return path_genome(search, search.models, counts, learnt)


def recipe_of(candidate: Candidate, search: Search, sources: Mapping[ModelRef, Source]) -> Recipe:
    """The recipe that makes a candidate an ordinary checkpoint."""
    if isinstance(candidate, Recipe):
        return candidate
    first = named_weights(candidate.models[0], sources, made_by(search.stages, sources))
    return candidate.recipe(family_of(first.config), search.stages)
