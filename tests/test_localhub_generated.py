"""Generated repositories: real headers, weights made up as they are read, of any size and without disk."""

import logging
import random
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from localhubtools import USERS, call
from safetensors.torch import load_file
from waiting import until

from hubmerge.errors import HubError
from hubmerge.hub import open_source
from hubmerge.localhub import LLAMAS, GeneratedModel, LlamaShape, LocalHub, llama, paper_models, siblings
from hubmerge.localhub.generated.patterns import DRIFT, ELEMENTS, SPREAD
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan

TINY = LlamaShape(hidden=64, intermediate=160, layers=2, heads=4, kv_heads=2, vocab=3000)
BIG = "/alice/big/resolve/main/model-00017-of-00030.safetensors"


@pytest.fixture
def server(tmp_path):
    with LocalHub(tmp_path / "hub", USERS, {"lab": ["alice"]}) as server:
        yield server


def client(server):
    return HfApi(endpoint=server.endpoint, token="hf_alice")


def download(server, repo_id, folder):
    """Every tensor of a repository, from whole files as the client downloads them."""
    snapshot = Path(client(server).snapshot_download(repo_id, cache_dir=folder))
    tensors = {}
    for path in snapshot.glob("*.safetensors"):
        tensors |= load_file(path)
    return tensors


def part(server, path, start, stop):
    status, _, body = call(server, "GET", path, headers={"Range": f"bytes={start}-{stop - 1}"})
    assert (status, len(body)) == (206, stop - start)
    return body


def test_the_client_takes_it_for_a_model(server, tmp_path):
    model = replace(llama(TINY, seed=1, shard_size=200_000), files={"README.md": b"---\nlicense: mit\n---\n"})
    commit = server.generate("lab/tiny", model)
    info = client(server).model_info("lab/tiny", files_metadata=True)
    assert (info.sha, info.card_data.license, info.pipeline_tag) == (commit, "mit", "text-generation")
    assert info.safetensors.parameters == {"BF16": 3000 * 64 * 2 + 2 * 43_136 + 64}
    sizes = {file.rfilename: (file.size, file.lfs) for file in info.siblings}
    names = [name for name in sizes if name.endswith(".safetensors")]
    assert names == [f"model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)]
    for entry in client(server).get_paths_info("lab/tiny", [*names, "config.json"]):
        assert (entry.size, entry.lfs) == sizes[entry.path]
    assert all(len(sizes[name][1].sha256) == 64 for name in names)
    metadata = client(server).get_safetensors_metadata("lab/tiny")
    assert set(metadata.weight_map) == set(TINY.tensors)
    tensors = download(server, "lab/tiny", tmp_path)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == TINY.tensors


def test_any_range_reads_the_same_bytes_as_the_whole_file(server):
    """Also past the end of the pattern, across tensors and in the head."""
    lengths = {"a": (1500, 2000), "b": (3,), "none": (0, 7), "c": (1200, 2048)}
    dtypes = {"a": "BF16", "b": "F32", "none": "F16", "c": "F16"}
    server.generate("alice/m", GeneratedModel({}, {name: (dtypes[name], lengths[name]) for name in lengths}, seed=5))
    path = "/alice/m/resolve/main/model.safetensors"
    whole = call(server, "GET", path)[2]
    assert len(whole) > 2 * 2 * ELEMENTS
    head = 8 + int.from_bytes(whole[:8], "little")
    edges = [head, head + 6_000_000, head + 6_000_012, head + 2 * ELEMENTS]
    draw = random.Random(0)
    for _ in range(25):
        start = max(draw.choice([*edges, draw.randrange(len(whole))]) - draw.randrange(50), 0)
        stop = min(start + draw.choice([1, 2, 99, 5_000_000]), len(whole))
        assert part(server, path, start, stop) == whole[start:stop]


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_weights_look_trained_and_siblings_alike(server, tmp_path, dtype):
    for name, model in {
        "exact": llama(TINY, 1, dtype="F32"),
        "base": llama(TINY, 1, dtype=dtype),
        "tuned": llama(TINY, 2, base_seed=1, dtype=dtype),
        "other": llama(TINY, 2, dtype=dtype),
    }.items():
        server.generate(f"alice/{name}", model)
    names = ("exact", "base", "tuned", "other")
    exact, base, tuned, other = (download(server, f"alice/{name}", tmp_path) for name in names)
    embedding, head = base["model.embed_tokens.weight"].float(), base["lm_head.weight"].float()
    assert torch.isfinite(embedding).all()
    assert abs(embedding.mean()) < 1e-3
    assert abs(embedding.std() / SPREAD - 1) < 0.02
    assert 0.66 < (embedding.abs() < SPREAD).float().mean() < 0.70  # as of a normal distribution
    assert embedding.unique().numel() > 2000
    assert not torch.equal(embedding, head)
    assert all(torch.equal(exact[name].to(tensor.dtype), tensor) for name, tensor in base.items())
    change = tuned["lm_head.weight"].float() - head
    assert abs(change.std() / DRIFT - 1) < 0.02
    difference = other["lm_head.weight"].float() - head
    assert abs(difference.std() / (SPREAD * 2**0.5) - 1) < 0.02


def test_weights_do_not_depend_on_the_shards(server, tmp_path):
    server.generate("alice/one", llama(TINY, 3))
    server.generate("alice/many", llama(TINY, 3, shard_size=30_000))
    one, many = download(server, "alice/one", tmp_path), download(server, "alice/many", tmp_path)
    assert one.keys() == many.keys()
    assert all(torch.equal(one[name], many[name]) for name in one)


def test_140_gigabytes_take_no_disk_and_survive_a_restart(server):
    commit = server.generate("alice/big", llama("70B", seed=1), private=True)
    assert sum(path.stat().st_size for path in server.root.rglob("*") if path.is_file()) < 500_000
    before = part(server, BIG, 4_000_000_000, 4_000_100_000)
    assert call(server, "GET", BIG, token="hf_bob")[0] == 404
    status, headers, _ = call(server, "HEAD", BIG)
    assert (status, headers["X-Linked-Size"]) == (200, headers["Content-Length"])
    etag = headers["ETag"]
    with pytest.raises(HubError, match=r"alice/big: You already created this model repo\."):
        server.generate("alice/big", llama("1B", seed=1))
    server.stop()
    server.start()
    assert server.generate("alice/big", llama("1B", seed=1), exist_ok=True) == commit
    assert part(server, BIG, 4_000_000_000, 4_000_100_000) == before
    assert call(server, "HEAD", BIG)[1]["ETag"] == etag
    server.redirect_seconds = 60
    assert part(server, BIG, 4_000_000_000, 4_000_100_000) == before
    assert server.log[-1].path.startswith("/cdn/")


def test_three_70b_models_are_planned(hub):
    """On the session's Hub, which the environment points at."""
    for name, model in siblings("70B").items():
        hub.generate(f"alice/{name}", model)
    text = """
    {merge_method: ties, base_model: alice/llama-70b, dtype: bfloat16,
     models: [{model: alice/llama-70b-code}, {model: alice/llama-70b-math}], parameters: {density: 0.5, weight: 1}}
    """
    plan = make_plan(Recipe.from_yaml(text), ranged=True)
    assert not plan.errors
    assert plan.parameters == 70_553_706_496
    assert plan.fetch_bytes == 3 * 2 * plan.parameters


def test_what_torch_saves_holds_the_same_weights(server, tmp_path):
    model = llama(TINY, seed=1, base_seed=0)
    server.generate("alice/safe", model)
    server.generate("alice/torch", replace(model, pickled=True, shard_size=300_000))
    files = client(server).list_repo_files("alice/torch")
    assert "pytorch_model.bin.index.json" in files
    assert not any(name.endswith(".safetensors") for name in files)
    snapshot = Path(client(server).snapshot_download("alice/torch", cache_dir=tmp_path))
    found = {name: one for path in snapshot.glob("*.bin") for name, one in torch.load(path).items()}
    expected = download(server, "alice/safe", tmp_path)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    path = f"/alice/torch/resolve/main/{sorted(name for name in files if name.endswith('.bin'))[0]}"
    whole = call(server, "GET", path)[2]
    for start in range(0, len(whole) - 5_000, len(whole) // 7):
        assert part(server, path, start, start + 5_000) == whole[start : start + 5_000]


def test_a_merge_of_made_up_weights_is_compared_with_no_hash(hub, tmp_path):
    """What is listed of them is a name. Read by range in order, they would be told to be something else."""
    tiny = llama(TINY, seed=0)
    hub.generate("alice/made-up", tiny)
    hub.generate("alice/made-up-torch", replace(tiny, pickled=True))
    results = []
    for name in ("made-up", "made-up-torch"):
        recipe = Recipe.from_dict({"merge_method": "passthrough", "models": [{"model": f"alice/{name}"}]})
        results.append(merge(make_plan(recipe, ranged=True), tmp_path / name).tensors)
        assert merge(recipe, tmp_path / f"{name}-downloaded").tensors == results[-1]
    assert results[0] == results[1]


def test_the_papers_models_are_read_from_a_few_requests(hub):
    for name, model in paper_models().items():
        hub.generate(name, model, exist_ok=True)
    hub.clear_log()
    base, shisa, wizard, abel = (open_source(ModelRef.parse(name)) for name in paper_models())
    assert sum(request.path.endswith(".bin") for request in hub.log) <= 5 * 4
    assert sum(request.sent for request in hub.log) < 4_000_000
    assert [one.parameters - base.parameters for one in (shisa, wizard, abel)] == [0, 2 * 4096, 2 * 2 * 4096]
    assert shisa.parameters == 7_241_732_096  # Mistral-7B
    for source, files, dtype in ((shisa, 3, "BF16"), (wizard, 2, "BF16"), (abel, 3, "F32")):
        assert len({tensor.file for tensor in source.tensors.values()}) == files
        assert {tensor.dtype for tensor in source.tensors.values()} == {dtype}


def test_the_command_serves_three_siblings(tmp_path):
    command = [sys.executable, "-u", "-m", "hubmerge", "hub", "--root", str(tmp_path), "--port", "0"]
    with LocalHub(tmp_path, {"me": "hf_me"}) as server:  # one is there already
        server.generate("me/llama-70b-math", siblings("70B")["llama-70b-math"])
    process = subprocess.Popen([*command, "--user", "me:hf_me", "--generate", "70B"], stdout=subprocess.PIPE, text=True)
    try:
        lines = list(takewhile(lambda line: "HF_HUB_DISABLE" not in line, process.stdout))
        assert [line.strip() for line in lines[:3]] == [f"me/{name}" for name in siblings("70B")]
        (endpoint,) = (line.strip().partition("=")[2] for line in lines if "HF_ENDPOINT=" in line)
        info = HfApi(endpoint=endpoint, token="hf_me").model_info("me/llama-70b-math")
        assert info.safetensors.total == 70_553_706_496
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_client_that_leaves_early_is_no_error(server, caplog):
    server.generate("alice/big", llama("70B", seed=1))
    for amount in (1, 50_000, 2_000_000):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(f"GET {BIG} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            connection.recv(amount, socket.MSG_WAITALL)
    until(lambda: len(server.log) == 3, lambda: server.log)
    assert [entry.path for entry in server.log] == [BIG] * 3
    assert all(entry.sent < 100_000_000 for entry in server.log)
    assert part(server, BIG, 0, 8)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_server_stops_under_a_transfer(server, monkeypatch):
    monkeypatch.setattr("hubmerge.localhub.hub._STOP_SECONDS", 1)
    server.stop()
    server.start().generate("alice/big", llama("70B", seed=1))
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"GET {BIG} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert connection.recv(100)
        server.stop()  # of a transfer that nobody takes, and so never ends by itself


def test_what_cannot_be_generated_is_said(server, tmp_path):
    model = llama(TINY, seed=1)
    with pytest.raises(HubError, match="no user or organisation nobody"):
        server.generate("nobody/m", model)
    with pytest.raises(HubError, match="its id must be namespace/name"):
        server.generate("alice", model)
    with pytest.raises(HubError, match="once it is started"):
        LocalHub(tmp_path / "other", USERS).generate("alice/m", model)
    with pytest.raises(HubError, match=r"Tensor w of a generated model cannot be I8 \[2\]"):
        GeneratedModel({}, {"w": ("I8", (2,))}, seed=0)
    with pytest.raises(HubError, match="no dimension negative"):
        GeneratedModel({}, {"w": ("BF16", (-2,))}, seed=0)
    with pytest.raises(HubError, match="at least one tensor"):
        GeneratedModel({}, {}, seed=0)
    with pytest.raises(HubError, match="cannot have this file"):
        replace(model, files={"../up": b""})
    with pytest.raises(HubError, match=f"no Llama of size 71B: choose one of {', '.join(LLAMAS)}"):
        llama("71B", seed=0)
