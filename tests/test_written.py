"""What commands beside merge write takes the place of nothing that somebody else put there."""

import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hubmerge.errors import HubError, PlanError, SearchError
from hubmerge.evolve.records.journal import Journal
from hubmerge.evolve.report import write_report
from hubmerge.evolve.run import evolve
from hubmerge.evolve.search import Search
from hubmerge.files import write_file
from hubmerge.stream.written import Written
from hubmerge.zoo import publish as zoo_publish

MINE = b"mine"


@pytest.fixture
def quick(tiny_search):
    """A search that is over soon."""
    return tiny_search(searcher={"name": "random", "popsize": 4, "evaluations": 4}, baselines=[], select=1)


def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_after_it(tmp_path: Path, monkeypatch) -> None:
    path, done = tmp_path / "shard", []

    def on_disk(descriptor: int) -> None:
        what = os.fstat(descriptor)
        done.append("folder" if stat.S_ISDIR(what.st_mode) else f"{what.st_size} bytes")
        assert path.exists() == stat.S_ISDIR(what.st_mode)

    monkeypatch.setattr(os, "fsync", on_disk)
    write_file(path, b"weights")
    assert done == ["7 bytes", "folder"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_written_again_only_as_it_was_written(tmp_path: Path) -> None:
    written = Written(tmp_path)
    written.write("a.txt", b"one")
    Written(tmp_path).write("a.txt", b"two")
    (tmp_path / "a.txt").write_bytes(b"one")  # a run that was killed before the newest took its place
    Written(tmp_path).write("a.txt", b"three")
    (tmp_path / "a.txt").write_bytes(MINE)
    for act in (lambda: written.write("a.txt", b"four"), lambda: written.remove("a.txt")):
        with pytest.raises(PlanError, match="put there by somebody else"):
            act()
    written.write("a.txt", MINE)  # what it would write is there already
    assert (tmp_path / "a.txt").read_bytes() == MINE
    # A record of others proves nothing but what it tells exactly; a broken one nothing at all.
    (tmp_path / ".hubmerge/written.json").write_bytes(b"[")
    with pytest.raises(PlanError):
        written.write("a.txt", b"five")


@pytest.mark.parametrize("kind", ["link", "folder", "dangling"])
def test_nothing_is_written_through_what_is_no_file(tmp_path: Path, kind: str) -> None:
    (tmp_path / "victim").write_bytes(MINE)
    at = tmp_path / "out" / "curve.png"
    at.parent.mkdir()
    at.mkdir() if kind == "folder" else at.symlink_to(tmp_path / ("victim" if kind == "link" else "nothing"))
    with pytest.raises(PlanError, match=r"curve\.png is"):
        Written(at.parent, trusted=True).write("curve.png", b"new")
    assert (tmp_path / "victim").read_bytes() == MINE and not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    "name",
    [
        "search.yaml",
        "best.yaml",
        "curve.png",
        "results.json",
        "bred-on.json",
        "examples.json",
        "model/config.json",
        "random/best.yaml",
    ],
)
def test_a_search_leaves_files_of_others_alone(quick, tmp_path: Path, name: str) -> None:
    out = tmp_path / "run"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_bytes(MINE)
    with pytest.raises((PlanError, SearchError)):
        evolve(quick, out)
    assert contents(out) == {name: MINE}


def test_a_search_leaves_a_journal_of_others_alone(tmp_path: Path) -> None:
    for content in (b"diary", b'{"note": 1}\n', b"a line\nand another\n"):
        path = tmp_path / "journal.jsonl"
        path.write_bytes(content)
        with pytest.raises(SearchError, match="no journal of hubmerge"):
            Journal(path, "key", {}, resume=True, replace=True)
        assert path.read_bytes() == content
    path.unlink()
    (tmp_path / "victim").write_bytes(b"")
    path.symlink_to(tmp_path / "victim")
    with pytest.raises(PlanError, match="is a link"):
        Journal(path, "key", {}, resume=True)
    path.unlink()
    path.write_bytes(b'{"hubmerge_jour')  # torn when it was begun
    with Journal(path, "key", {}, resume=True) as journal:
        assert not journal


def test_a_run_goes_on_with_what_it_wrote_and_with_nothing_else(quick, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = evolve(quick, out)
    # An edited search.yaml that says the same is left as its author wrote it.
    edited = b"# mine\n" + (out / "search.yaml").read_bytes()
    (out / "search.yaml").write_bytes(edited)
    (out / "results.json").unlink()
    assert evolve(Search.from_yaml(out / "search.yaml"), out, resume=True).recipe == first.recipe
    assert (out / "search.yaml").read_bytes() == edited
    for name in ("curve.png", "best.yaml", "model/notes.txt"):
        (out / "results.json").unlink(missing_ok=True)
        before = (out / name).read_bytes() if (out / name).exists() else None
        (out / name).write_bytes(MINE)
        with pytest.raises(PlanError, match=Path(name).name):
            evolve(quick, out, resume=True)
        assert (out / name).read_bytes() == MINE
        (out / name).unlink() if before is None else (out / name).write_bytes(before)
    assert evolve(quick, out, resume=True).recipe == first.recipe
    # A run of an earlier version has no record: its journal tells that it is one.
    shutil.rmtree(out / ".hubmerge")
    (out / "results.json").unlink()
    assert evolve(quick, out, resume=True).recipe == first.recipe


def test_a_report_is_written_over_a_report_alone(quick, tmp_path: Path) -> None:
    run, file = tmp_path / "run", tmp_path / "page.html"
    evolve(quick, run)
    assert write_report(run, file) == write_report(run, file)
    changed = file.read_bytes().replace(b"<main>", b"<main>mine", 1)
    for content in (MINE, changed, b"", run.joinpath("journal.jsonl").read_bytes()):
        file.write_bytes(content)
        with pytest.raises(SearchError, match="is no report"):
            write_report(run, file)
        assert file.read_bytes() == content
    with pytest.raises(SearchError, match="is no report"):
        write_report(run, run / "journal.jsonl")
    picture = next((run / "report").glob("*.png"))
    picture.write_bytes(MINE)
    with pytest.raises(PlanError, match=picture.name):
        write_report(run)
    assert picture.read_bytes() == MINE


def test_training_leaves_folders_of_others_alone(tmp_path: Path) -> None:
    from hubmerge.zoo.train import STAGES, train_zoo

    (tmp_path / "japanese").mkdir()
    (tmp_path / "japanese" / "thesis.txt").write_bytes(MINE)
    with pytest.raises(PlanError, match="japanese is there already"):
        train_zoo(tmp_path, stages=STAGES)
    # A record that names the folder is no proof.
    record = {"seed": 1, "threads": 1, "models": {name: {"stages": [], "files": {"x": ""}} for name in STAGES}}
    (tmp_path / "training.json").write_text(json.dumps(record))
    with pytest.raises(PlanError, match="japanese is there already"):
        train_zoo(tmp_path, stages=STAGES)
    assert (tmp_path / "japanese" / "thesis.txt").read_bytes() == MINE
    (tmp_path / "training.json").write_bytes(MINE)
    shutil.rmtree(tmp_path / "japanese")
    with pytest.raises(PlanError, match=r"training\.json"):
        train_zoo(tmp_path, stages=STAGES)


def test_the_zoo_is_published_over_nothing_of_others(hub, tmp_path: Path) -> None:
    folder = tmp_path / "zoo"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# zoo\n")
    api = HfApi()
    assert zoo_publish.upload(api, folder, "alice/written-zoo", "model") == "alice/written-zoo"
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# zoo\n")
    zoo_publish.upload(api, folder, "alice/written-zoo", "model")
    api.create_repo("alice/written-theirs")
    api.upload_file(path_or_fileobj=MINE, path_in_repo="notes.txt", repo_id="alice/written-theirs")
    with pytest.raises(HubError, match="already holds what hubmerge did not push"):
        zoo_publish.upload(api, folder, "alice/written-theirs", "model")
    assert "notes.txt" in api.list_repo_files("alice/written-theirs")
