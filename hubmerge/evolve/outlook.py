"""What a search would do and hold in memory, from headers alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..evaluate.demand import PROMPT_TOKENS, Demand
from ..evaluate.task import MAX_NEW_TOKENS
from ..hub.source import Source, open_source
from ..recipe import ModelRef, Recipe
from ..stream.plan import make_plan
from . import searchers
from .blocks import family_of
from .data_flow import DataFlow
from .explore import share
from .path import Path
from .path_model import layer_count, pool_places
from .problem import Genome
from .resident import Footprint, footprint
from .run import stages_of
from .search import Search


@dataclass(frozen=True)
class Phase:
    """One search of a run: its space ("ps" or "dfs"), searcher, genes at each stage, its evaluations and minutes."""

    space: str
    searcher: str
    genes: tuple[int, ...]
    evaluations: int
    minutes: float | None = None


@dataclass(frozen=True)
class Outlook:
    """What a search would do.

    `fetch`: bytes of the models' files that are not here yet. `held`: what one process holds in memory and takes
    at its peak to meet `demand`; prompts are not read to say this. `output`: bytes on disk of the largest model that
    can win.
    """

    phases: tuple[Phase, ...]
    models: tuple[Source, ...]
    fetch: int
    output: int
    held: Footprint
    demand: Demand


def look_ahead(search: Search, *, token: str | None = None) -> Outlook:
    """The outlook of a search. Raises what its start would raise for models that do not fit together."""
    sources = {ref: open_source(ref, token=token) for ref in search.references}
    plan = make_plan(_everything(search, sources), sources=sources)
    demand = Demand(search.batch_size, PROMPT_TOKENS, search.task.get("max_new_tokens", MAX_NEW_TOKENS))
    held = footprint(plan, demand=demand)
    phases = tuple(_phase(search, space, sources) for space in search.spaces)
    return Outlook(phases, tuple(sources.values()), plan.fetch_bytes, plan.disk_bytes, held, demand)


def _everything(search: Search, sources: Mapping[ModelRef, Source]) -> Recipe:
    """A recipe that takes as much memory as any candidate: of all models, or of all their layers."""
    if search.merge_method is not None:
        return search.starting_recipe
    counts = [layer_count(sources[ref]) for ref in search.models]
    places = pool_places(counts)
    path = Path(search.models, places, (1.0,) * len(places), dtype=search.dtype, out_dtype=search.out_dtype)
    return path.recipe(family_of(sources[search.models[0]].config))


def _phase(search: Search, space: str, sources: Mapping[ModelRef, Source]) -> Phase:
    genomes: list[Genome]
    if space == "ps":
        spec = search.searcher
        genomes = [make(None) for make in stages_of(replace(search, data_flow=None, path_searcher=None), sources, None)]
    else:
        assert search.data_flow is not None
        spec = search.path_searcher or search.searcher
        # The winner among recipes, which joins, has the first model's layers.
        models = search.models[:1] * (len(search.spaces) - 1) + search.models
        genomes = [DataFlow(search.data_flow, models, [layer_count(sources[ref]) for ref in models])]
    stages = range(len(genomes))
    planned = (searchers.planned(share(spec, stage, len(genomes)), genomes[stage])[1] for stage in stages)
    return Phase(space, spec.name, tuple(genome.size for genome in genomes), sum(planned), spec.minutes)
