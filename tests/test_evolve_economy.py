"""Fewer tokens for the same search: races and chosen examples."""

import json
import pickle
import random
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hubmerge.errors import SearchError
from hubmerge.evaluate.score import Scores
from hubmerge.evolve.examples.asked import EVERYTHING, Asked
from hubmerge.evolve.examples.chosen import ChosenExamples, ExampleSet, allocate, choose_examples, read_chosen
from hubmerge.evolve.examples.racing import Race, block_ends, mean
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

N = 45
PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def document(**changes) -> dict:
    return {
        "models": ["org/a", "org/b"],
        "base_model": "org/base",
        "merge_method": "task_arithmetic",
        "genome": {"genes": {"weight": [0, 2]}},
        "task": {"name": "t", "examples": {"search": [{"question": "q", "answer": "a"}]}, "metric": "exact_match"},
        **changes,
    }


def test_an_economy_is_part_of_a_search() -> None:
    search = Search.from_dict(document(economy={"examples": 45, "racing": True}))
    assert search.economy == Economy(examples=45, racing=True)
    assert Search.from_yaml(search.to_yaml()) == search
    assert "economy" not in Search.from_dict(document()).to_dict()  # an old run's key stays what it was


@pytest.mark.parametrize(
    ("economy", "message"),
    [
        ({"racing": False}, "saves nothing"),
        ({"example": 45}, "did you mean 'examples'"),
        ({"examples": 3}, "at least 8"),
        ({"examples": 0.3}, "whole number"),
        ({"racing": True, "blocks": 1}, "at least 2"),
        ({"racing": True, "level": 0}, "above 0"),
    ],
)
def test_a_bad_economy_says_what_is_wrong(economy: dict, message: str) -> None:
    with pytest.raises(SearchError, match=message):
        Search.from_dict(document(economy=economy))


def test_races_need_the_plain_score() -> None:
    fitness = {"objectives": ["metric", "language"]}
    with pytest.raises(SearchError, match="single objective"):
        Search.from_dict(document(economy={"racing": True}, fitness=fitness))
    Search.from_dict(document(economy={"examples": 45}, fitness=fitness))


def race_of(rival, blocks: int = 3, level: float = 0.05, weights=None, among: int = 1) -> Race:
    n = len(rival)
    return Race(tuple(rival), tuple(weights or [1.0] * n), block_ends(n, blocks), level, among)


def raced(race: Race | None, values) -> Scores:
    """The scores of a candidate with these values, in the order asked; of those of a lost race, the first."""
    ends = race.ends if race else (len(values),)
    asked = next((end for end in ends if race and race.lost(values[:end])), len(values))
    own = tuple(values[:asked])
    return Scores(own, own, own, ("",) * asked, tokens=10 * asked)


def test_a_loser_stops_early_and_a_winner_never() -> None:
    rival = [1.0, 1.0, 0.0] * 15
    assert raced(race_of(rival), [0.0] * N).n == 15
    generator = np.random.default_rng(0)
    for _ in range(200):
        better = np.maximum(rival, generator.random(N) < 0.3).tolist()
        assert raced(race_of(rival), better).values == tuple(better)
    assert raced(race_of(rival), rival).n == N  # an equal too


@pytest.mark.parametrize("level", [0.05, 0.2])
@pytest.mark.parametrize("kind", ["binary", "weighted"])
def test_equals_are_stopped_no_more_often_than_the_level_says(kind: str, level: float) -> None:
    generator = np.random.default_rng(1)
    stopped, worse, runs = 0, 0, 1500 if kind == "binary" else 150
    weights = None if kind == "binary" else generator.choice([2.0, 4.0], N).tolist()
    for _ in range(runs):
        right = generator.random(N)  # how hard each example is, for both
        rival, equal = ((generator.random(N) < right).astype(float).tolist() for _ in range(2))
        race = race_of(rival, level=level, weights=weights)
        stopped += raced(race, equal).n < N
        bad = (generator.random(N) < 0.3 * right).astype(float).tolist()
        worse += raced(race, bad).n < N
    assert stopped / runs <= level + 2 * (level * (1 - level) / runs) ** 0.5 * (kind == "weighted")
    assert worse / runs > 2 * level


def raced_through(
    examples: SearchExamples, ability: np.ndarray, generator: np.random.Generator
) -> tuple[int, int, int]:
    """A search whose candidates have these abilities, shape (generations, popsize): how many were raced against one no
    better than they are, how many of these were stopped, and how many of the others were.

    The rival is what `SearchExamples` makes it; what a candidate gets on an example is chance with its ability and the
    example's difficulty, so that all that is right or wrong about the rule is in how the rival was found.
    """
    easy, known, collected = generator.normal(0, 1.5, 150), {}, []
    fair, wrongly, rightly = 0, 0, 0
    for generation, able in enumerate(ability):
        job = examples.next(collected, generation)
        made = []
        for number, own in enumerate(able):
            right = generator.random(len(job.positions)) < 1 / (1 + np.exp(-own - easy[list(job.positions)]))
            scores = raced(job.race, right.astype(float).tolist())
            known[scores.values[: job.race.ends[0]] if job.race else scores.values] = own
            name, score = f"{generation}-{number}", mean(scores.values, job.weights)
            made.append(evaluation(name, generation, scores.values, score, own))
            if job.race is None:
                continue
            stopped, rival = scores.n < len(right), next(e for e in collected if e.values == job.race.rival)
            fair += rival.genome[0] <= own
            wrongly += stopped and rival.genome[0] <= own
            rightly += stopped and rival.genome[0] > own
        collected += made
    return fair, wrongly, rightly


def evaluation(name: str, generation: int, values: tuple[float, ...], score: float, ability: float) -> Evaluation:
    return Evaluation(
        number=generation,
        stage=0,
        generation=generation,
        genome=(float(ability),),
        candidate_key=name,
        fitness=(score,),
        score=score,
        metric=score,
        language=1.0,
        n=len(values),
        values=values,
        seconds=0.0,
        tokens=0,
        seed=1,
    )


@pytest.mark.parametrize("popsize", [6, 24])
@pytest.mark.parametrize("count", [35, None])
def test_who_is_as_good_as_the_best_of_many_is_stopped_no_more_often_than_the_level_says(count, popsize) -> None:
    generator = np.random.default_rng(4)
    economy = Economy(examples=count, racing=True, level=0.05)
    fair, wrongly, rightly = np.zeros(3, dtype=int)
    for kind in range(12):
        # All the same; or of all kinds, better with every generation, as in a search.
        spread, slope = (0.0, 0.0) if kind % 2 else (0.7, 0.2)
        ability = generator.normal(0, 1, (10, popsize)) * spread + slope * np.arange(10)[:, None]
        counts = raced_through(examples_of(economy), ability, generator)
        fair, wrongly, rightly = (a + b for a, b in zip((fair, wrongly, rightly), counts, strict=True))
    assert fair > 300
    assert wrongly / fair <= economy.level
    assert rightly > 0


def test_the_estimate_of_a_stopped_candidate_is_fair() -> None:
    rival = [1.0] * 15 + [0.0] * 30  # the first examples are the easy ones
    race = race_of(rival)
    assert race.estimate([1.0] * 15) == pytest.approx(1 / 3)  # as good as the rival so far, hence as good as it
    assert race.estimate([0.0] * 15) == 0.0
    values = [float(i % 2) for i in range(N)]
    weighted = race_of(rival, weights=[float(1 + i % 3) for i in range(N)])
    assert weighted.estimate(values) == pytest.approx(mean(values, weighted.weights))  # all asked: nothing to guess
    # Over random orders a beginning estimates the whole without bias.
    generator = np.random.default_rng(0)
    own, other = generator.random(N) < 0.4, generator.random(N) < 0.6
    guesses = []
    for _ in range(4000):
        order = generator.permutation(N)
        guesses.append(race_of(other[order].astype(float)).estimate(own[order][:30].astype(float).tolist()))
    assert np.mean(guesses) == pytest.approx(own.mean(), abs=4 * np.std(guesses) / 4000**0.5)


def test_blocks_cover_everything() -> None:
    assert block_ends(45, 3) == (15, 30, 45)
    assert block_ends(150, 4) == (38, 75, 112, 150)
    assert block_ends(2, 5) == (1, 2)
    assert block_ends(1, 3) == (1,)


def test_chosen_items_estimate_the_whole_split_without_bias() -> None:
    generator = np.random.default_rng(0)
    difficulty = generator.random(150)
    answers = (generator.random((7, 150)) < difficulty).astype(float)
    candidate = (generator.random(150) < difficulty**0.5).astype(float)
    guesses = []
    for seed in range(1500):
        sets = choose_examples(answers, N, np.random.default_rng(seed))
        assert len(sets) == 3
        for one in sets:
            assert len(set(one.positions)) == N
            assert sum(one.weights) == pytest.approx(150)
        guesses.append([mean(candidate[list(one.positions)].tolist(), one.weights) for one in sets])
    assert len({position for one in sets for position in one.positions}) > 100  # they have little in common
    assert np.mean(guesses, axis=0) == pytest.approx([candidate.mean()] * 3, abs=4 * np.std(guesses) / 1500**0.5)
    assert choose_examples(answers, N, np.random.default_rng(5)) == choose_examples(
        answers, N, np.random.default_rng(5)
    )


def test_chosen_items_rank_candidates_better_than_random_ones() -> None:
    chosen, drawn = [], []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        hard, sharp = generator.normal(0, 3, 150), 1.5 * generator.lognormal(0, 0.3, 150)

        def answer(ability: np.ndarray, hard=hard, sharp=sharp, generator=generator) -> np.ndarray:
            share = 1 / (1 + np.exp(-sharp * (ability[:, None] - hard)))
            return (generator.random(share.shape) < share).astype(float)

        models, candidates = answer(generator.normal(-0.5, 0.7, 7)), answer(generator.normal(0.3, 0.5, 60))
        whole = candidates.mean(axis=1)
        for found, known in ((chosen, models), (drawn, np.zeros((1, 150)))):  # who knows nothing draws at random
            one = choose_examples(known, N, generator)[0]
            guess = candidates[:, one.positions] @ np.array(one.weights) / 150
            found.append((correlation(guess, whole), np.mean((guess - whole) ** 2)))
    (ranks, errors), (random_ranks, random_errors) = (np.array(found).T for found in (chosen, drawn))
    assert ranks.mean() > random_ranks.mean() + 0.005
    assert errors.mean() < 0.6 * random_errors.mean()


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, with the mean rank for ties."""

    def ranks(values: np.ndarray) -> np.ndarray:
        _, where, counts = np.unique(values.round(9), return_inverse=True, return_counts=True)
        return (np.cumsum(counts) - counts / 2)[where]

    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def test_the_allocation_gives_each_its_part() -> None:
    parts = allocate(np.array([100, 40, 10]), np.array([0.2, 0.5, 0.5]), 45)
    assert sum(parts) == 45
    assert all(1 <= part <= size for part, size in zip(parts, (100, 40, 10), strict=True))
    assert parts[1] == pytest.approx(parts[0], abs=1)  # 100 x .2 = 40 x .5
    assert allocate(np.array([2, 20]), np.array([0.5, 0.01]), 10) == [2, 8]  # no more than there are


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


def examples_of(economy: Economy) -> SearchExamples:
    answers = np.random.default_rng(3).random((5, 150)) < 0.4

    def chosen() -> ChosenExamples:
        assert economy.examples is not None
        return ChosenExamples(
            choose_examples(answers.astype(float), economy.examples, np.random.default_rng(1)), {}, tokens=500
        )

    return SearchExamples.of(economy, 150, 1, chosen)


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
