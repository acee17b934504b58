"""A run's folder: what lies where.

search.yaml    the search with every model and dataset at its commit
from.json      what an earlier run taught, where the search begins with one
bred-on.json   what is asked before the end, which no later test of the winner asks (see evaluate/bred.py)
examples.json  the examples that candidates are asked, where the search chooses them
journal.jsonl  every evaluation
best.yaml      the winner's recipe, ready for `hubmerge merge`
model/         the merged winner with its card and the picture of the search
curve.png      the picture
heatmap.png    the winner's numbers, where it is a recipe
drawn/         pictures of the best candidate each time that there was a better one, where candidates draw
pictures.jpg   what the winner and the models that it was made of drew of the same prompts of the test split
results.json   the table; written last, so a folder that has it is finished
ps/            the search for recipes, where one for paths follows it: the same files, but no model
random/ grid/  journals of the searches that the winner is compared with, and the recipes of their winners
"""

from pathlib import Path

from ...evaluate.bred import BRED_FILE as BRED_FILE
from ...places import JOURNAL_FILE as JOURNAL_FILE
from ...places import MODEL_FOLDER as MODEL_FOLDER
from ...places import RESULTS_FILE as RESULTS_FILE
from ...places import SEARCH_FILE as SEARCH_FILE
from ..spec.baselines import COMPARED

EXAMPLES_FILE, RECIPE_FILE, CURVE_FILE = "examples.json", "best.yaml", "curve.png"
HEATMAP_FILE = "heatmap.png"
PS_FOLDER = "ps"
FROM_FILE = "from.json"
DRAWN_FOLDER, PICTURES_FILE = "drawn", "pictures.jpg"


def small_files(out: Path) -> dict[str, Path]:
    """What tells a run's whole story without its weights: name -> file of the run folder, there or not yet."""
    names = (SEARCH_FILE, BRED_FILE, FROM_FILE, JOURNAL_FILE, BRED_FILE, EXAMPLES_FILE, RECIPE_FILE, RESULTS_FILE)
    folders = ("", f"{PS_FOLDER}/", *(f"{name}/" for name in COMPARED))
    return {f"{folder}{name}": out / folder / name for folder in folders for name in names}


def run_of(folder: Path) -> Path:
    """The run folder that a search's folder belongs to: itself, or the one that it lies in."""
    inside = folder.name in (PS_FOLDER, *COMPARED) and (folder.parent / JOURNAL_FILE).is_file()
    return folder.parent if inside else folder
