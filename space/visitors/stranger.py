"""What a stranger's search, mixture and texts of a merge may say: a schema of all keys, with types and bounds.

Some can name files, functions and addresses, which is right on a person's own machine. On a page for everybody
only this is taken; nothing is opened before.
"""

from collections.abc import Mapping
from typing import Any

from hubmerge.errors import AccessError
from hubmerge.evaluate.metrics import METRICS
from hubmerge.evaluate.task import BUILTIN
from hubmerge.evolve.spec.data_flow import SCALINGS
from hubmerge.evolve.spec.fitness import OBJECTIVES
from hubmerge.evolve.spec.genes import GRANULARITIES
from hubmerge.evolve.spec.searcher import SEARCHERS
from hubmerge.recipe import Calibration
from hubmerge.recipe.calibration import LABELS

from .schema import (
    Shape,
    dataset,
    either,
    file_inside,
    flag,
    listed,
    named,
    nothing,
    number,
    one_of,
    repository,
    table,
    text,
    whole,
)

MOST_ROWS = 20_000
"""Examples that a stranger may write into a task, or send in a file."""
LONGEST_ANSWER = 4_096
"""Tokens of one answer that a stranger may ask for."""
LONGEST_PROMPT = 20_000
"""Characters of a system prompt or a template."""
MOST_TEXTS, LONGEST_TEXT = 1_000, 4_096
"""Texts that a stranger's model is measured by, and tokens of each."""

_MODEL = text(1_000)  # read by ModelRef, and refused there where it is a folder
_TOKENIZER = table(
    {},
    {
        "source": _MODEL,
        "tokens": named(
            table(
                {
                    "source": either(
                        "a model or {kind, model, token}",
                        _MODEL,
                        table({"kind": text()}, {"model": _MODEL, "token": text(1_000), "token_id": whole(0, 2**32)}),
                    )
                },
                {"force": flag},
            ),
            1_000,
        ),
        "pad_to_multiple_of": whole(1, 2**20),
    },
)
_VALUE = either("text, a number, true or false", text(100_000), flag, number(-1e300, 1e300))
_ROW = named(
    either(
        "text, a number, true or false, a list of those, or {text, label}",
        _VALUE,
        listed(_VALUE, 200),
        table({"text": listed(_VALUE, 200)}, {"label": listed(_VALUE, 200)}),
    ),
    100,
)
_ROWS = listed(_ROW, MOST_ROWS)
_OPTIONS: Mapping[str, Shape] = {"columns": listed(text(), 100)}
_THERE = "; files, code and addresses are for the command line on your own machine"
_FROM_HUB = table(
    {"repo_id": repository},
    {
        "revision": text(),
        "each": text(),
        **_OPTIONS,
        **dict.fromkeys(
            ("search", "validation", "test"),
            either("the plain name of a file inside the dataset's repository, or rows", file_inside, _ROWS),
        ),
    },
    _THERE,
)
_IN_PLACE = table({}, dict.fromkeys(("search", "validation", "test"), _ROWS), _THERE)


def _examples(value: Any, where: str) -> None:
    # Which of the two it is hangs on the key alone: a `repo_id` of 0, false or nothing is not left out.
    hub = isinstance(value, Mapping) and "repo_id" in value
    if isinstance(value, Mapping) and not hub and any(isinstance(item, str) for item in value.values()):
        raise AccessError("The task names files of this server; give a built-in task or examples with a repo_id.")
    (_FROM_HUB if hub else _IN_PLACE)(value, where)


_TASK = table(
    {"examples": _examples},
    {
        "name": text(),
        "image": text(),
        "prompt": text(LONGEST_PROMPT),
        "answer": text(LONGEST_PROMPT),
        "choices": either("the name of a field or a list of templates", text(), listed(text(LONGEST_PROMPT), 100)),
        "metric": one_of(*(name for name, metric in METRICS.items() if not metric.settings)),
        "language": text(20),
        "max_new_tokens": whole(1, LONGEST_ANSWER),
        "system": text(LONGEST_PROMPT),
        "chat_template": flag,
    },
    _THERE,
)
_GENE = listed(number(), 2)
_SEARCHER = table(
    {},
    {
        "name": one_of(*SEARCHERS),
        "evaluations": whole(4, 100_000),
        "popsize": either("left out or a whole number from 4 to 1,000", whole(4, 1_000), nothing),
        "sigma": either("left out or a number above 0", number(1e-6, 4), nothing),
        "seed": whole(0, 2**53),
        "separable": either("left out, true or false", flag, nothing),
        "lag": whole(1, 64),
        "minutes": either("left out or a number of minutes", number(1e-3, 1e6), nothing),
    },
)


_SEARCH = table(
    {"models": listed(_MODEL, 32), "task": lambda value, where: require_task(value)},
    {
        "base_model": _MODEL,
        "merge_method": text(),
        "parameters": named(either("a number, true or false", flag, number()), 50),
        "genome": table(
            {},
            {
                "granularity": either(
                    "a granularity or a list of them", one_of(*GRANULARITIES), listed(one_of(*GRANULARITIES), 10)
                ),
                "genes": named(_GENE, 50),
                "start": either("a number or a mapping of genes to numbers", number(), named(number(), 50)),
                "filters": listed(text(), 100),
            },
        ),
        "data_flow": table(
            {},
            {
                "repeats": whole(1, 16),
                "scaling": one_of(*SCALINGS),
                "scale_range": _GENE,
                "max_layers": either("left out or a whole number", whole(2, 10_000), nothing),
                "paper": either("left out, true or false", flag, nothing),
                "searcher": _SEARCHER,
            },
        ),
        "splits": named(whole(1, 1_000_000), 3),
        "searcher": _SEARCHER,
        "fitness": table(
            {},
            {
                "objectives": listed(one_of(*OBJECTIVES), 4),
                "number_bonus": number(0, 1),
                "language_bonus": number(0, 1),
            },
        ),
        "select": whole(1, 1_000),
        "baselines": listed(text(), 10),
        "dtype": text(),
        "out_dtype": text(),
        "tokenizer_source": _MODEL,
        "tokenizer": _TOKENIZER,
        "chat_template": text(LONGEST_PROMPT),
        "batch_size": whole(1, 256),
        "economy": table(
            {},
            {
                "examples": either("left out or a whole number", whole(1, MOST_ROWS), nothing),
                "racing": flag,
                "blocks": whole(2, 1_000),
                "level": number(0, 1),
            },
        ),
    },
)


_CALIBRATION = table(
    {},
    {
        "task": lambda value, where: require_task(value),
        "dataset": dataset,
        "file": file_inside,
        "text": text(LONGEST_PROMPT),
        "labels": one_of(*LABELS),
        "examples": whole(1, MOST_TEXTS),
        "tokens": whole(2, LONGEST_TEXT),
        "seed": whole(0, 2**32),
    },
    _THERE,
)


_PROMPTS = listed(text(LONGEST_PROMPT), 100)
_EXPERTS = listed(
    table(
        {"source_model": _MODEL},
        {"positive_prompts": _PROMPTS, "negative_prompts": _PROMPTS, "residual_scale": number()},
    ),
    64,
)
_MIXTURE = table(
    {"base_model": _MODEL, "experts": _EXPERTS},
    {
        "gate_mode": text(),
        "dtype": text(),
        "shared_experts": _EXPERTS,
        "experts_per_token": whole(1, 64),
        "architecture": text(),
        "merge_method": text(),
    },
)


def require_mixture(document: Any) -> None:
    """Raises `AccessError` for a mixture's document that says anything else than what is allowed."""
    _MIXTURE(document, "the mixture")


def require_calibration(given: Calibration) -> Calibration:
    """`given`, or an `AccessError` where it says anything else than what is allowed."""
    if given.file is not None and given.dataset is None:
        raise AccessError(
            "`calibration` names a file of this server; give a task, or a dataset of the Hub as org/name."
        )
    _CALIBRATION(given.to_dict(), "`calibration`")
    return given


def require_search(document: Any) -> None:
    """Raises `AccessError` for a search's document that says anything else than what is allowed."""
    _SEARCH(document, "the search")


def require_task(document: Any) -> None:
    """Raises `AccessError` for a task that is neither built in nor all written out with what is allowed."""
    if isinstance(document, str):
        if document not in BUILTIN:
            raise AccessError("The task names files of this server; give a built-in task or examples with a repo_id.")
        return
    if isinstance(document, Mapping):
        for key in ("python", "judge", "lm_eval"):
            if key in document:
                raise AccessError(f"A task with `{key}` runs on your own machine only: use the command line there.")
        examples = document.get("examples")
        if "image" in document and not (isinstance(examples, Mapping) and "repo_id" in examples):
            raise AccessError("Rows with pictures name files of this server; give examples with a repo_id.")
    _TASK(document, "the task")
