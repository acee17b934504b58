"""Races of made-up scores, and the examples that a search is asked."""

import numpy as np

from hubmerge.evaluate.score import Scores
from hubmerge.evolve.examples.chosen import ChosenExamples, choose_examples
from hubmerge.evolve.examples.racing import Race, block_ends
from hubmerge.evolve.examples.search_examples import SearchExamples
from hubmerge.evolve.spec.economy import Economy


def race_of(rival, blocks: int = 3, level: float = 0.05, weights=None, among: int = 1) -> Race:
    n = len(rival)
    return Race(tuple(rival), tuple(weights or [1.0] * n), block_ends(n, blocks), level, among)


def raced(race: Race | None, values) -> Scores:
    """The scores of a candidate with these values, in the order asked; of those of a lost race, the first."""
    ends = race.ends if race else (len(values),)
    asked = next((end for end in ends if race and race.lost(values[:end])), len(values))
    own = tuple(values[:asked])
    return Scores(own, own, own, ("",) * asked, tokens=10 * asked)


def examples_of(economy: Economy) -> SearchExamples:
    answers = np.random.default_rng(3).random((5, 150)) < 0.4

    def chosen() -> ChosenExamples:
        assert economy.examples is not None
        return ChosenExamples(
            choose_examples(answers.astype(float), economy.examples, np.random.default_rng(1)), {}, tokens=500
        )

    return SearchExamples.of(economy, 150, 1, chosen)
