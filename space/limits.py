"""What one job may take on a shared machine: refused from headers, before the long work, or stopped at its time."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hubmerge.amounts import size
from hubmerge.errors import ResourceError
from hubmerge.evolve.search import Search
from hubmerge.hub import Source
from hubmerge.publish import planned
from hubmerge.recipe import Recipe
from hubmerge.stream.findings import Finding
from hubmerge.stream.plan import Plan

if TYPE_CHECKING:
    from hubmerge.evolve.plan import SearchPlan

GIGABYTE = 10**9


@dataclass(frozen=True)
class Limits:
    """0 stands for no limit.

    model_gb: of one model that is read; disk_gb: of the model that one job writes; minutes: of one job at work;
    resumed, it has as many again. memory_gb: of memory that a job at work, or a model that is talked to, takes beside
    what the page's libraries need; what does not fit goes on, slower.
    """

    model_gb: float = 0.0
    disk_gb: float = 0.0
    minutes: float = 0.0
    memory_gb: float = 0.0

    @property
    def memory(self) -> int | None:
        """Bytes of memory; None: as many as there are."""
        return int(self.memory_gb * GIGABYTE) or None

    def plan(self, recipe: Recipe, token: str | None) -> Plan:
        """The plan of a recipe, made from headers and texts with a visitor's rights, and a finding for each limit that
        it goes over."""
        return self.on_plan(planned(recipe, token=token, memory=self.memory))

    def on_plan(self, plan: Plan) -> Plan:
        """The plan, with a finding for each limit that it goes over."""
        measuring = [one.cost for one in plan.statistics if not one.is_here]
        disk = sum(cost.disk for cost in measuring) + max((cost.spill for cost in measuring), default=0)
        found = [*self._of_models(plan.sources), *self._of_disk(plan.disk_bytes + disk, "The merge")]
        over = tuple(Finding("error", message, ResourceError) for message in found)
        return replace(plan, findings=(*plan.findings, *over)) if over else plan

    def require_model(self, *sources: Source, disk: int = 0) -> None:
        """Raises `ResourceError` for a model that is too large, or where so many bytes of `disk` are too many."""
        for message in [*self._of_models(sources), *self._of_disk(disk, "This")]:
            raise ResourceError(message)

    def require_search(self, search: Search, token: str | None) -> None:
        """Raises `ResourceError` for a search whose models are too large, or whose winner may be."""
        if not (self.model_gb or self.disk_gb):
            return
        from hubmerge.evolve.plan import plan_search  # brings EvoTorch and Ray, as the search itself will

        for message in self._of_search(plan_search(search, token=token, memory=self.memory)):
            raise ResourceError(message)

    def on_search(self, plan: "SearchPlan") -> "SearchPlan":
        """The plan, with a finding for each limit that it goes over."""
        over = tuple(Finding("error", message, ResourceError) for message in self._of_search(plan))
        return replace(plan, findings=(*plan.findings, *over)) if over else plan

    def _of_search(self, plan: "SearchPlan") -> Iterable[str]:
        yield from self._of_models(plan.models)
        yield from self._of_disk(plan.output, "The winner of this search")

    def _of_models(self, sources: Iterable[Source]) -> Iterable[str]:
        for source in sources:
            if self.model_gb and source.nbytes > self.model_gb * GIGABYTE:
                yield (
                    f"{source.name} has {size(source.nbytes)} of weights and this page takes models of at most "
                    f"{self.model_gb:g} GB (HUBMERGE_SPACE_MAX_MODEL_GB); choose a smaller one or run your own copy."
                )

    def _of_disk(self, nbytes: int, what: str) -> Iterable[str]:
        if self.disk_gb and nbytes > self.disk_gb * GIGABYTE:
            yield (
                f"{what} takes up to {size(nbytes)} of disk and this page gives a job at most {self.disk_gb:g} GB "
                "(HUBMERGE_SPACE_MAX_DISK_GB); choose smaller models or run your own copy."
            )
