"""Fewer tokens for the same search: races and chosen examples."""

import numpy as np
import pytest
from racetools import examples_of, race_of, raced

from hubmerge.errors import SearchError
from hubmerge.evolve.examples.chosen import allocate, choose_examples
from hubmerge.evolve.examples.racing import block_ends, mean
from hubmerge.evolve.examples.search_examples import SearchExamples
from hubmerge.evolve.records.evaluation import Evaluation
from hubmerge.evolve.search import Search
from hubmerge.evolve.spec.economy import Economy

N = 45


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
