"""What a search found, in one page and its pictures: `write_report`.

data.py reads the run folder; fitness.py, forest.py, heatmap.py (of weights.py), pathway.py, pareto.py and cost.py draw;
canvas.py makes PNG and SVG of a drawing; pictures.py says which pictures a run has; page.py writes the HTML.
"""

from pathlib import Path

from ...stream.writer import write_file
from . import page, pictures
from .data import read_stages

REPORT_FILE, PICTURES_FOLDER = "report.html", "report"


def write_report(run: Path, out: Path | None = None) -> Path:
    """Writes the report of the run folder `run`, finished or not, and returns its path.

    One HTML file without anything to fetch (`out`, by default report.html in the run folder), and each of its pictures
    as a PNG in the run folder's report/ (those of the first of two stages begin with "ps-"). Raises `SearchError` where
    `run` is not the folder of a search.
    """
    stages = read_stages(run)
    target = out if out is not None else run / REPORT_FILE
    for number, stage in enumerate(stages, start=1):
        prefix = "" if number == len(stages) else "ps-"
        for picture in pictures.of_stage(stage):
            write_file(run / PICTURES_FOLDER / f"{prefix}{picture.name}.png", picture.png())
    if (forest := pictures.contestants(stages[-1])) is not None:
        write_file(run / PICTURES_FOLDER / f"{forest.name}.png", forest.png())
    write_file(target, page.render(stages).encode("utf-8"))
    return target
