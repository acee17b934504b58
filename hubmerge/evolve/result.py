"""A finished search: its winner, its table and its card. `read_result` reads one back from its folder."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import SearchError
from ..evaluate.located import only_here
from ..evaluate.metrics import meaning
from ..evaluate.table import Row
from ..hub.card import Card, render
from ..hub.scores import CardRow, Pictures, benchmark_result
from ..hub.source import Source, open_source
from ..recipe import Recipe
from ..reference import ModelRef
from ..shown import Shown, Table
from ..stream.speaking import made, spoken_to
from .records.folder import (
    CURVE_FILE,
    HEATMAP_FILE,
    JOURNAL_FILE,
    MODEL_FOLDER,
    PICTURES_FILE,
    RECIPE_FILE,
    RESULTS_FILE,
    SEARCH_FILE,
)
from .records.remarks import remarks
from .records.results import EVOLVED, Results
from .records.resume import resumed
from .search import Search


@dataclass(frozen=True, repr=False)
class EvolveResult(Shown):
    """A finished search.

    `recipe`: the winner, pinned; `folder`: the merged model with its card; `rows`: the final table; `card`: what its
    README.md was rendered from (set `repo_id` and render again to push under a name); `facts`: searcher, popsize,
    evaluations, seed, seconds and so on; `seconds`: of all evaluations, those of earlier runs included.
    `reported`: files by which the repository reports its score to a benchmark of the Hub, where the task is one.
    `remarks`: what has to be said of the winner, such as that it is no better than a model that it was made of.
    """

    recipe: Recipe
    folder: Path
    rows: tuple[Row, ...]
    card: Card
    facts: Mapping[str, Any]
    journal: Path
    curve: Path
    seconds: float
    reported: Mapping[str, bytes] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def told(self) -> Table:
        """The table, and where the model is."""
        scores = [
            (row.model, f"{row.value:.1%}", f"{row.low:.1%} - {row.high:.1%}", f"n = {row.n}") for row in self.rows
        ]
        return " ".join((f"Evolved with {self.recipe.merge_method}, in {self.folder}", *self.remarks)), scores


def read_result(folder: Path, search: Search | None = None, *, token: str | None = None) -> EvolveResult:
    """The finished search in `folder`: nothing is run, no weights and no examples are read.

    search: as it was given to `evolve`. Without it the models are opened as search.yaml names them, which is enough
    for those of the Hub; of a model in a folder search.yaml holds the name alone, not where it lies.

    Raises `SearchError` where the folder holds no finished search, or another one than `search`.
    """
    path = folder / RESULTS_FILE
    if not path.is_file():
        raise SearchError(f"{folder} holds no finished search: it has no {RESULTS_FILE}; run or resume it first.")
    results = Results.read(path)
    if not results.task or "recipe" not in results.winner:
        raise SearchError(f"{path} does not hold what a card tells; another version of hubmerge wrote it.")
    pinned = Search.from_yaml(folder / SEARCH_FILE) if search is None else resumed(search, folder, token)
    opened = [open_source(ref, token=token) for ref in pinned.references]
    pinned = pinned.with_pins({source.ref: source.pinned for source in opened})
    return result_of(pinned, {source.pinned: source for source in opened}, folder, results, token)


def result_of(
    search: Search, sources: Mapping[ModelRef, Source], out: Path, results: Results, token: str | None
) -> EvolveResult:
    """The finished search in the folder `out`, with its card; `search` names its models as `sources` does."""
    from ..stream.plan import make_plan  # brings torch

    recipe = Recipe.from_dict(results.winner["recipe"])
    plan = make_plan(recipe, token=token, sources={source.pinned: source for source in sources.values()})
    lines = {row.model: (row.model, row.value, row.n) for row in results.rows}
    evolved = lines.pop(EVOLVED, None)
    said = remarks(evolved, lines.values(), results.winner.get("unchanged"))
    return EvolveResult(
        recipe=recipe,
        folder=out / MODEL_FOLDER,
        rows=results.rows,
        card=replace(
            _card(search, sources, os.path.basename(os.path.realpath(out)), recipe, results),
            **spoken_to(plan.tokenizer),
            made=made(plan),
            remarks=said,
            heatmap_image=HEATMAP_FILE if (out / HEATMAP_FILE).exists() else None,
            pictures=_pictures(results.task) if (out / PICTURES_FILE).exists() else None,
        ),
        facts=results.facts,
        journal=out / JOURNAL_FILE,
        curve=out / CURVE_FILE,
        seconds=float(results.facts["seconds"]),
        reported=_reported(results),
        remarks=said,
    )


def _pictures(task: Mapping[str, Any]) -> Pictures | None:
    """What the picture of pictures shows; None where nothing tells it."""
    told = [task.get(key) for key in ("models_drawn", "prompts_drawn")]
    listed = [one for one in told if isinstance(one, list) and all(isinstance(name, str) for name in one)]
    return Pictures(PICTURES_FILE, *listed) if len(listed) == 2 else None


def _reported(results: Results) -> dict[str, bytes]:
    task = results.task
    own = next((row for row in results.rows if row.model == EVOLVED), None)
    if own is None or not task.get("benchmark") or not task.get("dataset"):
        return {}
    (row,) = card_rows([own], EVOLVED, task["metric"], task["name"], task["dataset"])
    about = f"{task['metric']}, zero-shot, greedy, n = {row.n}, 95% interval {row.low:.1%} to {row.high:.1%}; hubmerge"
    name = re.sub(r"[^\w.-]", "-", str(task["benchmark"]))
    return {f".eval_results/{name}.yaml": benchmark_result(row, task["benchmark"], about)}


def card_for(result: EvolveResult, repo_id: str) -> str:
    """The README.md of the result under the name it is pushed to."""
    title, before = repo_id.split("/")[-1], result.card.title
    rows = [replace(row, model=title) if row.model == before else row for row in result.card.evaluations]
    named: dict[str, Any] = {"repo_id": repo_id, "title": title, "commands": _commands(title), "evaluations": rows}
    return render(replace(result.card, **named))


def _commands(title: str) -> tuple[str, ...]:
    """What makes the model again, and the search, beside its recipe."""
    out = shlex.quote(title)
    return f"hubmerge merge {RECIPE_FILE} --out {out}", f"hubmerge evolve {SEARCH_FILE} --out runs/{out}"


def card_rows(
    rows: Sequence[Row], title: str, metric: str, task: str, dataset: str | None = None, means: str = ""
) -> tuple[CardRow, ...]:
    """The table in the card's terms; the evolved model goes by `title`, the examples' dataset by "org/name@commit", and
    what a score is by `means`."""
    return tuple(
        CardRow(_in_card(row, title), metric, row.value, row.low, row.high, row.n, "test", task, dataset, means)
        for row in rows
    )


def meant(task: Mapping[str, Any]) -> str:
    """What a score is, in words, of a task as results.json tells it; those of former times tell the metric alone."""
    return str(task.get("means") or meaning(task["metric"], task.get("language")))


def _in_card(row: Row, title: str) -> str:
    return title if row.model == EVOLVED else f"{row.model} ({row.note})" if row.note else row.model


def _card(search: Search, sources: Mapping[ModelRef, Source], title: str, recipe: Recipe, results: Results) -> Card:
    task = results.task
    return Card(
        title=title,
        sources=tuple(sources.values()),
        recipe_yaml=recipe.to_yaml(),
        method=recipe.merge_method,
        before=tuple(stage.recipe.merge_method for stage in recipe.stages),
        base_model=sources[search.base_model].name if search.base_model else None,
        evaluations=card_rows(results.rows, title, task["metric"], task["name"], task.get("dataset"), meant(task)),
        curve_image=CURVE_FILE,
        commands=_commands(title),
        search=told_on_card(results.facts),
        languages=(task["language"],) if task["language"] else (),
        example=task["example"],
        only_here=only_here(search.task),
    )


_WORDS: Mapping[str, Mapping[str, str]] = {
    "space": {"ps": "numbers of a recipe (parameter space)", "dfs": "a path through the layers (data-flow space)"},
    "objectives": {
        "score": "the score",
        "metric": "answers that are right, in any language",
        "language": "answers in the language",
        "short": "layers saved",
        "brief": "tokens saved",
    },
    "granularity": {
        "group": "kind of weights",
        "layer_group": "layer and kind of weights",
        "filter": "group that the search names",
        "side": "side of the network",
        "side_group": "side of the network and kind of weights",
    },
}
"""What values of facts mean, for who reads a card on the Hub."""


def _in_words(value: Any, words: Mapping[str, str]) -> str:
    """A fact's value, one or several, by these words; what they do not know stays."""
    several = value if isinstance(value, list) else re.split(r"(?: \+ |, )", str(value))
    return (" and " if isinstance(value, list) else ", then ").join(words.get(one, str(one)) for one in several)


def told_on_card(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts as a card's table has them: plain values, by names that need no explanation."""
    told = {name: value for name, value in facts.items() if name != "cost" and (value or name != "tokens")}
    told |= {key: _in_words(told[key], words) for key, words in _WORDS.items() if key in told}
    if (saved := facts.get("cost")) is not None:
        told["Examples asked of a candidate, at most"] = saved["examples_asked"]
        told["Candidates stopped early"] = saved["evaluations_raced"]
        told |= {"Tokens that asking all would have taken, about": full} if (full := saved["tokens_full"]) else {}
    return told
