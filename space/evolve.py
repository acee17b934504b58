"""Evolve: what may vary and how a candidate is judged; then the search live: curve, best candidates, final table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from hubmerge.errors import HubmergeError, SearchError, TaskError
from hubmerge.evaluate.task import BUILTIN
from hubmerge.evolve.journal import read_evaluations
from hubmerge.evolve.search import Search
from hubmerge.methods import METHODS, Method

from .access import require_hub_models, visitor_token
from .draw import interval
from .guard import shows_errors
from .jobs import Job
from .panel import Panel, panel
from .pick import Pick
from .runners import JOURNAL
from .state import Page, owner_of, title_of
from .theme import BASE_COLOUR, RESULT_COLOUR, html
from .wording import escape, short

DEFAULT_METHOD = "task_arithmetic"
SHOWN_POINTS = 400
"""Points of the curve; a longer search is thinned."""
SHOWN_CANDIDATES = 8
_BEST, _MEAN = "best so far", "mean of the generation"
_GRANULARITY_LABELS = {"model": "one value a model", "layer": "one a layer", "group": "attention, MLP, rest"}
_LANGUAGES = [("any language", ""), ("Japanese", "ja"), ("English", "en"), ("German", "de"), ("French", "fr")]
_LANGUAGES += [("Spanish", "es"), ("Chinese", "zh"), ("Korean", "ko")]
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class Evolve:
    """The component other tabs read."""

    panel: Panel


def evolve_tab(page: Page, pick: Pick) -> Evolve:
    """Builds the tab."""
    html('<p class="hm-lead">Let a search find the recipe: candidates are built in memory and judged on your task.</p>')
    given = page.examples.task
    own = str(given.get("name", "task")) if isinstance(given, Mapping) else given
    tasks = list(dict.fromkeys([*([own] if own else []), *BUILTIN]))
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            with gr.Group():
                task = gr.Dropdown(
                    tasks,
                    value=own or None,
                    allow_custom_value=True,
                    label="Task",
                    info="built in, or a dataset of the Hub with search, validation and test .jsonl files",
                    elem_id="hm-task",
                )
                with gr.Row(visible=False) as own_dataset:
                    language = gr.Dropdown(
                        _LANGUAGES, value="", label="Answers must be in", allow_custom_value=True, min_width=130
                    )
                    longest = gr.Number(
                        64, label="Longest answer, tokens", precision=0, minimum=1, min_width=130, elem_id="hm-longest"
                    )
            with gr.Group():
                method = gr.Dropdown(list(_searchable()), value=DEFAULT_METHOD, label="Method")
                genes = gr.CheckboxGroup(
                    _gene_names(METHODS[DEFAULT_METHOD]), value=["weight"], label="What may vary", elem_id="hm-genes"
                )
                granularity = gr.Radio(
                    [(_GRANULARITY_LABELS[name], name) for name in _GRANULARITY_LABELS],
                    value="layer",
                    label="How finely",
                )
            with gr.Group(), gr.Row():
                evaluations = gr.Number(
                    120, label="Evaluations", precision=0, minimum=4, min_width=90, elem_id="hm-evals"
                )
                popsize = gr.Number(12, label="Popsize", precision=0, minimum=4, min_width=90, elem_id="hm-popsize")
                seed = gr.Number(1, label="Seed", precision=0, minimum=0, min_width=90)
            with gr.Accordion("Examples of each split", open=False), gr.Row():
                counts = [
                    gr.Number(number, label=label, precision=0, minimum=1, min_width=90, elem_id=f"hm-{label}")
                    for label, number in (("search", 60), ("validation", 100), ("test", 300))
                ]
            go = gr.Button("Evolve", variant="primary", elem_id="hm-evolve-button")
        with gr.Column(scale=6, min_width=300):
            place = gr.Column()
            facts = html(_NOTHING, elem_id="hm-evolve-facts")
            curve = gr.LinePlot(
                _frame(()),
                x="evaluation",
                y="fitness",
                color="series",
                color_map={_BEST: RESULT_COLOUR, _MEAN: BASE_COLOUR},
                x_axis_format="d",
                y_axis_format=".2f",
                height=260,
                show_label=False,
                visible="hidden",
                elem_id="hm-curve",
            )
            table = html(elem_id="hm-results")
            candidates = html(elem_id="hm-candidates")
            with place:
                job = panel(page, "evolve", extra=[facts, curve, table, candidates], draw=_drawer(page))

    method.input(
        lambda name: gr.CheckboxGroup(choices=_gene_names(METHODS[name]), value=_gene_names(METHODS[name])[:1]),
        [method],
        [genes],
        **_QUIET,
    )

    # A built-in task says these by itself.
    task.change(lambda name: gr.Row(visible=bool(name) and name not in tasks), [task], [own_dataset], **_QUIET)

    @shows_errors
    def start(
        models: list[str] | None,
        base: str | None,
        task_name: str | None,
        language: str | None,
        longest: float,
        method: str,
        genes: list[str],
        granularity: str,
        evaluations: float,
        popsize: float,
        seed: float,
        searched: float,
        validated: float,
        tested: float,
        key: str | None,
        request: gr.Request,
        oauth: gr.OAuthToken | None,
    ) -> gr.Timer:
        search = describe_search(
            task=task_of(page, task_name, language, int(longest)),
            models=models or (),
            base=base,
            method=method,
            genes=genes,
            granularity=granularity,
            searcher={"name": "cmaes", "evaluations": int(evaluations), "popsize": int(popsize), "seed": int(seed)},
            splits={"search": int(searched), "validation": int(validated), "test": int(tested)},
        )
        submit_search(page, owner_of(key, request), search, visitor_token(page.settings, oauth))
        return gr.Timer(active=True)

    inputs = [pick.models, pick.base, task, language, longest, method, genes, granularity, evaluations, popsize, seed]
    go.click(start, [*inputs, *counts, page.owner], [page.timer], **_QUIET).success(
        job.refresh, job.inputs, job.outputs, **_QUIET
    )
    return Evolve(job)


def task_of(page: Page, name: str | None, language: str | None, max_new_tokens: int) -> Mapping[str, Any]:
    """The task's document for what was chosen: the examples' own, a built-in one, or a dataset of the Hub.

    Never a file of this machine. Raises `TaskError` for anything else.
    """
    given = page.examples.task
    name = (name or "").strip()
    if isinstance(given, Mapping) and name == given.get("name", "task"):
        return given
    if name in BUILTIN:
        return BUILTIN[name]
    if name.count("/") != 1:
        raise TaskError(f"Choose a task: one of {', '.join(BUILTIN)}, or a dataset of the Hub as org/name.")
    repo_id, _, revision = name.partition("@")
    examples = {split: f"{split}.jsonl" for split in ("search", "validation", "test")}
    document: dict[str, Any] = {"name": short(repo_id), "examples": {"repo_id": repo_id, **examples}}
    if revision:
        document["examples"]["revision"] = revision
    if language:
        document["language"] = language
    return {**document, "max_new_tokens": max_new_tokens}


def describe_search(
    *,
    task: Mapping[str, Any],
    models: Sequence[str],
    base: str | None,
    method: str,
    genes: Sequence[str],
    granularity: str,
    searcher: Mapping[str, Any],
    splits: Mapping[str, int],
) -> Search:
    """A search over the chosen models whose genes cover each parameter's usual range. Raises `SearchError`."""
    names = [name for name in models if name != base]
    if not names:
        raise SearchError("Choose at least one model in step 1.")
    ranges = {p.name: list(p.typical) for p in METHODS[method].parameters if p.name in genes}
    used = {name: count for name, count in splits.items() if name in task["examples"]}
    return Search.from_dict(
        {
            "models": names,
            "base_model": base if base and METHODS[method].base == "required" else None,
            "merge_method": method,
            "genome": {"granularity": granularity, "genes": ranges},
            "task": task,
            "splits": used,
            "searcher": dict(searcher),
        }
    )


def submit_search(page: Page, owner: str, search: Search, token: str | None) -> Job:
    """Queues a search."""
    require_hub_models(page.settings, search)
    title = title_of(search.merge_method or "paths", [str(model) for model in search.models])
    return page.jobs.submit(owner, "evolve", title, {"search": search.to_dict()}, token)


def _searchable() -> list[str]:
    return [name for name, method in METHODS.items() if method.max_models != 1 and _gene_names(method)]


def _gene_names(method: Method) -> list[str]:
    return [p.name for p in method.parameters if not p.is_switch and p.name != "seed"]


def _drawer(page: Page) -> Any:
    def draw(owner: str, job: Job | None) -> Sequence[Any]:
        if job is None:
            return _NOTHING, gr.skip(), "", ""
        points = page.jobs.points(owner, job.id)
        rows = job.result.get("rows", ())
        return (
            _facts(points) if points else _WAITING if job.active else "",
            gr.LinePlot(value=_frame(points), visible=True if len(points) > 1 else "hidden"),
            results_table(rows),
            _candidates(page.jobs.folder(owner, job.id) / JOURNAL),
        )

    return draw


def _facts(points: Sequence[Mapping[str, Any]]) -> str:
    last = points[-1]
    facts = (
        (f"{100 * last['score']:.1f}%", "best score on the search split"),
        (f"{last['best']:.3f}", "best fitness"),
        (f"{last['generation'] + 1}", "generation"),
        (f"{len(points):,}", "candidates"),
    )
    figures = "".join(f"<div><b>{value}</b><span>{label}</span></div>" for value, label in facts)
    return f'<div class="hm-panel"><div class="hm-facts">{figures}</div></div>'


def _frame(points: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    step = max(1, len(points) // SHOWN_POINTS)
    kept = [(number, point) for number, point in enumerate(points, 1) if number % step == 0 or number == len(points)]
    rows = [
        (number, point[name], series) for name, series in (("mean", _MEAN), ("best", _BEST)) for number, point in kept
    ]
    return pd.DataFrame(rows, columns=["evaluation", "fitness", "series"])


def results_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The final evaluation on the test split: score with its 95% interval, n, and the comparison with the winner."""
    if not rows:
        return ""
    limit = max(row["high"] for row in rows) or 1.0
    lines = []
    for row in rows:
        best = row["p_value"] is None
        drawn = interval(row["value"], row["low"], row["high"], limit, RESULT_COLOUR if best else BASE_COLOUR)
        lines.append(
            f'<tr class="{"hm-best" if best else ""}"><td>{escape(row["model"])}</td>'
            f'<td class="hm-number">{100 * row["value"]:.1f}%</td>'
            f'<td class="hm-number">{100 * row["low"]:.1f} to {100 * row["high"]:.1f}</td>'
            f'<td class="hm-drawn">{drawn}</td><td class="hm-number">{row["n"]:,}</td>'
            f'<td class="hm-number">{"" if best else _p(row["p_value"])}</td></tr>'
        )
    number = '<th class="hm-number">'
    head = f'<tr><th>Test split</th>{number}Score</th>{number}95% interval</th><th class="hm-drawn"></th>'
    head += f"{number}n</th>{number}p vs evolved</th></tr>"
    return _panel(f"<thead>{head}</thead><tbody>{''.join(lines)}</tbody>")


def _candidates(journal: Path) -> str:
    try:
        found = read_evaluations(journal) if journal.exists() else []
    except (HubmergeError, OSError):
        return ""  # being written; the next tick reads it
    best = sorted(found, key=lambda evaluation: -evaluation.fitness[0])[:SHOWN_CANDIDATES]
    if not best:
        return ""
    lines = "".join(
        f'<tr><td class="hm-number">{e.number}</td><td class="hm-number">{e.fitness[0]:.3f}</td>'
        f'<td class="hm-number">{100 * e.score:.1f}%</td><td class="hm-number">{100 * e.metric:.1f}%</td>'
        f'<td class="hm-number">{100 * e.language:.1f}%</td><td class="hm-number">{e.seconds:.1f} s</td></tr>'
        for e in best
    )
    head = "".join(
        f'<th class="hm-number">{name}</th>'
        for name in ("Candidate", "Fitness", "Score", "Right answer", "Right language", "Took")
    )
    return _panel(f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody>")


def _panel(table: str) -> str:
    return f'<div class="hm-panel hm-scroll"><table class="hm-table">{table}</table></div>'


def _p(value: float) -> str:
    return "&lt; 0.001" if value < 0.001 else f"{value:.3f}"


_NOTHING = '<div class="hm-empty">The fitness curve, the best candidates and the final scores appear here.</div>'
_WAITING = '<div class="hm-empty">The first candidates are being scored.</div>'
