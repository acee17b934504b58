"""The pages as a site: each has its place in it, it is built without a warning, and what they show is taken."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_documented_commands import FENCE, PAGES

from hubmerge import Recipe, Search
from hubmerge.evaluate.task import task_document
from hubmerge.experts.document import Moe

ROOT = Path(__file__).parent.parent


def blocks(kind: str) -> list[tuple[str, str]]:
    """Every block of a kind on the pages, with where it stands."""
    pages = [(page, FENCE.findall(page.read_text(encoding="utf-8"))) for page in PAGES]
    all_blocks = [
        (f"{page.name} {number}", of, text) for page, found in pages for number, (of, text) in enumerate(found)
    ]
    return [(where, text) for where, of, text in all_blocks if of == kind]


def places(node: object) -> list[str]:
    """The pages that a part of the navigation names."""
    if isinstance(node, dict):
        node = list(node.values())
    return [node] if isinstance(node, str) else [name for one in node for name in places(one)]  # type: ignore[attr-defined]


def test_the_navigation_names_every_page_once() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(places(site["nav"])) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))
    assert site["strict"] is True and site["theme"]["font"] is False


def test_it_is_built_without_a_warning(tmp_path: Path) -> None:
    for name in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(name, reason="hubmerge[docs] is not installed; `make site` brings it")
    words = ["-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # its authors announce their next program
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, env=quiet)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    api = (tmp_path / "api.html").read_text(encoding="utf-8")
    assert "merge_state_dicts" in api and "read_result" in api
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', text), page


@pytest.mark.parametrize(("where", "text"), blocks("yaml"), ids=lambda value: value if "\n" not in value else "")
def test_every_yaml_is_taken_as_it_stands(where: str, text: str) -> None:
    """As what it is: a recipe, a search, a task, a mixture; of a part, within the least that it belongs to."""
    (first, *_) = yaml.safe_load_all(text)
    if "library_name" in first:  # the head of a card
        return
    if set(first) <= {"parameters", "tokenizer"}:
        whole = (
            "merge_method: task_arithmetic\nbase_model: org/base\nmodels: [{model: org/one, parameters: {weight: 1}}]\n"
        )
        Recipe.from_yaml(whole + text)
    elif "experts" in first:
        Moe.from_yaml(text)
    elif "genome" in first or "data_flow" in first:
        Search.from_yaml(
            re.sub(r"^task: [\w-]+\.yaml$", "task: gsm8k", text, flags=re.MULTILINE)
        )  # a file of the reader's
    elif "examples" in first:
        task_document(first, ROOT)
    else:
        Recipe.from_yaml(text)


@pytest.mark.parametrize(("where", "text"), blocks("python"), ids=lambda value: value if "\n" not in value else "")
def test_every_name_that_python_imports_is_there(where: str, text: str) -> None:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hubmerge"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), where
