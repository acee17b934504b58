"""`hf merge`: hubmerge as a command of the real hf, registered by itself or installed from a repository."""

import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub.cli import extensions

from hubmerge.typed import EXTENSION, typed

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parent.parent
HF = Path(sys.executable).with_name("hf")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def hf(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The real hf, in a process of its own."""
    settings = {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1", **env}
    return subprocess.run([HF, *words], capture_output=True, text=True, env={**os.environ, **settings}, timeout=120)


def test_hf_looks_where_we_register() -> None:
    assert EXTENSION == extensions.EXTENSIONS_ROOT / "hf-merge"


def test_registered_hf_merge_runs_and_is_named_in_help_and_hints(home, call, tmp_path) -> None:
    assert "Usage: hf merge" not in hf("merge", "--help").stdout
    assert call("register").returncode == 0
    assert hf("merge", "--version").stdout.startswith("hubmerge ")
    shown = hf("merge", "merge", "--help")
    assert "Usage: hf merge merge" in shown.stdout and "Traceback" not in shown.stderr
    (tmp_path / "moe.yaml").write_text("{base_model: a/b, experts: []}")
    done = hf("merge", "plan", str(tmp_path / "moe.yaml"))
    assert done.returncode == 2 and "show it with: hf merge moe " in done.stderr
    assert "Merge and evolve models" in hf("--help").stdout


def test_registering_twice_is_registering_once_and_leaves_others_alone(home, call, monkeypatch) -> None:
    root = home / ".local/share/hf/extensions"
    other = root / "hf-other" / "manifest.json"
    other.parent.mkdir(parents=True)
    other.write_text("{}")
    for _ in range(2):
        assert call("register").returncode == 0
    found = json.loads((root / "hf-merge" / "manifest.json").read_text())
    assert Path(found["executable_path"]).is_file() and found["short_name"] == "merge"
    # Nobody is asked for a newer version of what pip installed.
    monkeypatch.setattr(extensions, "_github_request", lambda *args, **kwargs: pytest.fail("GitHub was asked"))
    monkeypatch.setattr(extensions, "_execute_extension_binary", lambda executable_path, args: len(args))
    assert extensions.dispatch_unknown_top_level_extension(["merge", "a", "b"], set()) == 2
    for said in ("no command any more", "was not registered"):
        done = call("unregister")
        assert done.returncode == 0 and said in done.stdout
    assert [path.name for path in root.iterdir()] == ["hf-other"] and other.read_text() == "{}"


def test_a_tool_that_lies_behind_a_link_registers_where_it_lies(home, call, tmp_path, monkeypatch) -> None:
    """As pipx and uv install one: its environment out of sight, a link to its program in a folder on the path."""
    made, shown = tmp_path / "tools/hubmerge/bin", tmp_path / "bin"
    for folder in (made, shown):
        folder.mkdir(parents=True)
    for name in ("hubmerge", "hf-merge"):
        (made / name).touch(mode=0o755)
    (shown / "hubmerge").symlink_to(made / "hubmerge")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(shown))
    assert call("register").returncode == 0
    manifest = json.loads((home / ".local/share/hf/extensions/hf-merge/manifest.json").read_text())
    assert manifest["executable_path"] == str(made / "hf-merge")
    (made / "hf-merge").unlink()
    done = call("register")
    assert done.returncode == 2 and "which hf would run" in done.stderr


@pytest.mark.parametrize("manifest", [None, "{", '{"owner": "somebody"}'])
def test_what_somebody_else_installed_as_hf_merge_stays(home, call, manifest) -> None:
    folder = home / ".local/share/hf/extensions/hf-merge"
    folder.mkdir(parents=True)
    if manifest is not None:
        (folder / "manifest.json").write_text(manifest)
    for command in ("register", "unregister"):
        done = call(command)
        assert done.returncode == 2 and "`hf extensions remove merge`" in " ".join(done.stderr.split())
    assert {path.name for path in folder.iterdir()} == ({"manifest.json"} if manifest else set())


def test_an_hf_without_extensions_is_said_in_a_sentence(home, call, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub.cli.extensions", None)
    done = call("register")
    assert done.returncode == 2 and "takes no extensions; pip install 'huggingface_hub>=2.4'" in done.stderr


@pytest.mark.parametrize(
    ("program", "registered", "said"),
    [
        ("/x/bin/hubmerge", True, "hubmerge push"),
        ("/x/hubmerge/__main__.py", False, "hubmerge push"),
        ("/x/bin/hf-merge", False, "hf-merge push"),
        ("/x/bin/hf-merge", True, "hf merge push"),
    ],
)
def test_a_hint_is_what_was_typed(home, call, monkeypatch, program, registered, said) -> None:
    if registered:
        call("register")
    monkeypatch.setattr(sys, "argv", [program])
    assert typed("push") == said


def test_the_file_that_hf_installs_says_so_where_it_was_not() -> None:
    done = subprocess.run([ROOT / "hf-merge", "--version"], capture_output=True, text=True)
    assert done.returncode == 2 and "hf extensions install OWNER/hf-merge" in done.stderr


class GitHub(BaseHTTPRequestHandler):
    """What hf asks of GitHub for the repository someone/hf-merge, whose files are those of this project."""

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/someone/hf-merge" else 404)
        self.end_headers()

    def do_GET(self) -> None:
        name = self.path.removeprefix("/someone/hf-merge/HEAD/")
        if name in ("hf-merge", "pyproject.toml"):
            content = (ROOT / name).read_bytes()
        elif self.path.startswith("/someone/hf-merge.git/info/refs"):
            content = b"001e# service=git-upload-pack\n0000" + b"a" * 40 + b" HEAD\0 symref=HEAD:refs/heads/main\n"
        else:
            self.send_response(404)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def github() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), GitHub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


HF_THERE = """
import re, sys
from huggingface_hub.cli import extensions
asked, address = extensions._github_request, sys.argv[1]
def here(method, url, **settings):
    return asked(method, re.sub("https://(raw.githubusercontent|github).com", address, url), **settings)
extensions._github_request = here
from huggingface_hub.cli.hf import main
sys.argv = ["hf", *sys.argv[2:]]
main()
"""


def editable(folder: Path) -> Path:
    """A wheel of hubmerge with nothing in it but its programs and the way to this checkout."""
    made = folder / "hubmerge-0-py3-none-any.whl"
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    info = {
        "METADATA": "Metadata-Version: 2.1\nName: hubmerge\nVersion: 0\nProvides-Extra: all\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "entry_points.txt": "\n".join(["[console_scripts]", *(f"{name} = {at}" for name, at in scripts.items())]),
        "RECORD": "",
    }
    with zipfile.ZipFile(made, "w") as wheel:
        wheel.writestr("hubmerge_here.pth", f"{ROOT}\n")
        for name, text in info.items():
            wheel.writestr(f"hubmerge-0.dist-info/{name}", text)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["uv", pytest.param("pip", marks=pytest.mark.thorough)])
def test_hf_installs_it_from_a_repository_and_it_installs_itself_once(home, github, tmp_path, tool) -> None:
    def there(*words: str) -> subprocess.CompletedProcess[str]:
        # The environment that it makes for itself gets hubmerge alone; what that needs is lent from ours.
        lent = os.pathsep.join(path for path in sys.path if path.endswith("-packages"))
        path = os.pathsep.join([str(tools), str(Path(sys.executable).resolve().parent), "/usr/bin", "/bin"])
        more = {"HUBMERGE_FROM": wheel.as_uri(), "HUBMERGE_TORCH": "", "PIP_NO_DEPS": "1", "PATH": path}
        return subprocess.run(
            [sys.executable, "-c", HF_THERE, github, *words],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": lent, "NO_COLOR": "1", **more},
            timeout=300,
        )

    wheel, tools = editable(tmp_path), tmp_path / "tools"
    tools.mkdir()
    if tool == "uv":
        (tools / "uv").write_text(f'#!/bin/sh\nexec "{Path(sys.executable).with_name("uv")}" "$@" --offline\n')
        (tools / "uv").chmod(0o755)
    done = there("extensions", "install", "someone/hf-merge")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = home / ".local/share/hf/extensions/hf-merge"
    assert (folder / "hf-merge").read_bytes() == (ROOT / "hf-merge").read_bytes()
    first, second = there("merge", "--version"), there("merge", "--help")
    assert first.stdout.startswith("hubmerge ") and "installing hubmerge" in first.stderr, first.stderr
    assert "Usage: hf merge" in second.stdout and "installing" not in second.stderr
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace("a" * 40, "b" * 40))  # as `hf extensions update` leaves it
    assert "installing hubmerge" in there("merge", "--version").stderr


def test_unregister_takes_away_what_register_wrote_and_nothing_else(home, call) -> None:
    folder = home / ".local/share/hf/extensions/hf-merge"
    assert call("register").returncode == 0
    (folder / "my-notes.txt").write_text("mine")
    done = call("unregister")
    assert done.returncode == 0 and "keeps what register did not write: my-notes.txt" in done.stdout
    assert [path.name for path in folder.iterdir()] == ["my-notes.txt"]
