"""Judges recipes on a split of the task, through the resident model."""

from dataclasses import dataclass
from typing import Any

from ..evaluate.score import Scores, evaluate
from ..evaluate.task import Task
from ..recipe import ModelRef, Recipe
from .explore import Measurement
from .resident import ResidentModel


@dataclass(frozen=True)
class Judge:
    """Scores recipes and sources with one resident model on one task."""

    resident: ResidentModel
    task: Task
    batch_size: int

    def measure(self, recipe: Recipe) -> Measurement:
        """The recipe's measurement on the search split; a task that asks for no language gives no share in it."""
        scores = self.score(recipe, "search")
        language = scores.language_share if self.task.language else 0.0
        return Measurement(scores.score, scores.number_share, language, scores.n)

    def score(self, recipe: Recipe, split: str) -> Scores:
        """The recipe's scores on one split."""
        self.resident.load(recipe)
        return self._ask(self.resident.tokenizer, split)

    def score_source(self, ref: ModelRef, split: str) -> Scores:
        """A source's own scores on one split, asked through its own tokenizer and chat template."""
        return self._ask(self.resident.load_source(ref), split)

    def _ask(self, tokenizer: Any, split: str) -> Scores:
        examples = self.task.split(split)
        return evaluate(self.resident.model, tokenizer, examples, self.task, batch_size=self.batch_size)
