"""The mirror follows a run without ever stopping it, and gives it back."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hubtools import on_path
from huggingface_hub import HfApi
from waiting import until

from hubmerge.errors import NotFoundError, SearchError
from hubmerge.evolve.records import mirror as mirror_module
from hubmerge.evolve.records.mirror import Mirror, fetch
from hubmerge.localhub import Fault

HEADER, FIRST, SECOND = b'{"key": "k"}\n', b'{"number": 0}\n', b'{"number": 1}\n'


@pytest.fixture
def run(tmp_path: Path) -> dict[str, Path]:
    """The files of a run that has just begun, by their names."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "search.yaml").write_bytes(b"seed: 1\n")
    (folder / "journal.jsonl").write_bytes(HEADER)
    return {name: folder / name for name in ("search.yaml", "journal.jsonl", "best.yaml")}


@pytest.fixture
def faults(hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """Lets the Hub fail until the test ends; the mirror's last tries come quickly."""
    monkeypatch.setattr(mirror_module, "LAST_PAUSE", 0.05)
    yield lambda fault: setattr(hub, "faults", fault)
    hub.faults = None


def there(repo_id: str, tmp_path: Path) -> dict[str, bytes]:
    folder = fetch(repo_id, Path(tempfile.mkdtemp(dir=tmp_path)) / "fetched")
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def commits(repo_id: str) -> int:
    return len(HfApi().list_repo_commits(repo_id, repo_type="dataset"))


def begun(repo_id: str) -> bool:
    return HfApi().repo_exists(repo_id, repo_type="dataset") and commits(repo_id) > 1


def test_a_run_is_mirrored_as_it_goes_and_comes_back(hub, run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, look = [], Mirror._try
    monkeypatch.setattr(Mirror, "_try", lambda self: looks.append(None) or look(self))
    with Mirror("alice/mirror-run", run, every=0.05) as mirror:
        until(lambda: begun("alice/mirror-run"), mirror._error)
        with run["journal.jsonl"].open("ab") as journal:
            journal.write(FIRST + SECOND[:5])
        # No torn line.
        until(lambda: there("alice/mirror-run", tmp_path)["journal.jsonl"] == HEADER + FIRST, mirror._error)
        quiet = commits("alice/mirror-run")
        now = len(looks)
        until(lambda: len(looks) >= now + 3, "the mirror looks no more")
        assert commits("alice/mirror-run") == quiet  # nothing new, no commit
        with run["journal.jsonl"].open("ab") as journal:
            journal.write(SECOND[5:])
        run["best.yaml"].write_bytes(b"merge_method: linear\n")
    assert mirror.summary == "The run is mirrored at alice/mirror-run."
    info = HfApi().dataset_info("alice/mirror-run")
    assert info.private and "hubmerge" in info.tags
    assert there("alice/mirror-run", tmp_path) == {
        "search.yaml": b"seed: 1\n",
        "journal.jsonl": HEADER + FIRST + SECOND,
        "best.yaml": b"merge_method: linear\n",
    }
    folder = fetch("alice/mirror-run", tmp_path / "other machine")
    with pytest.raises(SearchError, match="already holds a search"):
        fetch("alice/mirror-run", folder)
    moved = {name: folder / name for name in run}
    with moved["journal.jsonl"].open("ab") as journal:
        journal.write(b'{"number": 2}\n')
    with Mirror("alice/mirror-run", moved) as mirror:
        pass
    assert there("alice/mirror-run", tmp_path)["journal.jsonl"].count(b"\n") == 4


def test_what_the_hub_does_is_told_once_and_stops_nothing(hub, run, tmp_path: Path, faults) -> None:
    faults(on_path("/commit/", Fault(status=503), times=2))
    with Mirror("alice/mirror-faults", run) as mirror:
        assert mirror._thread.is_alive()
    assert mirror.failures == 2
    assert mirror.summary == "The run is mirrored at alice/mirror-faults; 2 of the updates had to be tried again."
    assert there("alice/mirror-faults", tmp_path)["journal.jsonl"] == HEADER

    faults(on_path("/commit/", Fault(status=503)))
    run["journal.jsonl"].write_bytes(HEADER + FIRST)
    with Mirror("alice/mirror-faults", run) as mirror:
        pass
    assert mirror.failures == 3
    assert mirror.summary.startswith(
        "The mirror alice/mirror-faults does not hold the end of the run: Mirroring to alice/mirror-faults failed: "
        "the Hub has a problem of its own (HTTP 503)"
    )
    with Mirror("hubmerge-demo/not-bobs", run, token="hf_bob") as mirror:
        pass
    assert "does not hold the end of the run" in mirror.summary and "hf_bob" not in mirror.summary


def test_another_run_is_left_alone(hub, run, tmp_path: Path) -> None:
    run["journal.jsonl"].write_bytes(HEADER + FIRST)
    with Mirror("alice/mirror-taken", run) as mirror:
        pass
    assert mirror.failures == 0, mirror._error
    before = commits("alice/mirror-taken")
    run["journal.jsonl"].write_bytes(HEADER + SECOND)
    with Mirror("alice/mirror-taken", run) as mirror:
        pass
    assert "holds a journal.jsonl that this run does not continue" in mirror.summary and mirror.failures == 1
    assert commits("alice/mirror-taken") == before


def test_somebody_elses_commit_is_built_upon(hub, run, tmp_path: Path) -> None:
    api = HfApi()
    with Mirror("alice/mirror-shared", run, every=0.05):
        until(lambda: begun("alice/mirror-shared"), "nothing is mirrored")
        api.upload_file(
            path_or_fileobj=b"mine", path_in_repo="NOTES.md", repo_id="alice/mirror-shared", repo_type="dataset"
        )
        run["journal.jsonl"].write_bytes(HEADER + FIRST)
    assert there("alice/mirror-shared", tmp_path)["journal.jsonl"] == HEADER + FIRST
    assert api.file_exists("alice/mirror-shared", "NOTES.md", repo_type="dataset")


def test_what_is_no_mirror_is_refused(hub, tmp_path: Path) -> None:
    HfApi().create_repo("alice/no-mirror", repo_type="dataset", exist_ok=True)
    with pytest.raises(SearchError, match="no journal"):
        fetch("alice/no-mirror", tmp_path / "run")
    with pytest.raises(NotFoundError):
        fetch("alice/nowhere", tmp_path / "run")
    with pytest.raises(SearchError, match="more than 0 seconds"):
        Mirror("alice/no-mirror", {}, every=0)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("private", "told"), [(True, "already holds what hubmerge did not push"), (False, "is public")]
)
def test_a_dataset_of_others_is_left_alone(hub, run, private: bool, told: str) -> None:
    repo_id = f"alice/not-a-mirror-{private}".lower()
    HfApi().create_repo(repo_id, repo_type="dataset", private=private)
    HfApi().upload_file(path_or_fileobj=b"theirs", path_in_repo="search.yaml", repo_id=repo_id, repo_type="dataset")
    with Mirror(repo_id, run) as mirror:
        pass
    assert told in mirror.summary
    assert commits(repo_id) == 2
