"""The table of a search over the zoo that draws: its winner beside what else a person would try.

A judge decides whom no search asked, on the test's prompts, each drawn with several seeds: a picture is right or not.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...documents import parse_object
from ...errors import SearchError
from ...evolve.compared.contestants import COMPARED_LABELS
from ...evolve.records.folder import RECIPE_FILE
from ...evolve.records.results import EVOLVED
from ...progress import Event, Progress, silent
from ...reference import ModelRef
from .cards import REPOS
from .prompts import rows
from .sheet import picture_sheet
from .world import FRAMES

if TYPE_CHECKING:
    from ...evaluate.examples import Example
    from ...evaluate.table import Row
    from ...evaluate.task import Task
    from ...evolve.result import EvolveResult
    from ...evolve.search import Search
    from ...evolve.spaces.candidate import Contestant

FILE, SHEET = "beside.json", "pictures.png"
SEEDS = (1, 2, 3, 4, 5)
SHOWN = 12
"""Prompts whose pictures are kept: half of them of pairs that no training picture has."""
BY_HAND = "by hand: attention Japanese, rest fine"
SWAPPED = "fine, with the Japanese text encoder (no merge)"
IN_ENGLISH = "fine, asked in English"
AVERAGE = "average of both experts"

UNTUNED: Mapping[str, tuple[Any, Any]] = {
    "base, with the Japanese text encoder (no merge)": (0.0, 1.0),
    SWAPPED: (1.0, 0.0),
    AVERAGE: (0.5, 0.0),
    "average of all three": (0.3333, 0.3333),
    "task arithmetic, 1 each": (1.0, -1.0),
    BY_HAND: ([{"filter": "attention", "value": 0.0}, {"value": 1.0}], 0.0),
}
"""Merges without a search: the weights of fine and of base, the Japanese model having the rest."""


@dataclass(frozen=True)
class Beside:
    """Rows of pictures of the test split, named by prompt and seed, the winner's last; and a sheet of some pictures."""

    rows: "tuple[Row, ...]"
    sheet: Path


def beside(
    search: "Search", result: "EvolveResult", out: Path, memory: int | None, progress: Progress = silent
) -> Beside:
    """Draws the test split with every model of a finished search; kept in the folder `out`."""
    from ...evaluate.table import Row

    kept, sheet = out / FILE, out / SHEET
    if not kept.exists():
        from ...files import write_file

        measured = _measure(search, result, memory, progress)
        write_file(sheet, picture_sheet(measured.pictures))
        content = {"rows": [asdict(row) for row in measured.rows]}
        write_file(kept, json.dumps(content, ensure_ascii=False).encode())
    document = parse_object(kept.read_bytes(), str(kept), SearchError)
    try:
        rows = tuple(Row(**{**row, "problems": tuple(row["problems"])}) for row in document["rows"])
    except (KeyError, TypeError) as exc:
        raise SearchError(f"{kept} holds no table ({exc}); delete it and run the same again.") from None
    return Beside(rows, sheet)


def on_card(result: "EvolveResult", rows: "Sequence[Row]") -> "EvolveResult":
    """The result with these rows on its card, beside those of the search's own judge."""
    from ...evolve.result import card_rows

    card = result.card
    first = card.evaluations[0]
    means = "the share of pictures in which a second classifier, which no search asked, sees all that was asked for"
    told = card_rows(rows, card.title, "right", f"{first.task}, second judge", first.dataset, means)
    return replace(result, card=replace(card, evaluations=(*card.evaluations, *told)))


@dataclass(frozen=True)
class _Measured:
    """Rows, and by model the pictures of the prompts of `shown`, with their prompts."""

    rows: "list[Row]"
    pictures: dict[str, list[tuple[str, Any]]]


def _measure(search: "Search", result: "EvolveResult", memory: int | None, progress: Progress) -> _Measured:
    from ...evaluate.measurement import Measurement
    from ...evaluate.table import Row
    from ...evaluate.task import load_task
    from ...evolve.workers.resident import ResidentModel
    from ...hub.source import open_source
    from ...recipe import Recipe
    from ...stream.plan import make_plan

    opened = [open_source(ref) for ref in search.references]
    # At their commits, as the winner's recipe names them.
    pinned = search.with_pins({source.ref: source.pinned for source in opened})
    models = contestants(pinned, result)
    resident = ResidentModel(make_plan(result.recipe, memory=memory), memory=memory, load=lambda carried: None)
    japanese = load_task(judged(search.task), counts=search.splits)
    english = replace(japanese, test=tuple(map(_in_english, japanese.test)))
    found, pictures = {}, {}
    for number, (name, model) in enumerate(models.items()):
        progress(Event("judge", number, len(models), "models", note=name))
        if isinstance(model, Recipe):
            resident.load(model)
        else:
            assert isinstance(model, ModelRef)
            resident.load_source(model)
        task = english if name == IN_ENGLISH else japanese
        marks: dict[str, float] = {}
        for seed in SEEDS:
            values = _ask(resident.model, task, seed, search.batch_size)
            marks |= {f"{one.prompt} {seed}": value for one, value in zip(japanese.test, values, strict=True)}
        share = sum(marks.values()) / len(marks)
        found[name] = Measurement(share, share, n=len(marks), values=tuple(marks.values()), problems=tuple(marks))
        assert task.draw is not None
        drawn = resident.model.draw(shown(task), replace(task.draw, seeds=SEEDS[:1]), search.batch_size)
        pictures[name] = [(example.prompt, picture) for example, _, picture in drawn]
    evolved = found[EVOLVED]
    rows = [Row.of(name, one, None if name == EVOLVED else evolved) for name, one in found.items()]
    return _Measured(rows, pictures)


def _ask(painter: Any, task: "Task", seed: int, batch_size: int) -> tuple[float, ...]:
    """Whether the picture of each prompt with a seed is right."""
    from ...evaluate.score import evaluate

    assert task.draw is not None
    asked = replace(task, draw=replace(task.draw, seeds=(seed,)))
    return evaluate(painter, None, asked.test, asked, batch_size=batch_size).values


def _in_english(example: "Example") -> "Example":
    """An example of the test that asks for the same in English."""
    said = {row["prompt"]: row["prompt_en"] for row in rows("test")}
    return replace(example, prompt=said[example.prompt])


def contestants(search: "Search", result: "EvolveResult") -> "dict[str, Contestant]":
    """Who draws, by the name in the table: the models with their own text encoders, merges without a search with the
    Japanese one, and the winners; `search` names models at their commits."""
    from ...recipe import Recipe

    japanese, fine, base = search.references
    found: dict[str, Contestant] = {"base": base, "fine": fine, "Japanese": japanese, IN_ENGLISH: fine}
    for name, weights in UNTUNED.items():
        pairs = zip(result.recipe.models, weights, strict=True)
        entries = tuple(replace(entry, parameters={"weight": weight}) for entry, weight in pairs)
        found[name] = Recipe.from_dict(replace(result.recipe, models=entries).to_dict())
    run = result.journal.parent
    for name, label in COMPARED_LABELS.items():
        if (run / name / RECIPE_FILE).is_file():
            found[label] = Recipe.from_yaml(run / name / RECIPE_FILE)
    return {**found, EVOLVED: result.recipe}


def judged(task: Mapping[str, Any]) -> dict[str, Any]:
    """The search's task for the table: its test split alone, before the judge whom no search asked."""
    examples = {name: task["examples"][name] for name in ("repo_id", "revision", "test") if name in task["examples"]}
    judge = {"model": f"{task['examples']['repo_id'].partition('/')[0]}/{REPOS['judge-2']}", "value": "right"}
    return {**task, "examples": examples, "classifier": judge}


def shown(task: "Task") -> "list[Example]":
    """The prompts of the sheet: the first wording of some of the test's combinations, as many new as known."""
    listed, chosen = rows("test")[:: len(FRAMES)], []
    for pair in ("known", "new"):
        chosen += [row for row in listed if row["pair"] == pair][: SHOWN // 2]
    by_prompt = {example.prompt: example for example in task.test}
    every = [by_prompt.get(row["prompt"], by_prompt.get(row["prompt_en"])) for row in chosen]
    return [example for example in every if example is not None]
