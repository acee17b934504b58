"""Searches that ask fewer examples and stop losing candidates early."""

import json
import pickle
import random
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from racetools import examples_of, raced

from hubmerge.errors import SearchError
from hubmerge.evolve.examples.asked import EVERYTHING, Asked
from hubmerge.evolve.examples.chosen import ChosenExamples, ExampleSet, read_chosen
from hubmerge.evolve.examples.search_examples import SearchExamples, cost
from hubmerge.evolve.explore import Exploration, explore
from hubmerge.evolve.records.evaluation import Evaluation
from hubmerge.evolve.records.journal import Journal, read_evaluations
from hubmerge.evolve.run import evolve
from hubmerge.evolve.search import Search
from hubmerge.evolve.spec.economy import Economy
from hubmerge.evolve.spec.fitness import Fitness
from hubmerge.evolve.spec.searcher import Searcher
from hubmerge.evolve.workers.judge import Judge, measurement
from hubmerge.evolve.workers.pool import LocalPool

PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


TASK = SimpleNamespace(language=None, problems=lambda split: tuple(map(str, range(150))))


class Exam:
    """A worker whose candidates answer example i where the mean of their genes is above the example's difficulty."""

    def __init__(self) -> None:
        generator = np.random.default_rng(7)
        self.difficulty = generator.normal(0.4, 0.5, 150)
        self.asked: dict[str, int] = {}

    def measure(self, candidate, asked: Asked):
        asked = pickle.loads(pickle.dumps(asked))  # as for actors
        noise = np.random.default_rng(abs(hash(tuple(candidate.genes))) % 2**32).normal(0, 0.2, 150)
        values = 1 - np.abs(np.array(candidate.genes) - 0.8).mean() + noise > self.difficulty
        positions = range(150) if asked.positions is None else asked.positions
        return measurement(raced(asked.race, [float(values[i]) for i in positions]), TASK, asked)


class Shuffled(LocalPool):
    """A pool of many actors, of which any may be done first."""

    def __init__(self, make_worker, seed: int) -> None:
        super().__init__(make_worker)
        self._random = random.Random(seed)

    def finished(self, wait=None):
        self._random.shuffle(self._waiting)
        return super().finished(wait)


class Genes:
    """A genome whose candidates are its vectors."""

    space, sigma, size = "ps", 0.3, 4
    start, binary, learnt, finals = np.zeros(4), np.zeros(4, dtype=bool), (), ()

    def decode(self, vector: np.ndarray):
        genes = [round(float(x), 6) for x in vector]
        return SimpleNamespace(genes=genes, to_dict=lambda: {"genes": genes})

    def random(self, generator: np.random.Generator) -> np.ndarray:
        return generator.normal(0, 1, 4)


def searched(path: Path, examples: SearchExamples, name: str = "cmaes", shuffle: int | None = None) -> Exploration:
    def pool():
        return LocalPool(Exam) if shuffle is None else Shuffled(Exam, shuffle)

    spec = Searcher(name, evaluations=96, popsize=12, seed=2)
    with Journal(path, "key", {}, resume=True) as journal, pool() as workers:
        asked = examples.of_searcher(name)
        return explore(spec, Fitness(), [lambda start: Genes()], journal, workers, examples=asked)


def story(found: Exploration) -> list[Evaluation]:
    return [replace(evaluation, seconds=0.0) for evaluation in found.evaluations]


@pytest.mark.parametrize("name", ["cmaes", "m2n2"])
def test_a_race_is_the_same_whoever_is_done_first_and_when_resumed(tmp_path: Path, name: str) -> None:
    examples = examples_of(Economy(examples=60, racing=True))
    found = searched(tmp_path / "a", examples, name)
    asked = [evaluation.n for evaluation in found.evaluations]
    assert set(asked) <= {20, 40, 60}
    assert min(asked) < 60
    assert story(searched(tmp_path / "b", examples, name, shuffle=5)) == story(found)
    lines = (tmp_path / "b").read_bytes().splitlines(keepends=True)  # in the order in which they were done
    for kept in (5, 40, 71):
        (tmp_path / "c").write_bytes(b"".join(lines[:kept]) + lines[kept][:30])
        assert story(searched(tmp_path / "c", examples, name, shuffle=kept)) == story(found)


def test_a_race_saves_and_says_how_much(tmp_path: Path) -> None:
    everything = SearchExamples()
    plain = searched(tmp_path / "plain", everything)
    assert cost(everything, plain.evaluations, 150)["tokens"] == 96 * 1500
    examples = examples_of(Economy(examples=60, racing=True))
    found = searched(tmp_path / "saving", examples)
    told = cost(examples, found.evaluations, 150)
    assert told["tokens"] == 500 + sum(10 * evaluation.n for evaluation in found.evaluations)
    assert told["tokens_full"] == 96 * 1500
    assert told["examples_asked"] == 60
    assert told["evaluations_raced"] == sum(evaluation.n < 60 for evaluation in found.evaluations) > 0
    best = [max(run.distinct, key=lambda e: e.score) for run in (plain, found)]
    assert best[1].n == 60  # who leads was asked everything
    exam = Exam()
    whole = [exam.measure(run.candidate(e), EVERYTHING).score for run, e in zip((plain, found), best, strict=True)]
    assert whole[1] > whole[0] - 0.1


def test_unasked_examples_count_as_the_mean_of_the_others() -> None:
    examples = SearchExamples((ExampleSet((2, 0, 1), (1.0, 3.0, 1.0)),), (1, 2, 3), 0.05)
    assert examples.filled((1.0, 0.0)) == (1.0, 0.0, 0.5)
    assert examples.filled((1.0, 0.0, 1.0)) == (1.0, 0.0, 1.0)
    assert examples.filled(()) == ()  # it failed
    assert SearchExamples().filled((1.0,)) == (1.0,)


@pytest.fixture(scope="module")
def search(tiny_llama, tmp_path_factory) -> Search:
    """A search over small models with untied random weights, 30 prompts and the answers of one of them."""
    from hubmerge.evaluate.generation import generate
    from hubmerge.evolve.workers.resident import ResidentModel
    from hubmerge.recipe import Recipe
    from hubmerge.stream.plan import make_plan

    root = tmp_path_factory.mktemp("economy")
    folders = {
        name: str(tiny_llama(root / name, seed=seed, tie_word_embeddings=False))
        for seed, name in enumerate(("base", "math", "japanese"))
    }
    weighted = [{"model": folders[name], "parameters": {"weight": 0.6}} for name in ("math", "japanese")]
    right = {"merge_method": "task_arithmetic", "base_model": folders["base"], "models": weighted}
    resident = ResidentModel(make_plan(Recipe.from_dict({**right, "chat_template": PLAIN})))
    prompts = [f"w{i} {i % 30} w{(i * 7) % 30}" for i in range(30)]
    outputs = generate(resident.model, resident.tokenizer, prompts, max_new_tokens=1)
    rows = [{"question": prompt, "answer": output} for prompt, output in zip(prompts, outputs, strict=True)]
    return Search.from_dict(
        {
            "models": [folders["math"], folders["japanese"]],
            "base_model": folders["base"],
            "merge_method": "task_arithmetic",
            "genome": {"granularity": "model", "genes": {"weight": [-1, 3]}, "start": {"weight": 0.5}},
            "task": {
                "name": "echo",
                "examples": {"search": rows[:20], "validation": rows[20:]},
                "metric": "exact_match",
                "max_new_tokens": 1,
            },
            "searcher": {"evaluations": 12, "seed": 1, "popsize": 4},
            "select": 3,
            "economy": {"examples": 10, "racing": True, "level": 0.3},
            "chat_template": PLAIN,
        }
    )


def test_a_whole_run_saves_and_still_validates_its_finalists_on_everything(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Asked] = []
    measure = Judge.measure

    def spy(judge, candidate, job):
        jobs.append(job)
        return measure(judge, candidate, job)

    monkeypatch.setattr(Judge, "measure", spy)
    out = tmp_path / "run"
    result = evolve(search, out)
    assert jobs[:7] == [EVERYTHING] * 7  # base, two models, four untuned merges: the whole search split
    validated = [job for job in jobs if job.split == "validation"]
    assert validated == [Asked("validation")] * len(validated)  # all of it, by all: three finalists and the middle
    assert len(validated) == 4
    chosen = json.loads((out / "examples.json").read_text())
    first, second = (tuple(one["positions"]) for one in chosen["sets"])
    assert len(first) == len(second) == 10 and len(chosen["answers"]) == 7
    assert [job.positions for job in jobs[7 : 7 + 12]] == [first] * 4 + [second] * 4 + [first] * 4  # by generations
    assert [job.race is not None for job in jobs[7 : 7 + 12]] == [False] * 8 + [True] * 4  # a rival on the same set
    evaluations = read_evaluations(out / "journal.jsonl")
    assert all(len(e.values) == e.n <= 10 and e.error is None for e in evaluations)
    # The three best of either set were asked what they had not been, before three of the six went on.
    ranked = jobs[7 + 12 : -4]
    left = []
    for number, known in enumerate((first, second)):
        own = sorted((e for e in evaluations if e.generation % 2 == number), key=lambda e: -e.fitness[0])
        left += [tuple(sorted({*range(20)} - {*known[: e.n]})) for e in own[:3]]
    assert sorted(job.positions for job in ranked) == sorted(left)
    told = result.facts["cost"]
    beside = 7 * 20 + sum(len(job.positions) for job in ranked)  # every answer is one token
    assert told["tokens_beside"] == beside
    assert told["tokens"] == result.facts["tokens"] == sum(e.tokens for e in evaluations) + beside
    assert told["tokens_full"] == 12 * 20
    score = json.loads((out / "results.json").read_text())["winner"]["search_score"]
    assert score is None or score * 20 == pytest.approx(round(score * 20))
    assert "asking all would have taken" in (result.folder / "README.md").read_text()

    # Killed after the fifth candidate, the run goes on as it would have.
    again = tmp_path / "again"
    shutil.copytree(out, again)
    (again / "results.json").unlink()
    lines = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (again / "journal.jsonl").write_bytes(b"".join(lines[:6]))
    del jobs[:]
    resumed = evolve(search, again, resume=True)
    assert jobs[0].split == "search" and jobs[0].positions == second  # nothing is chosen again
    assert (resumed.recipe, resumed.facts["cost"]) == (result.recipe, result.facts["cost"])
    same = [replace(e, seconds=0.0) for e in read_evaluations(again / "journal.jsonl")]
    assert same == [replace(e, seconds=0.0) for e in evaluations]


def test_more_items_than_examples_are_refused(search: Search, tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="search split has 20 examples"):
        evolve(replace(search, economy=Economy(examples=20)), tmp_path / "run")


GOOD = {"key": "k", "sets": [{"positions": [4, 0], "weights": [2.0, 3.0]}], "answers": {"m": 0.5}, "tokens": 7}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"positions": [5, 0]}, "a position that none of the 5 examples"),
        ({"positions": [-1, 0]}, "a position that none"),
        ({"positions": [True, 0]}, "a position that none"),
        ({"positions": [0, 0]}, "not 2 different examples"),
        ({"positions": [0]}, "not 2 different examples"),
        ({"weights": [1.0]}, "not 2 different examples"),
        ({"weights": [1e300, 1.0]}, "a weight that is no number of examples"),
        ({"weights": [0, -1]}, "a weight that is no number of examples"),
        ({"sets": []}, "no examples"),
        ({"answers": {"m": "x"}}, "a figure"),
        ({"tokens": "7"}, "a figure"),
    ],
)
def test_items_that_no_search_could_have_chosen_are_refused(changes, says, tmp_path: Path) -> None:
    document = json.loads(json.dumps(GOOD))
    for name, value in changes.items():
        (document if name in document else document["sets"][0])[name] = value
    path = tmp_path / "examples.json"
    path.write_text(json.dumps(GOOD))
    assert read_chosen(path, "k", 2, 5) == ChosenExamples((ExampleSet((4, 0), (2.0, 3.0)),), {"m": 0.5}, 7)
    path.write_text(json.dumps(document))
    with pytest.raises(
        SearchError, match=rf"examples\.json does not hold the examples of a search \({says}.*; start a new"
    ):
        read_chosen(path, "k", 2, 5)
