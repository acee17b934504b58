"""Rooms of files: each one's docstring is a map of what is in it, and imports go one way between them."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSES = [ROOT / "hubmerge" / "evolve", ROOT / "hubmerge" / "localhub", ROOT / "space"]
ROOMS = [path.parent for top in (ROOT / "hubmerge", ROOT / "space") for path in sorted(top.rglob("__init__.py"))]
ROOMS.remove(ROOT / "hubmerge")  # CONTRIBUTING.md has its map


def mapped(room: Path) -> list[str]:
    """The names that the room's docstring lists, in its order: a file, or a room with a slash behind."""
    told = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8"))) or ""
    return re.findall(r"^ *(\w+(?:\.py|/)) +\S", told, re.MULTILINE)


def imported(path: Path) -> set[Path]:
    """The files of its house that a file imports relatively."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            found |= {base} if base.with_suffix(".py").is_file() else {base / alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(ROOT)))
def test_the_docstring_of_a_room_names_all_that_is_in_it(room: Path) -> None:
    files = {path.name for path in room.glob("*.py")} - {"__init__.py"}
    rooms = {f"{path.parent.name}/" for path in room.glob("*/__init__.py")}
    listed = mapped(room)
    assert sorted(listed) == sorted(files | rooms)


@pytest.mark.parametrize("house", HOUSES, ids=lambda house: house.name)
def test_a_room_imports_only_from_those_named_above_it(house: Path) -> None:
    order = [name for name in mapped(house) if name.endswith("/")]
    for number, name in enumerate(order):
        later = {house / other.rstrip("/") for other in order[number + 1 :]}
        for path in (house / name).rglob("*.py"):
            assert not {part for used in imported(path) for part in used.parents} & later, path


def test_files_beside_the_rooms_of_a_search_stand_in_the_same_order() -> None:
    house = HOUSES[0]
    order = [house / name.removesuffix(".py").rstrip("/") for name in mapped(house)]
    for number, name in enumerate(order):
        for path in name.rglob("*.py") if name.is_dir() else [name.with_suffix(".py")]:
            assert not {part for used in imported(path) for part in (used, *used.parents)} & {*order[number + 1 :]}, (
                path
            )


def test_a_local_hub_takes_one_error_of_hubmerge_and_nothing_else() -> None:
    house = ROOT / "hubmerge" / "localhub"
    for path in house.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        outside = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
        taken = {(node.module, alias.name) for node in outside if not node.level for alias in node.names}
        of_hubmerge = {(module, name) for module, name in taken if module.partition(".")[0] == "hubmerge"}
        assert of_hubmerge == ({("hubmerge.errors", "HubError")} if path == house / "errors.py" else set()), path
        assert all(used.is_relative_to(house) for used in imported(path)), path
