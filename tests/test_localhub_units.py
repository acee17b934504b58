"""The embedded Hub's small parts: names, git ids, gitignore rules, byte ranges, disk."""

import importlib
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from huggingface_hub import HfApi

import hubmerge.localhub
from hubmerge.errors import HubError
from hubmerge.localhub.api.ignore import ignore_rule
from hubmerge.localhub.names import check_name, check_namespace, check_path, check_reference
from hubmerge.localhub.serving.delivery import RangeNotSatisfiable, parse_range
from hubmerge.localhub.store import gitids
from hubmerge.localhub.store.disk import atomic_file, read_json, write_json

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder, *arguments: str, stdin: str | None = None) -> str:
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_AUTHOR_DATE": "1700000000 +0000",
        "GIT_COMMITTER_DATE": "1700000000 +0000",
    }
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_NAME": "alice", f"GIT_{role}_EMAIL": "alice@localhub"}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, input=stdin, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


@needs_git
def test_ids_are_those_of_git(tmp_path):
    files = {
        "README.md": b"# hi\n",
        "a/b/c.txt": b"c",
        "a/b.txt": b"b",
        "a.txt": b"",
        "日本/語.txt": b"x",
        "a-b/z": b"z",
    }
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    blobs = {path: gitids.blob_id(content) for path, content in files.items()}
    trees = gitids.tree_ids(blobs)
    tree = git(tmp_path, "write-tree")
    assert trees[""] == tree
    assert trees["a/b"] == git(tmp_path, "rev-parse", f"{tree}:a/b")
    parent = git(tmp_path, "commit-tree", tree, stdin="first")
    assert gitids.commit_id(tree, [], "alice", 1700000000, "first") == parent
    child = git(tmp_path, "commit-tree", tree, "-p", parent, stdin="二\n\nwhy")
    assert gitids.commit_id(tree, [parent], "alice", 1700000000, "二\n\nwhy") == child


@needs_git
def test_gitignore_rules_are_those_of_git(tmp_path):
    rules = "# comment\n*.pyc\nbuild/\n/only-root.txt\ndoc/*.txt\n**/deep/x\nlogs/**\n!keep.pyc\nname?\nspecial.[ch]\n"
    rules += "up/**/down/*.log\nt*a*b*c\n"
    paths = ["a.pyc", "b/a.pyc", "keep.pyc", "build/x", "b/build/y/z", "build.txt", "only-root.txt", "b/only-root.txt"]
    paths += ["doc/a.txt", "doc/b/a.txt", "x/deep/x", "deep/x", "logs/a/b", "name1", "name", "ignored", "b/name2/c"]
    paths += [
        "special.c",
        "b/special.h",
        "special.o",
        "up/down/x.log",
        "up/a/b/down/y.log",
        "up/a/x.log",
        "tabc",
        "tacb",
    ]
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text(rules)
    ignored = set(git(tmp_path, "check-ignore", "--no-index", *paths).splitlines())
    rule = ignore_rule(rules)
    assert {path for path in paths if rule(path)} == ignored
    assert len(ignored) > 5


def test_rules_of_many_stars_come_to_an_end():
    """Each of these would take a matcher that tries every way longer than anybody lives."""
    for rule, path in (
        ("*a" * 100 + "b", "a" * 250),
        ("**/a/" * 100 + "b", "a/" * 120 + "c"),
        ("*" * 200 + "b", "a" * 250),
        ("**/*a*" * 50 + "/b/", "a/" * 120 + "c"),
    ):
        assert not ignore_rule(rule)(path)
        assert ignore_rule(f"{rule}\nc\na*")(path)
    with pytest.raises(ValueError, match=r"more than 10,000 characters"):
        ignore_rule("a\n" * 10_001)


@pytest.mark.parametrize("name", ["a", "Foo-BAR_foo.bar123", "_x_", "1", "x" * 96])
def test_good_names(name):
    from huggingface_hub.utils import validate_repo_id

    validate_repo_id(f"{name}/{name}")
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "-a", "a-", "a.", ".a", "a b", "a/b", "a--b", "a..b", "a.git", "é", "x" * 97, "a\n", None, 3],
)
def test_bad_names(name):
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    with pytest.raises(ValueError, match="not a valid name"):
        check_name(name)
    if isinstance(name, str):
        with pytest.raises(HFValidationError):
            validate_repo_id(f"ok/{name}")


@pytest.mark.parametrize("name", ["api", "Datasets", "oauth", "lfs"])
def test_reserved_namespaces(name):
    with pytest.raises(ValueError, match="reserved"):
        check_namespace(name)


@pytest.mark.parametrize("path", ["a", "a/b.txt", "日本語.md", ".gitattributes", "a b/c d", "...x"])
def test_good_paths(path):
    assert check_path(path) == path


@pytest.mark.parametrize("path", ["", "/a", "a/", "a/../b", "..", "a\\b", "a\0b", "x" * 1025, "\ud800", ".git/x", 3])
def test_bad_paths(path):
    with pytest.raises(ValueError, match="path"):
        check_path(path)


@pytest.mark.parametrize(
    "name", ["refs/pr/1", "a..b", "/a", "a/", "a//b", ".a", "a/.b", "a.lock", "a b", "a~1", "", "x."]
)
def test_bad_references(name):
    with pytest.raises(ValueError, match="branch or tag"):
        check_reference(name)
    assert check_reference("feature/x-1.0") == "feature/x-1.0"


def test_a_range_of_nothing():
    assert parse_range(None, 0) is None
    for header in ("bytes=0-", "bytes=-1"):
        with pytest.raises(RangeNotSatisfiable):
            parse_range(header, 0)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "f.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError, match="stop"), atomic_file(path) as file:  # noqa: PT012 - the write comes first
        file.write(b"half")
        raise RuntimeError("stop")
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_is_a_package_by_itself(tmp_path, monkeypatch):
    """Copied, with an error of one's own in its one file that takes something of hubmerge, it is a Hub."""
    own = tmp_path / "ownhub"
    shutil.copytree(Path(hubmerge.localhub.__file__).parent, own, ignore=shutil.ignore_patterns("__pycache__"))
    (own / "errors.py").write_text("class HubError(Exception):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    ownhub = importlib.import_module("ownhub")
    try:
        with ownhub.LocalHub(tmp_path / "hub", {"alice": "hf_alice"}) as server:
            assert HfApi(endpoint=server.endpoint, token="hf_alice").create_repo("m").repo_id == "alice/m"
            assert "alice/m" in urllib.request.urlopen(server.endpoint).read().decode()
        assert not issubclass(sys.modules["ownhub.errors"].HubError, HubError)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "ownhub"]:
            del sys.modules[name]


def test_the_import_is_light():
    """No client library, no torch, no gradio; OAuth's packages only when somebody signs in."""
    heavy = ("huggingface_hub", "torch", "gradio", "transformers", "joserfc", "authlib", "cryptography")
    script = f"import hubmerge.localhub, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
