"""Runs that begin with earlier ones, and runs as models: on real files, resumed, elsewhere, refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi
from typer.testing import CliRunner

from hubmerge.cli.commands import app
from hubmerge.errors import Interrupted, SearchError, SourceError
from hubmerge.evolve.plan import plan_search
from hubmerge.evolve.records.folder import small_files
from hubmerge.evolve.records.journal import read_evaluations
from hubmerge.evolve.records.learnt import Learnt, learn
from hubmerge.evolve.report import write_report
from hubmerge.evolve.run import evolve
from hubmerge.evolve.search import Search
from hubmerge.hub.listing import list_files
from hubmerge.hub.push import push_folder
from hubmerge.hub.source import open_source
from hubmerge.lineage.claims import claims_of
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.verify import verify

SMALL = {"popsize": 4, "evaluations": 4}


@pytest.fixture(scope="module")
def first(siblings, tmp_path_factory) -> Path:
    """A finished run in both spaces: recipes, then paths."""
    out = tmp_path_factory.mktemp("runs") / "first"
    evolve(tiny(siblings, data_flow={"max_layers": 5}, searcher=SMALL, select=1), out)
    return out


def tiny(siblings: dict[str, Path], **changes) -> Search:
    rows = [{"question": f"{n} w{n}", "answer": str(n)} for n in range(12)]
    document = {
        "base_model": str(siblings["base"]),
        "models": [str(siblings["math"]), str(siblings["japanese"])],
        "merge_method": "task_arithmetic",
        "genome": {"granularity": "layer", "genes": {"weight": [0, 2]}},
        "task": {"name": "tiny", "examples": {"search": rows[:4], "test": rows[4:8]}, "max_new_tokens": 4},
        "searcher": {"popsize": 4, "evaluations": 8},
        "baselines": [],
    }
    return Search.from_dict(document | changes)


def paths_of(siblings: dict[str, Path], **changes) -> Search:
    given = dict.fromkeys(("base_model", "merge_method", "genome")) | {"data_flow": {}} | changes
    return tiny(siblings, **given)


def told(folder: Path) -> list[dict]:
    return [{**vars(one), "seconds": None} for one in read_evaluations(folder / "journal.jsonl")]


def stop_after(search: Search, out: Path, count: int, **options) -> None:
    def stop(event) -> None:
        if event.stage == "search" and event.done == count:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        evolve(search, out, progress=stop, **options)


def test_a_run_goes_on_without_the_one_that_it_began_with(first, siblings, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    earlier = Path("runs/first")
    shutil.copytree(first, earlier)
    task = {"name": "other", "examples": {"search": [{"question": "w1", "answer": "w2"}] * 3}, "max_new_tokens": 2}
    search = tiny(siblings, task=task)
    whole = evolve(search, tmp_path / "whole", origin=earlier)
    winner = Recipe.from_yaml(earlier / "ps" / "best.yaml")
    assert whole.facts["from"] == "first"
    stop_after(search, tmp_path / "run", 5, origin=earlier)
    # The earlier run may be gone, or may have gone on since, as its own search allows.
    shutil.rmtree(earlier)
    again = evolve(search, tmp_path / "run", resume=True, origin=earlier)
    assert again.recipe == whole.recipe and told(tmp_path / "run") == told(tmp_path / "whole")
    assert evolve(Search.from_yaml(tmp_path / "run" / "search.yaml"), tmp_path / "run", resume=True).rows == again.rows
    written = yaml.safe_load((tmp_path / "run" / "search.yaml").read_text())
    assert written["from"].startswith("./first@sha256:")
    # No measurement of the earlier task is in it, nor any place of this machine.
    known = (tmp_path / "run" / "from.json").read_text()
    assert str(tmp_path) not in known and "fitness" not in known
    assert json.loads(known)["spaces"]["ps"]["winner"] == winner.to_dict()
    # From its own files alone it is made again anywhere, as from the repository of its model.
    for name in ("search.yaml", "from.json"):
        assert (whole.folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert evolve(Search.from_yaml(whole.folder / "search.yaml"), tmp_path / "third").recipe == whole.recipe
    # What was changed by hand is not what is pinned, and a foreign file of that name is no answer.
    shutil.copy(whole.folder / "search.yaml", tmp_path / "search.yaml")
    for content in (known.replace('"tried": ', '"tried": 1'), "[]", "{", None):
        (tmp_path / "from.json").unlink(missing_ok=True)
        if content is not None:
            (tmp_path / "from.json").write_text(content)
        with pytest.raises(SearchError, match=r"means what that run had taught.*put from\.json back"):
            plan_search(Search.from_yaml(tmp_path / "search.yaml"))
    # Another start is another search.
    for changed in (None, renamed(first, tmp_path / "other")):
        with pytest.raises(SearchError, match="another search than the one given: from differs"):
            evolve(search, tmp_path / "run", resume=True, origin=changed)


def renamed(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder))


def test_a_namesake_is_not_taken_for_the_run_that_it_began_with(first, siblings, tmp_path: Path) -> None:
    stop_after(tiny(siblings), tmp_path / "run", 5, origin=first)
    (tmp_path / "elsewhere").mkdir()
    namesake = tmp_path / "elsewhere" / "first"
    evolve(tiny(siblings, searcher={**SMALL, "seed": 9}), namesake)
    with pytest.raises(SearchError, match="from differs"):
        evolve(tiny(siblings), tmp_path / "run", resume=True, origin=namesake)
    # That the same run went on is no difference: what it taught then is noted.
    evolve(tiny(siblings), tmp_path / "run", resume=True, origin=first)


def test_the_winner_may_win_again_and_paths_follow_it(first, siblings, tmp_path: Path) -> None:
    learnt = learn(ModelRef.parse(str(first)))
    assert set(learnt.spaces) == {"ps", "dfs"} and learnt.document["spaces"]["ps"]["tried"] <= 8
    # Recipes and paths take each their own.
    result = evolve(tiny(siblings, data_flow={"max_layers": 6}, searcher=SMALL), tmp_path / "both", origin=first)
    (recipe, *_), (path, start, *_) = told(tmp_path / "both" / "ps"), told(tmp_path / "both")
    assert recipe["genome"] and path["solution"]["layers"] == first_path(learnt)
    assert start["number"] == 1 and result.facts["from"] == "first"
    # Paths alone take the path, with the first model's layers in place of the recipe's.
    only = evolve(paths_of(siblings, searcher={"evaluations": 4}), tmp_path / "paths", origin=first)
    assert len(told(tmp_path / "paths")[0]["solution"]["models"]) == 2
    assert only.facts["from"] == "first"


def first_path(learnt: Learnt) -> list[list[int]]:
    return [list(pair) for pair in learnt.spaces["dfs"][0].layers]


def test_plan_and_the_command_line_say_it(first, siblings, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(first, tmp_path / "first")
    document = {**tiny(siblings, searcher=SMALL).to_dict(), "from": "first"}
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(document))
    assert plan_search(Search.from_dict(document)).begun_with.startswith("first (recipes: the winner")
    shown = CliRunner().invoke(app, ["plan", "search.yaml"])
    assert shown.exit_code == 0 and "begins with first (recipes: the winner" in shown.output
    bare = {key: value for key, value in document.items() if key != "from"}
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(bare))
    asked = CliRunner().invoke(app, ["plan", "search.yaml", "--from", "first"])
    assert asked.exit_code == 0 and asked.output == shown.output
    (tmp_path / "merge.yaml").write_text("merge_method: linear\nmodels: [{model: first, parameters: {weight: 1}}]\n")
    refused = CliRunner().invoke(app, ["plan", "merge.yaml", "--from", "first"])
    assert "merge.yaml is no search, so nothing begins with first" in str(refused.exception)
    command = ["evolve", "search.yaml", "--out", "second", "--from", "first"]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert CliRunner().invoke(app, [*command, "--resume"]).exit_code == 0
    assert yaml.safe_load((tmp_path / "second" / "search.yaml").read_text())["from"].startswith("./first@sha256:")


def test_a_mirrored_run_is_begun_with_by_its_dataset(hub, first, siblings, tmp_path: Path) -> None:
    api = HfApi()
    api.create_repo("alice/from-run", repo_type="dataset", private=True)
    for name, path in small_files(first).items():
        if path.is_file():
            api.upload_file(path_or_fileobj=path, path_in_repo=name, repo_id="alice/from-run", repo_type="dataset")
    search = tiny(siblings, searcher=SMALL)
    result = evolve(search, tmp_path / "run", origin="alice/from-run")
    assert result.facts["from"] == "alice/from-run"
    own = yaml.safe_load((tmp_path / "run" / "search.yaml").read_text())["from"]
    assert own.startswith("alice/from-run@sha256:")
    here = evolve(search, tmp_path / "here", origin=first)
    assert told(tmp_path / "run") == told(tmp_path / "here") and here.recipe == result.recipe
    api.delete_repo("alice/from-run", repo_type="dataset")
    with pytest.raises(SearchError, match=r"There is no folder alice/from-run here to begin with.*no such repository"):
        evolve(search, tmp_path / "other", origin="alice/from-run")
    assert evolve(search, tmp_path / "run", resume=True, origin="alice/from-run").rows == result.rows


def test_each_run_that_teaches_nothing_gets_its_answer(first, siblings, tmp_path: Path) -> None:
    def refused(origin: object, match: str, search: Search | None = None) -> None:
        with pytest.raises(SearchError, match=match):
            evolve(search or tiny(siblings), tmp_path / "run", origin=origin)
        assert not (tmp_path / "run" / "journal.jsonl").exists()

    refused(siblings["math"], "no run that a search could begin with")
    refused(tmp_path / "nowhere", "There is no folder")
    refused("not a name", "`from` names an earlier run")
    refused("org/a+org/b", "is no run to begin with")
    unfinished = renamed(first, tmp_path / "unfinished")
    (unfinished / "results.json").unlink()
    refused(unfinished, "unfinished has no winner yet: finish it")
    lines = (unfinished / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for content, match in (
        (lines[0] + b"{\n" + lines[1], r"^Line 2 of .*journal\.jsonl cannot be read.*put it back as it was"),
        (lines[0] + lines[1] + b'{"a": 1}\n', r"journal\.jsonl, line 3: not an evaluation"),
        (b"\xff\xfe\x00", r"journal\.jsonl is no journal of hubmerge.*put it back as it was"),
        (
            lines[0] + b"\xff\n",
            r"^Line 2 of .*journal\.jsonl cannot be read: it is not UTF-8 text.*put it back as it was",
        ),
        (b"{}\n", r"journal\.jsonl is no journal of hubmerge"),
        (b"", "unfinished has no winner yet: finish it"),
        (lines[0] + lines[1][:20], "unfinished has no winner yet: finish it"),
    ):
        (unfinished / "journal.jsonl").write_bytes(content)
        refused(unfinished, match)
    torn = renamed(first, tmp_path / "torn")
    lines = (torn / "journal.jsonl").read_text().splitlines()
    (torn / "journal.jsonl").write_text("\n".join([lines[0], "{", *lines[1:], ""]))
    refused(torn, "Line 2 of")
    (torn / "journal.jsonl").write_text("\n".join([*lines, ""]))
    results = json.loads((torn / "ps" / "results.json").read_text())
    (torn / "ps" / "results.json").write_text(json.dumps({**results, "winner": {"candidate": {"recipe": {"a": 1}}}}))
    refused(torn, "torn does not say what it found")
    other = {"models": [str(siblings["base"])], "base_model": str(siblings["math"])}
    refused(first, "first is of other models", tiny(siblings, **other))
    genes = {"granularity": "model", "genes": {"density": [0.1, 1]}}
    refused(first, "none of this search's genes", tiny(siblings, merge_method="ties", genome=genes))
    for name in ("random", "grid"):
        refused(first, "begins nowhere", tiny(siblings, searcher={"name": name, "evaluations": 8}))
    paper = {"paper": True, "repeats": 1}
    refused(first, "paths by edits", paths_of(siblings, data_flow=paper))
    recipes = renamed(first, tmp_path / "recipes")
    for file in (recipes / "ps").glob("[!.]*"):
        shutil.copy(file, recipes / file.name)
    shutil.rmtree(recipes / "ps")
    refused(
        recipes, "recipes searched recipes, and this search begins with paths, which do not mix", paths_of(siblings)
    )
    shutil.rmtree(renamed(first, tmp_path / "paths") / "ps")
    refused(tmp_path / "paths", "paths searched paths, and this search begins with recipes")
    layers = len(learn(ModelRef.parse(str(first))).spaces["dfs"][0].layers)
    if layers > 2:
        refused(first, f"allow {layers}", paths_of(siblings, data_flow={"max_layers": 2}))
    # What is pinned is not taken from a run that teaches something else by now.
    pinned = learn(ModelRef.parse(str(first))).pinned
    elsewhere = replace(pinned, repo_id=str(recipes))
    with pytest.raises(SearchError, match=r"put from\.json back as it was"):
        plan_search(replace(tiny(siblings), origin=elsewhere))


def test_the_report_shows_the_line_of_runs(first, siblings, tmp_path: Path) -> None:
    evolve(tiny(siblings, searcher=SMALL), tmp_path / "second", origin=first)
    third = tmp_path / "third"
    stop_after(
        tiny(siblings, searcher={"popsize": 4, "evaluations": 8, "seed": 3}), third, 5, origin=tmp_path / "second"
    )
    page = write_report(third).read_text()
    assert "Generations of runs" in page
    table = page.split("Generations of runs")[1].split("</section>")[0]
    places = [table.index(f"<bdi>{name}</bdi>") for name in ("third", "second", "first")]
    assert places == sorted(places)
    assert "Generations of runs" not in write_report(first).read_text()


def test_a_run_stands_for_its_winner_and_names_its_parents(hub, siblings, tmp_path: Path, monkeypatch) -> None:
    names = {"base": "alice/from-base", "math": "alice/from-math", "japanese": "alice/from-japanese"}
    for name, repo_id in names.items():
        push_folder(siblings[name], repo_id)
    document = {
        **tiny(siblings, searcher=SMALL).to_dict(),
        "base_model": names["base"],
        "models": [names["math"], names["japanese"]],
    }
    evolve(Search.from_dict(document), tmp_path / "first")
    monkeypatch.chdir(tmp_path)
    run, winner = open_source(ModelRef.parse("first")), open_source(ModelRef.parse("first/model"))
    assert run.pinned.revision == winner.pinned.revision and str(run.pinned).startswith("./first@sha256:")
    # As a model of the next search; what comes of that names who the winner was made from, not the folder.
    second = evolve(Search.from_dict({**document, "models": ["first", str(siblings["math"])]}), tmp_path / "second")
    text = (second.folder / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert set(front["base_model"]) == set(names.values()) and front["base_model_relation"] == "merge"
    assert "Local folder `first` was made from [alice/from-base]" in text and str(tmp_path) not in text
    manifest = json.loads((second.folder / "hubmerge.json").read_text())
    (made,) = [one for one in manifest["sources"] if one["model"] == "./first"]
    assert {one["model"] for one in made["parents"]} == set(names.values())
    assert all(len(one["commit"]) == 40 for one in made["parents"])
    assert {claim.repo_id for claim in claims_of(list_files(ModelRef.parse("second")))[0]} == set(names.values())
    # Resumed, planned and merged again by its pinned name, here and where the run's folder was brought.
    assert evolve(Search.from_yaml(Path("second/search.yaml")), Path("second"), resume=True).rows == second.rows
    assert verify(ModelRef.parse("second"), recompute=True).ok
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move("first", elsewhere / "first")
    monkeypatch.chdir(elsewhere)
    assert open_source(run.pinned).tensors == winner.tensors
    # A run without a winner is no model yet.
    (elsewhere / "first" / "results.json").unlink()
    with pytest.raises(SourceError, match="first is the folder of a search that has no winner yet"):
        open_source(ModelRef.parse("first"))
