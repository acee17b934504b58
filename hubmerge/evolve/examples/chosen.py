"""The choice of examples: which of the search split tell candidates apart.

Before the search the base, the models and their untuned merges answer the whole split. An example that half of them
get right says most about a candidate; one that all or none of them get right says little - but a search is for
candidates that none of them is, so some of these stay. The examples are sorted into strata by the share of models
that get them right, and from each stratum some are drawn at random: the larger it is, and the less its answers can be
foretold (the standard deviation of a right answer, which like the entropy is highest where half are right), the more,
as Neyman's allocation has it. Each counts for the examples of its stratum that it stands for, so that the
weighted mean estimates the mean over the whole split without bias, for any candidate.

Several sets are drawn so, with as few examples in common as can be. A searcher that follows the middle of a
distribution gets another set each generation: the luck of one set averages out, where it would mislead a search that
sees no other.

An item response model with two parameters an example (MERGE3, https://arxiv.org/abs/2502.10436) would need more
respondents than a search has models; strata need none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...documents import is_number, parse_object
from ...errors import SearchError
from ..spec.economy import FEWEST

_STRATA = FEWEST


@dataclass(frozen=True)
class ExampleSet:
    """Examples of the search split in the order asked: their positions in it, and of how many of its examples each is
    the delegate (so the weights' sum is the split's size)."""

    positions: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class ChosenExamples:
    """The sets of examples that candidates are asked, all of one size.

    `answers`: the share of the search split that each model got right, by name; `tokens` and `seconds`: what that took.
    """

    sets: tuple[ExampleSet, ...]
    answers: Mapping[str, float]
    tokens: int = 0
    seconds: float = 0.0


def choose_examples(answers: np.ndarray, count: int, generator: np.random.Generator) -> tuple[ExampleSet, ...]:
    """As many sets of `count` examples as the split has room for, each in a random order.

    `answers`: the value 0..1 of each model's answer to each example, shape (models, examples), any models.
    """
    share = (answers.sum(axis=0) + 1) / (len(answers) + 2)  # Laplace: never 0 or 1, nobody knows other candidates
    stratum = np.minimum((share * _STRATA).astype(int), _STRATA - 1)
    strata = [np.flatnonzero(stratum == kind) for kind in np.unique(stratum)]
    sizes = np.array([len(members) for members in strata])
    spread = np.array([np.sqrt(share[members].mean() * (1 - share[members].mean())) for members in strata])
    parts = allocate(sizes, spread, count)
    weights = np.repeat(sizes / parts, parts)
    shuffled = [generator.permutation(members) for members in strata]
    sets = []
    for number in range(answers.shape[1] // count):
        # Each stratum is dealt out in turn, and again from its beginning where it is small.
        dealt = [
            np.take(members, np.arange(number * part, (number + 1) * part), mode="wrap")
            for members, part in zip(shuffled, parts, strict=True)
        ]
        order = generator.permutation(count)
        sets.append(ExampleSet(tuple(np.concatenate(dealt)[order].tolist()), tuple(weights[order].tolist())))
    return tuple(sets)


def allocate(sizes: np.ndarray, spread: np.ndarray, count: int) -> list[int]:
    """How many to draw from strata with these sizes and standard deviations: at least one of each, `count` in all.

    Neyman's allocation in whole numbers: one after another goes where it lowers the variance of the weighted mean
    most (Wright 2012, https://doi.org/10.1080/00031305.2012.733679).
    """
    parts = np.ones(len(sizes), dtype=int)
    for _ in range(count - len(sizes)):
        gain = np.where(parts < sizes, sizes * spread / np.sqrt(parts * (parts + 1.0)), -1.0)
        parts[int(np.argmax(gain))] += 1
    return parts.tolist()


def read_chosen(path: Path, key: str, count: int, examples: int) -> ChosenExamples:
    """The examples chosen for the search of this key: sets of `count` positions in a split of so many `examples`.

    Raises `SearchError` for anything else.
    """
    try:
        document = parse_object(path.read_bytes(), "it", SearchError)
        found = document.pop("key")
        sets = tuple(ExampleSet(tuple(one["positions"]), tuple(one["weights"])) for one in document["sets"])
        chosen = ChosenExamples(**{**document, "sets": sets})
        if found == key:
            _require_fit(chosen, count, examples)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SearchError) as exc:
        raise SearchError(f"{path} does not hold the examples of a search ({exc}); start a new run.") from None
    if found != key:
        raise SearchError(f"{path} holds the examples of another search; give another output folder.")
    return chosen


def _require_fit(chosen: ChosenExamples, count: int, examples: int) -> None:
    for one in chosen.sets:
        if not all(type(at) is int and 0 <= at < examples for at in one.positions):
            raise ValueError(f"a position that none of the {examples} examples of the search split has")
        if not len(one.positions) == len(set(one.positions)) == len(one.weights) == count:
            raise ValueError(f"not {count} different examples and their weights")
        if not all(is_number(weight) and 0 < weight <= examples for weight in one.weights):
            raise ValueError(f"a weight that is no number of examples, 1 to {examples}")
    if not chosen.sets:
        raise ValueError("no examples")
    spent = (chosen.tokens, chosen.seconds)
    if not (isinstance(chosen.answers, Mapping) and all(map(is_number, (*chosen.answers.values(), *spent)))):
        raise TypeError("a figure that is no number")
