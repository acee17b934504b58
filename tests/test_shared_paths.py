"""Nothing that is pushed, mirrored or shared tells where anything lies on this machine."""

import base64
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import snapshot_download
from typer.testing import CliRunner

from hubmerge import places
from hubmerge.cli.commands import app
from hubmerge.errors import SearchError, SourceError, TaskError
from hubmerge.evaluate.task import load_task
from hubmerge.evolve.export import candidate_recipe
from hubmerge.evolve.records.folder import small_files
from hubmerge.evolve.records.mirror import Mirror
from hubmerge.evolve.report import write_report
from hubmerge.evolve.run import evolve
from hubmerge.evolve.search import Search
from hubmerge.hub import open_source, push_folder
from hubmerge.hub.unplaced import without_places
from hubmerge.publish import merge, merge_to_hub, out_of_reach, push_result, warnings_before_push
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.plan import make_plan
from hubmerge.stream.verify import verify
from hubmerge.text import hide_paths

NAMED = r"sha256:[0-9a-f]{12}"


def telling(place: Path) -> set[bytes]:
    """What must be found nowhere: the place, the folders above it, and home, as text and as JSON writes them."""
    paths = [str(place), *(str(above) for above in place.parents if len(above.parts) > 2), str(Path.home())]
    forms = {form for path in paths for form in (path, path.replace("/", "\\/"), json.dumps(path)[1:-1])}
    # Home may be /root or /, which is a part of other words.
    return {f"{form}/".encode() for form in forms if len(form) > 1} | {
        f'{form}"'.encode() for form in forms if form[1:]
    }


def require_untold(folder: Path, place: Path) -> list[str]:
    """The names of the files of `folder`, after all were searched for `place`."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts]
    for path in files:
        content = path.read_bytes()
        assert not [form for form in telling(place) if form in content], path
    return sorted(path.relative_to(folder).as_posix() for path in files)


@pytest.fixture
def place(siblings, tmp_path: Path) -> Path:
    """A recognisable folder with models that tell where they were loaded from, a LoRA and a task."""
    place = tmp_path / "Xsecret place" / "models"
    for name, folder in siblings.items():
        shutil.copytree(folder, place / name)
        for file, key in (("config.json", "_name_or_path"), ("tokenizer_config.json", "special_tokens_map_file")):
            document = json.loads((place / name / file).read_bytes())
            (place / name / file).write_text(json.dumps(document | {key: str(place / name / "x.json")}))
    data = place / "data"
    data.mkdir()
    rows = [{"question": f"{n} w{n}", "answer": str(n)} for n in range(12)]
    for split, part in (("search", rows[:4]), ("test", rows[4:])):
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (place / "grade.py").write_text("def grade(outputs, examples):\n    return [0.5] * len(outputs)\n")
    return place


def recipe_of(place: Path) -> Recipe:
    models = [{"model": str(place / name), "parameters": {"weight": 0.5}} for name in ("math", "japanese")]
    return Recipe.from_dict({"merge_method": "linear", "models": models, "tokenizer_source": str(place / "base")})


def search_of(place: Path, **changes) -> Search:
    document = {
        "base_model": str(place / "base"),
        "models": [str(place / "math"), str(place / "japanese")],
        "merge_method": "task_arithmetic",
        "genome": {"granularity": "model", "genes": {"weight": [0, 2]}},
        "task": {
            "name": "tiny",
            "examples": {"folder": str(place / "data"), "search": "search.jsonl", "test": "test.jsonl"},
            "python": f"{place / 'grade.py'}:grade",
            "max_new_tokens": 2,
        },
        "searcher": {"name": "random", "popsize": 4, "evaluations": 4},
        "baselines": ["average"],
        "select": 1,
    }
    return Search.from_dict(document | changes)


def forget(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """As on another machine: nothing is known of where folders lie."""
    monkeypatch.setattr(places, "_noted", {})
    monkeypatch.setattr(places, "_file", lambda digest: home / digest)


def fetched(repo_id: str, folder: Path, kind: str = "model") -> Path:
    return Path(snapshot_download(repo_id, repo_type=kind, local_dir=folder))


def test_a_merge_into_a_folder_and_pushed_tells_no_place(hub, place: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "elsewhere" / "merged"
    plan = make_plan(recipe_of(place))
    merge(plan, out)
    require_untold(out, place)
    written = json.loads((out / "hubmerge.json").read_bytes())
    assert re.fullmatch(rf"\./math@{NAMED}", written["recipe"]["models"][0]["model"])
    assert written["sources"][0]["model"] == "./math" and re.fullmatch(NAMED, written["sources"][0]["commit"])
    card = (out / "README.md").read_text()
    assert "local folder `math`" in card
    push_folder(out, "alice/paths-pushed")
    names = require_untold(fetched("alice/paths-pushed", tmp_path / "pushed"), place)
    assert {"README.md", "hubmerge.json", "config.json", "tokenizer_config.json", "model.safetensors"} <= set(names)
    merge_to_hub(plan, "alice/paths-merged")
    require_untold(fetched("alice/paths-merged", tmp_path / "straight"), place)
    # A folder of the user's own goes up without what programs noted in it.
    push_folder(place / "math", "alice/paths-own")
    require_untold(fetched("alice/paths-own", tmp_path / "own"), place)
    assert str(place).encode() in (place / "math" / "config.json").read_bytes()
    # Here it is made again from what it names, from any folder; elsewhere one sentence says what is missing.
    monkeypatch.chdir(tmp_path)
    assert verify(ModelRef.parse(str(out)), recompute=True).ok
    again = Recipe.from_dict(written["recipe"])
    assert make_plan(again).recipe == plan.recipe and make_plan(again).key == plan.key
    forget(monkeypatch, tmp_path / "no home")
    with pytest.raises(SourceError, match=r"folder 'math' of the machine that this was made on.*put it at \./math"):
        verify(ModelRef.parse(str(out)), recompute=True)
    # Put where the recipe says, it is found by what is in it; another of that name is not taken for it.
    monkeypatch.chdir(place)
    assert verify(ModelRef.parse(str(out)), recompute=True).ok
    forget(monkeypatch, tmp_path / "another home")
    (tmp_path / "wrong").mkdir()
    shutil.copytree(place / "base", tmp_path / "wrong" / "math")
    monkeypatch.chdir(tmp_path / "wrong")
    with pytest.raises(SourceError, match="'math' that is not the one found here"):
        verify(ModelRef.parse(str(out)), recompute=True)


def test_a_search_tells_no_place_and_goes_on(hub, place: Path, tmp_path: Path, monkeypatch) -> None:
    search, out = search_of(place), tmp_path / "elsewhere" / "run"
    (tmp_path / "elsewhere").mkdir()
    with Mirror("alice/paths-mirror", small_files(out), every=60):
        result = evolve(search, out)
    # All of the run's folder may be given to others.
    write_report(out)
    names = require_untold(out, place)
    assert {"search.yaml", "journal.jsonl", "best.yaml", "results.json", "report.html", "model/README.md"} <= set(names)
    mirrored = require_untold(fetched("alice/paths-mirror", tmp_path / "mirrored", "dataset"), place)
    assert {"search.yaml", "journal.jsonl", "best.yaml", "results.json"} <= set(mirrored)
    push_result(result, "alice/paths-evolved")
    assert "search.yaml" in require_untold(fetched("alice/paths-evolved", tmp_path / "evolved"), place)
    # What nobody else has of the task is named, before a push and by the card.
    needed = "search.jsonl and test.jsonl of the folder data and grade.py"
    assert any(f"asks by {needed}, which stays" in text for text in warnings_before_push(out / "model"))
    assert f"needs {needed}, which only" in (tmp_path / "evolved" / "README.md").read_text().replace("\\", "")
    assert [row.model for row in result.rows[:3]] == [
        "local folder base (base)",
        "local folder math",
        "local folder japanese",
    ]
    written = yaml.safe_load((out / "search.yaml").read_text())
    assert re.fullmatch(rf"\./math@{NAMED}", written["models"][0])
    assert re.fullmatch(rf"\./data@{NAMED}", written["task"]["examples"]["folder"])
    assert re.fullmatch(rf"\./grade\.py@{NAMED}:grade", written["task"]["python"])

    # With the folders still there everything goes on: from the user's search, and from the run's own.
    monkeypatch.chdir(tmp_path)
    assert evolve(search, out, resume=True).rows == result.rows
    own = Search.from_yaml(out / "search.yaml")
    assert own.task == search.task
    assert evolve(own, out, resume=True).rows == result.rows
    more = search_of(place, baselines=[])
    (out / "results.json").unlink()
    assert evolve(more, out, resume=True).recipe == result.recipe
    assert verify(ModelRef.parse(str(out / "model")), recompute=True).ok
    assert make_plan(candidate_recipe(out, 0)).recipe.models[0].model == result.recipe.models[0].model

    # On another machine one sentence says what is meant.
    forget(monkeypatch, tmp_path / "no home")
    elsewhere = Search.from_yaml(out / "search.yaml")
    with pytest.raises(TaskError, match=r"needs 'data', a folder with search.jsonl and test.*is not here"):
        load_task(elsewhere.task)
    with pytest.raises(SourceError, match="'base' of the machine that this was made on"):
        make_plan(candidate_recipe(out, 0))
    # There, with the folders beside the search, it is found.
    monkeypatch.chdir(place)
    shutil.copy(out / "search.yaml", place / "search.yaml")
    found = Search.from_yaml(place / "search.yaml")
    assert found.task["examples"]["folder"] == str(place / "data")
    assert open_source(found.models[0]).pinned == result.recipe.models[0].model


def test_a_search_with_other_folders_of_the_same_names_does_not_go_on(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    evolve(search_of(place), out)
    other = tmp_path / "other"
    shutil.copytree(place, other)
    shutil.copytree(place / "base", other / "math", dirs_exist_ok=True)
    (other / "base" / "config.json").write_bytes((place / "base" / "config.json").read_bytes())
    with pytest.raises(SearchError, match="models differs"):
        evolve(search_of(other), out, resume=True)


def test_both_spaces_name_their_own_model_from_the_run(place: Path, tmp_path: Path, monkeypatch) -> None:
    small = {"name": "random", "popsize": 4, "evaluations": 4}
    out = tmp_path / "elsewhere" / "run"
    (tmp_path / "elsewhere").mkdir()
    search = search_of(place, data_flow={"repeats": 1, "searcher": small}, baselines=[])
    result = evolve(search, out)
    write_report(out)
    require_untold(out, place)
    require_untold(out, tmp_path / "elsewhere" / "run" / "ps")
    monkeypatch.chdir(tmp_path)
    assert evolve(search, out, resume=True).recipe == result.recipe
    assert verify(ModelRef.parse(str(out / "model")), recompute=True).ok
    moved = tmp_path / "moved"
    out.rename(moved)
    assert make_plan(candidate_recipe(moved, 0)).sources
    assert verify(ModelRef.parse(str(moved / "model")), recompute=True).ok


def test_what_went_wrong_is_told_without_places(place: Path, tmp_path: Path) -> None:
    said = f"{place}/math/model.safetensors changed; see https://hub.test/a/b and ({tmp_path}/x/y.log)."
    places.note("sha256:000000000000", place / "math")
    hidden = places.without_paths(said)
    assert hidden == "math/model.safetensors changed; see https://hub.test/a/b and (…/y.log)."
    assert hide_paths("1/2 of a/b, w1 / w2, /think, C:\\Users\\me\\x.txt") == "1/2 of a/b, w1 / w2, /think, …/x.txt"
    assert hide_paths("file:///tmp/one/two and ~/one/two") == "…/two and …/two"


def test_a_push_warns_of_what_nobody_else_can_get(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged"
    merge(make_plan(recipe_of(place)), out)
    (warning,) = warnings_before_push(out)
    assert warning.startswith("base and math and japanese are folders" if "base and" in warning else "math")
    assert "nobody else can get them" in warning
    (out / "NOTES.md").write_text(f"made in {out.resolve()}/x")
    assert [text for text in warnings_before_push(out) if text.startswith("NOTES.md would tell")]
    assert out_of_reach([ModelRef.parse("org/a@main+org/b")]) is None
    assert "'" not in (out_of_reach([ModelRef("org/a", lora=ModelRef(str(place / "math")))]) or "'")


@pytest.mark.parametrize("command", ["merge", "push"])
def test_the_command_line_warns_before_a_push(hub, place: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "recipe.yaml").write_text(recipe_of(place).to_yaml())
    run = CliRunner()
    if command == "merge":
        done = run.invoke(app, ["merge", str(tmp_path / "recipe.yaml"), "--push", "alice/paths-warned"])
    else:
        merge(make_plan(recipe_of(place)), tmp_path / "merged")
        done = run.invoke(app, ["push", str(tmp_path / "merged"), "alice/paths-warned-too"])
    assert done.exit_code == 0, done.output
    assert "are folders of this machine, and nobody else can get them" in " ".join(done.output.split())


def test_a_folder_is_pinned_by_what_its_tensors_hold(place: Path, tmp_path: Path) -> None:
    ref = open_source(ModelRef(str(place / "math"))).pinned
    assert (ref.repo_id, ref.is_folder, ref.title) == ("./math", True, "local folder math")
    assert ModelRef.parse(str(ref)) == ref and str(place) not in repr(ref)
    shutil.copytree(place / "math", tmp_path / "math")
    assert open_source(ModelRef(str(tmp_path / "math"))).pinned == ref  # times, paths and configs do not count
    assert open_source(ModelRef(str(place / "japanese"))).pinned.revision != ref.revision
    weights = bytearray((tmp_path / "math" / "model.safetensors").read_bytes())
    weights[-3] ^= 1
    (tmp_path / "math" / "model.safetensors").write_bytes(weights)
    assert open_source(ModelRef(str(tmp_path / "math"))).pinned.revision != ref.revision


@pytest.mark.parametrize("name", ["a b", "q@r", "x+y", "`code`", "|cell|", 'quo"te', "日本", "\u202ered"])
def test_any_folder_has_a_name_that_reads_back(siblings, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    shutil.copytree(siblings["math"], folder)
    ref = open_source(ModelRef(str(folder))).pinned
    assert ModelRef.parse(str(ref)) == ref and str(ref).isprintable()
    models = [{"model": str(folder)}, {"model": str(siblings["base"])}]
    plan = make_plan(Recipe.from_dict({"merge_method": "linear", "models": models}))
    assert Recipe.from_yaml(plan.recipe.to_yaml()) == plan.recipe
    assert make_plan(Recipe.from_yaml(plan.recipe.to_yaml())).key == plan.key


def test_what_programs_note_of_a_machine_goes_and_all_else_stays() -> None:
    noted = {
        "_name_or_path": "/home/me/model",
        "text_config": {"_name_or_path": "outputs/run/checkpoint-5"},
        "tokenizer_file": "C:\\models\\tokenizer.json",
        "vocab_file": None,
        "chat_template": "/a/b {{ x }}",
    }
    assert json.loads(without_places("config.json", json.dumps(noted).encode())) == {
        "text_config": {},
        "vocab_file": None,
        "chat_template": "/a/b {{ x }}",
    }
    kept = json.dumps({"_name_or_path": "org/name", "added_tokens_file": "added_tokens.json"}).encode()
    assert without_places("tokenizer_config.json", kept) == kept
    assert without_places("tokenizer.json", b'{"tokenizer_file": "/home/me/x"}') == b'{"tokenizer_file": "/home/me/x"}'
    for broken in (b"", b"[", b'{"_name_or_path": 1}', b"[]", b"\xff", b"[" * 5_000):
        assert without_places("config.json", broken) == broken


def test_a_link_to_a_recipe_tells_no_place(place: Path) -> None:
    from space.forms.share import pack, unpack

    packed = pack(recipe_of(place).to_yaml())
    assert str(place) not in unpack(packed) and "./math@sha256:" in unpack(packed)
    assert base64.urlsafe_b64encode(os.fsencode(place)) not in packed.encode()


def test_a_home_that_cannot_be_written_stops_nothing(place: Path, tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setattr(places, "_noted", {})
    monkeypatch.setattr(places, "_file", lambda digest: file / digest)
    plan = make_plan(recipe_of(place))
    assert make_plan(Recipe.from_yaml(plan.recipe.to_yaml())).key == plan.key  # this process still knows
