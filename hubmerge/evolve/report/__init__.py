"""What a search found, in one page and its pictures: `write_report`.

palette.py   colours
canvas.py    PNG and SVG of a drawing
data.py      the run folder, read
weights.py   what a recipe gives each model, layer by layer
fitness.py   picture: fitness against evaluations
curve.py     the same for the run's own folder and card
forest.py    picture: the winner and what it is compared with, with intervals
heatmap.py   picture: weights over layers
repeats.py   what it is worth to run a model's layers twice
pathway.py   picture: a path through the layers
pareto.py    picture: the front of several objectives
cost.py      picture: what the search spent and saved
html.py      the templates in `templates/`, and names and figures for them
pictures.py  which pictures a run has
page.py      the page
"""

import hashlib
import os
from pathlib import Path

from ...documents import uncollected
from ...errors import SearchError
from ...extras import require
from ...files import require_ending, write_file
from ...stream.owned import read_plain
from ...stream.written import Written
from . import page, pictures
from .data import Run, read_stages

REPORT_FILE, PICTURES_FOLDER = "report.html", "report"


def write_report(run: Path, out: Path | None = None) -> Path:
    """Writes the report of the run folder `run`, finished or not, and returns its path.

    One HTML file without anything to fetch (`out`, by default report.html in the run folder), and each of its pictures
    as a PNG in the run folder's report/ (those of the first of two stages begin with "ps-"). Raises `SearchError` where
    `run` is not the folder of a search or `out` is a file that is no report, `PlanError` where somebody changed or put
    there one of the pictures.
    """
    require("matplotlib")
    target = out if out is not None else run / REPORT_FILE
    with uncollected():  # a long search is many values, which matplotlib's circles would have searched again and again
        return _write(read_stages(run), run, target)


def _write(stages: tuple[Run, ...], run: Path, target: Path) -> Path:
    require_report(target)
    require_ending(target, "HTML", ".html", ".htm")
    written = Written(run, "report.json")
    for number, stage in enumerate(stages, start=1):
        prefix = "" if number == len(stages) else "ps-"
        for picture in pictures.of_stage(stage):
            written.write(f"{PICTURES_FOLDER}/{prefix}{picture.name}.png", picture.png())
    if (forest := pictures.contestants(stages[-1])) is not None:
        written.write(f"{PICTURES_FOLDER}/{forest.name}.png", forest.png())
    write_file(target, _sealed(page.render(stages).encode("utf-8")))
    return target


def require_report(path: Path) -> None:
    """Raises `SearchError` where `path` is anything but a report as it was written: it would be lost."""
    content = read_plain(path)
    if not os.path.lexists(path) or (content is not None and _sealed(content[: -len(_sealed(b""))]) == content):
        return
    raise SearchError(
        f"{path} is there already and is no report, or was changed since; move it away, or give another file."
    )


def _sealed(content: bytes) -> bytes:
    """A report with the digest of all before it at its end, by which it is known for one that nobody changed."""
    return content + f"<!-- hubmerge report {hashlib.sha256(content).hexdigest()} -->\n".encode()
