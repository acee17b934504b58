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
    `says`: what the score is, for who does not know the metric.
    """

    asks: str
    grade: Grade | None = None
    per: str | None = None
    settings: bool = False
    flaw: Callable[[Example], str | None] = lambda example: None
    says: str = ""


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
    "exact_number": Metric(
        "text", _each(exact_number), flaw=_no_number, says="the share of answers whose last number is the right one"
    ),
    "exact_match": Metric(
        "text", _each(exact_match), flaw=_no_text, says="the share of answers that are the expected text"
    ),
    "rouge_l": Metric(
        "text",
        _each(rouge_l),
        flaw=_no_text,
        says="how much answers and expected texts share, in one order (ROUGE-L, F1)",
    ),
    "strict_words": Metric(
        "text",
        _each(strict_words),
        flaw=_no_words,
        says="the share of answers with the expected words in their order, and in no other script",
    ),
    "judge": Metric("text", settings=True, says="the grade of a language model, from 0 to 1, on average"),
    "python": Metric("text", settings=True, says="the grade of a function of the task, from 0 to 1, on average"),
    # The names are ours, the figures lm-eval's: acc_norm (per character) and acc (the plain sum).
    "loglikelihood": Metric(
        "choices",
        per="characters",
        flaw=_no_choice,
        says="the share of questions whose right choice is the likeliest, by character",
    ),
    "loglikelihood_sum": Metric(
        "choices", flaw=_no_choice, says="the share of questions whose right choice is the likeliest"
    ),
    # 1 / perplexity: a probability, so it lies in 0..1 and grows with the model.
    "perplexity": Metric(
        "likelihood", per="tokens", flaw=_no_text, says="how likely a token of the texts is (1 / perplexity)"
    ),
    "byte_perplexity": Metric(
        "likelihood", per="bytes", flaw=_no_text, says="how likely a byte of the texts is (1 / perplexity)"
    ),
    "lm_eval": Metric("lm_eval", settings=True, says="what lm-eval's task of this name measures"),
    "classifier": Metric("pictures", settings=True, says="how sure a classifier is of what the pictures should show"),
    "clip": Metric("pictures", settings=True, says="how near the pictures are to their texts, by a CLIP model"),
}
"""Every metric by the name a task gives it."""


def meaning(metric: str, language: str | None) -> str:
    """What a score by a metric is, in words; of a task that asks for a `language`, too."""
    says = METRICS[metric].says if metric in METRICS else ""
    return f"{says}; an answer in another language than {language} counts 0" if says and language else says
