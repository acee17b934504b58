"""A recipe planned with the statistics that its methods need, and these measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..amounts import size
from ..errors import RecipeError, ResourceError
from ..evaluate.models import load_model, load_tokenizer
from ..evaluate.placement import FREE
from ..files import disk_errors, lock
from ..hub.source import Source, open_source
from ..methods import find_method
from ..progress import Progress, silent
from ..recipe import Calibration, Recipe
from ..reference import ModelRef
from ..stream.budget import check_disk
from ..stream.carried import Carried
from ..stream.device import free_memory
from ..stream.findings import Finding, error
from ..stream.plan import Plan, Settings, make_plan, rekeyed, weights_of
from ..stream.roles import with_roles
from ..stream.statistics import Statistics
from ..stream.tensors import FLOAT32_BYTES
from .needs import naming, statistics_of
from .stack import Stack
from .sweep import Sweep
from .texts import Chosen, Row, choose, facts, rows

if TYPE_CHECKING:
    from typing_extensions import Unpack


def plan_recipe(
    recipe: Recipe,
    *,
    token: str | None = None,
    sources: Mapping[ModelRef, Source] | None = None,
    **settings: "Unpack[Settings]",
) -> Plan:
    """Plans a recipe as `make_plan` does, with what its methods need to know of the models: texts are read and counted,
    and no model is run before `measured`.

    The memory among `settings` bounds measuring too. Raises what `make_plan` does, and `TaskError` for texts; what this
    machine lacks for measuring is in the findings.
    """
    recipe.require_stages()
    wanted = list(_wanted(recipe))
    opened = {ref: (sources or {}).get(ref) or open_source(ref, token=token) for ref in recipe.references}
    texts = _Texts(token)
    measure = partial(_measure, token=token, memory=settings.get("memory"))
    measured = {}
    for stage, ref, kind, calibration in wanted:
        source, chosen = opened[ref], texts.chosen(calibration)
        read = texts.rows(source, calibration)
        found = statistics_of(source, kind, calibration, read, facts(chosen, read))
        measured[stage, ref] = found.by(partial(measure, rows=read, calibration=calibration))
    _require_one_tokenizer(recipe, [(stage, opened[ref]) for stage, ref, _, _ in wanted])
    pinned = recipe.with_calibrations(lambda one: texts.chosen(one).calibration)
    plan = make_plan(pinned, token=token, sources=opened, measured=measured, **settings)
    unfit = tuple(_check_room(plan.statistics, settings.get("memory")))
    return replace(plan, findings=(*plan.findings, *unfit)) if unfit else plan


def measured(plan: Plan, progress: Progress = silent) -> Plan:
    """The same plan once all that it needs is measured, which may take long; what was measured before is kept.

    Raises what `Plan.require` does, and `SourceError` for a model that cannot be measured.
    """
    plan.require()
    missing = [one for one in plan.statistics if not one.is_here]
    for one in missing:
        one.measure(progress)
    return rekeyed(plan) if missing else plan


def _wanted(recipe: Recipe) -> Iterator[tuple[str, ModelRef, str, Calibration]]:
    """The stage, the model, what is measured of it, and by which texts. Raises `RecipeError`."""
    for stage, written in recipe.merges.items():
        method = find_method(written.merge_method)
        if any(find_method(one).statistic for one in written.methods) and written.modules:
            raise RecipeError(
                f"{method.name} measures whole models, and merges no `modules`; merge the parts otherwise."
            )
        if method.statistic is None:
            continue
        merge, _, _ = with_roles(written, method)
        for ref, calibration in merge.calibrations.items():
            if ref.stage or ref.component is not None:
                what, instead = (
                    ("made on the way", "merge it on its own first, and name the result")
                    if ref.stage
                    else ("a part of a model", "merge it with a method that needs no data")
                )
                raise RecipeError(f"{method.name} measures whole models, and {ref} is {what}; {instead}.")
            if calibration is None:
                raise RecipeError(
                    f"{method.name} needs `calibration`, the texts that {ref} is measured by; write `calibration: "
                    "{task: NAME}` in the recipe, or beside the model."
                )
            yield stage, ref, method.statistic, calibration


def _check_room(statistics: Sequence[Statistics], memory: int | None) -> Iterator[Finding]:
    """Whether this machine has what measuring takes."""
    missing = [one for one in statistics if not one.is_here]
    room = _room(memory)
    for one in missing:
        if one.cost.memory > room:
            yield error(
                f"Measuring {one.name} takes {size(one.cost.memory)} of memory, for its largest layer and what is "
                f"known of it, and may take {size(room)}; allow that much, or read fewer tokens of each text.",
                ResourceError,
            )
    if missing:
        most = sum(one.cost.disk for one in missing) + max(one.cost.spill for one in missing)
        yield from check_disk(missing[0].folder, most, 0)


def _room(memory: int | None) -> int:
    return int(free_memory() * FREE) if memory is None else memory


class _Texts:
    """The texts of calibrations, drawn once each, and as each tokenizer reads them."""

    def __init__(self, token: str | None) -> None:
        self._token = token
        self._chosen: list[tuple[Calibration, Chosen]] = []

    def chosen(self, calibration: Calibration) -> Chosen:
        """Those of a calibration."""
        for known, chosen in self._chosen:
            if known == calibration:
                return chosen
        self._chosen.append((calibration, choose(calibration, self._token)))
        return self._chosen[-1][1]

    def rows(self, source: Source, calibration: Calibration) -> list[Row]:
        """As a model reads them."""
        limit = source.config.get("max_position_embeddings")
        tokenizer: Any = load_tokenizer(Carried(source))
        return rows(self.chosen(calibration), tokenizer, limit if type(limit) is int else None)


def _require_one_tokenizer(recipe: Recipe, models: list[tuple[str, Source]]) -> None:
    """Raises `RecipeError` where models of one stage are measured by different tokens."""
    first: dict[str, Source] = {}
    for stage, source in models:
        other = first.setdefault(stage, source)
        ours, theirs = (weights_of(one).tokenizer.numbering for one in (other, source))
        if ours is not None and theirs is not None and not ours.same(theirs):
            method = recipe.merges[stage].merge_method
            raise RecipeError(
                f"{method} merges models of one tokenizer, and those of {other.name} and {source.name} differ; give "
                "one of them the other's first (`hubmerge transplant`, on the page: Tools)."
            )


def _measure(
    statistics: Statistics,
    progress: Progress,
    *,
    rows: list[Row],
    calibration: Calibration,
    token: str | None,
    memory: int | None,
) -> None:
    """Runs a model on its texts, and keeps what its statistics are."""
    source, cost, folder = statistics.source, statistics.cost, statistics.folder
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ".lock", "w") as held:
            if not lock(held):
                raise ResourceError(
                    f"{source.name} is being measured by another run; wait until that has ended, then do it again."
                )
            if statistics.is_here:
                return
            left = _room(memory) - cost.memory
            # Where not all of it stays, half of what is given are weights that do.
            limit = None if FLOAT32_BYTES * source.parameters <= left else 4 * cost.module + max(0, left)
            model, _ = load_model(source, token=token, memory=limit, progress=progress)
            stored = naming(weights_of(source).tensors)
            Sweep(Stack(model, source.name), statistics, rows, calibration, stored, progress).run()
