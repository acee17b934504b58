"""Opening a model: pinned once, headers only, and a clear refusal of everything that cannot be merged."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hubtools import CONFIG, INDEX, checkpoint, on_path, publish, shard
from huggingface_hub import CommitOperationDelete, HfApi, constants
from safetensors.numpy import load_file, save

from hubmerge.errors import AccessError, HubError, NetworkError, NotFoundError, SourceError
from hubmerge.hub import open_source, patience, search_models
from hubmerge.hub import session as hub_session
from hubmerge.hub.headers import FIRST_READ
from hubmerge.hub.pins import tensors_digest
from hubmerge.hub.unfound import helped
from hubmerge.localhub import Fault
from hubmerge.reference import ModelRef


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody sleeps; the seconds that were asked for are listed."""
    slept: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", slept.append)
    monkeypatch.setattr(hub_session, "JITTER", 0)
    return slept


@pytest.fixture
def faulty(hub):
    """The Hub, whose faults end with the test."""
    yield hub
    hub.faults = None


def opened(text: str, token: str | None = None):
    return open_source(text, token=token)


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_opens_by_headers_alone(hub) -> None:
    files = checkpoint(shards=3, width=256, front_matter="license: mit\nbase_model: org/base")
    commit = publish("alice/sharded", files)
    hub.clear_log()
    source = opened("alice/sharded")
    assert (source.commit, source.name, source.is_folder) == (commit, "alice/sharded", False)
    assert source.licence.id == "mit"
    assert source.base_models == ("org/base",)
    assert source.config == CONFIG
    assert sorted(source.tensors) == ["layer.0", "layer.1", "layer.2"]
    assert source.tensors["layer.1"].file == "model-00002-of-00003.safetensors"
    assert source.files["README.md"].size == len(files["README.md"])
    assert (source.parameters, source.nbytes) == (3 * 256**2, 3 * 256**2 * 4)
    weights = [request for request in hub.log if request.path.endswith(".safetensors")]
    assert len(weights) == 3
    assert {(r.method, r.status, r.range, r.sent) for r in weights} == {
        ("GET", 206, f"bytes=0-{FIRST_READ - 1}", FIRST_READ)
    }
    later = [request for request in hub.log if "/resolve/" in request.path]
    assert all(f"/resolve/{commit}/" in request.path for request in later)
    assert sum(request.path.startswith("/api/models/") for request in hub.log) == 1


def test_stays_at_its_commit(hub) -> None:
    old, new = checkpoint(seed=1), checkpoint(seed=2)
    commit = publish("alice/moving", old)
    source = opened("alice/moving")
    publish("alice/moving", new)
    hub.clear_log()
    assert source.local_path("model.safetensors").read_bytes() == old["model.safetensors"]
    assert all(f"/resolve/{commit}/" in request.path for request in hub.log)
    assert opened(f"alice/moving@{commit}").identity == source.identity
    assert opened("alice/moving").identity != source.identity


def test_offsets_hold_in_the_downloaded_file() -> None:
    publish("alice/offsets", checkpoint(shards=2))
    source = opened("alice/offsets")
    for name, tensor in source.tensors.items():
        path = source.local_path(tensor.file)
        assert path.read_bytes()[tensor.start : tensor.stop] == load_file(path)[name].tobytes()


def test_opens_branches_and_quoted_names() -> None:
    publish("alice/branched", checkpoint(seed=1))
    api = HfApi()
    api.create_branch("alice/branched", branch="exp/one")
    assert opened("alice/branched@exp/one").commit == api.model_info("alice/branched", revision="exp/one").sha


def test_a_folder_reads_like_a_repository(tmp_path: Path) -> None:
    files = checkpoint(shards=2)
    folder = opened(str(write(tmp_path, files)))
    publish("alice/same", files)
    repository = opened("alice/same")
    assert folder.is_folder
    assert folder.commit is None
    assert dict(folder.tensors) == dict(repository.tensors)
    assert folder.licence.id == repository.licence.id == "apache-2.0"
    assert folder.read_text("README.md") == repository.read_text("README.md")
    assert folder.read_text("missing.txt") is None
    with pytest.raises(SourceError, match=r"no file missing\.txt"):
        repository.local_path("missing.txt")


def test_a_folder_that_changes_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, checkpoint())
    source = opened(str(tmp_path))
    assert opened(str(tmp_path)).identity == source.identity
    (tmp_path / "model.safetensors").write_bytes(shard(["layer.0", "layer.1"]))
    assert opened(str(tmp_path)).identity != source.identity
    with pytest.raises(SourceError, match="changed while it was being used"):
        source.local_path("model.safetensors")


def test_a_damaged_cache_is_fetched_again() -> None:
    files = checkpoint(seed=5)
    publish("alice/damaged", files)
    source = opened("alice/damaged")
    source.local_path("model.safetensors").resolve().write_bytes(b"cut")
    assert source.local_path("model.safetensors").read_bytes() == files["model.safetensors"]


@pytest.mark.parametrize("cut", [b"", b"cut", b"x" * 10**6])
def test_a_cached_file_that_is_not_whole_is_read_from_the_hub(cut: bytes, monkeypatch) -> None:
    files = checkpoint(seed=6)
    publish("alice/cut", files)
    source = opened("alice/cut")
    whole = files["model.safetensors"]
    path = source.local_path("model.safetensors").resolve()
    path.write_bytes(cut)
    assert bytes(source.read_range("model.safetensors", 8, 40)) == whole[8:40]
    path.write_bytes(whole)
    store = dataclasses.replace(source.listing.store, offline="it is away")  # type: ignore[type-var]
    file = source.files["model.safetensors"]
    assert bytes(store.read(file, 8, 40)) == whole[8:40]
    path.write_bytes(cut)
    with pytest.raises(SourceError, match=r"model.safetensors of alice/cut is damaged in the cache .* \(it is away\)"):
        store.read(file, 8, 40)


def test_a_file_that_is_cut_while_it_is_read(monkeypatch) -> None:
    publish("alice/cut-later", files := checkpoint(seed=7))
    source = opened("alice/cut-later")
    path = source.local_path("model.safetensors").resolve()
    size = os.fstat

    def cut_after(number: int) -> os.stat_result:
        found = size(number)
        os.truncate(path, 20)
        return found

    monkeypatch.setattr("hubmerge.hub.store.os.fstat", cut_after)
    assert bytes(source.read_range("model.safetensors", 8, 40)) == files["model.safetensors"][8:40]


def test_a_digest_is_of_whole_tensors_alone(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(checkpoint()["model.safetensors"])
    (tmp_path / "config.json").write_bytes(b"{}")
    source = opened(str(tmp_path))
    assert source.pinned.revision
    os.truncate(tmp_path / "model.safetensors", source.files["model.safetensors"].size - 1)
    with pytest.raises(SourceError, match=r"model.safetensors is cut short within layer"):
        tensors_digest(tmp_path, source.stored)


TWO = checkpoint(shards=2)
SECOND = "model-00002-of-00002.safetensors"
FP8 = b'{"layer.0":{"dtype":"F8_E4M3","shape":[2,2],"data_offsets":[0,4]}}'
REFUSED = {
    "only as pickles": {"config.json": b"{}", "model.ckpt": b"\x80\x04"},
    "not a file that torch.save writes": {"config.json": b"{}", "pytorch_model.bin": b"\x80\x04"},
    "names layer.0.msgpack, which is not a PyTorch file": {
        "config.json": b"{}",
        "layer.0.msgpack": b"",
        "pytorch_model.bin.index.json": b'{"weight_map": {"layer.0": "layer.0.msgpack"}}',
    },
    "damaged at byte": {"model-q4.gguf": b"GGUF"},
    "has 2 GGUF files; name the one": {"model-q4.gguf": b"GGUF", "model-q8.gguf": b"GGUF"},
    "no weights": {"config.json": b"{}", "README.md": b"hello"},
    "is an adapter": {"adapter_config.json": b"{}", "adapter_model.safetensors": shard(["a"])},
    "names no part with its class": {"model_index.json": b"{}", "unet/diffusion.safetensors": shard(["a"])},
    "so it is not a transformers model": {"model.safetensors": shard(["a"])},
    "config.json of .* cannot be read: not valid JSON": {**checkpoint(), "config.json": b"{"},
    "it is not a JSON object": {**checkpoint(), "config.json": b"[]"},
    "is not UTF-8": {**checkpoint(), "config.json": b"\xff\xfe"},
    r"is quantised \(hqq\)": {
        **checkpoint(),
        "config.json": json.dumps({**CONFIG, "quantization_config": {"quant_method": "hqq"}}).encode(),
    },
    r"is quantised \(aqlm\)": {
        **checkpoint(),
        "config.json": json.dumps(
            {**CONFIG, "text_config": {"quantization_config": {"quant_method": "aqlm"}}}
        ).encode(),
    },
    "as F8_E4M3, which is quantised": {
        **checkpoint(),
        "model.safetensors": len(FP8).to_bytes(8, "little") + FP8 + b"\0" * 4,
    },
    "2 safetensors files but no": {"config.json": b"{}", "a.safetensors": shard(["a"]), "b.safetensors": shard(["b"])},
    f"lacks the shard {SECOND}": {name: content for name, content in TWO.items() if name != SECOND},
    "lacks the tensor layer.1": {**TWO, SECOND: shard(["layer.9"])},
    "holds the tensor layer.0 twice": {**TWO, SECOND: shard(["layer.0", "layer.1"])},
    "cut short": {**TWO, SECOND: TWO[SECOND][:-4]},
    "no weight_map": {**TWO, INDEX: b'{"metadata": {}}'},
    "could leave its folder": {**TWO, INDEX: b'{"weight_map": {"layer.0": "../secret.safetensors"}}'},
    "not one tensor": {**checkpoint(), "model.safetensors": save({})},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refuses_what_cannot_be_merged(reason: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=reason):
        opened(str(write(tmp_path / "model", REFUSED[reason])))


@pytest.mark.parametrize("reason", ["only as pickles", "cut short", "lacks the tensor layer.1", "so it is not"])
def test_refuses_repositories_for_the_same_reasons(reason: str) -> None:
    files = next(files for known, files in REFUSED.items() if known.startswith(reason))
    name = f"alice/refused-{abs(hash(reason))}"
    publish(name, files)
    with pytest.raises(SourceError, match=reason) as caught:
        opened(name)
    assert name in str(caught.value)


def test_refuses_an_empty_shard() -> None:
    publish("alice/empty-shard", {**TWO, SECOND: b""})
    with pytest.raises(SourceError, match="has only 0 bytes"):
        opened("alice/empty-shard")


def test_refuses_a_shard_that_was_deleted() -> None:
    publish("alice/half", TWO)
    HfApi().create_commit("alice/half", operations=[CommitOperationDelete(SECOND)], commit_message="Delete")
    with pytest.raises(SourceError, match="lacks the shard"):
        opened("alice/half")


def test_refuses_names_that_leave_their_folder(faulty) -> None:
    for name in ("../../.bashrc", "/etc/passwd", "a\\..\\b", "C:x", "a//b", "a\nb"):
        answer = {"sha": "a" * 40, "siblings": [{"rfilename": name, "size": 1}]}
        faulty.faults = on_path("/api/models", Fault(status=200, body=json.dumps(answer).encode()))
        with pytest.raises(SourceError, match="could leave its folder"):
            opened("alice/named")


def test_refuses_a_missing_folder() -> None:
    with pytest.raises(SourceError, match="no folder"):
        opened("./nowhere")


def test_private_missing_and_gated(hub) -> None:
    publish("alice/secret", checkpoint(), private=True)
    publish("alice/gated", checkpoint())
    HfApi().update_repo_settings("alice/gated", gated="manual")
    for name in ("alice/secret", "alice/never-was"):
        with pytest.raises(NotFoundError, match="no such repository, or it is private"):
            opened(name, token="hf_bob")
    with pytest.raises(NotFoundError, match=r"check the name, .*\. Did you mean alice/gated\?"):
        opened("alice/gatd")
    for name in ("bob/gatd", "alice/zz"):  # an owner that both have is no likeness
        with pytest.raises(NotFoundError, match="or it is private; check the name") as unlike:
            opened(name)
        assert "Did you mean" not in str(unlike.value)
    with pytest.raises(NotFoundError, match=r"hubmerge hub --demo|Did you mean hubmerge-demo/"):
        opened("hubmerge-demo/7")
    demo = ModelRef.parse("hubmerge-demo/zoo-math")
    with (
        pytest.raises(NetworkError, match=r"cannot be reached\. This is .*hubmerge hub --demo"),
        helped(demo, "model", None),
    ):
        raise NetworkError("The Hub cannot be reached.")
    with pytest.raises(NotFoundError, match="no such branch, tag or commit"):
        opened("alice/gated@nothing")
    hub.clear_log()
    with pytest.raises(AccessError, match="is gated; ask for access at http") as caught:
        opened("alice/gated", token="hf_bob")
    assert "hf_bob" not in str(caught.value)
    assert len({request.path for request in hub.log}) == len(hub.log), "a refusal is not tried again"
    assert opened("alice/secret").commit
    source = opened("alice/gated")
    for file in source.files:
        source.local_path(file)
    with pytest.raises(AccessError, match="is gated"):  # what alice fetched is in the cache, and still not bob's
        opened("alice/gated", token="hf_bob")
    assert opened("alice/gated").commit


def test_tokens_stay_out_of_sight() -> None:
    publish("alice/quiet", checkpoint())
    source = opened("alice/quiet", token="hf_alice")
    assert "hf_alice" not in repr(source)
    assert "hf_alice" not in str(source)
    for bad in ("hf_alice\n", "hf_älice", "hf_alice hf_bob"):
        with pytest.raises(AccessError, match="characters that no token has") as caught:
            opened("alice/quiet", token=bad)
        assert "alice" not in str(caught.value)


def test_survives_a_hub_that_stumbles(faulty, naps: list[float]) -> None:
    publish("alice/stumble", checkpoint(shards=2, width=200))
    busy = Fault(status=429, headers={"Retry-After": "7"})
    # Downloads are repeated by huggingface_hub itself: at once, then after the time asked for and one second more.
    # What was cut short has brought something, so that the wait starts again from the shortest.
    stumbles = [
        ("config.json", busy, [8]),
        ("/api/models", Fault(status=503), [0.5, 1]),
        ("/api/models", busy, [7, 7]),
        ("00001-of-00002", Fault(reset=True), [0.5, 1]),
        ("00002-of-00002", Fault(truncate_after=100), [0.5, 0.5]),
    ]
    for part, fault, slept in stumbles:
        faulty.faults = on_path(part, fault, times=2)
        naps.clear()
        assert opened("alice/stumble").commit
        assert naps == slept


def test_gives_up_in_the_end(faulty, naps: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    publish("alice/down", checkpoint())
    endings = [
        (Fault(status=503), "problem of its own"),
        (Fault(reset=True), "broke"),
        (Fault(status=429, headers={"Retry-After": "900"}), "in 900 seconds"),
    ]
    for fault, reason in endings:
        faulty.faults = on_path("/api/models", fault)
        with pytest.raises(NetworkError, match=reason):
            opened("alice/down")
    assert max(naps) <= 60
    monkeypatch.setattr(hub_session, "TIMEOUT", 0.05)
    faulty.faults = on_path("/api/models", Fault(delay=0.3))
    with pytest.raises(NetworkError, match="did not answer in time"):
        opened("alice/down")


def test_a_server_that_ignores_ranges_is_left_at_once(faulty) -> None:
    publish("alice/whole", checkpoint(width=512))
    faulty.faults = on_path("model.safetensors", Fault(ignore_range=True))
    with pytest.raises(HubError, match="sends whole files"):
        opened("alice/whole")


def test_no_network(naps: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NetworkError, match="cannot be reached") as caught:
        opened("alice/anything")
    assert caught.value.exit_code == 3
    with pytest.raises(NetworkError, match="cannot be reached"):
        search_models("anything")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(NetworkError, match="HF_HUB_OFFLINE"):
        opened("alice/anything")


def test_something_else_than_a_hub(faulty) -> None:
    faulty.faults = on_path("/api/models", Fault(status=200, body=b"<html>Please log in to the Wi-Fi</html>"))
    with pytest.raises(NetworkError, match="not like a Hub"):
        opened("alice/anything")


def test_import_is_light() -> None:
    heavy = "{'torch', 'transformers', 'numpy', 'gradio', 'evotorch'}"
    script = f"import sys, hubmerge.hub; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_half_precision_is_located() -> None:
    data = save({"layer.0": np.ones((4, 4), dtype=np.float16)})
    publish("alice/half-precision", {**checkpoint(), "model.safetensors": data})
    tensor = opened("alice/half-precision").tensors["layer.0"]
    assert (tensor.dtype, tensor.shape, tensor.nbytes, tensor.parameters) == ("F16", (4, 4), 32, 16)
