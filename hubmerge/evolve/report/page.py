"""The report's page: headline, contestants, each stage of the search, and how to do it again."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ... import __version__
from ...markup import Markup, clean
from ..records.folder import RECIPE_FILE, SEARCH_FILE
from ..records.learnt import Ancestor
from ..records.remarks import remarks
from . import html, pictures
from .canvas import is_number
from .cost import Cost
from .data import Run, mapping, model_name
from .forest import is_winner
from .palette import css
from .pictures import Picture

_SPACES = {"ps": "parameter space", "dfs": "data-flow space"}
_MOST_ROWS = 60
_TITLED = 4  # models that the title names
_COSTS = {
    "tokens_items": "Tokens for choosing examples",
    "tokens_full": "Tokens, had all been asked, about",
    "examples_asked": "Examples asked of each, at most",
    "evaluations_raced": "Stopped early",
}
_MOST_LETTERS = 400  # of an error message


def render(stages: Sequence[Run]) -> str:
    """The whole page, self-contained: no script, nothing fetched. The last stage is the run itself."""
    run = stages[-1]
    several = len(stages) > 1
    sections = [
        _stage(stage, f"Stage {n}: {_SPACES.get(stage.space, stage.space)}" if several else "The search", f"s{n}-")
        for n, stage in enumerate(stages, start=1)
    ]
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    return html.render(
        "page",
        title=title(run),
        style=Markup(css() + style),
        run=run,
        searched=[*map(_searched, stages)],
        remarks=_remarks(run),
        tiles=[_score_tile(run), *_gain_tile(run), *_search_tiles(stages)],
        contestants=_contestants(run),
        generations=_generations(run, sum(len(stage.evaluations) for stage in stages)),
        stages=sections,
        version=__version__,
        **_again(run),
    )


def title(run: Run) -> str:
    """What was searched, in a line; the folder's name where that is not known."""
    names = [model_name(model).rpartition("/")[2] for model in run.models]
    if not names:
        return run.name
    what = "paths" if run.space == "dfs" and not run.second else run.spec.get("merge_method") or "merges"
    task = mapping(run.spec, "task").get("name") or run.spec.get("task")
    more = f" + {len(names) - _TITLED} more" if len(names) > _TITLED else ""
    return f"{what} of {' + '.join(names[:_TITLED])}{more}" + (f" for {task}" if isinstance(task, str) else "")


def _searched(run: Run) -> Markup:
    """One sentence: what was searched over what."""
    searcher = run.searcher.get("name") or run.facts.get("searcher") or "a search"
    names = Markup(", ").join(html.name(model_name(model)) for model in run.models) or Markup("models")
    base = Markup(" on {}").format(html.name(model_name(run.spec["base_model"]))) if run.spec.get("base_model") else ""
    genes = {len(e.genome) for e in run.evaluations}
    count = f" with {' then '.join(f'{n:,}' for n in sorted(genes))} genes" if genes else ""
    task = mapping(run.spec, "task").get("name") or run.spec.get("task")
    on = Markup(", scored on {}").format(html.name(task)) if isinstance(task, str) else ""
    found = Markup(", found by {}{}{}.").format(clean(searcher), count, on)
    if run.space == "dfs":
        first = "that recipe's model, " if run.second else ""
        return Markup("Paths through the layers of {}{}{}").format(first, names, found)
    method = clean(run.spec.get("merge_method") or "merges")
    return Markup("Recipes of {} over {}{}{}").format(method, names, base, found)


def _score_tile(run: Run) -> tuple[str, str, str]:
    row = next((row for row in run.rows if is_winner(row)), None)
    if row is not None:
        below = f"95% interval {html.percent(row.get('low'))} to {html.percent(row.get('high'))}"
        return "Held-out score", html.percent(row["value"]), f"{below}, n = {row.get('n', '?')}"
    if is_number(run.winner.get("validation_score")):
        return "Validation score", html.percent(run.winner["validation_score"]), "the winner was chosen by it"
    if run.measured:
        best = max(run.measured, key=lambda e: e.fitness[0])
        return "Best so far", f"{best.fitness[0]:.3f}", f"fitness of candidate {best.number}, on search examples"
    return "Best so far", "–", "no candidate is measured yet"


def _gain_tile(run: Run) -> list[tuple[str, str, str]]:
    """What the winner gains over the best of the others."""
    best = next((row for row in run.rows if is_winner(row)), None)
    others = [row for row in run.rows if not is_winner(row)]
    if best is None or not others:
        return []
    rival = max(others, key=lambda row: row["value"])
    gain = 100 * (best["value"] - rival["value"])
    below = Markup("points against the best other, {}; {}").format(html.name(model_name(rival["model"])), _p(rival))
    return [("Gain", f"{gain:+.1f}".replace("-", "−"), below)]


def _remarks(run: Run) -> tuple[str, ...]:
    lines = [(model_name(row["model"]), row["value"], row.get("n", "?")) for row in run.rows]
    own = [is_winner(row) for row in run.rows]
    evolved = next((line for line, is_own in zip(lines, own, strict=True) if is_own), None)
    others = [line for line, is_own in zip(lines, own, strict=True) if not is_own]
    return remarks(evolved, others, run.winner.get("unchanged"))


def _p(row: Mapping[str, Any]) -> str:
    value = html.probability(row.get("p_value"))
    return f"p\u00a0{value}" if value.startswith("<") else f"p\u00a0=\u00a0{value}"


def _search_tiles(stages: Sequence[Run]) -> list[tuple[str, str, str]]:
    evaluations = sum(len(stage.evaluations) for stage in stages)
    distinct = sum(len(stage.first_asked) for stage in stages)
    failed = sum(len(stage.failed) for stage in stages)
    below = f"{distinct:,} different" + (f", {failed:,} failed" if failed else "")
    wall: Any = stages[-1].facts.get("wall_seconds")
    spent = sum(e.seconds for stage in stages for e in stage.evaluations)
    seeds = list(dict.fromkeys(e.seed for stage in stages for e in stage.evaluations))
    return [
        ("Evaluations", f"{evaluations:,}", below),
        ("Time", html.seconds(wall), f"{html.seconds(spent)} in evaluations")
        if is_number(wall)
        else ("Time", html.seconds(spent), "in evaluations"),
        ("Seed", ", ".join(map(str, seeds)) or "–", "the same seed walks the same path"),
    ]


def _contestants(run: Run) -> Mapping[str, Any] | None:
    picture = pictures.contestants(run)
    if picture is None:
        return None
    rows = []
    # Of a task that asks for no language, 0 is no share.
    spoken = "task" not in run.results or bool(mapping(run.results, "task").get("language"))
    for row in run.rows:
        gain = row.get("gain")
        bounds = gain if isinstance(gain, list) and len(gain) == 2 and all(map(is_number, gain)) else None
        rows.append(
            (
                html.name(model_name(row["model"])) + (f" ({clean(row['note'])})" if row.get("note") else ""),
                html.percent(row["value"]),
                f"{html.percent(row.get('low'))} – {html.percent(row.get('high'))}",
                row.get("n", "–"),
                html.percent(row.get("metric", row.get("number"))),
                html.percent(row.get("language")) if spoken else "–",
                f"{100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f}" if bounds else "–",
                html.probability(row.get("p_value")),
            )
        )
    header = ("Model", "Score>", "95% interval>", "n>", "Right>", "Language>", "Gain of the winner>", "p>")
    marked = [number for number, row in enumerate(run.rows) if is_winner(row)]
    return {"figure": picture.figure(""), "header": header, "rows": rows, "marked": marked}


def _generations(run: Run, evaluations: int) -> Mapping[str, Any] | None:
    """The runs that this one comes from, the nearest first, each with its winner's score on its own task."""
    if not run.ancestors:
        return None
    own = next((row for row in run.rows if is_winner(row)), {})
    task = mapping(run.spec, "task").get("name") or run.spec.get("task")
    this = Ancestor(
        run.name,
        task if isinstance(task, str) else "",
        evaluations,
        own.get("n", 0),
        own.get("value"),
        own.get("low"),
        own.get("high"),
    )
    rows = [
        (
            html.name(one.run),
            clean(one.task),
            f"{one.evaluations:,}",
            html.percent(one.score),
            f"{html.percent(one.low)} – {html.percent(one.high)}",
            one.n or "–",
        )
        for one in (this, *run.ancestors)
    ]
    return {"header": ("Run", "Task", "Candidates>", "Held out>", "95% interval>", "n>"), "rows": rows}


def _stage(run: Run, heading: str, prefix: str) -> Mapping[str, Any]:
    """A stage's section: its pictures, and the words that go with each."""
    cost = Cost.of(run)

    def drawn(picture: Picture | None) -> Markup:
        return picture.figure(prefix) if picture else Markup("")

    return {
        "heading": heading,
        "curve": drawn(pictures.curve(run)),
        "whose": pictures.whose(run),
        "winner": drawn(pictures.winner(run)),
        "undecided": bool(run.measured) and not run.done,
        "known": _known(run),
        "recipe": _dump(run.recipe) if run.recipe else "",
        "recipe_title": f"The recipe ({RECIPE_FILE})" if run.done else "The recipe so far",
        "front_picture": drawn(pictures.front(run)),
        "front": _front(run),
        "cost_picture": drawn(pictures.costs(run, cost)),
        "costs": _costs(run, cost),
        "failures": _failures(run),
    }


def _known(run: Run) -> list[tuple[str, object]]:
    """What is known of the winner."""
    if not run.done:
        return []
    known = [
        ("Candidate", run.winner.get("number")),
        ("Search score", run.winner.get("search_score")),
        ("Validation score", run.winner.get("validation_score")),
    ]
    return [
        (label, html.percent(value) if isinstance(value, float) else value)
        for label, value in known
        if value is not None
    ]


def _dump(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True)


def _front(run: Run) -> Mapping[str, Any] | None:
    if len(run.objectives) < 2 or not run.front:
        return None
    header = ["Candidate>", *(f"{name}>" for name in run.objectives), "Score>", "Generation>"]
    rows = [
        (
            str(e.number),
            *(f"{value:.4f}" for value in e.fitness),
            html.percent(e.score),
            str(e.generation),
        )
        for e in run.front[:_MOST_ROWS]
    ]
    marked = [number for number, e in enumerate(run.front[:_MOST_ROWS]) if e is run.chosen]
    number = run.front[0].number
    command = f"hubmerge export {shlex.quote(run.name)} --candidate {number} --out candidate-{number}"
    more = len(run.front) - len(rows)
    return {"header": header, "rows": rows, "marked": marked, "more": more, "command": command}


def _costs(run: Run, cost: Cost) -> list[tuple[str, str]]:
    paid = [e for e in run.first_asked if e.error is None]
    seconds, tokens = sum(e.seconds for e in run.evaluations), sum(e.tokens for e in run.first_asked)
    pairs = [
        ("Evaluating", html.seconds(seconds)),
        ("A candidate", html.seconds(sum(e.seconds for e in paid) / len(paid)) if paid else "–"),
        *([("Tokens generated", f"{tokens:,}")] if tokens else []),
        ("Asked again, known", f"{len(run.evaluations) - len(run.first_asked):,}"),
        ("Failed", f"{len(run.failed):,}"),
    ]
    if cost.saved > 0.02:
        pairs.append((f"Saved {cost.unit}, about", f"{cost.saved:.0%}"))
    cost_facts = mapping(run.facts, "cost").items()
    told = {_COSTS.get(k, k): v for k, v in cost_facts if k != "tokens" and not isinstance(v, Mapping)}
    told = told if tokens else {name: value for name, value in told.items() if not name.startswith("Tokens")}
    pairs += _flat(told)
    return pairs if run.evaluations else []


def _flat(document: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """A mapping's numbers and texts, with the keys that lead to them."""
    found: list[tuple[str, str]] = []
    for key, value in document.items():
        label = f"{before}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            found += _flat(value, f"{label}, ")
        elif isinstance(value, (str, bool)):
            found.append((label, str(value)))
        elif is_number(value):
            found.append((label, str(value) if label == "seed" else f"{value:,}"))
        elif isinstance(value, list) and all(isinstance(item, (str, int, float)) for item in value):
            found.append((label, ", ".join(map(str, value))))
    return found


def _failures(run: Run) -> list[tuple[str, str, str]]:
    reasons: dict[str, list[int]] = {}
    for evaluation in run.failed:
        reasons.setdefault(evaluation.error or "", []).append(evaluation.number)
    ordered = sorted(reasons.items(), key=lambda item: -len(item[1]))
    return [
        (
            f"{len(numbers):,}",
            ", ".join(map(str, numbers[:8])) + (", …" if len(numbers) > 8 else ""),
            reason if len(reason) <= _MOST_LETTERS else reason[:_MOST_LETTERS] + "…",
        )
        for reason, numbers in ordered[:_MOST_ROWS]
    ]


def _again(run: Run) -> Mapping[str, Any]:
    """How to do it again: commands, the search, and what else is known of the run."""
    commands = [f"cd {shlex.quote(run.name)}"]
    if not run.done:
        commands.append(f"hubmerge evolve {SEARCH_FILE} --out . --resume  # go on")
    commands.append(f"hubmerge evolve {SEARCH_FILE} --out again  # search again")
    if run.done and run.recipe:
        commands.append(f"hubmerge merge {RECIPE_FILE} --out merged  # the winner")
    commands.append("hubmerge report .  # this page")
    told = {key: value for key, value in {**run.header, **run.facts}.items() if key not in ("cost", "problems")}
    names = {"hubmerge": "hubmerge version", "hubmerge journal": "journal version"}
    return {
        "commands": "\n".join(commands),
        "spec": _dump(run.spec) if run.spec else "",
        "spec_title": f"The search ({SEARCH_FILE})",
        "told": [(names.get(key, key), value) for key, value in _flat(told) if key != "key"],
    }
