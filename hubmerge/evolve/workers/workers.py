"""Who evaluates: this process, or actors on Ray."""

from dataclasses import dataclass

from ...errors import SearchError
from .pool import LocalPool, MakeWorker, Pool


@dataclass(frozen=True)
class Workers:
    """How many candidates are evaluated at a time, and where.

    `actors` 1 without `address` is this process, with all its cores. More are processes on Ray with one core and
    `gpus_per_actor` GPUs each; `address` names a running cluster ("auto", "host:port"). `memory`: bytes that each of
    these processes may take beside what its libraries need. A run's path does not depend on any of this.
    """

    actors: int = 1
    gpus_per_actor: float = 0.0
    address: str | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        if self.actors < 1 or self.gpus_per_actor < 0:
            raise SearchError("A search needs at least one actor, and no less than 0 GPUs for each.")

    @property
    def here(self) -> bool:
        """Whether all is evaluated in this process."""
        return self.actors == 1 and self.address is None

    def pool(self, make_worker: MakeWorker) -> Pool:
        """A pool of these workers."""
        if self.here:
            return LocalPool(make_worker)
        from .ray_pool import RayPool  # brings Ray

        return RayPool(make_worker, actors=self.actors, gpus_per_actor=self.gpus_per_actor, address=self.address)
