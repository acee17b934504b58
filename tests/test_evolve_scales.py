"""Task arithmetic with the best of five scales: chosen where a winner is chosen, and said."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from hubmerge.errors import SearchError
from hubmerge.evaluate.measurement import Measurement
from hubmerge.evaluate.table import Row
from hubmerge.evolve.compared.baselines import baseline
from hubmerge.evolve.compared.scales import SCALED_LABEL, SCALES, best_scale
from hubmerge.evolve.records.results import Results
from hubmerge.evolve.result import card_rows
from hubmerge.evolve.search import Search
from hubmerge.evolve.workers.pool import LocalPool
from hubmerge.progress import silent


def search(**changes) -> Search:
    examples = {"search": [{"question": "q", "answer": "a"}]}
    return Search.from_dict(
        {
            "models": ["org/a", "org/b"],
            "base_model": "org/base",
            "merge_method": "task_arithmetic",
            "genome": {"genes": {"weight": [0, 2]}},
            "task": {"name": "t", "examples": examples, "metric": "exact_match"},
            **changes,
        }
    )


class Examiner:
    """A worker that gives each scale a score, and remembers what it was asked."""

    def __init__(self, scores: dict[float, float]) -> None:
        self.scores = scores
        self.asked: list[tuple[float, str]] = []

    def measure(self, candidate, job) -> Measurement:
        scale = candidate.parameters["lambda"]
        self.asked.append((scale, job.split))
        assert all(entry.parameters == {"weight": 1.0} for entry in candidate.models)
        if scale not in self.scores:
            raise MemoryError("too large")
        return Measurement(self.scores[scale], 0.0, 0.0, 7)


def task_of(**sizes: int) -> SimpleNamespace:
    splits = {name: ("x",) * sizes.get(name, 0) for name in ("search", "validation", "test")}
    return SimpleNamespace(**splits, split=splits.__getitem__)


def chosen(scores: dict[float, float], **sizes: int):
    examiner = Examiner(scores)
    return best_scale(search(), task_of(**sizes), LocalPool(lambda: examiner), silent), examiner


def test_the_scale_is_the_best_on_the_validation_split_and_the_smaller_of_equals() -> None:
    (recipe, note), examiner = chosen(
        {0.2: 0.1, 0.4: 0.5, 0.6: 0.5, 0.8: 0.3, 1.0: 0.2}, search=9, validation=7, test=5
    )
    assert recipe.parameters["lambda"] == 0.4
    assert note == "0.4 of 0.2, 0.4, 0.6, 0.8, 1, chosen on 7 validation examples"
    assert examiner.asked == [(scale, "validation") for scale in SCALES]  # and never on the test split


def test_without_a_validation_split_the_search_split_chooses_as_it_does_for_the_winner() -> None:
    (_, note), examiner = chosen(dict.fromkeys(SCALES, 0.5), search=9, test=5)
    assert {split for _, split in examiner.asked} == {"search"}
    assert note.endswith("chosen on 9 search examples")


def test_a_scale_that_cannot_be_measured_is_passed_over() -> None:
    (recipe, _), _ = chosen({0.6: 0.0}, validation=7)
    assert recipe.parameters["lambda"] == 0.6
    assert chosen({}, validation=7)[0] is None
    assert chosen(dict.fromkeys(SCALES, math.nan), validation=7)[0] is None


def test_it_is_asked_for_by_default_and_has_no_row_without_a_base() -> None:
    assert "best_scale" in search().baselines
    averaged = search(base_model=None, merge_method="linear")
    assert baseline("task_arithmetic", averaged) is None
    assert best_scale(averaged, task_of(validation=7), LocalPool(lambda: Examiner({})), silent) is None


@pytest.mark.parametrize("note", ["0.4 of 5", ""])
def test_the_card_says_which_scale_it_was(note: str) -> None:
    measured = Measurement(0.5, 0.5, 0.0, 2, (1.0, 0.0), 0, ("p", "q"))
    rows = card_rows([Row.of(SCALED_LABEL, measured, measured, note)], "title", "exact_match", "t")
    assert [row.model for row in rows] == [f"{SCALED_LABEL} ({note})" if note else SCALED_LABEL]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document.pop("problems"),
        lambda document: document["problems"].pop(),
        lambda document: document.update(problems=["p", "p"]),
        lambda document: document["rows"][0].update(values="1"),
        lambda document: document["rows"][0].update(n=3),
    ],
)
def test_a_result_whose_values_are_of_no_known_problem_is_refused(spoil, tmp_path: Path) -> None:
    measured = Measurement(0.5, 0.5, 0.0, 2, (1.0, 0.0), 0, ("p", "q"))
    document = json.loads(Results("key", {}, {}, (Row.of("m", measured, None),)).to_json())
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    assert Results.read(path, "key").rows[0].marks == {"p": 1.0, "q": 0.0}
    spoil(document)
    path.write_text(json.dumps(document))
    with pytest.raises(SearchError, match="is not a result of a search"):
        Results.read(path, "key")
