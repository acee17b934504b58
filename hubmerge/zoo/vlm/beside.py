"""What is asked beside the table of a search over the zoo that sees: what else a person would try."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...documents import parse_object
from ...errors import SearchError
from ...progress import Event, Progress, silent
from .world import IN_LANGUAGE

if TYPE_CHECKING:
    from ...evaluate.table import Row
    from ...evaluate.task import Task
    from ...evolve.result import EvolveResult
    from ...evolve.search import Search
    from ...evolve.spaces.candidate import Contestant

FILE = "beside.json"
SHOWN = 12
"""Pictures whose answers are kept."""


@dataclass(frozen=True)
class Beside:
    """Rows of the test split that the search's table does not have, and what models answered to its first questions."""

    rows: "tuple[Row, ...]"
    answers: Mapping[str, Sequence[str]]


def beside(
    search: "Search", result: "EvolveResult", kept: Path, memory: int | None, progress: Progress = silent
) -> Beside:
    """Asks the models of a finished search in other ways; kept in a file.

    They are told to answer in Japanese, as the base learnt to; and the winner is asked without the pictures, and shown
    the picture of the next question.
    """
    from ...evaluate.table import Row

    if not kept.exists():
        from ...files import write_file

        found = _ask(search, result, memory, progress)
        content = {"rows": [asdict(row) for row in found.rows], "answers": found.answers}
        write_file(kept, json.dumps(content, ensure_ascii=False).encode())
    document = parse_object(kept.read_bytes(), str(kept), SearchError)
    try:
        rows = tuple(Row(**{**row, "problems": tuple(row["problems"])}) for row in document["rows"])
        return Beside(rows, document["answers"])
    except (KeyError, TypeError) as exc:
        raise SearchError(f"{kept} holds no answers ({exc}); delete it and run the same again.") from None


def _ask(search: "Search", result: "EvolveResult", memory: int | None, progress: Progress) -> Beside:
    from ...evaluate.measurement import Measurement
    from ...evaluate.models import load_processor
    from ...evaluate.score import Scores, evaluate
    from ...evaluate.table import Row, unpack
    from ...evaluate.task import load_task
    from ...evolve.workers.resident import ResidentModel
    from ...hub.source import open_source
    from ...recipe import Recipe
    from ...reference import ModelRef
    from ...stream.plan import make_plan

    task = load_task(search.task, counts=search.splits)
    opened = [open_source(ref) for ref in search.references]
    # At their commits, as the winner's recipe names them.
    models = _models(search.with_pins({source.ref: source.pinned for source in opened}), task, result)
    ways = list(_ways(task))
    resident = ResidentModel(make_plan(result.recipe, memory=memory), memory=memory, load=load_processor)

    def ask(model: "Contestant", asked: "Task") -> Scores:
        if isinstance(model, Recipe):
            resident.load(model)
            processor = resident.tokenizer
        else:
            assert isinstance(model, ModelRef)
            processor = resident.load_source(model)
        reads = processor if asked.sees else processor.tokenizer
        return evaluate(resident.model, reads, asked.test, asked, batch_size=search.batch_size, memory=memory)

    first = replace(task, test=task.test[:SHOWN])
    answers = {name: ask(model, first).outputs for name, model in models.items()}
    best = next(row for row in result.rows if row.p_value is None)
    evolved = Measurement(values=unpack(best.values), problems=best.problems)
    rows = []
    for number, (way, names, asked) in enumerate(ways):
        for name in names:
            progress(Event("ask otherwise", number, len(ways), "ways", note=f"{name}, {way}"))
            measured = Measurement.of(ask(models[name], asked), task, "test")
            rows.append(Row.of(f"{name}, {way}", measured, evolved))
    return Beside(tuple(rows), answers)


def _models(search: "Search", task: "Task", result: "EvolveResult") -> dict[str, "Contestant"]:
    """The models that are asked, the plain ones with the VLM's eyes."""
    from ...evolve.compared.contestants import contestants

    listed = contestants(search, task)
    base, vlm, japanese, average, *_ = listed.values()
    names = ("base", "VLM", "Japanese expert", "average", "evolved")
    return dict(zip(names, (base, vlm, japanese, average, result.recipe), strict=True))


def _ways(task: "Task") -> Iterator[tuple[str, tuple[str, ...], "Task"]]:
    """Ways of asking the test split, each with who is asked so."""
    test = task.test
    for said in IN_LANGUAGE["ja"][0][::-1]:
        asked = tuple(replace(one, prompt=one.prompt + said) for one in test)
        yield f"told “{said}”", ("base", "VLM", "average"), replace(task, test=asked)
    blind = tuple(replace(one, image=None) for one in test)
    yield "without the picture", ("evolved",), replace(task, search=(), validation=(), test=blind)
    pairs = zip(test, test[1:] + test[:1], strict=True)
    yield "another picture", ("evolved",), replace(task, test=tuple(replace(a, image=b.image) for a, b in pairs))
