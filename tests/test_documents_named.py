"""What a program may give where a document is read: YAML text, a path, or a path as text; all else gets a sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hubmerge import Recipe, Search, load_task, open_source
from hubmerge.errors import HubmergeError, RecipeError
from hubmerge.experts.document import Moe

RECIPE = "merge_method: linear\nmodels: [{model: org/a}, {model: org/b}]\n"


@pytest.mark.parametrize("name", ["recipe.yaml", "recipe.YML", "recipe.json", "recipe", "my recipe.yml "])
def test_a_file_is_named_as_text_or_as_a_path(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / name.strip()).write_text(RECIPE)
    expected = Recipe.from_text(RECIPE)
    for given in (name, Path(name.strip()), f"~/{name}", str(tmp_path / name), "{" + RECIPE.replace("\n", ",") + "}"):
        assert Recipe.from_yaml(given) == expected


@pytest.mark.parametrize("read", [Recipe.from_yaml, Search.from_yaml, Moe.from_yaml])
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("none.yaml", "There is no .* file at none.yaml; check the path"),
        ("org/name", "There is no .* file at org/name; check the path"),
        (Path("none"), "There is no .* file at none; check the path"),
        ("~no one/none.yml", "is no path here"),
        (5, "YAML text or the path of a file, got int"),
        ({"merge_method": "linear"}, "got dict; `from_dict` takes plain values"),
    ],
    ids=str,
)
def test_what_is_no_document_gets_a_sentence(read: Callable, given: object, says: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HubmergeError, match=says):
        read(given)


@pytest.mark.parametrize("read", [Recipe.from_text, Moe.from_text])
def test_text_of_somebody_else_is_never_a_path(read: Callable, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.yaml").write_text(RECIPE)
    with pytest.raises(RecipeError, match="mapping of keys"):
        read("secret.yaml")


def test_a_folder_is_opened_by_its_path(siblings) -> None:
    folder = siblings["base"]
    assert open_source(Path(folder)).tensors == open_source(str(folder)).tensors


def test_a_search_is_shown_as_it_is_written() -> None:
    from hubmerge.zoo.kinds import demo_search

    assert repr(search := demo_search()) == f"Search:\n{search.to_yaml()}"


def test_a_task_is_shown_by_what_it_asks() -> None:
    rows = [{"question": f"{'What is ' * 40}{n}?", "answer": str(n)} for n in range(3)]
    examples = {"test": rows}
    task = load_task({"name": "sums", "examples": examples, "prompt": "{question}", "answer": "{answer}"})
    lines = repr(task).splitlines()
    assert lines[0] == "Task: sums" and "  test        3 examples" in lines and "exact_number" in repr(task)
    assert max(map(len, lines)) < 120 and task._repr_html_().startswith("<table><caption>Task: sums")
