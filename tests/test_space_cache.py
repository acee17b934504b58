"""What a page that many share keeps of the Hub: the models used last, up to a limit."""

import os
import time
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants, scan_cache_dir, snapshot_download

from space.work import cache


@pytest.fixture
def own_cache(hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hub cache with three models of 1,000, 2,000 and 3,000 bytes, used three, two and one hours ago."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    api = HfApi()
    for number in (1, 2, 3):
        repo_id = f"alice/cached-{number}"
        api.create_repo(repo_id, exist_ok=True)
        api.upload_file(path_or_fileobj=b"x" * 1000 * number, path_in_repo="config.json", repo_id=repo_id)
        path = Path(snapshot_download(repo_id, cache_dir=folder, allow_patterns="config.json"))
        then = time.time() - 3600 * (4 - number) - 60
        os.utime(path / "config.json", (then, then))
    return folder


def kept(folder: Path) -> list[str]:
    return sorted(repo.repo_id for repo in scan_cache_dir(folder).repos)


def test_what_was_used_longest_ago_goes_first(own_cache: Path) -> None:
    assert cache.trim(6000) == 0 and len(kept(own_cache)) == 3
    assert cache.trim(5500) == 1000
    assert kept(own_cache) == ["alice/cached-2", "alice/cached-3"]
    assert cache.trim(0, spared=1.5 * 3600) == 2000
    assert kept(own_cache) == ["alice/cached-3"]


def test_an_open_file_outlives_its_place(own_cache: Path) -> None:
    path = next((own_cache / "models--alice--cached-1").rglob("config.json"))
    with path.open("rb") as opened:
        cache.trim(0)
        assert not path.exists() and len(opened.read()) == 1000


def test_no_cache_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "nothing"))
    assert cache.trim(0) == 0
