"""Benchmarks of the Hub: datasets whose eval.yaml names tasks, to which models report how good they are.

A task of ours that asks just what a benchmark does says so (`benchmark:`, the name that the benchmark has for it); what
a search's winner scores on it is then reported from its repository (https://huggingface.co/docs/hub/eval-results).
"""

import re
from collections.abc import Callable
from pathlib import Path

from ..documents import load_mapping
from ..errors import NotFoundError, TaskError
from ..guesses import guess

FILE = "eval.yaml"
_DATASET = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")


def require_benchmark(benchmark: str, source: str | None, locate: Callable[[str], Path]) -> None:
    """Raises `TaskError` unless the dataset `source` ("org/name@commit") names this task in its eval.yaml.

    `locate`: where a file of the dataset lies.
    """
    if source is None or not _DATASET.fullmatch(source):
        raise TaskError("`benchmark` is for examples of a dataset of the Hub (examples.repo_id); leave it out.")
    dataset = source.partition("@")[0]
    try:
        text = locate(FILE).read_text(encoding="utf-8")
    except (NotFoundError, UnicodeDecodeError):
        raise TaskError(f"The dataset {dataset} has no {FILE}, so it is no benchmark; leave out `benchmark`.") from None
    tasks = load_mapping(text, f"the {FILE} of {dataset}", TaskError).get("tasks")
    named = [one["id"] for one in tasks if isinstance(one, dict) and "id" in one] if isinstance(tasks, list) else []
    if benchmark not in named:
        raise TaskError(
            f"The benchmark {dataset} has no task {benchmark!r}{guess(benchmark, named)}; it has: {', '.join(named)}."
        )
