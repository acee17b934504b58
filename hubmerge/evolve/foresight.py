"""What would stop a search, found before it starts: examples too long, splits too small, a judge that is away."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import HubmergeError, PlanError, SearchError, TaskError
from ..evaluate.bred import bred_on
from ..evaluate.demand import Demand
from ..evaluate.drawing import Draw
from ..evaluate.lengths import Longest, longest, positions
from ..evaluate.llm_judge import LlmJudge
from ..evaluate.models import load_processor, load_tokenizer, tokenizer_files
from ..evaluate.pipelines import require_drawing
from ..evaluate.splits import TEST
from ..evaluate.task import SPLITS, Task
from ..hub.auto_class import SEEING, auto_class
from ..hub.source import Source
from ..recipe import ModelEntry, Recipe
from ..reference import ModelRef
from ..stream.carried import Carried
from ..stream.findings import Finding, error, raise_errors, warning
from ..stream.plan import Plan, make_plan, weights_of
from .compared.contestants import contestants
from .search import Search
from .spaces.families import family_of
from .spaces.layer_path import LayerPath
from .workers.footprint import require_room
from .workers.path_model import layer_count, pool_places


@dataclass(frozen=True)
class Foresight:
    """What is known of a search before it starts: the plan of its largest candidate, what would stop it or should be
    known, and the tokens of the longest example (None where nobody can tell)."""

    plan: Plan
    findings: tuple[Finding, ...]
    longest: int | None

    def require(self) -> None:
        """Raises the errors among the findings; does nothing where there is none."""
        raise_errors(self.findings)


def foresee(
    search: Search, sources: Mapping[ModelRef, Source], task: Task, out: Path | None = None, memory: int | None = None
) -> Foresight:
    """Looks ahead: reads tokenizers and the task, asks a judge one small question, and reads no weights. `memory`: the
    limit of its workers.

    Raises `PlanError` for models that do not fit together, and where the disk of `out` has no room for the winner.
    """
    # How long the path will be that wins is not known; every recipe's model is as large as any.
    room = out if search.merge_method is not None else None
    if task.draw is not None:
        _require_parts(search, sources)
    everything = _everything(search, sources)
    plan = make_plan(everything, sources=sources, out=room)
    plan.require()
    findings, found = list(_remarks(search, task, sources)), 0

    def lengths() -> None:
        nonlocal found
        for most, name, limit in _longest(search, plan, sources, task):
            found = max(found, most.tokens)
            most.require(task, limit, name)

    def judge() -> None:
        if isinstance(task.settings, LlmJudge):
            task.settings.reach()

    def drawing() -> None:
        if task.draw is not None:
            _require_drawing(plan, sources, task.draw)

    def room_in_memory() -> None:
        if memory is None:
            return
        answers = found and task.asked.asks == "text" and not task.sees
        require_room(plan, memory, Demand(1, found, task.max_new_tokens) if answers else None)
        make_plan(everything, sources=sources, memory=memory).require()  # as the winner is merged

    checks: tuple[Callable[[], None], ...] = (
        lengths if task.draw is None else drawing,
        lambda: _require_examples(search, task),
        judge,
        room_in_memory,
    )
    for check in checks:
        try:
            check()
        except HubmergeError as exc:
            findings.append(error(str(exc), type(exc)))
    return Foresight(plan, tuple(findings), found or None)


def _everything(search: Search, sources: Mapping[ModelRef, Source]) -> Recipe:
    """A recipe that takes as much memory as any candidate: of all models, or of all their layers."""
    if search.merge_method is not None:
        return search.starting_recipe
    places = pool_places([layer_count(weights_of(sources[ref])) for ref in search.models])
    path = LayerPath(
        search.models,
        places,
        (1.0,) * len(places),
        output=search.output,
    )
    return path.recipe(family_of(weights_of(sources[search.models[0]]).config))


def _longest(
    search: Search, plan: Plan, sources: Mapping[ModelRef, Source], task: Task
) -> Iterator[tuple[Longest, str, int | None]]:
    """The longest example for whoever is asked, with a name for messages and the tokens that it reads at most."""
    tokenizers: dict[tuple[tuple[str, bytes], ...], Any] = {}
    known: dict[tuple[int, tuple[str, ...]], Longest | None] = {}
    for name, carried, config, splits in _asked(search, plan, sources, task):
        # Models that were tuned from one base mostly share its tokenizer, and loading one takes a second.
        files = tokenizer_files(carried)
        if (made := tuple(sorted(files.items()))) not in tokenizers:
            if task.sees:
                require_eyes(config, name, task)
            tokenizers[made] = load_processor(carried) if task.sees else load_tokenizer(carried, files)
        tokenizer = tokenizers[made]
        if (asked := (id(tokenizer), splits)) not in known:
            known[asked] = longest(tokenizer, task, splits)
        if (most := known[asked]) is not None:
            yield most, name, positions(config)


def require_eyes(config: Mapping[str, object], name: str, task: Task) -> None:
    """Raises `TaskError` where a task shows pictures to a model that has no eyes."""
    if auto_class(config) != SEEING:
        raise TaskError(
            f"Task {task.name} shows pictures, and {name} is a {config.get('model_type')} model, which has no eyes; "
            "search the language model of one that sees: org/sees#language_model."
        )


_Asked = tuple[str, Carried, Mapping[str, object], tuple[str, ...]]
"""Who is asked: its name in messages, tokenizer and chat template, configuration, and the splits."""


def _asked(search: Search, plan: Plan, sources: Mapping[ModelRef, Source], task: Task) -> Iterator[_Asked]:
    """Everyone that the search asks, once where several are asked in the same way."""
    yield "a candidate", plan.tokenizer, plan.config, SPLITS
    # Models and merges beside it are asked the search split where they choose the examples.
    splits = SPLITS if search.economy is not None and search.economy.examples is not None else ("test",)
    seen = {(plan.tokenizer.key, positions(plan.config))}
    for name, other in contestants(search, task).items():
        if isinstance(other, Recipe):
            one: _Asked | None = None
            with suppress(PlanError):  # such a merge has no row
                beside = make_plan(other, sources=sources)
                beside.require()
                one = (name, beside.tokenizer, beside.config, splits)
        else:
            assert isinstance(other, ModelRef)
            one = (name, Carried(sources[other]), sources[other].config, splits)
        if one is not None and (key := (one[1].key, positions(one[2]))) not in seen:
            seen.add(key)
            yield one


def _require_parts(search: Search, sources: Mapping[ModelRef, Source]) -> None:
    """Raises `SearchError` where what varies is not one part of pipelines."""
    if search.data_flow is not None:
        raise SearchError(
            "Paths run through the layers of models that are asked in words; a pipeline is searched with merge_method "
            "and genome, so leave out `data_flow`."
        )
    for ref, source in sources.items():
        if source.folders and ref.component is None:
            raise SearchError(
                f"{ref} is a whole pipeline, of which a search varies one part; name that, as in {ref.bare}#unet."
            )


def _require_drawing(plan: Plan, sources: Mapping[ModelRef, Source], draw: Draw) -> None:
    """Raises `SourceError` or `TaskError` where candidates, or the models themselves, cannot draw."""
    require_drawing(plan, "a candidate", draw)
    for ref in sources:
        if ref.component is not None:
            alone = make_plan(Recipe("linear", models=(ModelEntry(ref, {"weight": 1.0}),)), sources=sources)
            require_drawing(alone, str(ref), draw)


def _require_examples(search: Search, task: Task) -> None:
    asked = search.economy.examples if search.economy is not None else None
    if asked is not None and asked > len(task.search):
        raise SearchError(
            f"economy.examples is {asked}, but the search split has {len(task.search)} examples; ask at most as many, "
            "or leave out `examples`."
        )


def _remarks(search: Search, task: Task, sources: Mapping[ModelRef, Source]) -> Iterator[Finding]:
    for split, asked in search.splits.items():
        if (there := len(task.split(split))) < asked:
            yield warning(
                f"The task has {there:,} examples for the {split} split, fewer than the {asked:,} that are asked for: "
                "all are taken.",
                "splits",
            )
    most = search.data_flow.max_layers if search.data_flow is not None else None
    if search.spaces == ("dfs",) and most is not None:
        first = search.models[0]
        if (count := layer_count(weights_of(sources[first]))) > most:
            yield warning(
                f"data_flow.max_layers is {most}, and {first.title} has {count} layers: every path leaves some out."
            )
    if not task.validation:
        yield warning(
            "The task has no validation split: the winner is chosen by the examples that it was selected on; name one "
            "under `examples`."
        )
    for source in {source.listing.name: source for source in sources.values()}.values():
        if known := bred_on(source).intersection(task.problems(TEST)):
            yield warning(
                f"{source.title} was bred on {len(known):,} of the {len(task.test):,} test questions, so the table "
                "tells too much good of it, and of what is made of it; name others for `test`."
            )
    if not task.test:
        yield warning("The task has no test split: nothing will say how good the winner is; name one under `examples`.")
