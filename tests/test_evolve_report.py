"""The report of a search: one page, read strictly, with the right figures; pictures that show their data."""

import json
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from reporttools import MODELS, ROWS, evaluation, path, recipe, rising, row, write_run

from hubmerge.errors import SearchError
from hubmerge.evolve.records.evaluation import Evaluation
from hubmerge.evolve.report import (
    canvas,
    cost,
    curve,
    fitness,
    forest,
    heatmap,
    page,
    palette,
    pareto,
    pathway,
    pictures,
    weights,
    write_report,
)
from hubmerge.evolve.report.cost import Cost
from hubmerge.evolve.report.data import Run


@pytest.fixture(scope="module")
def finished(tmp_path_factory, _sketches) -> Path:
    """A run over recipes whose genome grew, with racing, known candidates and a random search beside it."""
    evaluations = []
    for e in rising(120):
        given: dict[str, Any] = {"stage": int(e.number >= 40), "genome": (0.5,) * (2 if e.number < 40 else 66)}
        if e.number % 4 == 1 and e.error is None:
            given |= {"n": 25, "tokens": 500}
        if e.number in (30, 52):
            given |= {"candidate_key": evaluations[10].candidate_key, "seconds": 0.0, "tokens": 0, "n": 50}
        evaluations.append(Evaluation(**{**vars(e), **given}))
    folder = write_run(
        tmp_path_factory.mktemp("runs") / "first try",
        evaluations,
        rows=ROWS,
        winner={"number": 102, "recipe": recipe(10), "search_score": 0.56, "validation_score": 0.5533},
        search={
            "searcher": "cmaes",
            "seed": 7,
            "cost": {"phases": {"search": 240.5, "test": 31.0}, "evaluations_raced": 30, "tokens_items": 4000},
        },
    )
    write_run(folder / "random", rising(120, seed=4), done=False)
    with _sketches():
        write_report(folder)
    return folder


def read(page: Path) -> ElementTree.Element:
    """A page, read as strictly as XML; ids are unique and every reference inside it leads somewhere."""
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>\n")
    root = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>\n"))
    ids = [node.attrib["id"] for node in root.iter() if "id" in node.attrib]
    assert len(ids) == len(set(ids))
    for reference in references(root):
        assert reference.startswith("data:image/png;base64,") or reference.removeprefix("#") in ids
    return root


def references(root: ElementTree.Element) -> Iterator[str]:
    """Everything that a browser would fetch or follow."""
    for node in root.iter():
        for key, value in node.attrib.items():
            if key in ("href", "src", "srcset", "action"):
                yield value
            yield from re.findall(r"url\(([^)]+)\)", value)
        if node.tag == "style":
            yield from re.findall(r"url\(([^)]+)\)|@import", node.text or "")


def words(root: ElementTree.Element) -> str:
    return " ".join(" ".join(root.itertext()).split())


def test_page_stands_alone_and_tells_the_story(finished: Path) -> None:
    root = read(finished / "report.html")
    assert not {"script", "link", "iframe", "img", "object"} & {node.tag for node in root.iter()}
    text = words(root)
    for part in (
        "52.4%",
        "95% interval 46.8% to 58.0%, n = 250",
        "+5.2",
        "p = 0.173",
        "120",
        "118 different, 7 failed",
    ):
        assert part.replace(" = ", "\u00a0=\u00a0") in text or part in text
    for part in (
        *MODELS,
        "average",
        "evolved",
        "&lt; .001",
        "+12.0 to +25.0",
        "2 then 66 genes",
        "55.3%",
        "Stopped early 30",
    ):
        assert part.replace("&lt;", "<") in text
    assert "7 16, 33, 50, 67, 84, 101, 118 OverflowError: NaN in lm_head" in text
    assert "cd 'first try'" in text and "hubmerge merge best.yaml --out merged" in text
    title = "dare_ties of math-tuned-7b + japanese-instruct-7b + code-7b for ja-word-problems"
    assert text.count(title) == 2, "in the window's title and above the page: not the folder's name"
    assert "hubmerge version 9.8.7" in text and "journal version 2" in text


@pytest.mark.parametrize(("language", "told"), [("ja", True), (None, False)])
def test_a_share_in_a_language_is_told_where_the_task_asks_for_one(language, told: bool, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rising(20), rows=ROWS)
    document = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    (folder / "results.json").write_text(json.dumps({**document, "task": {"language": language}}), encoding="utf-8")
    table = page._contestants(Run.read(folder))
    assert table is not None
    assert {row[table["header"].index("Language>")] for row in table["rows"]} == ({"95.0%"} if told else {"–"})


def test_page_has_both_themes_and_both_widths(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    for name, (light, dark) in palette.COLOURS.items():
        assert f"--{name}:{light};" in page and f"--{name}:{dark};" in page
    assert "prefers-color-scheme:dark" in page and "@media print" in page
    assert page.count('<div class="wide">') == page.count('<div class="narrow">') == 4
    # Pictures name no colour but as a variable's fallback, or a page's theme would not reach them.
    styles = re.findall(r'style="([^"]*)"', page)
    bare = {c for style in styles for c in re.findall(r"(?<!,)#[0-9a-f]{6}", style)}
    assert bare <= {"#fefefe", "#000000"}


def test_known_and_raced_candidates_count_as_saved(finished: Path) -> None:
    run = Run.read(finished)
    cost = Cost.of(run)
    assert len(run.evaluations) - len(run.first_asked) == 2
    assert sum(cost.spent) == 4000 + sum(e.tokens for e in run.evaluations)
    halves = sum(e.n == 25 for e in run.evaluations)
    assert sum(cost.whole) == 1000 * len(run.evaluations)
    assert cost.saved == pytest.approx((500 * halves + 2000 - 4000) / (1000 * 120))
    assert f"{cost.saved:.0%} was saved" in words(read(finished / "report.html"))


@pytest.mark.pictures("png")
def test_pictures_are_png_and_show_their_data(finished: Path, tmp_path: Path) -> None:
    names = {"curve", "heatmap", "cost", "forest"}
    first = {path.stem: path.read_bytes() for path in (finished / "report").glob("*.png")}
    assert set(first) == names
    assert all(content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) > 5000 for content in first.values())
    rows = [row("evolved", 0.9), row("other", 0.2, (0.6, 0.8), 1e-9)]
    other = write_run(
        tmp_path / "other",
        rising(90, seed=2),
        rows=rows,
        winner={"recipe": recipe(10, seed=4)},
        search={"cost": {"phases": {"search": 9.0}}},
    )
    out = write_report(other, tmp_path / "elsewhere" / "page.html")
    assert out == tmp_path / "elsewhere" / "page.html" and out.is_file() and not (other / "report.html").exists()
    second = {path.stem: path.read_bytes() for path in (other / "report").glob("*.png")}
    assert set(second) == names
    assert not any(first[name] == second[name] for name in names)


@pytest.mark.pictures("svg")
def test_the_same_run_gives_the_same_report(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("report*"))
    again = write_report(folder)
    assert again.read_bytes() == (finished / "report.html").read_bytes()


def test_two_stages_with_a_front_and_a_long_path(tmp_path: Path) -> None:
    winner = {"number": 20, "candidate": {"path": path(200, 32, 3)}}
    search = {"searcher": "nsga2", "objectives": ["score", "language"]}
    folder = write_run(tmp_path / "run", rising(60, 2), winner=winner, search=search, front=[20, 3, 41])
    write_run(folder / "ps", rising(30), winner={"recipe": recipe(4, ("weight",))})
    text = words(read(write_report(folder)))
    assert "Stage 1: parameter space" in text and "Stage 2: data-flow space" in text
    assert "200 steps through" in text
    assert "hubmerge export run --candidate" in text and "3 point(s) on the front" in text
    pictures = {path.stem for path in (folder / "report").iterdir()}
    assert pictures == {"curve", "path", "pareto", "cost", "ps-curve", "ps-heatmap", "ps-cost"}
    front = Run.read(folder).front
    assert {e.number for e in front} == {3, 20, 41}
    assert f"--candidate {front[0].number} " in text


def test_front_of_a_search_that_goes_on(tmp_path: Path) -> None:
    points = [(0.1, 0.9), (0.5, 0.5), (0.5, 0.5), (0.4, 0.4), (0.9, 0.1), (0.05, 0.95), (0.9, 0.05)]
    evaluations = [evaluation(n, point) for n, point in enumerate(points)]
    failed = evaluation(7, (-1.0, -1.0), error="it broke")
    folder = write_run(tmp_path / "run", [*evaluations, failed], done=False)
    assert [e.number for e in Run.read(folder).front] == [4, 1, 0, 5]


def test_a_search_that_goes_on_shows_the_best_so_far(tmp_path: Path) -> None:
    evaluations = rising(40, solution=recipe(3))
    # Actors finish in any order.
    folder = write_run(tmp_path / "run", evaluations[::-1], done=False)
    text = words(read(write_report(folder)))
    best = max(evaluations, key=lambda e: e.fitness[0])
    assert "This search has no results yet" in text and "40 of 300 evaluations" in text
    assert f"{best.fitness[0]:.3f} fitness of candidate {best.number}" in text
    assert "The best so far" in text and "hubmerge evolve search.yaml --out . --resume" in text
    assert (folder / "report" / "heatmap.png").is_file()
    assert [e.number for e in Run.read(folder).evaluations] == list(range(40))


@pytest.mark.parametrize("evaluations", [[], [evaluation(0, [-1.0], error="no memory")], [evaluation(0, [0.0])]])
def test_a_search_that_has_hardly_begun(tmp_path: Path, evaluations: list[Evaluation]) -> None:
    folder = write_run(tmp_path / "run", evaluations, done=False)
    (folder / "search.yaml").unlink()
    text = words(read(write_report(folder)))
    assert "This search has no results yet" in text
    assert all(e.error is None or e.error in text for e in evaluations)


def test_results_without_their_optional_keys(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rising(5))
    for document in ({}, {"rows": [{}], "search": None, "winner": {"number": None, "candidate": {"layers": []}}}):
        (folder / "results.json").write_text(json.dumps(document))
        assert words(read(write_report(folder)))
    bare = [{"model": "a", "value": 0.5}, {"model": "b", "value": 0.25, "gain": [None, 1]}]
    (folder / "results.json").write_text(json.dumps({"rows": bare, "front": [999], "search": {"cost": {"a": None}}}))
    assert "50.0%" in words(read(write_report(folder)))


@pytest.mark.parametrize("broken", ["results.json", "search.yaml", "journal.jsonl"])
def test_a_damaged_file_is_named(tmp_path: Path, broken: str) -> None:
    folder = write_run(tmp_path / "run", rising(5))
    (folder / broken).write_text('{"key": "5"\n[1\n[2\n')
    with pytest.raises(SearchError, match=broken):
        write_report(folder)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="not the folder of a search"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.pictures
def test_hostile_text_stays_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'&amp;$x_1$ $\x1b[31m\x00\u202eevil"
    way = {**path(12, 6), "models": [evil, "org/b"]}
    evaluations = [evaluation(n, (0.1 * n, 0.5 - 0.1 * n), error=evil if n == 2 else None) for n in range(4)]
    names = ["score", evil]
    spec = {"models": [evil], "base_model": evil, "merge_method": evil, "task": {"name": evil}}
    spec = json.loads(json.dumps(spec).replace("\\u0000", "").replace("\\u001b", ""))
    folder = write_run(
        tmp_path / "a <b>&$(touch x)'",
        evaluations,
        spec=spec,
        rows=[row(evil, 0.5), row("other", 0.2, (0.1, 0.4), 0.01)],
        winner={"candidate": way, "number": 1},
        search={"searcher": evil, "objectives": names, "cost": {"phases": {evil: 3.0}, evil: evil}},
    )
    root = read(write_report(folder))
    assert "script" not in {node.tag for node in root.iter()}
    assert not any(key.startswith("on") for node in root.iter() for key in node.attrib)
    text = words(root)
    assert "<script>alert(1)</script>\"'&amp;$x_1$" in text
    assert not set("\x1b\x00\u202e") & set(text)
    # A gene or model named so in a recipe.
    found = recipe(2)
    found["models"][0]["model"] = evil
    found["models"][1]["parameters"][evil] = 0.5
    (folder / "results.json").write_text(json.dumps({"winner": {"recipe": found}}))
    (folder / "search.yaml").unlink()
    picture = pictures.winner(Run.read(folder))
    assert picture is not None and picture.png()
    assert "script" not in {node.tag for node in ElementTree.fromstring(picture.figure("")).iter()}


def test_weights_of_a_layerwise_recipe() -> None:
    weight, density = weights.panels(recipe(12), ("weight", "density"))
    assert (weight.title, density.title) == ("weight", "density")
    assert weight.rows == (*map(str, range(12)), "rest")
    assert weight.columns == MODELS
    expected = recipe(12)["models"][1]["parameters"]["weight"][7]["value"]
    assert weight.cells[7][1] == expected
    assert weight.cells[-1] == (0.8125,) * 3
    assert weight.largest == max(abs(value) for cells in weight.cells for value in cells if value is not None)


def test_weights_of_every_granularity() -> None:
    def rows(setting: Any) -> list[tuple[str, tuple[str, ...]]]:
        document = {"models": [{"model": "a", "parameters": {"weight": setting}}], "parameters": {"t": 0.5, "x": True}}
        found = weights.panels(document)
        assert found[-1].gene == "t" and found[-1].columns == ("all models",)
        return [(panel.part, panel.rows) for panel in found[:-1]]

    def cases(*filters: str | None) -> list[dict[str, Any]]:
        return [{"filter": f, "value": 0.5} if f else {"value": 0.1} for f in filters]

    assert rows(0.5) == [("", ("all",))]
    assert rows([0.0, 0.5, 1.0]) == [("", ("depth 0%", "depth 50%", "depth 100%"))]
    assert rows(cases(".self_attn.", ".mlp.", None)) == [("", ("attention", "mlp", "rest"))]
    assert rows(cases("model.layers.10.", "model.layers.9.", None)) == [("", ("9", "10", "rest"))]
    fine = cases("model.layers.0.self_attn.", "model.layers.0.mlp.", "model.layers.0.", None)
    assert rows(fine) == [("attention", ("0",)), ("mlp", ("0",)), ("", ("0", "rest"))]
    assert rows(cases("q_proj", "experts", None)) == [("", ("q_proj", "experts", "rest"))]
    sides = cases("IN+attention", "IN", "M", "M+attention", None)  # what comes after a part of it is the rest of it
    assert rows(sides) == [("", ("IN+attention", "IN+rest", "M", "M+attention", "rest"))]


@pytest.mark.parametrize(
    ("setting", "title", "row"),
    [
        (0.5, "The best so far, model by model", "a model (column);"),
        ([0.0, 1.0], "The best so far, layer by layer", "in a layer (row)"),
        (
            [{"filter": "model.layers.0.", "value": 0.5}, {"value": 0.1}],
            "The best so far, layer by layer",
            "in a layer",
        ),
        ([{"filter": ".mlp.", "value": 0.5}, {"value": 0.1}], "The best so far, part by part", "in a part of the"),
    ],
)
def test_a_heat_map_says_what_its_rows_are(tmp_path: Path, monkeypatch, setting: Any, title: str, row: str) -> None:
    document = {"models": [{"model": "a", "parameters": {"weight": setting}}], "parameters": {"weight": 0.5}}
    monkeypatch.setattr(Run, "recipe", document)
    picture = pictures.winner(Run.read(write_run(tmp_path / "run", rising(3), done=False)))
    assert picture is not None and picture.title == title and row in picture.caption


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_candidates_are_counted_in_whole_numbers(count: int) -> None:
    made = [evaluation(number, [0.025]) for number in range(count)]
    spent = Cost("tokens", (7.0,) * count, (7.0,) * count, {})
    for figure in (fitness.draw(made, ["score"], canvas.WIDE), cost.draw(spent, canvas.WIDE)):
        figure.draw_without_rendering()
        low, high = figure.axes[-1].get_xlim()
        ticks = [tick for tick in figure.axes[-1].get_xticks() if low <= tick <= high]
        assert ticks and all(tick == int(tick) for tick in ticks)
    low, high = fitness.draw(made, ["score"], canvas.WIDE).axes[0].get_ylim()
    assert low <= 0 and high >= 0.05  # one value alone is no trend


def test_way_counts_repeats_jumps_and_switches() -> None:
    way = pathway.Way.of({"layers": [[0, 0], [0, 1], [1, 1], [1, 2], [0, 1], [0, 2]], "scales": [1.0, 0.5]}, ["a"])
    assert way.models == ("a", "model 2")
    assert way.scales == (1.0, 0.5, 1.0, 1.0, 1.0, 1.0)
    assert (way.repeats, way.jumps, way.switches) == (1, 2, 2)


@pytest.mark.pictures
@pytest.mark.parametrize("count", [0, 1, 3])
def test_curve_of_a_run(count: int) -> None:
    picture = curve.draw(rising(40)[:count], "cmaes over 2 genes of linear, $5 and $6")
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")


def labels(figure: Any) -> Iterator[Any]:
    """The boxes of all level text in a drawn figure; ticks outside an axis are not drawn."""
    figure.draw_without_rendering()
    for axes in figure.axes:
        for axis, texts in ((0, axes.get_xticklabels()), (1, axes.get_yticklabels())):
            low, high = sorted((axes.get_xlim(), axes.get_ylim())[axis])
            drawn = [t for t in texts if t.get_text() and low <= t.get_position()[axis] <= high]
            yield from (text.get_window_extent() for text in drawn if not text.get_rotation())
        yield from (text.get_window_extent() for text in axes.texts)
    yield from (text.get_window_extent() for legend in figure.legends for text in legend.get_texts())


@pytest.mark.parametrize("width", [canvas.WIDE, canvas.NARROW])
def test_no_two_labels_cover_each_other(width: float) -> None:
    several = rising(80, 2)
    measured = [e for e in several if e.error is None]
    grown = [
        Evaluation(**{**vars(e), "stage": e.number // 20, "genome": (0.5,) * 9 ** (e.number // 20)}) for e in several
    ]
    compared = {"random search": rising(80, 2, seed=3), "grid": rising(60, 2, seed=4)}
    pictures = [
        partial(fitness.draw, grown, ("score", "language"), others=compared),
        partial(heatmap.draw, weights.panels(recipe(32), ("weight", "density"))),
        partial(pathway.draw, pathway.Way.of(path(200, 32, 3))),
        partial(pathway.draw, pathway.Way.of(path(24, 12, 2))),
        partial(forest.draw, ROWS),
        partial(pareto.draw, measured, measured[40:60], measured[41], ("score", "language")),
    ]
    for draw in pictures:
        boxes = np.sort([box.padded(-1.5).get_points() for box in labels(draw(width=width))], axis=1)
        assert len(boxes) > 10
        low, high = boxes[:, None, 0], boxes[:, 1]
        cover = (low <= high).all(axis=-1)  # row, column: one begins, in both directions, before the other ends
        assert np.argwhere(cover & cover.T).tolist() == [[n, n] for n in range(len(boxes))], draw
