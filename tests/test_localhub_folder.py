"""A local Hub deletes and writes over nothing in its folder but what it made, and follows no link out of it."""

import os
import shutil
import time
from pathlib import Path

import pytest
from localhubtools import USERS

from hubmerge.errors import HubError
from hubmerge.localhub.hub import LocalHub
from hubmerge.localhub.store.folder import MARK, NAMES
from hubmerge.localhub.store.store import Store


def started(root: Path) -> Store:
    """A store as a Hub that starts has it, and stops again."""
    store = Store(root)
    store.open()
    store.close()
    return store


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", [MARK, *NAMES])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path, name):
    precious = tmp_path / name / "notes.txt" if name in ("models", "new", "objects") else tmp_path / name
    precious.parent.mkdir(parents=True, exist_ok=True)
    precious.write_text("precious")
    with pytest.raises(HubError, match=rf"{name} was not made by a local Hub: move it away or use another folder\.$"):
        LocalHub(tmp_path, USERS).start()
    assert contents(tmp_path) == {str(precious.relative_to(tmp_path)): b"precious"}


def test_a_folder_with_other_things_is_taken_they_stay_and_stale_uploads_go(tmp_path):
    (tmp_path / "notes.txt").write_text("precious")
    store = started(tmp_path)
    old = time.time() - 3 * 24 * 3600
    stale = ["objects/incoming/" + "0" * 32, "objects/incoming/parts-" + "1" * 32 + "/1", "new/" + "2" * 32 + "/x"]
    mine = ["objects/incoming/mine.bin", "objects/incoming/folder/mine.bin", "new/mine/mine.txt", "new/mine.txt"]
    young = "objects/incoming/parts-" + "3" * 32 + "/1"
    for name in (*stale, *mine, young):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        for touched in (path, path.parent):
            os.utime(touched, None if name == young else (old, old))
    started(tmp_path)
    assert {name for name in (*stale, *mine, young) if (tmp_path / name).exists()} == {*mine, young}
    assert (tmp_path / "notes.txt").read_text() == "precious"
    store.objects.put(b"and it works")


def test_a_folder_of_an_earlier_version_is_known(tmp_path):
    started(tmp_path)
    (tmp_path / MARK).unlink()
    started(tmp_path)
    assert (tmp_path / MARK).is_file()


@pytest.mark.parametrize("name", ["new", "objects/incoming", "models/alice/m/refs", "requests.jsonl", "secret"])
def test_nothing_is_reached_through_a_link(tmp_path, name):
    outside, root = tmp_path / "outside", tmp_path / "hub"
    store = Store(root)
    store.open()
    store.create("model", "alice/m", "alice", private=False)
    store.secret()
    store.close()
    there = root / name
    if there.is_dir():
        shutil.move(there, outside)
        (outside / ("0" * 32)).write_text("precious")
        os.utime(outside / ("0" * 32), (0, 0))
    else:
        there.unlink(missing_ok=True)
        outside.write_text("precious")
    there.symlink_to(outside)
    before = contents(tmp_path) if outside.is_dir() else outside.read_bytes()
    with pytest.raises(HubError, match=f"{name} is a link or no file, and a local Hub follows none"):
        LocalHub(root, USERS).start()
    assert (contents(tmp_path) if outside.is_dir() else outside.read_bytes()) == before


def test_the_lock_of_another_is_not_opened_through_a_link(tmp_path):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "server.lock").symlink_to(tmp_path / "created")
    with pytest.raises(HubError, match=r"server\.lock was not made by a local Hub"):
        LocalHub(tmp_path / "hub", USERS).start()
    assert not (tmp_path / "created").exists()
