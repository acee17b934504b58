"""Judges candidates on a split of the task: a worker, with one model in memory that becomes each of them."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from ...evaluate.language import THRESHOLD
from ...evaluate.measurement import Measurement
from ...evaluate.models import load_processor, load_tokenizer
from ...evaluate.score import Scores, evaluate
from ...evaluate.seeing import SHARE, Seen
from ...evaluate.task import Task
from ...hub.patience import check_stopped
from ...hub.source import Source, open_source
from ...progress import Event, Progress, silent
from ...recipe import ModelEntry, Output, Recipe
from ...reference import ModelRef
from ...stream.carried import Carried
from ...stream.plan import make_plan
from ..examples.asked import Asked
from ..examples.racing import mean
from ..search import Search
from ..spaces.candidate import Contestant
from ..spaces.layer_path import LayerPath
from .gallery import Gallery
from .path_model import PathModel
from .resident import ResidentModel


class Judge:
    """Scores recipes, paths and the models themselves on one task.

    What stands in memory follows what is asked: all models and one candidate for recipes, the models' layers for
    paths; never both. `memory`: bytes that this may take of the process. A plain model is asked through its own
    tokenizer and chat template. `gallery`: where pictures of the best candidate are kept.
    """

    def __init__(
        self,
        search: Search,
        task: Task,
        sources: Mapping[ModelRef, Source],
        *,
        memory: int | None = None,
        progress: Progress = silent,
        gallery: Gallery | None = None,
    ) -> None:
        self._gallery = gallery if task.draw else None
        self._search = search
        self._task = task
        self._sources = sources
        self._memory = memory
        self._progress = progress
        self._resident: ResidentModel | None = None
        self._paths: PathModel | None = None
        self._load = _nothing if task.draw else load_processor if task.sees else load_tokenizer
        self._seen = Seen(None if memory is None else int(memory * SHARE)) if task.sees else None

    def measure(self, candidate: Contestant, asked: Asked) -> Measurement:
        """The candidate's measurement; a task that asks for no language gives no share in it. Raises what building it
        and asking it raise."""
        model, tokenizer = self._become(candidate)
        holder = self._resident or self._paths
        seen = self._seen.by(holder.untouched) if self._seen is not None and holder is not None else None
        examples = self._task.split(asked.split)
        if asked.positions is not None:
            examples = tuple(examples[position] for position in asked.positions)
        shown = self._gallery
        watching: AbstractContextManager[dict[str, Any]] = nullcontext({}) if shown is None else shown.watching(model)
        with watching as kept:
            scores = evaluate(
                model,
                tokenizer,
                examples,
                self._task,
                batch_size=self._search.batch_size,
                block_ends=asked.race.ends if asked.race else (),
                stop=asked.race.lost if asked.race else None,
                memory=self._memory,
                seen=seen,
                progress=_until_stopped,
            )
        if shown is not None and asked.split == "test":
            shown.tested.append((candidate, kept))
        elif shown is not None and asked.split == "search" and isinstance(candidate, Recipe):
            shown.show(scores, len(examples), kept)
        return measurement(scores, self._task, asked)

    def _become(self, candidate: Contestant) -> tuple[Any, Any]:
        # In a search for paths the models need not fit together as wholes: each is asked beside the others' layers.
        if isinstance(candidate, LayerPath) or (
            candidate in self._search.models and self._search.data_flow is not None
        ):
            self._resident = None
            if self._paths is None:
                stages, models = self._search.stages, self._search.models
                self._paths = PathModel(
                    models,
                    self._sources,
                    stages=stages,
                    memory=self._memory,
                    progress=self._progress,
                    load=self._load,
                )
            if isinstance(candidate, LayerPath):
                self._paths.load(candidate)
                return self._paths.model, self._paths.tokenizer
            tokenizer = self._paths.load_source(candidate)
            return self._paths.model, tokenizer
        self._paths = None
        if self._resident is None:
            plan = make_plan(self._everything, sources=self._sources)
            self._resident = ResidentModel(plan, memory=self._memory, progress=self._progress, load=self._load)
        if isinstance(candidate, ModelRef):
            tokenizer = self._resident.load_source(candidate)
            return self._resident.model, tokenizer
        self._resident.load(candidate)
        return self._resident.model, self._resident.tokenizer

    @property
    def _everything(self) -> Recipe:
        """A recipe that names every model of the search."""
        if self._search.merge_method is not None:
            return self._search.starting_recipe
        models = tuple(ModelEntry(ref, {"weight": 1.0}) for ref in self._search.references)
        return Recipe("linear", models=models, output=Output(tokenizer=self._search.output.vocabulary))


def _nothing(carried: Carried) -> None:
    """What a pipeline is asked through beside itself."""


def _until_stopped(event: Event) -> None:
    """One candidate can take hours: whoever wants the search to stop does not wait for more than an answer."""
    check_stopped()


def make_judge(search: Search, task: Task, token: str | None = None, memory: int | None = None) -> Judge:
    """A judge that opens the search's models itself, as the worker of another process does."""
    return Judge(search, task, {ref: open_source(ref, token=token) for ref in search.references}, memory=memory)


def measurement(scores: Scores, task: Task, asked: Asked) -> Measurement:
    """What the search keeps of a candidate's scores: weighted, and an estimate where a race was lost."""
    measured = Measurement.of(scores, task, asked.split, asked.positions)
    if (weights := asked.weights) is not None:
        spoken = [float(p > THRESHOLD) for p in scores.language]
        measured = replace(
            measured,
            score=mean(scores.values, weights),
            metric=mean(scores.metric, weights),
            language=mean(spoken, weights) if task.language else 0.0,
        )
    if asked.race is not None:
        measured = replace(measured, score=asked.race.estimate(scores.values))
    return measured
