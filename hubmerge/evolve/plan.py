"""What a search would do and hold in memory, and what would stop it, without reading weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..amounts import size
from ..evaluate.demand import PROMPT_TOKENS, Demand
from ..hub.source import Source
from ..reference import ModelRef
from ..stream.findings import Finding, raise_errors, warning
from ..stream.plan import weights_of
from . import searchers
from .explore import share
from .foresight import foresee
from .genomes import path_genome, stages_of
from .opened import open_search
from .records.learnt import Learnt
from .search import Search
from .spaces.genome import Genome
from .workers.footprint import Footprint, footprint
from .workers.path_model import layer_count


@dataclass(frozen=True)
class Phase:
    """One search of a run: its space ("ps" or "dfs"), searcher, genes at each stage, its evaluations and minutes."""

    space: str
    searcher: str
    genes: tuple[int, ...]
    evaluations: int
    minutes: float | None = None


@dataclass(frozen=True)
class SearchPlan:
    """What a search would do.

    `fetch`: bytes of the models' files that are not here yet. `held`: what one process holds in memory and takes
    at its peak to meet `demand`: as many prompts as are asked at a time, each as long as the longest; None where
    pictures are drawn, `together` at a time, which nobody knows the memory of. `output`: bytes
    on disk of the largest model that can win. `begun_with`: what of an earlier run it begins with. `findings`: what
    would stop it, or should be known.
    """

    phases: tuple[Phase, ...]
    models: tuple[Source, ...]
    fetch: int
    output: int
    held: Footprint
    demand: Demand | None
    together: int
    findings: tuple[Finding, ...] = ()
    begun_with: str | None = None

    def require(self) -> None:
        """Raises the errors among the findings; does nothing where there is none."""
        raise_errors(self.findings)


def plan_search(
    search: Search,
    *,
    token: str | None = None,
    sources: Mapping[ModelRef, Source] | None = None,
    memory: int | None = None,
) -> SearchPlan:
    """The plan of a search; `sources` as of `evolve`, `memory` as of its workers. Raises what its start would raise for
    models that do not fit together, or for a task that cannot be read."""
    opened = open_search(search, token, sources)
    search, task = opened.search, opened.task
    ahead = foresee(search, opened.sources, task, memory=memory)
    demand = None
    if task.draw is None:
        demand = Demand(search.batch_size, ahead.longest or PROMPT_TOKENS, task.max_new_tokens)
    held = footprint(ahead.plan, demand=demand, memory=memory)
    findings = list(ahead.findings)
    if held.disk and not any(one.level == "error" for one in findings):
        findings.append(
            warning(
                f"Candidates do not fit into {size(memory or 0)}: about {size(held.disk)} of each are read from disk "
                "for every answer, which is slow."
            )
        )
    phases = tuple(_phase(search, space, opened.sources, opened.learnt) for space in search.spaces)
    findings += [
        warning(
            f"{phase.searcher} tries one candidate within this budget, which is no search; give it more `evaluations`, "
            "or name another searcher."
        )
        for phase in phases
        if phase.evaluations == 1
    ]
    return SearchPlan(
        phases=phases,
        models=tuple(opened.sources.values()),
        fetch=ahead.plan.fetch_bytes,
        output=ahead.plan.disk_bytes,
        held=held,
        demand=demand,
        together=search.batch_size,
        findings=tuple(findings),
        begun_with=opened.learnt.told if opened.learnt else None,
    )


def _phase(search: Search, space: str, sources: Mapping[ModelRef, Source], learnt: Learnt | None) -> Phase:
    genomes: list[Genome]
    if space == "ps":
        spec = search.searcher
        recipes = replace(search, data_flow=None, path_searcher=None)
        genomes = [make(None) for make in stages_of(recipes, sources, None, learnt)]
    else:
        spec = search.path_searcher or search.searcher
        # The winner among recipes, which joins, has the first model's layers.
        models = search.models[:1] * (len(search.spaces) - 1) + search.models
        genomes = [path_genome(search, models, [layer_count(weights_of(sources[ref])) for ref in models], learnt)]
    stages = range(len(genomes))
    planned = (searchers.planned(share(spec, stage, len(genomes)), genomes[stage])[1] for stage in stages)
    return Phase(space, spec.name, tuple(genome.size for genome in genomes), sum(planned), spec.minutes)
