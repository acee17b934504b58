"""The table of `hubmerge.zoo.paper`: read from its run folders, as Markdown, JSON and a picture."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..evaluate.statistics import interval, paired_interval, paired_p
from ..evolve.folder import RESULTS_FILE
from ..stream.writer import write_file
from .paper import Run
from .problems import problems
from .trade_off import ENGLISH_FILE, PICTURE_FILE, TEST, TRADE_OFF_FILE, Point
from .trade_off import draw as draw_trade_off
from .trade_off import markdown as trade_off_markdown

if TYPE_CHECKING:
    from ..evolve.results import Row

OURS = "evolved: recipes (PS)"
NAMES = {
    "ps": OURS,
    "dfs": "evolved: paths (DFS)",
    "ps-dfs": "evolved: both (PS+DFS)",
    "ps-all": "evolved: recipes of all four experts",
    "ps-useful": "evolved: the same without the irrelevant one",
}
UNTUNED = ("average", "task arithmetic, untuned", "TIES, untuned", "DARE-TIES, untuned")


@dataclass(frozen=True)
class Line:
    """One contestant over one zoo: what each test problem is worth, the mean over the seeds of a search.

    `metric` and `language`: the shares of right numbers and of answers in Japanese; `each`: the values of every seed,
    none where nothing was searched;
    `seconds` and `evaluations` of one search, 0 where nothing was searched; `english`: right numbers on the English
    twins, None where not asked.
    """

    name: str
    values: tuple[float, ...]
    metric: float
    language: float
    each: tuple[tuple[float, ...], ...]
    seconds: float = 0.0
    evaluations: int = 0
    english: float | None = None

    @property
    def score(self) -> float:
        return _mean(self.values)


@dataclass(frozen=True)
class Table:
    """All contestants over one zoo, which test problems are of seen templates, and mixtures with the math expert."""

    zoo: str
    lines: tuple[Line, ...]
    seen: tuple[bool, ...]
    mixtures: tuple[Point, ...] = ()

    def line(self, name: str) -> Line:
        """The line of that name."""
        return next(line for line in self.lines if line.name == name)

    @property
    def rivals(self) -> tuple[Line, ...]:
        """What PS has to beat: the best untuned merge of any set of models, the grid, random search."""
        untuned = [line for line in self.lines if line.name.startswith(UNTUNED)]
        others = [line for line in self.lines if "same budget" in line.name]
        return (max(untuned, key=lambda line: line.score), *others)


def table(runs: Sequence[Run], out: Path) -> Table:
    """The table of the runs over one zoo, all of them finished."""
    from ..evaluate.task import load_task
    from ..evolve.journal import unpack

    found: dict[str, list[tuple[Row, Mapping[str, Any], float | None]]] = {}
    for run in runs:
        for row, facts, asked in _rows(run, out):
            found.setdefault(row.model, []).append((row, facts, asked))
    lines = []
    for name, rows in found.items():
        each = [unpack(row.values) for row, _, _ in rows]
        searched = name in NAMES.values()
        lines.append(
            Line(
                name,
                tuple(_mean(values) for values in zip(*each, strict=True)),
                _mean([row.metric for row, _, _ in rows]),
                _mean([row.language for row, _, _ in rows]),
                tuple(map(tuple, each)) if searched or "same budget" in name else (),
                _mean([facts["seconds"] for _, facts, _ in rows]) if searched else 0.0,
                rows[0][1]["evaluations"] if searched else 0,
                _mean([asked for _, _, asked in rows if asked is not None]) if rows[0][2] is not None else None,
            )
        )
    search = runs[0].search
    task = load_task(search.task, counts=search.splits, seed=search.searcher.seed)
    # Every seed of a search is asked the same problems, in this order.
    seen = {problem.question for problem in problems(TEST, 600) if problem.template == "seen"}
    mixed = next((run.folder(out) / TRADE_OFF_FILE for run in runs if run.mixed), None)
    mixtures = tuple(Point(**point) for point in json.loads(mixed.read_bytes())) if mixed else ()
    return Table(runs[0].zoo.namespace, tuple(lines), tuple(example.prompt in seen for example in task.test), mixtures)


def _rows(run: Run, out: Path) -> "Iterator[tuple[Row, Mapping[str, Any], float | None]]":
    """The rows that a run adds to the table, under their names there, with its facts and its score in English."""
    from ..evolve.results import EVOLVED, EVOLVED_RECIPE, LABELS, Row

    document = json.loads((run.folder(out) / RESULTS_FILE).read_bytes())
    for plain in document["rows"]:
        row = Row(**plain)
        if row.model == EVOLVED:
            asked = json.loads((run.folder(out) / ENGLISH_FILE).read_bytes())
            yield replace(row, model=NAMES[run.name]), document["search"], asked["value"]
        elif run.name == "ps-all" and row.model in LABELS.values():
            yield replace(row, model=f"{row.model} (all four)"), document["search"], None
        elif row.model != EVOLVED_RECIPE and (run.name == "ps" or (run.name == "ps-all" and "/" in row.model)):
            name = row.model.partition("/")[2] or row.model
            yield replace(row, model=name), document["search"], None


def write(tables: Sequence[Table], out: Path, heading: str) -> Path:
    """Writes paper.md, paper.json, paper.png and the trade-off's picture into `out`; returns the first."""
    from ..evolve.report import canvas, forest

    write_file(out / "paper.json", (json.dumps([asdict(one) for one in tables], indent=1) + "\n").encode())
    write_file(out / "paper.png", canvas.png(partial(forest.draw, _pooled(tables)), "Held-out Japanese word problems"))
    mixtures = {one.zoo: one.mixtures for one in tables if one.mixtures}
    if mixtures:
        title = "From the evolved model (star) to the math expert"
        write_file(out / PICTURE_FILE, canvas.png(partial(draw_trade_off, mixtures), title))
    parts = [heading, *map(markdown, tables), *([_over(tables)] if tables[1:] else [])]
    parts += [trade_off_markdown(zoo, points) for zoo, points in mixtures.items()]
    path = out / "paper.md"
    write_file(path, ("\n\n".join(part.strip() for part in parts) + "\n").encode())
    return path


def markdown(one: Table) -> str:
    """The table of one zoo, and what PS gains over its rivals."""
    head = "model|score|95% interval|each seed|seen|unseen|number right|in Japanese|English|evaluations|seconds"
    rows = [f"### {one.zoo} ({len(one.seen)} test problems, {sum(one.seen)} of seen templates)", _row(head.split("|"))]
    rows.append("|---|" + "---:|" * head.count("|"))
    for line in one.lines:
        low, high = interval(line.values)
        parts = [
            _mean([v for v, seen in zip(line.values, one.seen, strict=True) if seen == kind]) for kind in (True, False)
        ]
        rows.append(
            _row(
                [
                    f"**{line.name}**" if line.name == OURS else line.name,
                    f"{line.score:.1%}",
                    f"{low:.1%} - {high:.1%}",
                    ", ".join(f"{_mean(values):.1%}" for values in line.each),
                    *(f"{part:.1%}" for part in parts),
                    f"{line.metric:.1%}",
                    f"{line.language:.1%}",
                    "" if line.english is None else f"{line.english:.1%}",
                    str(line.evaluations or ""),
                    f"{line.seconds:.0f}" if line.seconds else "",
                ]
            )
        )
    return "\n".join([rows[0], "", *rows[1:], "", *_gains(one)])


def _gains(one: Table) -> Iterator[str]:
    ours = one.line(OURS)
    for rival in one.rivals:
        low, high = paired_interval(ours.values, rival.values)
        theirs = rival.each or (rival.values,) * len(ours.each)
        by_seed = ", ".join(
            f"{100 * (_mean(a) - _mean(b)):+.1f} (p {_p(a, b)})" for a, b in zip(ours.each, theirs, strict=True)
        )
        yield (
            f"- {OURS} - {rival.name}: {100 * (ours.score - rival.score):+.1f} points "
            f"({100 * low:.1f} to {100 * high:.1f}), p {_p(ours.values, rival.values)}; each seed: {by_seed}"
        )
    every, useful = one.line(NAMES["ps-all"]), one.line(NAMES["ps-useful"])
    low, high = paired_interval(every.values, useful.values)
    yield (
        f"- with the irrelevant expert among the models: {100 * (every.score - useful.score):+.1f} points "
        f"({100 * low:.1f} to {100 * high:.1f})"
    )


def _p(ours: Sequence[float], theirs: Sequence[float]) -> str:
    p = paired_p(ours, theirs)
    return "< .001" if p < 0.001 else f"= {p:.3f}"


def _over(tables: Sequence[Table]) -> str:
    """The scores over all zoos: their mean, the lowest and the highest."""
    rows = [
        f"### Over {len(tables)} zoos",
        "",
        _row(["model", "mean score", "lowest", "highest"]),
        "|---|---:|---:|---:|",
    ]
    for line in tables[0].lines:
        scores = [one.line(line.name).score for one in tables]
        rows.append(_row([line.name, *(f"{value:.1%}" for value in (_mean(scores), min(scores), max(scores)))]))
    return "\n".join(rows) + "\n"


def _pooled(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """Each contestant's score over the problems of all zoos, in the terms of the report's pictures."""
    pooled = {line.name: sum((one.line(line.name).values for one in tables), ()) for line in tables[0].lines}
    ours, rows = pooled[OURS], []
    for name, values in sorted(pooled.items(), key=lambda item: item[0] == OURS):
        low, high = interval(values)
        compared = {} if name == OURS else {"gain": paired_interval(ours, values), "p_value": paired_p(ours, values)}
        rows.append({"model": name, "value": _mean(values), "low": low, "high": high, "n": len(values), **compared})
    return rows


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
