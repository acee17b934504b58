"""The embedded Hub keeps the contract of the real huggingface_hub client: one test per row of what a Hub must serve."""

import base64
import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, HfApi, ModelCard
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from localhubtools import call, commit_lines

from hubmerge.localhub import LocalHub

ROOT = Path(__file__).resolve().parent.parent
CARD = (
    "---\nlibrary_name: transformers\nlicense: mit\nlanguage: ja\ntags: [merge, hubmerge]\n"
    "base_model: [a/b, c/d]\nbase_model_relation: merge\n---\n# A card\n"
)


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Iterator[LocalHub]:
    users = {"alice": "hf_alice", "bob": "hf_bob"}
    with LocalHub(tmp_path_factory.mktemp("hub"), users, {"lab": ["alice"]}) as server:
        yield server


@pytest.fixture
def api(hub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token="hf_alice")


@pytest.fixture
def repo(api, request) -> str:
    """A new model repository named after the test."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name).strip("-")
    return api.create_repo(f"alice/{name}").repo_id


def safetensors_bytes(shapes: dict[str, list[int]], dtype: str = "F32", width: int = 4) -> bytes:
    header, end = {}, 0
    for name, shape in shapes.items():
        count = 1
        for length in shape:
            count *= length
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + count * width]}
        end += count * width
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(end)


def test_the_whole_client_script(tmp_path):
    """The research script that drove the real client through 58 calls passes against a fresh Hub."""
    script = ROOT.parent / "shared" / "prototypes" / "local_hub" / "drive.py"
    if not script.exists():
        pytest.skip("the client script lies outside the repository and is not here")
    with LocalHub(tmp_path / "hub", {"alice": "hf_alice", "bob": "hf_bob"}) as server:
        environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, str(script), str(server.port)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "58 of 58 client steps passed" in done.stdout


def test_whoami(hub, api):
    me = api.whoami()
    assert me["name"] == "alice"
    assert [org["name"] for org in me["orgs"]] == ["lab"]
    assert HfApi(endpoint=hub.endpoint, token="hf_bob").whoami()["orgs"] == []
    with pytest.raises(HfHubHTTPError) as refused:
        HfApi(endpoint=hub.endpoint, token="hf_nobody").whoami()
    assert refused.value.response.status_code == 401


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_every_repository_type(api, kind):
    options = {"space_sdk": "gradio"} if kind == "space" else {}
    url = api.create_repo("alice/of-a-type", repo_type=kind, **options)
    assert (url.repo_type, url.repo_id) == (kind, "alice/of-a-type")
    api.upload_file(repo_id="alice/of-a-type", repo_type=kind, path_or_fileobj=b"data", path_in_repo="a/b.txt")
    path = api.hf_hub_download("alice/of-a-type", "a/b.txt", repo_type=kind)
    assert Path(path).read_bytes() == b"data"
    info = api.repo_info("alice/of-a-type", repo_type=kind)
    assert {sibling.rfilename for sibling in info.siblings} == {".gitattributes", "a/b.txt"}
    listed = {"model": api.list_models, "dataset": api.list_datasets, "space": api.list_spaces}[kind]
    assert "alice/of-a-type" in [item.id for item in listed(author="alice")]
    with pytest.raises(HfHubHTTPError) as exists:
        api.create_repo("alice/of-a-type", repo_type=kind, **options)
    assert exists.value.response.status_code == 409
    api.delete_repo("alice/of-a-type", repo_type=kind)
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info("alice/of-a-type", repo_type=kind)


def test_a_space_remembers_its_hardware_and_variables(hub, api):
    repo_id, first = "alice/a-space", [{"key": "LIMIT", "value": "1"}]
    options = {"repo_type": "space", "space_sdk": "gradio"}
    api.create_repo(repo_id, space_hardware="t4-small", space_variables=first, **options)
    assert api.get_space_runtime(repo_id).requested_hardware == "t4-small"
    assert api.request_space_hardware(repo_id, "zero-a10g").requested_hardware == "zero-a10g"
    assert api.add_space_variable(repo_id, "MORE", "2").keys() == {"LIMIT", "MORE"}
    api.add_space_variable(repo_id, "LIMIT", "3")
    api.delete_space_variable(repo_id, "MORE")
    assert {key: variable.value for key, variable in api.get_space_variables(repo_id).items()} == {"LIMIT": "3"}
    with pytest.raises(HfHubHTTPError) as refused:
        HfApi(endpoint=hub.endpoint, token="hf_bob").add_space_variable(repo_id, "LIMIT", "4")
    assert refused.value.response.status_code == 403
    with pytest.raises(HfHubHTTPError, match="Unknown hardware 'abacus'"):
        api.request_space_hardware(repo_id, "abacus")


def test_namespaces(hub, api):
    assert api.create_repo("short-name").repo_id == "alice/short-name"
    assert api.create_repo("lab/shared").repo_id == "lab/shared"
    for other in ("bob/mine", "nobody/mine"):
        with pytest.raises(HfHubHTTPError) as forbidden:
            api.create_repo(other)
        assert forbidden.value.response.status_code == 403
    api.move_repo("alice/short-name", "lab/moved")
    assert api.repo_info("lab/moved").id == "lab/moved"
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info("alice/short-name")


def test_model_info(api, repo):
    api.create_commit(
        repo,
        [
            CommitOperationAdd("README.md", CARD.encode()),
            CommitOperationAdd("config.json", b'{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}'),
            CommitOperationAdd("model.safetensors", safetensors_bytes({"a": [3, 5], "b": [7]})),
        ],
        commit_message="model",
    )
    info = api.model_info(repo, files_metadata=True)
    assert info.safetensors.parameters == {"F32": 22}
    assert info.safetensors.total == 22
    assert (info.library_name, info.pipeline_tag) == ("transformers", "text-generation")
    assert info.card_data.base_model_relation == "merge"
    assert {"transformers", "safetensors", "llama", "merge", "ja", "license:mit", "base_model:merge:a/b"} <= set(
        info.tags
    )
    files = {sibling.rfilename: sibling for sibling in info.siblings}
    assert files["model.safetensors"].lfs.size == files["model.safetensors"].size > 88
    assert files["README.md"].lfs is None
    assert info.sha == api.list_repo_commits(repo)[0].commit_id
    expanded = api.model_info(repo, expand=["sha", "gated"])
    assert (expanded.sha, expanded.gated, expanded.siblings) == (info.sha, False, None)


def test_list_models(hub, api):
    for number in range(5):
        name = f"bob/list-{'even' if number % 2 == 0 else 'odd'}-{number}"
        bob = HfApi(endpoint=hub.endpoint, token="hf_bob")
        bob.create_repo(name)
        bob.create_commit(
            name,
            [
                CommitOperationAdd("README.md", f"---\ntags: [t{number % 2}]\nlicense: mit\n---\n".encode()),
                CommitOperationAdd("model.safetensors", safetensors_bytes({"a": [1000 * (number + 1)]})),
            ],
            commit_message="m",
        )
    assert [m.id for m in api.list_models(search="LIST even", sort="created_at")] == [
        "bob/list-even-4",
        "bob/list-even-2",
        "bob/list-even-0",
    ]
    assert {m.id for m in api.list_models(author="bob", filter=["t1", "license:mit"])} == {
        "bob/list-odd-1",
        "bob/list-odd-3",
    }
    assert len(list(api.list_models(author="bob", limit=2))) == 2
    assert {m.id for m in api.list_models(author="bob", num_parameters="min:2K,max:3K")} == {
        "bob/list-odd-1",
        "bob/list-even-2",
    }
    expanded = next(iter(api.list_models(search="list-odd-1", expand=["safetensors", "lastModified"])))
    assert expanded.safetensors.total == 2000
    assert expanded.tags is None
    full = next(iter(api.list_models(search="list-odd-1", full=True, cardData=True)))
    assert full.siblings
    assert full.card_data.license == "mit"


def test_list_models_by_pages(hub, api):
    """A client that follows Link headers sees every model once."""
    wanted = {f"alice/page-{number}" for number in range(5)}
    for name in wanted:
        api.create_repo(name)
    url, seen = "/api/models?search=page-&limit=2", []
    while url:
        _, headers, body = call(hub, "GET", url, token=None)
        seen.append([item["id"] for item in json.loads(body)])
        url = (headers["Link"] or "").partition("<")[2].partition(">")[0]
    assert [len(page) for page in seen] == [2, 2, 1]
    assert {name for page in seen for name in page} == wanted


def test_tree_and_paths_info(api, repo):
    operations = [CommitOperationAdd(f"deep/er/{number:03}.txt", b"%d" % number) for number in range(60)]
    api.create_commit(repo, [*operations, CommitOperationAdd("top.bin", b"binary")], commit_message="many")
    everything = list(api.list_repo_tree(repo, recursive=True))
    assert sum(hasattr(item, "blob_id") for item in everything) == 62
    assert [item.path for item in api.list_repo_tree(repo)] == [".gitattributes", "deep", "top.bin"]
    assert [item.path for item in api.list_repo_tree(repo, "deep")] == ["deep/er"]
    inside = list(api.list_repo_tree(repo, "deep/er", expand=True))  # 60 entries are two pages where they are expanded
    assert len({item.path for item in inside}) == 60
    assert {item.last_commit.title for item in inside} == {"many"}
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree(repo, "no/such"))
    found = api.get_paths_info(repo, ["top.bin", "deep/er", "absent"], expand=True)
    assert [item.path for item in found] == ["top.bin", "deep/er"]
    assert found[0].lfs.size == 6
    assert found[1].last_commit.title == "many"


def test_references_and_history(api, repo):
    first = api.upload_file(repo_id=repo, path_or_fileobj=b"1", path_in_repo="n.txt", commit_message="one").oid
    second = api.upload_file(repo_id=repo, path_or_fileobj=b"2", path_in_repo="n.txt", commit_message="two").oid
    api.create_tag(repo, tag="v1", revision=first)
    api.create_branch(repo, branch="feature/x", revision="v1")
    api.create_branch(repo, branch="feature")  # git itself could not have it beside feature/x
    refs = api.list_repo_refs(repo)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {
        "main": second,
        "feature/x": first,
        "feature": second,
    }
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": first}

    def read(revision):
        return Path(api.hf_hub_download(repo, "n.txt", revision=revision)).read_text()

    assert [read(name) for name in ("main", "v1", "feature/x", first, "refs/heads/feature")] == [
        "2",
        "1",
        "1",
        "1",
        "2",
    ]
    assert api.model_info(repo, revision=first[:7]).sha == first
    for missing in ("nope", "0" * 40, "abcdef0"):
        with pytest.raises(RevisionNotFoundError):
            api.model_info(repo, revision=missing)
    with pytest.raises(HfHubHTTPError):
        api.create_tag(repo, tag="v1")
    api.create_tag(repo, tag="v1", exist_ok=True)
    with pytest.raises(BadRequestError):
        api.create_branch(repo, branch="refs/pr/5")
    with pytest.raises(HfHubHTTPError):
        api.delete_branch(repo, branch="main")
    api.delete_branch(repo, branch="feature/x")
    api.delete_tag(repo, tag="v1")
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(repo, tag="v1")
    assert [commit.title for commit in api.list_repo_commits(repo)] == ["two", "one", "initial commit"]
    api.super_squash_history(repo)
    assert len(api.list_repo_commits(repo)) == 1
    assert read("main") == "2"


def test_long_history_comes_in_pages(hub, api, repo):
    for number in range(55):
        lines = commit_lines(("file", {"path": "n.txt", "content": ""}), summary=f"number {number}")
        assert call(hub, "POST", f"/api/models/{repo}/commit/main", lines)[0] == 200
    titles = [commit.title for commit in api.list_repo_commits(repo)]
    assert titles == [*(f"number {number}" for number in reversed(range(55))), "initial commit"]


def test_commit_operations(api, repo):
    api.create_commit(
        repo,
        [
            CommitOperationAdd("a/one.txt", b"1"),
            CommitOperationAdd("a/two.bin", b"22"),
            CommitOperationAdd("keep.txt", io.BytesIO(b"k")),
            CommitOperationAdd("empty.bin", b""),
        ],
        commit_message="add",
        commit_description="why",
    )
    api.create_commit(
        repo,
        [CommitOperationCopy("a/two.bin", "copy.bin"), CommitOperationCopy("keep.txt", "copy.txt")],
        commit_message="copy",
    )
    assert Path(api.hf_hub_download(repo, "copy.bin")).read_bytes() == b"22"
    api.delete_folder("a", repo)
    api.delete_files(repo, ["*.txt"])
    assert sorted(api.list_repo_files(repo)) == [".gitattributes", "copy.bin", "empty.bin"]
    with pytest.raises(RemoteEntryNotFoundError):
        api.delete_file("absent.txt", repo)
    messages = {commit.title: commit.message for commit in api.list_repo_commits(repo)}
    assert messages["add"] == "why"


def test_a_file_cannot_become_a_folder(api, repo):
    api.upload_file(repo_id=repo, path_or_fileobj=b"1", path_in_repo="a")
    with pytest.raises(BadRequestError, match="file and a folder"):
        api.upload_file(repo_id=repo, path_or_fileobj=b"1", path_in_repo="a/b")
    assert "a/b" not in api.list_repo_files(repo)


def test_gitignore_is_respected(api, repo, tmp_path):
    (tmp_path / "cache").mkdir()
    for name in (".gitignore", "a.py", "a.pyc", "cache/x.txt"):
        (tmp_path / name).write_text("*.pyc\ncache/\n")
    api.upload_folder(repo_id=repo, folder_path=tmp_path)
    assert sorted(api.list_repo_files(repo)) == [".gitattributes", ".gitignore", "a.py"]


def test_pull_requests(hub, api, repo):
    bob = HfApi(endpoint=hub.endpoint, token="hf_bob")
    api.upload_file(repo_id=repo, path_or_fileobj=b"base\n", path_in_repo="n.txt")
    made = bob.create_commit(repo, [CommitOperationAdd("n.txt", b"bob\n")], commit_message="better", create_pr=True)
    assert made.pr_num == 1
    assert Path(api.hf_hub_download(repo, "n.txt")).read_text() == "base\n"
    bob.create_commit(repo, [CommitOperationAdd("new.bin", b"bob")], commit_message="more", revision="refs/pr/1")
    details = api.get_discussion_details(repo, 1)
    assert (details.status, details.is_pull_request, details.conflicting_files) == ("open", True, [])
    assert "-base\n+bob" in details.diff
    assert [event.type for event in details.events] == ["comment", "commit", "commit"]
    with pytest.raises(HfHubHTTPError):
        bob.merge_pull_request(repo, 1)
    api.upload_file(repo_id=repo, path_or_fileobj=b"other", path_in_repo="other.txt")
    api.merge_pull_request(repo, 1)
    assert Path(api.hf_hub_download(repo, "n.txt")).read_text() == "bob\n"
    assert {"new.bin", "other.txt"} <= set(api.list_repo_files(repo))
    details = api.get_discussion_details(repo, 1)
    assert (details.status, details.merge_commit_oid) == ("merged", api.model_info(repo).sha)
    assert [one.num for one in api.get_repo_discussions(repo, discussion_type="pull_request")] == [1]


def test_a_conflicting_pull_request_is_not_merged(api, repo):
    api.upload_file(repo_id=repo, path_or_fileobj=b"0", path_in_repo="n.txt")
    number = api.create_pull_request(repo, title="mine").num
    api.upload_file(repo_id=repo, path_or_fileobj=b"pr", path_in_repo="n.txt", revision=f"refs/pr/{number}")
    api.upload_file(repo_id=repo, path_or_fileobj=b"main", path_in_repo="n.txt")
    assert api.get_discussion_details(repo, number).conflicting_files == ["n.txt"]
    with pytest.raises(HfHubHTTPError) as conflict:
        api.merge_pull_request(repo, number)
    assert conflict.value.response.status_code == 409
    assert Path(api.hf_hub_download(repo, "n.txt")).read_text() == "main"
    api.change_discussion_status(repo, number, "closed")
    assert [(one.title, one.status) for one in api.get_repo_discussions(repo)] == [("mine", "closed")]


def test_safetensors_metadata(api, repo):
    index = {"metadata": {"total_size": 88}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    api.create_commit(
        repo,
        [
            CommitOperationAdd("model.safetensors.index.json", json.dumps(index).encode()),
            CommitOperationAdd("one.safetensors", safetensors_bytes({"a": [3, 5]})),
            CommitOperationAdd("two.safetensors", safetensors_bytes({"b": [7]}, "BF16", 2)),
        ],
        commit_message="shards",
    )
    for metadata in (api.get_safetensors_metadata(repo), api.get_sharded_safetensors_metadata(repo)):
        assert metadata.weight_map == index["weight_map"]
        assert metadata.parameter_count == {"F32": 15, "BF16": 7}
    assert api.model_info(repo).safetensors.parameters == {"F32": 15, "BF16": 7}


def test_cards_are_validated(hub, api, repo):
    """The client asks before it commits, and the Hub refuses a broken card from any other client too."""
    broken = {
        b"---\nbase_model_relation: cousin\n---\n": "base_model_relation",
        b"---\nbase_model: ../../etc\n---\n": "base_model",
        b"---\na: &a [x, x]\nb: &b [*a, *a]\n---\n": "aliases",
        b"---\ntags: {a: b}\n---\n": "tags",
        b"---\n: [\n---\n": "YAML",
    }
    for text, reason in broken.items():
        with pytest.raises(ValueError, match=reason):
            api.upload_file(repo_id=repo, path_or_fileobj=text, path_in_repo="README.md")
        lines = commit_lines(("file", {"path": "README.md", "content": base64.b64encode(text).decode()}))
        assert call(hub, "POST", f"/api/models/{repo}/commit/main", lines)[0] == 400
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        api.upload_file(repo_id=repo, path_or_fileobj=b"# No metadata", path_in_repo="README.md")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        api.upload_file(repo_id=repo, path_or_fileobj=CARD.encode(), path_in_repo="README.md")
    assert api.model_info(repo).card_data.to_dict() == ModelCard(CARD).data.to_dict()


def test_odd_values_in_a_card_stay_valid_json(api, repo):
    text = b"---\nreleased: 2024-05-01\nscore: .nan\n1: one\n---\n"
    api.upload_file(repo_id=repo, path_or_fileobj=text, path_in_repo="README.md")
    card = api.model_info(repo).card_data.to_dict()
    assert card["released"] == "2024-05-01"
    assert card.get("score") is None


def test_a_preuploaded_shard_is_in_the_next_commit(api, repo):
    before = api.model_info(repo).sha
    operations = []
    for number in range(2):
        operation = CommitOperationAdd(f"shard-{number}.safetensors", os.urandom(2000))
        api.preupload_lfs_files(repo, [operation])
        assert operation.path_or_fileobj == b""  # the client has let go of the bytes
        operations.append(operation)
    assert api.model_info(repo).sha == before
    api.create_commit(repo, operations, commit_message="shards", parent_commit=before)
    assert len(api.list_repo_commits(repo)) == 2


def test_transformers_pushes_and_loads():
    """With the session's Hub: from_pretrained and push_to_hub take HF_ENDPOINT as it was when they were imported."""
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    model = LlamaForCausalLM(LlamaConfig(num_attention_heads=2, num_key_value_heads=2, **sizes))
    model.push_to_hub("alice/contract-tiny", private=True)
    loaded = AutoModelForCausalLM.from_pretrained("alice/contract-tiny")
    assert loaded.num_parameters() == 7248
    assert all((a == b).all() for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
