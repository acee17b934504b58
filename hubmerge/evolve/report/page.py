"""The report's page: headline, contestants, each stage of the search, and how to do it again."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ... import __version__
from ..records.folder import RECIPE_FILE, SEARCH_FILE
from . import html, pictures
from .canvas import is_number
from .cost import Cost
from .data import Run, mapping, model_name
from .forest import is_winner
from .palette import css
from .pictures import Picture

_SPACES = {"ps": "parameter space", "dfs": "data-flow space"}
_MOST_ROWS = 60
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
    parts = [_header(stages), _contestants(run)]
    for number, stage in enumerate(stages, start=1):
        heading = f"Stage {number}: {_SPACES.get(stage.space, stage.space)}" if len(stages) > 1 else "The search"
        parts.append(_stage(stage, heading, f"s{number}-"))
    parts.append(_again(stages))
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{html.text(run.name)} - hubmerge report</title><style>\n{css()}{style}</style></head>\n"
        f"<body><main>\n{body}\n<footer>Made by hubmerge {html.text(__version__)}.</footer>\n</main></body></html>\n"
    )


def _header(stages: Sequence[Run]) -> str:
    run = stages[-1]
    parts = [f"<h1>{html.text(run.name)}</h1>", f'<p class="lead">{" ".join(map(_searched, stages))}</p>']
    if not run.done:
        of_planned = f" of {run.planned:,}" if run.planned else ""
        parts.append(
            f'<p class="note">This search has no results yet: it is still going, or was interrupted and can be resumed.'
            f" So far {len(run.evaluations):,}{of_planned} evaluations are in its journal.</p>"
        )
    parts.append(html.tiles([_score_tile(run), *_gain_tile(run), *_search_tiles(stages)]))
    return "<header>" + "".join(parts) + "</header>"


def _searched(run: Run) -> str:
    """One sentence: what was searched over what."""
    searcher = run.searcher.get("name") or run.facts.get("searcher") or "a search"
    names = ", ".join(html.name(model_name(model)) for model in run.models) or "models"
    base = f" on {html.name(model_name(run.spec['base_model']))}" if run.spec.get("base_model") else ""
    genes = {len(e.genome) for e in run.evaluations}
    count = f" with {' then '.join(f'{n:,}' for n in sorted(genes))} genes" if genes else ""
    task = mapping(run.spec, "task").get("name") or run.spec.get("task")
    on = f", scored on {html.name(task)}" if isinstance(task, str) else ""
    if run.space == "dfs":
        names = f"that recipe's model, {names}" if run.second else names
        return f"Paths through the layers of {names}, found by {html.text(searcher)}{count}{on}."
    method = html.text(run.spec.get("merge_method") or "merges")
    return f"Recipes of {method} over {names}{base}, found by {html.text(searcher)}{count}{on}."


def _score_tile(run: Run) -> tuple[str, str, str]:
    row = next((row for row in run.rows if is_winner(row)), None)
    if row is not None:
        below = f"95% interval {html.percent(row.get('low'))} to {html.percent(row.get('high'))}"
        return "Held-out score", html.percent(row["value"]), f"{below}, n = {html.text(row.get('n', '?'))}"
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
    below = f"points against the best other, {html.name(model_name(rival['model']))}; {_p(rival)}"
    return [("Gain", f"{gain:+.1f}".replace("-", "−"), below)]


def _p(row: Mapping[str, Any]) -> str:
    value = html.probability(row.get("p_value"))
    return f"p&#160;{value}" if value.startswith("&") else f"p&#160;=&#160;{value}"


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


def _contestants(run: Run) -> str:
    picture = pictures.contestants(run)
    if picture is None:
        return ""
    rows = []
    for row in run.rows:
        gain = row.get("gain")
        bounds = gain if isinstance(gain, list) and len(gain) == 2 and all(map(is_number, gain)) else None
        rows.append(
            (
                html.name(model_name(row["model"])) + (f" ({html.text(row['note'])})" if row.get("note") else ""),
                html.percent(row["value"]),
                f"{html.percent(row.get('low'))} – {html.percent(row.get('high'))}",
                html.text(row.get("n", "–")),
                html.percent(row.get("metric", row.get("number"))),
                html.percent(row.get("language")),
                f"{100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f}" if bounds else "–",
                html.probability(row.get("p_value")),
            )
        )
    header = ("Model", "Score>", "95% interval>", "n>", "Right>", "Language>", "Gain of the winner>", "p>")
    marked = [number for number, row in enumerate(run.rows) if is_winner(row)]
    return f"<section><h2>Contestants</h2>{picture.figure('')}{html.table(header, rows, marked)}</section>"


def _stage(run: Run, heading: str, prefix: str) -> str:
    cost = Cost.of(run)
    parts = [
        _section("Fitness", pictures.curve(run), "", prefix),
        _section(pictures.whose(run), pictures.winner(run), _winner(run), prefix),
        _section("Objectives", pictures.front(run), _front(run), prefix),
        _section("Cost", pictures.costs(run, cost), _costs(run, cost), prefix),
        _failures(run),
    ]
    return f"<section><h2>{html.text(heading)}</h2>{''.join(parts)}</section>"


def _section(title: str, picture: Picture | None, below: str, prefix: str) -> str:
    content = (picture.figure(prefix) if picture else "") + below
    return f"<h3>{html.text(title)}</h3>{content}" if content else ""


def _winner(run: Run) -> str:
    if not run.done:
        note = "<p>The winner is chosen at the end, on examples that the search never saw.</p>" if run.measured else ""
        recipe = html.details("The recipe so far", html.code(_dump(run.recipe))) if run.recipe else ""
        return note + recipe
    known = [
        ("Candidate", run.winner.get("number")),
        ("Search score", run.winner.get("search_score")),
        ("Validation score", run.winner.get("validation_score")),
    ]
    pairs = [
        (label, html.percent(value) if isinstance(value, float) else html.text(value))
        for label, value in known
        if value is not None
    ]
    if not run.recipe:
        return html.facts(pairs)
    return html.facts(pairs) + html.details(f"The recipe ({RECIPE_FILE})", html.code(_dump(run.recipe)))


def _dump(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True)


def _front(run: Run) -> str:
    if len(run.objectives) < 2 or not run.front:
        return ""
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
    more = len(run.front) - len(rows)
    rest = f"<p>And {more:,} more, in results.json.</p>" if more > 0 else ""
    number = run.front[0].number
    command = html.code(f"hubmerge export {shlex.quote(run.name)} --candidate {number} --out candidate-{number}")
    return html.table(header, rows, marked) + rest + "<p>Any of them becomes a model by its number:</p>" + command


def _costs(run: Run, cost: Cost) -> str:
    paid = [e for e in run.first_asked if e.error is None]
    seconds, tokens = sum(e.seconds for e in run.evaluations), sum(e.tokens for e in run.first_asked)
    pairs = [
        ("Evaluating", html.seconds(seconds)),
        ("A candidate", html.seconds(sum(e.seconds for e in paid) / len(paid)) if paid else "–"),
        ("Tokens generated", f"{tokens:,}"),
        ("Asked again, known", f"{len(run.evaluations) - len(run.first_asked):,}"),
        ("Failed", f"{len(run.failed):,}"),
    ]
    if cost.saved > 0.02:
        pairs.append((f"Saved {cost.unit}, about", f"{cost.saved:.0%}"))
    cost_facts = mapping(run.facts, "cost").items()
    told = {_COSTS.get(k, k): v for k, v in cost_facts if k != "tokens" and not isinstance(v, Mapping)}
    pairs += _flat(told)
    return html.facts(pairs) if run.evaluations else ""


def _flat(document: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """A mapping's numbers and texts, with the keys that lead to them."""
    found: list[tuple[str, str]] = []
    for key, value in document.items():
        label = f"{before}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            found += _flat(value, f"{label}, ")
        elif isinstance(value, (str, bool)):
            found.append((label, html.text(value)))
        elif is_number(value):
            found.append((label, str(value) if label == "seed" else f"{value:,}"))
        elif isinstance(value, list) and all(isinstance(item, (str, int, float)) for item in value):
            found.append((label, html.text(", ".join(map(str, value)))))
    return found


def _failures(run: Run) -> str:
    if not run.failed:
        return ""
    reasons: dict[str, list[int]] = {}
    for evaluation in run.failed:
        reasons.setdefault(evaluation.error or "", []).append(evaluation.number)
    ordered = sorted(reasons.items(), key=lambda item: -len(item[1]))
    rows = [
        (
            f"{len(numbers):,}",
            ", ".join(map(str, numbers[:8])) + (", …" if len(numbers) > 8 else ""),
            html.text(reason if len(reason) <= _MOST_LETTERS else reason[:_MOST_LETTERS] + "…"),
        )
        for reason, numbers in ordered[:_MOST_ROWS]
    ]
    return "<h3>Failed candidates</h3>" + html.table(("Times>", "Candidates", "Why"), rows)


def _again(stages: Sequence[Run]) -> str:
    run = stages[-1]
    commands = [f"cd {shlex.quote(run.name)}"]
    if not run.done:
        commands.append(f"hubmerge evolve {SEARCH_FILE} --out . --resume  # go on")
    commands.append(f"hubmerge evolve {SEARCH_FILE} --out again  # search again")
    if run.done and run.recipe:
        commands.append(f"hubmerge merge {RECIPE_FILE} --out merged  # the winner")
    commands.append("hubmerge report .  # this page")
    spec = _dump(run.spec) if run.spec else ""
    told = {key: value for key, value in {**run.header, **run.facts}.items() if key not in ("cost", "problems")}
    names = {"hubmerge": "hubmerge version", "hubmerge journal": "journal version"}
    pairs = [(names.get(key, key), value) for key, value in _flat(told) if key != "key"]
    return (
        "<section><h2>Do it again</h2>"
        + html.code("\n".join(commands))
        + (html.details(f"The search ({SEARCH_FILE})", html.code(spec)) if spec else "")
        + html.facts(pairs)
        + "</section>"
    )
