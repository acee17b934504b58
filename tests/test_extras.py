"""An installation without extras merges; what else it is asked for, it says in a sentence with the pip line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hubmerge.extras import EXTRAS

ROOT = Path(__file__).parent.parent


def light(
    *words: object, code: str = "from hubmerge.cli import main; main()", cwd: Path
) -> subprocess.CompletedProcess[str]:
    """A command, or `code`, in a process in which the libraries of all extras cannot be imported."""
    blocked = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules.update(dict.fromkeys({list(EXTRAS)!r}))"
    program = [sys.executable, "-c", f"{blocked}; {code}", *map(str, words)]
    return subprocess.run(program, capture_output=True, text=True, timeout=120, cwd=cwd)


@pytest.mark.parametrize(
    ("words", "extras"),
    [
        ("evolve search.yaml --out run", "evolve,report"),
        ("report run", "report"),
        ("space", "space"),
        ("space --demo", "space"),
        ("hub", "space"),
        ("demo", "evolve,report,space"),
        ("eval model --task task.yaml", "evolve"),
    ],
)
def test_what_is_missing_is_said_with_the_line_that_brings_it(words: str, extras: str, tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(
        "{examples: {test: [{question: a, answer: 1}]}, metric: exact_number, language: ja}"
    )
    done = light(*words.split(), cwd=tmp_path)
    said = " ".join(done.stderr.split())
    assert done.returncode == 2 and said.startswith("hubmerge: This needs "), done.stderr
    assert said.endswith(f", not installed here; run pip install 'hubmerge[{extras}]'.")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["task.yaml"], "nothing was begun"


def test_it_merges_without_any_extra(siblings: dict[str, Path], tmp_path: Path) -> None:
    models = [{"model": str(siblings[name]), "parameters": {"weight": 0.5}} for name in ("math", "japanese")]
    recipe = {"merge_method": "task_arithmetic", "base_model": str(siblings["base"]), "models": models}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    for words in (("plan", "recipe.yaml"), ("merge", "recipe.yaml", "--out", "out"), ("verify", "out"), ("--help",)):
        done = light(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_python_says_the_same(tmp_path: Path) -> None:
    code = (
        "import hubmerge; [getattr(hubmerge, name) for name in dir(hubmerge) if name != 'LocalHub']; hubmerge.LocalHub"
    )
    done = light(code=code, cwd=tmp_path)
    assert done.stderr.splitlines()[-1].startswith("hubmerge.errors.HubmergeError: This needs uvicorn, ")
