"""The metrics a task can name: what each asks a model for, and what a reply is worth.

>>> exact_number("13+7=20. トムは今リンゴを20個持っています。", "20")
True
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .examples import Example
from .numerals import numbers
from .rouge import rouge_l
from .strict import has_words, strict_words

Grade = Callable[[Sequence[str], Sequence[Example]], list[float]]
"""(outputs, their examples) -> what each output is worth, 0..1; NaN where it could not be graded."""


@dataclass(frozen=True)
class Metric:
    """How a model is asked and its reply valued.

    `asks`: "text" (a greedy answer, valued by `grade`), "choices" (which of the example's choices is likeliest),
    "likelihood" (how likely the example's answer is), "lm_eval" (as the lm-eval task says) or "pictures" (what a
    pipeline draws of the prompt). `per`: the unit that
    log-likelihoods are divided by, None for none. `settings`: the task must bring settings under the metric's name,
    and they grade where `grade` is None. `flaw` says why an example cannot be asked with this metric, or None.
    """

    asks: str
    grade: Grade | None = None
    per: str | None = None
    settings: bool = False
    flaw: Callable[[Example], str | None] = lambda example: None


def exact_number(text: str, answer: str) -> bool:
    """Whether the last number in `text` equals the last number in `answer` (20 equals 20.0)."""
    found, expected = numbers(text), numbers(answer)
    return bool(found and expected) and found[-1] == expected[-1]


def normalise(text: str) -> str:
    """Text reduced to what makes two answers the same: NFKC, casefold, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def exact_match(text: str, answer: str) -> bool:
    """Whether the whole text equals the answer after `normalise`."""
    return normalise(text) == normalise(answer)


def _each(compare: Callable[[str, str], float]) -> Grade:
    return lambda outputs, examples: [
        float(compare(output, example.answer)) for output, example in zip(outputs, examples, strict=True)
    ]


def _no_number(example: Example) -> str | None:
    return None if numbers(example.answer) else "holds no number"


def _no_text(example: Example) -> str | None:
    return None if example.answer.strip() else "is empty"


def _no_words(example: Example) -> str | None:
    return None if has_words(example.answer) else "holds no word"


def _no_choice(example: Example) -> str | None:
    if len(set(example.choices)) < 2 or len(set(example.choices)) < len(example.choices):
        return f"belongs to {len(example.choices)} choices where two or more different ones are needed"
    return None if example.answer in example.choices else "is none of its choices"


METRICS: Mapping[str, Metric] = {
    "exact_number": Metric("text", _each(exact_number), flaw=_no_number),
    "exact_match": Metric("text", _each(exact_match)),
    "rouge_l": Metric("text", _each(rouge_l), flaw=_no_text),
    "strict_words": Metric("text", _each(strict_words), flaw=_no_words),
    "judge": Metric("text", settings=True),
    "python": Metric("text", settings=True),
    # The names are ours, the figures lm-eval's: acc_norm (per character) and acc (the plain sum).
    "loglikelihood": Metric("choices", per="characters", flaw=_no_choice),
    "loglikelihood_sum": Metric("choices", flaw=_no_choice),
    # 1 / perplexity: a probability, so it lies in 0..1 and grows with the model.
    "perplexity": Metric("likelihood", per="tokens", flaw=_no_text),
    "byte_perplexity": Metric("likelihood", per="bytes", flaw=_no_text),
    "lm_eval": Metric("lm_eval", settings=True),
    "classifier": Metric("pictures", settings=True),
    "clip": Metric("pictures", settings=True),
}
"""Every metric by the name a task gives it."""
