"""`hubmerge space deploy`: what goes up, what stays, what is refused."""

import subprocess
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hubmerge import deploy
from hubmerge.deploy import MARKER, space_files

ROOT = Path(__file__).parent.parent


@pytest.fixture
def deploying(call):
    """A function that runs `space deploy` in this process: (exit code, what it printed)."""

    def deploying(*arguments: object) -> tuple[int, str]:
        done = call("space", "deploy", *arguments)
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    return deploying


def files_of(repo_id: str) -> set[str]:
    return {item.rfilename for item in HfApi().space_info(repo_id).siblings}


def commits_of(repo_id: str) -> list[str]:
    return [commit.title for commit in HfApi().list_repo_commits(repo_id, repo_type="space")]


def test_a_space_gets_every_file_of_the_packages_but_the_demos_models() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "hubmerge", "space"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    needed = {name for name in listed.stdout.split() if "/checkpoints/" not in name}
    files = space_files()
    assert set(files) >= needed | {"app.py", "README.md", "requirements.txt", "LICENSE"}
    assert not any(name.endswith((".safetensors", ".pyc")) for name in files)


def test_a_dry_run_lists_the_files_and_sends_nothing(deploying, hub) -> None:
    before = len(hub.log)
    code, said = deploying("alice/deploy-dry", "--dry-run")
    assert code == 0
    assert " app.py " in said and " space/app.py " in said and "nothing was sent" in said
    assert len(hub.log) == before


def test_deploy_creates_updates_and_keeps_what_is_the_owners(deploying, hub, monkeypatch) -> None:
    repo_id, api = "alice/deployed", HfApi()
    code, said = deploying(repo_id, "--hardware", "zero-a10g", "--variable", "HUBMERGE_SPACE_MAX_MINUTES=30")
    assert code == 0, said
    assert f"{hub.endpoint}/spaces/{repo_id}" in said
    info = api.space_info(repo_id)
    assert info.private and info.sdk == "gradio" and info.card_data["app_file"] == "app.py"
    assert files_of(repo_id) == {*space_files(), MARKER, ".gitattributes"}
    assert api.get_space_runtime(repo_id).requested_hardware == "zero-a10g"
    assert api.get_space_variables(repo_id)["HUBMERGE_SPACE_MAX_MINUTES"].value == "30"
    assert commits_of(repo_id)[1:] == ["initial commit"]

    # Nothing changed: no commit. A setting that is not given stays.
    assert deploying(repo_id, "--public")[0] == 0
    assert len(commits_of(repo_id)) == 2
    assert api.space_info(repo_id).private
    assert "HUBMERGE_SPACE_MAX_MINUTES" in api.get_space_variables(repo_id)

    # The owner adds a file and changes one of ours; a later version has one file less.
    api.upload_file(path_or_fileobj=b"mine", path_in_repo="notes.txt", repo_id=repo_id, repo_type="space")
    api.upload_file(path_or_fileobj=b"broken", path_in_repo="app.py", repo_id=repo_id, repo_type="space")
    fewer = {name: path for name, path in space_files().items() if name != "LICENSE"}
    monkeypatch.setattr(deploy, "space_files", lambda: fewer)
    assert deploying(repo_id)[0] == 0
    assert files_of(repo_id) == {*fewer, MARKER, ".gitattributes", "notes.txt"}
    app = Path(api.hf_hub_download(repo_id, "app.py", repo_type="space"))
    assert app.read_bytes() == (ROOT / "app.py").read_bytes()
    assert commits_of(repo_id)[0].startswith("Deploy hubmerge")


def test_a_new_empty_space_is_filled_in_public_only_when_asked(deploying) -> None:
    HfApi().create_repo("alice/deploy-empty", repo_type="space", space_sdk="gradio", private=True)
    assert deploying("alice/deploy-empty", "--public")[0] == 0
    assert MARKER in files_of("alice/deploy-empty") and HfApi().space_info("alice/deploy-empty").private
    assert deploying("alice/deploy-public", "--public")[0] == 0
    assert not HfApi().space_info("alice/deploy-public").private


@pytest.mark.parametrize("file", ["app.py", "README.md"])
def test_a_space_of_something_else_is_left_alone(deploying, file) -> None:
    repo_id, api = f"alice/deploy-other-{file[:3].lower()}", HfApi()
    api.create_repo(repo_id, repo_type="space", space_sdk="gradio")
    api.upload_file(path_or_fileobj=b"---\ntitle: mine\n---\n", path_in_repo=file, repo_id=repo_id, repo_type="space")
    before = commits_of(repo_id)
    code, said = deploying(repo_id, "--hardware", "t4-small", "--variable", "A=b")
    assert code == 2 and "was not made by" in said and "choose another name" in said
    assert commits_of(repo_id) == before and MARKER not in files_of(repo_id)
    assert api.get_space_runtime(repo_id).requested_hardware == "cpu-basic" and not api.get_space_variables(repo_id)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["bob/deployed"], 3, "You don't have the rights"),
        (["not a name"], 2, "not a name that a repository can have"),
        (["alice/deploy-abacus", "--hardware", "abacus"], 3, "Unknown hardware 'abacus'"),
        (["alice/deploy-x", "--variable", "LIMIT"], 2, "--variable must be NAME=VALUE"),
        (["alice/deploy-x", "--variable", "HF_TOKEN=hf_alicesecret"], 2, "looks like a token"),
        (["alice/deploy-x", "--token", "hf_nobody"], 3, "does not know this token"),
    ],
)
def test_errors_are_one_sentence(deploying, arguments, code, says) -> None:
    got, said = deploying(*arguments)
    assert (got, says in said) == (code, True), said
    assert "alicesecret" not in said


def test_a_marker_that_cannot_be_read_is_not_guessed_at(deploying) -> None:
    repo_id, api = "alice/deploy-torn", HfApi()
    api.create_repo(repo_id, repo_type="space", space_sdk="gradio")
    api.upload_file(path_or_fileobj=b"{", path_in_repo=MARKER, repo_id=repo_id, repo_type="space")
    code, said = deploying(repo_id)
    assert code == 2 and MARKER in said and "cannot be read" in said
    assert files_of(repo_id) == {MARKER, ".gitattributes"}
