"""What the project says of itself is true: requirements, README, changelog, wheel."""

import ast
import os
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml

import hubmerge
from hubmerge.deploy import space_files
from hubmerge.extras import EXTRAS
from tests.test_floors import FLOORS

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@cache
def brought_by() -> dict[str, set[str]]:
    """The distributions that bring each importable name; Python 3.10 itself tells only what they declare."""
    found: dict[str, set[str]] = {}
    for one in distributions():
        declared = (one.read_text("top_level.txt") or "").split()
        for name in declared or {file.parts[0].removesuffix(".py") for file in one.files or () if file.suffix == ".py"}:
            found.setdefault(name, set()).add(one.metadata["Name"])
    return found


def test_the_space_installs_what_the_package_needs() -> None:
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    extras = PROJECT["optional-dependencies"]
    more = {
        line
        for extra in ("evolve", "gguf", "report", "space", "diffusers")
        for line in extras[extra]
        if not line.startswith("gradio")
    }
    assert set(lines) == {*PROJECT["dependencies"], *more, *extras["oauth"]}
    assert extras["all"] == ["hubmerge[evolve,gguf,report,space]"]


def test_what_may_be_missing_is_said_with_the_extra_that_brings_it() -> None:
    places = brought_by()
    extras = PROJECT["optional-dependencies"]
    for name, extra in EXTRAS.items():
        (place,) = {
            place.lower().replace("_", "-") for place in places.get(name, {name})
        }  # no tracker is installed here
        assert any(re.split(r"[^\w.-]", line)[0] == place for line in extras[extra]), name


def imported() -> set[str]:
    """The libraries that the package and the page import, by the names that they are imported by."""
    found = set()
    for path in [ROOT / "app.py", *(ROOT / "hubmerge").rglob("*.py"), *(ROOT / "space").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.partition(".")[0])
    return found - {"hubmerge", "space", *sys.stdlib_module_names}


def test_every_library_that_is_imported_is_declared_and_none_is_declared_in_vain() -> None:
    def plain(requirement: str) -> str:
        return re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")

    places = brought_by()
    used = {plain(place) for name in imported() - {"spaces"} for place in places.get(name, [name])}
    needed = {plain(line) for line in PROJECT["dependencies"]}
    more = {plain(line) for extra in PROJECT["optional-dependencies"].values() for line in extra}
    assert used <= needed | more, "`spaces` alone is a Space's own"
    assert needed - {"safetensors"} <= used, "transformers reads and writes weights with safetensors"
    needed |= {
        plain(line) for extra in ("evolve", "report", "space") for line in PROJECT["optional-dependencies"][extra]
    }
    pinned = {plain(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert needed <= pinned


def test_readme_is_the_card_of_the_space() -> None:
    front = yaml.safe_load(README.split("---")[1])
    assert front["sdk"] == "gradio"
    assert front["app_file"] == "app.py"
    assert (ROOT / front["app_file"]).is_file()
    assert front["hf_oauth"] is True
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert front["sdk_version"] == pins["gradio"]


def test_map_of_files_matches_the_folder() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Map")[1].split("\n## ")[0]
    floors = dict(re.findall(r"^\| `([^`]+)` +\| *([\d.]*) *\|", page, re.MULTILINE))
    assert {row: float(floor) for row, floor in floors.items() if floor} == {
        f"hubmerge/{room}" + (".py" if (ROOT / "hubmerge" / f"{room}.py").is_file() else "/"): floor
        for room, floor in FLOORS.items()
    }
    rows = list(floors)
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert all(any(name == row or name.startswith(row) for name in tracked) for row in rows)
    parts = {path.relative_to(ROOT / "hubmerge").parts[0] for path in (ROOT / "hubmerge").rglob("*.py")}
    rooms = {f"hubmerge/{part}" + ("" if part.endswith(".py") else "/") for part in parts} - {"hubmerge/__init__.py"}
    assert {row for row in rows if row.startswith("hubmerge/")} == rooms


def test_readme_is_read_in_a_few_minutes() -> None:
    assert len(README.splitlines()) < 120


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", index)) == pages


def test_no_link_between_the_pages_is_dead() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
            name, _, part = target.partition("#")
            there = page.parent / name if name else page
            assert there.exists(), f"{page.name}: {target}"
            if part:
                heads = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
                assert part in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}, target


def test_every_promise_names_the_test_that_holds_it() -> None:
    promises = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8").split("\n- ")[1:]
    assert len(promises) >= 9
    for promise in promises:
        tests = re.findall(r"`(tests/[\w.]+)`", promise)
        assert tests and all((ROOT / test).is_file() for test in tests), promise


def test_every_threat_names_the_test_that_holds_it() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| threat")]
    assert len(rows) >= 15
    for row in rows:
        tests = re.findall(r"`(tests/[\w.]+)`", row)
        assert tests and all((ROOT / test).is_file() for test in tests), row


def test_what_a_platform_reads_of_the_project_is_as_it_should_be() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "title", "message", "authors"} <= set(cited) and cited["license"] == "Apache-2.0"
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"):
        document = yaml.safe_load(form.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= set(document)
        assert len({field["id"] for field in document["body"]}) == len(document["body"])
    release = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
    assert (
        release["jobs"]["publish"]["permissions"] == {"id-token": "write"}
        and "bash .ci/run" in str(release)
        and "make site audit" in str(release)
    )


def test_changelog_knows_the_version() -> None:
    assert f"## {hubmerge.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_ci_runs_the_readme_test_command() -> None:
    command = re.search(r"^make (.*test.*)$", README, re.MULTILINE)
    assert command is not None
    assert command[0].split("#")[0].strip() in (ROOT / ".ci" / "run").read_text()


def test_no_path_of_a_machine_in_the_product() -> None:
    found = subprocess.run(
        ["git", "grep", "-nIE", r"/(work|farm)/|\.\./shared", "--", ":!tests"], cwd=ROOT, capture_output=True, text=True
    )
    assert found.stdout == ""


@pytest.mark.slow
def test_the_wheel_holds_the_package_the_zoo_and_the_space(tmp_path) -> None:
    import zipfile

    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "hubmerge/cli/__init__.py",
        "hubmerge/evolve/report/style.css",
        "hubmerge/zoo/demo.yaml",
        "hubmerge/zoo/checkpoints/base/model.safetensors",
        "hubmerge/zoo/pictures/glyphs.otf",
        "hubmerge/zoo/vlm/demo.yaml",
        "hubmerge/zoo/image/demo.yaml",
        "hubmerge/zoo/image/checkpoints/fine/unet/diffusion_pytorch_model.safetensors",
        "hubmerge/zoo/vlm/checkpoints/english/model.safetensors",
        "hubmerge/zoo/pictures/OFL.txt",
        "hubmerge/zoo/pictures/phrasings.txt",
        "hubmerge/space/app.py",
        "hubmerge/space/style.css",
        "hubmerge/space/views/templates/plan.html.jinja",
        "hubmerge/evolve/report/templates/page.html.jinja",
        "hubmerge/localhub/people/templates/style.css",
    } <= names
    assert not any(name.startswith(("space/", "tests/")) for name in names)

    # Installed from it, hubmerge deploys the same Space as from here.
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    script = "import hubmerge.deploy as d; print(d.__file__); print(*d.space_files(), sep='\\n')"
    told = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    where, *listed = told.stdout.splitlines()
    assert where.startswith(str(installed))
    assert set(listed) == set(space_files())
