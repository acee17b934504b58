"""Nothing is deleted or written over but what hubmerge wrote, whatever a folder's own records say."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from test_stream_merge import Siblings, load, recipe

from hubmerge.errors import Interrupted, PlanError, ResourceError
from hubmerge.files import write_file
from hubmerge.recipe import Recipe
from hubmerge.stream.executor import merge
from hubmerge.stream.owned import Kept, inside, is_plain, read_plain
from hubmerge.stream.plan import Plan, make_plan


@pytest.fixture(scope="module")
def plan(siblings: Siblings) -> Plan:
    return make_plan(recipe(siblings, "dare_ties"), shard_size=9000)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def forge(folder: Path, **record: object) -> None:
    document = {"key": "x", "shards": {}, "uploaded": {}, "files": {}, **record}
    (folder / ".hubmerge").mkdir(parents=True, exist_ok=True)
    (folder / ".hubmerge/journal.json").write_text(json.dumps(document))


def record_of(path: Path, name: str) -> dict[str, object]:
    """What a finished shard `name` with the bytes of `path` would be noted as."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header.pop("__metadata__", None)
    tensors = {
        tensor: hashlib.sha256(data[end + at["data_offsets"][0] : end + at["data_offsets"][1]]).hexdigest()
        for tensor, at in header.items()
    }
    return {"file": name, "nbytes": len(data), "header": hashlib.sha256(data[:end]).hexdigest(), "tensors": tensors}


@pytest.mark.parametrize("name", ["../victim.txt", "{root}/victim.txt", "sub/../../victim.txt", "link/victim.txt"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_record_does_not_reach_out_of_the_folder(plan: Plan, tmp_path: Path, name: str, overwrite: bool) -> None:
    victim, out = tmp_path / "victim.txt", tmp_path / "out"
    victim.write_text("precious")
    (out / "sub").mkdir(parents=True)
    name = name.format(root=tmp_path)
    if name.startswith("link"):
        (out / "link").symlink_to(tmp_path)
    sha256 = hashlib.sha256(b"precious").hexdigest()
    forge(out, files={name: sha256}, shards={name: {**record_of_nothing(), "file": name}})
    try:
        merge(plan, out, overwrite=overwrite)
    except PlanError:
        assert name.startswith("link")
    assert victim.read_text() == "precious"


def record_of_nothing() -> dict[str, object]:
    return {"nbytes": 8, "header": hashlib.sha256(b"precious").hexdigest(), "tensors": {}}


@pytest.mark.parametrize("files", [["notes.txt"], {"notes.txt": "00" * 32}, {"notes.txt": None}, "notes.txt", 5])
def test_a_name_in_a_record_is_no_proof(plan: Plan, tmp_path: Path, files: object) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    forge(tmp_path, files=files)
    with pytest.raises(PlanError, match=r"other files \(notes\.txt\)"):
        merge(plan, tmp_path)
    merge(plan, tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_shard_in_a_record_is_no_proof_without_its_bytes(plan: Plan, siblings: Siblings, tmp_path: Path) -> None:
    weights = (siblings["math"] / "model.safetensors").read_bytes()
    (tmp_path / "mine.safetensors").write_bytes(weights)
    record = record_of(siblings["japanese"] / "model.safetensors", "mine.safetensors")
    forge(tmp_path, shards={"mine.safetensors": record})
    with pytest.raises(PlanError, match=r"other files \(mine\.safetensors\)"):
        merge(plan, tmp_path)
    assert (tmp_path / "mine.safetensors").read_bytes() == weights


@pytest.mark.parametrize("name", ["config.json", "model-00001-of-00005.safetensors", "tokenizer.json", "README.md"])
def test_a_link_in_the_folder_is_not_written_through(plan: Plan, tmp_path: Path, name: str) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.write_text("precious")
    out.mkdir()
    (out / name).symlink_to(victim)
    (out / "hubmerge.json").write_text(json.dumps({"key": "x", "shards": {}}))
    for overwrite in (False, True):
        with pytest.raises(PlanError):
            merge(plan, out, overwrite=overwrite, files={"README.md": b"# Card"})
    assert victim.read_text() == "precious"
    assert (out / name).is_symlink()


def test_the_work_folder_is_a_link_or_holds_links(plan: Plan, tmp_path: Path) -> None:
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    out.mkdir()
    (elsewhere / "journal.json").write_text("precious")
    (elsewhere / "lock").write_text("precious")
    (out / ".hubmerge").symlink_to(elsewhere)
    with pytest.raises(PlanError, match="which hubmerge did not make"):
        merge(plan, out, overwrite=True)
    (out / ".hubmerge").unlink()
    (out / ".hubmerge").mkdir()
    for make in (os.symlink, os.link):
        for name in ("lock", "journal.json", ".config.json.partial"):
            make(elsewhere / "lock", out / ".hubmerge" / name)
            if make is os.symlink or name == "lock":
                with pytest.raises(PlanError, match="which hubmerge did not make"):
                    merge(plan, out, overwrite=True)
                (out / ".hubmerge" / name).unlink()
    merge(plan, out)
    assert content(elsewhere) == {"journal.json": b"precious", "lock": b"precious"}


@pytest.mark.parametrize("name", ["model.safetensors", "hubmerge.json", ".hubmerge/journal.json", "README.md"])
def test_a_pipe_is_neither_waited_for_nor_removed(plan: Plan, tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / name)
    for overwrite in (False, True):
        with pytest.raises(PlanError):
            merge(plan, tmp_path, overwrite=overwrite, files={"README.md": b"# Card"})
    assert (tmp_path / name).is_fifo()


@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_a_file_that_the_merge_reads_is_not_removed(siblings: Siblings, tmp_path: Path, make) -> None:
    hold, linked = tmp_path / "hold", tmp_path / "linked"
    hold.mkdir()
    linked.mkdir()
    for path in siblings["math"].iterdir():
        (linked / path.name).write_bytes(path.read_bytes())
    os.rename(linked / "model.safetensors", hold / "model.safetensors")
    make(hold / "model.safetensors", linked / "model.safetensors")
    before = content(hold)
    if make is os.symlink:  # within the folder above, for a link that leaves its folder is refused altogether
        kept = Kept([linked / "model.safetensors"])
        assert kept.find(hold / "model.safetensors") == linked / "model.safetensors"
        return
    document = {"merge_method": "linear", "models": [{"model": str(linked), "parameters": {"weight": 1}}]}
    with pytest.raises(PlanError, match="is read by this very work"):
        merge(Recipe.from_dict(document), hold, overwrite=True)
    assert content(hold) == before


def test_the_folder_of_a_model_by_another_way(siblings: Siblings, tmp_path: Path) -> None:
    (tmp_path / "other-way").symlink_to(siblings["math"])
    before = content(siblings["math"])
    with pytest.raises(PlanError, match="is one of the models"):
        merge(recipe(siblings), tmp_path / "other-way", overwrite=True)
    assert content(siblings["math"]) == before


def test_a_file_to_keep_is_kept(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(PlanError, match=r"config\.json is read by this very work"):
        merge(plan, tmp_path, overwrite=True, keep=[tmp_path / "config.json"])
    assert (tmp_path / "config.json").read_text() == "{}"


def test_what_was_edited_since_is_not_written_over(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    merge(plan, out, files={"README.md": b"# Card"})
    merge(plan, out, files={"README.md": b"# Another card"})
    (out / "README.md").write_text("# Edited for an hour")
    with pytest.raises(PlanError, match=r"README\.md was changed or put there by somebody else"):
        merge(plan, out, files={"README.md": b"# Card"})
    assert (out / "README.md").read_text() == "# Edited for an hour"
    merge(plan, out, files={"README.md": b"# Card"}, overwrite=True)
    assert (out / "README.md").read_text() == "# Card"


def test_a_shard_of_others_in_an_unfinished_folder_stays(plan: Plan, tmp_path: Path) -> None:
    def stop(event: object) -> None:
        if event.done >= 12_000:  # type: ignore[attr-defined]
            raise Interrupted("Stopped.")

    with pytest.raises(Interrupted):
        merge(plan, tmp_path, progress=stop)
    mine = tmp_path / plan.shards[-1].file
    mine.write_bytes(b"mine")
    with pytest.raises(PlanError, match="is not of this merge"):
        merge(plan, tmp_path)
    assert mine.read_bytes() == b"mine"


def test_a_finished_model_is_replaced_where_it_is_as_it_was_written(
    siblings: Siblings, plan: Plan, tmp_path: Path
) -> None:
    merge(recipe(siblings), tmp_path, files={"README.md": b"# Card"})
    (tmp_path / "README.md").write_text("# Edited")
    with pytest.raises(PlanError, match=r"already holds other files \(README\.md\)"):
        merge(plan, tmp_path, again=True)
    (tmp_path / "README.md").write_text("# Card")
    merge(plan, tmp_path, again=True)
    assert not (tmp_path / "model.safetensors").exists()
    load(tmp_path)


def test_plain_names(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_text("x")
    (tmp_path / "l").symlink_to(tmp_path / "a/b")
    (tmp_path / "d").symlink_to(tmp_path / "a")
    assert is_plain(tmp_path, "a/b")
    bad: list = ["l", "d/b", "a", "../x", "/etc/hosts", "", ".", "a//b", "a/../a/b", None, 5, "a\0b", "C:b", "a\\b"]
    for name in bad:
        assert not is_plain(tmp_path, name)
    for name in ("l", "d/b", "a"):
        with pytest.raises(PlanError, match="nothing is written through it"):
            inside(tmp_path, name)
    assert read_plain(tmp_path / "l") is None
    assert read_plain(tmp_path / "a/b", 0) is None


def test_half_a_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".report.html.partial").symlink_to(victim)
    with pytest.raises(ResourceError, match="exists"):
        write_file(tmp_path / "report.html", b"x")
    (tmp_path / ".report.html.partial").unlink()
    os.link(victim, tmp_path / ".report.html.partial")
    write_file(tmp_path / "report.html", b"x")
    assert victim.read_text() == "precious"
    assert (tmp_path / "report.html").read_bytes() == b"x"
