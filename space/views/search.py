"""A search on the page: figures, fitness curve, final scores, best candidates, and pictures of the best one."""

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from hubmerge.errors import HubmergeError
from hubmerge.evolve.records.evaluation import Evaluation
from hubmerge.evolve.records.folder import DRAWN_FOLDER
from hubmerge.evolve.records.journal import read_evaluations
from hubmerge.evolve.workers.gallery import strips

from ..state import Page
from ..theme import BASE_COLOUR, RESULT_COLOUR
from ..wording import duration
from ..work.job import Job
from ..work.runners import JOURNAL, RUN_FOLDER
from .draw import interval
from .parts import note, render

BEST, MEAN = "best so far", "mean of the generation"
SHOWN_POINTS = 400
"""Points of the curve; a longer search is thinned."""
SHOWN_CANDIDATES = 8
SHOWN_STRIPS = 4
"""Of pictures that candidates have drawn, each better than the one before."""
_STRIP = 640, 192
"""Pixels of such a strip on the page."""
NOTHING = note("The fitness curve, the best candidates and the final scores appear here.", "empty")
_ROOM = 5.6, 3.6
"""Inches that pictures are drawn for, beside the form and on a phone, where their letters are to be readable."""
_OWNER = re.compile(r"[\w.-]+/(?=[\w.-])")
# Always the same thread: matplotlib keeps its fonts, and their open files, for each thread that ever drew.
_DRAWING = ThreadPoolExecutor(1, "hubmerge-draw")
_PREPARING = ("", "open", "fetch", "read")
"""Stages of a search before anything is scored."""


def drawer(page: Page) -> Callable[[str, Job | None], Sequence[Any]]:
    """What redraws figures, curve, table, pictures, candidates and the choice of one of them."""

    def draw(owner: str, job: Job | None) -> Sequence[Any]:
        if job is None:
            return NOTHING, gr.skip(), "", "", "", gr.Dropdown(choices=[], value=None, visible=False)
        points = page.jobs.points(owner, job.id)
        folder = page.jobs.folder(owner, job.id)
        made = _evaluations(folder / JOURNAL)
        best = best_candidates(made)
        return (
            _facts(points, seconds_left(job, made)) if points else waiting(job),
            gr.LinePlot(value=frame(points), x_lim=axis(points), visible=True if len(points) > 1 else "hidden"),
            results_table(job.result.get("rows", ()), job.result.get("remarks", ())),
            pictures(page, job, folder / RUN_FOLDER, points),
            _candidates(best),
            gr.Dropdown(choices=[(_label(e), e.number) for e in best], visible=bool(best)),
        )

    return draw


def waiting(job: Job) -> str:
    """What a search is at that has scored nothing yet; nothing for one that has ended."""
    if not job.active:
        return ""
    event = job.event
    if job.status == "queued":
        said = "The search begins when a worker is free."
    elif event.get("stage", "") in _PREPARING and not 0 < event.get("total", 0) <= event.get("done", 0):
        said = "Models and task are being read. Then the first candidate is scored, and the curve begins."
    else:
        said = "The first candidate is being scored; the curve begins with it."
    return note(said, "empty")


def seconds_left(job: Job, made: Sequence[Evaluation]) -> float | None:
    """About how long the search of candidates will still take, by those it has scored; None where nobody can say."""
    event = job.event
    asked = [evaluation.seconds for evaluation in made if evaluation.seconds]
    if job.status != "running" or event.get("stage") != "search" or not asked:
        return None
    return (event.get("total", 0) - event.get("done", 0)) * sum(asked) / len(made)


def _evaluations(journal: Path) -> list[Evaluation]:
    try:
        return read_evaluations(journal) if journal.exists() else []
    except (HubmergeError, OSError):
        return []  # being written; the next tick reads it


def best_candidates(found: Sequence[Evaluation]) -> list[Evaluation]:
    """The different candidates with the best fitness, and those of the Pareto front where there is more than one
    objective."""
    from hubmerge.evolve.explore import Exploration

    explored = Exploration(tuple(found), (), None, 1)
    several = bool(found) and len(found[0].fitness) > 1
    return list(explored.front[: 3 * SHOWN_CANDIDATES] if several else explored.distinct[:SHOWN_CANDIDATES])


def pictures(page: Page, job: Job, run: Path, points: Sequence[Mapping[str, Any]]) -> str:
    """The best recipe as a heat map or the best path as a drawing, and the Pareto front; drawn once a generation."""
    if not points:
        return ""

    def make() -> str:
        from hubmerge.evolve.report import pictures as report
        from hubmerge.evolve.report.data import Run

        try:
            read = Run.read(run, job.title)
            found = [report.front(read), report.winner(read)]
        except (HubmergeError, OSError, ValueError):
            return ""  # being written; the next generation draws it
        figures = [(p.title, p.figure(f"hm{job.id}", _ROOM)) for p in found if p is not None]
        return render("pictures", pictures=figures, strips=drawn(run / DRAWN_FOLDER))

    key = job.id, job.status, points[-1]["generation"], points[-1]["best"]
    return page.drawn.get(key, lambda: _DRAWING.submit(make).result())


def drawn(folder: Path) -> list[tuple[str, str]]:
    """What the best candidates have drawn, the best first: its score, and a strip of pictures small enough for a page,
    as an address that holds it."""
    found = []
    for score, path in reversed(strips(folder)[-SHOWN_STRIPS:]):
        from PIL import Image

        with suppress(OSError), Image.open(path) as picture:
            picture.thumbnail(_STRIP)
            file = io.BytesIO()
            picture.convert("RGB").save(file, "JPEG", quality=88)
            found.append(
                (f"{100 * score:.1f}%", f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}")
            )
    return found


def frame(points: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The curve's rows: evaluation, fitness, series."""
    step = max(1, len(points) // SHOWN_POINTS)
    kept = [(number, point) for number, point in enumerate(points, 1) if number % step == 0 or number == len(points)]
    rows = [
        (number, point[name], series) for name, series in (("mean", MEAN), ("best", BEST)) for number, point in kept
    ]
    return pd.DataFrame(rows, columns=["evaluation", "fitness", "series"])


def axis(points: Sequence[Mapping[str, Any]]) -> list[float]:
    """What the curve's axis covers: so much, also at first, that its marks are whole numbers of evaluations."""
    return [1, max(10, len(points))]


def results_table(rows: Sequence[Mapping[str, Any]], remarks: Sequence[str] = ()) -> str:
    """The final evaluation on the test split: score with its 95% interval, n, and the comparison with the winner;
    before it what has to be said of that (`EvolveResult.remarks`)."""
    if not rows:
        return ""
    limit = max(row["high"] for row in rows) or 1.0
    names = told_apart([str(row["model"]) for row in rows])
    lines = [_result(row, name, limit) for row, name in zip(rows, names, strict=True)]
    return render("results", rows=lines, remarks=[note(remark, level="warning") for remark in remarks])


def told_apart(names: Sequence[str]) -> Sequence[str]:
    """The names without their owners, where two would not be called the same."""
    shorter = [name[found.end() :] if (found := _OWNER.match(name)) else name for name in names]
    return shorter if len(set(shorter)) == len(names) else names


def _result(row: Mapping[str, Any], name: str, limit: float) -> Mapping[str, Any]:
    best = row["p_value"] is None
    fill = RESULT_COLOUR if best else BASE_COLOUR
    return {
        "best": best,
        "model": row["model"],
        "name": name,
        "score": f"{100 * row['value']:.1f}%",
        "interval": f"{100 * row['low']:.1f} to {100 * row['high']:.1f}",
        "drawn": interval(row["value"], row["low"], row["high"], limit, fill),
        "n": f"{row['n']:,}",
        "p": "" if best else _p(row["p_value"]),
    }


def _facts(points: Sequence[Mapping[str, Any]], left: float | None) -> str:
    last = points[-1]
    facts = [
        (f"{100 * last['score']:.1f}%", "best score on the search split"),
        (f"{last['best']:.3f}", "best fitness"),
        (f"{last['generation'] + 1}", "generation"),
        (f"{len(points):,}", "candidates"),
    ]
    if left is not None:
        facts.append((duration(left), "left, about; then the best are tested"))
    return render("figures", facts=facts)


def _label(evaluation: Evaluation) -> str:
    fitness = ", ".join(f"{value:.3f}" for value in evaluation.fitness)
    return f"{evaluation.number}: fitness {fitness}, score {100 * evaluation.score:.1f}%"


def _candidates(best: Sequence[Evaluation]) -> str:
    if not best:
        return ""
    # Where the task asks for no language, none is noted, and a score has no parts.
    spoken = any(e.language for e in best) or not any(e.score for e in best)
    rows = [
        (
            e.number,
            ", ".join(f"{value:.3f}" for value in e.fitness),
            f"{100 * e.score:.1f}%",
            *((f"{100 * e.metric:.1f}%", f"{100 * e.language:.1f}%") if spoken else ()),
            f"{e.seconds:.1f}\N{NO-BREAK SPACE}s",
        )
        for e in best
    ]
    parts = ("In any language", "Right language") if spoken else ()
    return render("candidates", headings=("No.", "Fitness", "Score", *parts, "Took"), rows=rows)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
