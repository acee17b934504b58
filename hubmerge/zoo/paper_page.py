"""The table of `hubmerge.zoo.paper` for people: Markdown and pictures, and the values behind every figure as JSON."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import stdev
from typing import Any

from ..evaluate.statistics import Marks, gain_interval, interval, paired_interval, paired_p
from ..stream.written import Written
from .paper_table import NAMES, OURS, Line, Table, mean
from .trade_off import PICTURE_FILE
from .trade_off import draw as draw_trade_off
from .trade_off import markdown as trade_off_markdown

HEAD = "model|score|95% interval|each seed|SD|seen|unseen|number right|in Japanese|English|evaluations|seconds"
LEGEND = (
    "A score is the mean over the problems and, where a search has a seed, over the seeds. Its 95% interval is over "
    "problems alone (Wilson's for one model; else the bootstrap of each problem's mean over the seeds): how far the "
    "score of these very models might lie from that on all such problems. What another seed would change is told "
    "beside it: the score with each seed, and their standard deviation (SD) in points. A gain's interval is over "
    "problems and seeds, both resampled (a two-way bootstrap); of a few seeds it cannot tell how far another would lie "
    "from them. p compares the two models of one seed on the same problems (exact McNemar). English: the share of "
    "right numbers when asked the same in English, whatever the answer's language."
)


def write(tables: Sequence[Table], out: Path, heading: str) -> Path:
    """Writes paper.md, paper.json, paper.png and the trade-off's picture into `out`; returns the first.

    Raises `PlanError` where one of them is somebody else's.
    """
    from ..evolve.report import canvas, forest

    written = Written(out, trusted=(out / "hub").is_dir())
    written.write("paper.json", (json.dumps([one.to_dict() for one in tables], indent=1) + "\n").encode())
    written.write("paper.png", canvas.png(partial(forest.draw, pooled(tables)), "Held-out Japanese word problems"))
    mixtures = {one.zoo: one.mixtures for one in tables if one.mixtures}
    if mixtures:
        title = "From the evolved model (star) to the math expert"
        written.write(PICTURE_FILE, canvas.png(partial(draw_trade_off, mixtures), title))
    path = out / "paper.md"
    written.write(path.name, ("\n\n".join([f"{heading} {LEGEND}", *sections(tables)]) + "\n").encode())
    return path


def sections(tables: Sequence[Table]) -> list[str]:
    """The table of each zoo, that over all, and the mixtures."""
    parts = [*map(markdown, tables), *([_over(tables)] if tables[1:] else [])]
    parts += [trade_off_markdown(one.zoo, one.mixtures) for one in tables if one.mixtures]
    return [part.strip() for part in parts]


def markdown(one: Table) -> str:
    """The table of one zoo, and what PS gains over its rivals."""
    title = f"### {one.zoo} ({len(one.problems)} test problems, {len(one.seen)} of seen templates)"
    rows = [title, "", _row(HEAD.split("|")), "|---|" + "---:|" * HEAD.count("|")]
    rows += [_row(_cells(line, one)) for line in one.lines]
    chosen = [f"- {line.name}: {line.note}" for line in one.lines if line.note]
    return "\n".join([*rows, "", *chosen, *_gains(one)])


def _cells(line: Line, one: Table) -> list[str]:
    low, high = line.interval
    marks, each = line.marks, line.by_seed
    parts = [mean(marks[p] for p in marks if (p in one.seen) == kind) for kind in (True, False)]
    several = len(each) > 1
    return [
        f"**{line.name}**" if line.name == OURS else line.name,
        f"{line.score:.1%}",
        f"{low:.1%} - {high:.1%}",
        ", ".join(f"{value:.1%}" for value in each) if several else "",
        f"{100 * stdev(each):.1f}" if several else "",
        *(f"{part:.1%}" for part in parts),
        f"{line.metric:.1%}",
        f"{line.language:.1%}",
        "" if line.english is None else f"{line.english:.1%}",
        str(line.evaluations or ""),
        f"{line.seconds:.0f}" if line.seconds else "",
    ]


def _gains(one: Table) -> Iterator[str]:
    ours, names = one.line(OURS), {line.name for line in one.lines}
    for rival in one.rivals:
        pairs = zip(*_paired(ours, rival), strict=True)
        by_seed = ", ".join(f"{100 * (mean(a.values()) - mean(b.values())):+.1f} (p {_p(a, b)})" for a, b in pairs)
        seeds = "each seed" if len(ours.runs) > 1 else "one seed"
        yield f"- {OURS} - {rival.name}: {_gain(ours, rival)}; {seeds}: {by_seed}"
    if names.issuperset((NAMES["ps-all"], NAMES["ps-useful"])):
        every, useful = one.line(NAMES["ps-all"]), one.line(NAMES["ps-useful"])
        yield f"- with the irrelevant expert among the models: {_gain(every, useful)}"


def _gain(ours: Line, rival: Line) -> str:
    low, high = gain_interval(*_paired(ours, rival))
    return f"{100 * (ours.score - rival.score):+.1f} points ({100 * low:.1f} to {100 * high:.1f})"


def _paired(ours: Line, rival: Line) -> tuple[Sequence[Marks], Sequence[Marks]]:
    """The runs of both, as many of each, seed by seed."""
    count = max(len(ours.runs), len(rival.runs))
    return ours.runs * (count // len(ours.runs)), rival.runs * (count // len(rival.runs))


def _p(ours: Marks, theirs: Marks) -> str:
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
        rows.append(_row([line.name, *(f"{value:.1%}" for value in (mean(scores), min(scores), max(scores)))]))
    return "\n".join(rows)


def pooled(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """Each contestant's score over the problems of all zoos, in the terms of the report's pictures.

    A problem is another one over another zoo. Intervals are over the problems, of the means over the seeds.
    """
    found = {
        line.name: {f"{one.zoo} {p}": value for one in tables for p, value in one.line(line.name).marks.items()}
        for line in tables[0].lines
    }
    ours, rows = found[OURS], []
    for name, marks in sorted(found.items(), key=lambda item: item[0] == OURS):
        low, high = interval([marks[problem] for problem in sorted(marks)])
        compared = {} if name == OURS else {"gain": paired_interval(ours, marks), "p_value": paired_p(ours, marks)}
        one_row = {"model": name, "value": mean(marks.values()), "low": low, "high": high, "n": len(marks)}
        rows.append({**one_row, **compared})
    return rows


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
