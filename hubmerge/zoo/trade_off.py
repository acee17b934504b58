"""What an evolved merge gave up of the math expert's English, and merges between the two of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..documents import parse_json, parse_object
from ..errors import SearchError
from .cards import DATASETS, REPOS
from .word_problems import COUNTS, problems

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..evaluate.task import Task

TEST = "test"
ENGLISH_FILE, TRADE_OFF_FILE, PICTURE_FILE = "english.json", "trade-off.json", "trade-off.png"
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
"""How much of the math expert is mixed into the evolved model."""
_BATCH = 256


@dataclass(frozen=True)
class Point:
    """A mixture of the evolved model with `share` of the math expert, on the test problems; scores in 0..1.

    japanese: right and in Japanese, asked in Japanese; english: right numbers, asked in English, in any language.
    on_front: whether no other mixture is better in one of the two and as good in the other.
    """

    share: float
    japanese: float
    english: float
    on_front: bool = True


def english_task(namespace: str, japanese: "Task") -> "Task":
    """The English twins of a task's test problems, in their order, judged by their numbers alone."""
    from ..evaluate.task import load_task

    examples = {"repo_id": f"{namespace}/{DATASETS['en'][0]}", TEST: f"{TEST}.jsonl"}
    task = load_task({"name": "en", "examples": examples, "metric": "exact_number", "max_new_tokens": 32})
    both = zip(problems(TEST, COUNTS[TEST], "ja"), problems(TEST, COUNTS[TEST], "en"), strict=True)
    twin, asked = {ja.question: en.question for ja, en in both}, {example.prompt: example for example in task.test}
    return replace(task, test=tuple(asked[twin[example.prompt]] for example in japanese.test))


def english(model: str, namespace: str, japanese: "Task", kept: Path, memory: int | None = None) -> Mapping[str, Any]:
    """The model's right numbers on `english_task`.

    {"n": examples, "value", "low", "high": share and 95% interval, "problems": their Japanese twins' names, "values":
    of each}; kept in a file.
    """
    if not kept.exists():
        from ..evaluate.models import load_model
        from ..evaluate.score import evaluate
        from ..evaluate.table import pack
        from ..files import write_file

        task = english_task(namespace, japanese)
        made, tokenizer = load_model(model, dtype="float32", memory=memory)
        scores = evaluate(made, tokenizer, task.test, task, batch_size=_BATCH, memory=memory)
        low, high = scores.interval
        found: dict[str, Any] = {"n": scores.n, "value": scores.score, "low": low, "high": high}
        found |= {"problems": japanese.problems(TEST), "values": pack(scores.values)}
        write_file(kept, json.dumps(found).encode())
    return parse_object(kept.read_bytes(), str(kept), SearchError)


def trade_off(
    evolved: str, namespace: str, japanese: "Task", kept: Path, memory: int | None = None
) -> tuple[Point, ...]:
    """Mixtures of the evolved model (a folder) and the math expert of `namespace`; kept in a file.

    japanese: the task that the model was evolved for; asked in English are its problems' twins.
    """
    if not kept.exists():
        from ..evaluate.score import evaluate
        from ..evolve.workers.resident import ResidentModel
        from ..files import write_file
        from ..stream.plan import make_plan

        def recipe(share: float) -> Any:
            from ..recipe import Recipe

            parts = ((evolved, 1 - share), (f"{namespace}/{REPOS['math']}", share))
            models = [{"model": model, "parameters": {"weight": weight}} for model, weight in parts]
            return Recipe.from_dict({"merge_method": "linear", "models": models, "dtype": "float32"})

        asked = english_task(namespace, japanese)
        resident, found = ResidentModel(make_plan(recipe(SHARES[0])), memory=memory), []
        for share in SHARES:
            resident.load(recipe(share))
            ask = partial(evaluate, resident.model, resident.tokenizer, batch_size=_BATCH, memory=memory)
            found.append(Point(share, ask(japanese.test, japanese).score, ask(asked.test, asked).score))
        write_file(kept, json.dumps([asdict(point) for point in with_front(found)]).encode())
    return read_points(kept)


def read_points(kept: Path) -> tuple[Point, ...]:
    """The mixtures that `trade_off` kept in a file."""
    try:
        return tuple(Point(**point) for point in parse_json(kept.read_bytes(), str(kept), SearchError))
    except TypeError as exc:
        raise SearchError(f"{kept} holds no mixtures ({exc}); delete it and run the same again.") from None


def with_front(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points, each with whether it is on their Pareto front."""
    import numpy as np

    from ..evolve.pareto import fronts

    first = set(fronts(np.array([(point.japanese, point.english) for point in points]))[0].tolist())
    return tuple(replace(point, on_front=number in first) for number, point in enumerate(points))


def markdown(zoo: str, points: Sequence[Point]) -> str:
    """The mixtures of one zoo as a table."""
    lines = [
        f"### Japanese and English, {zoo}: the evolved model mixed with the math expert",
        "",
        "| of the math expert | Japanese score | English numbers | on the Pareto front |",
        "|---:|---:|---:|:---:|",
    ]
    lines += [
        f"| {point.share:.0%} | {point.japanese:.1%} | {point.english:.1%} | {'yes' if point.on_front else ''} |"
        for point in points
    ]
    return "\n".join(lines)


def draw(zoos: Mapping[str, Sequence[Point]], width: float) -> "Figure":
    """A line a zoo from the evolved model, a star, to the math expert; points of the front are filled."""
    from ..evolve.report.canvas import bare, legend, literal, new_figure
    from ..evolve.report.palette import colour

    figure = new_figure(width, 4.2)
    axes = figure.subplots()
    for (zoo, points), name in zip(zoos.items(), ("accent", "plus", "ink", "dots") * len(zoos), strict=False):
        xs, ys = [point.japanese for point in points], [point.english for point in points]
        axes.plot(xs, ys, linewidth=1.2, color=colour(name), label=literal(zoo))
        for number, point in enumerate(points):
            face = colour(name) if point.on_front else colour("paper")
            shape: dict[str, Any] = {"marker": "o", "markersize": 6} if number else {"marker": "*", "markersize": 14}
            axes.plot([point.japanese], [point.english], color=colour(name), markerfacecolor=face, **shape)
    axes.set_xlabel("score on Japanese problems")
    axes.set_ylabel("right numbers on English problems")
    bare(axes, grid="both")
    legend(figure, axes, 3)
    return figure
