"""The house keeps its shape: imports go down only, the bare import is light, each room has a floor."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hubmerge.recipe import Recipe
from hubmerge.stream.plan import make_plan

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "hubmerge"

FLOORS = {
    "text": 0,
    "amounts": 0.4,
    "markup": 0,
    "shown": 0.5,
    "places": 0.5,
    "errors": 0.25,
    "progress": 0,
    "guesses": 0,
    "late": 0,
    "typed": 0,
    "extras": 0.5,
    "documents": 0.5,
    "files": 0.4,
    "links": 0,
    "reference": 0.75,
    "blocks": 0,
    "recipe": 1,
    "layers": 1,
    "methods": 2,
    "hub": 3,
    "stream": 4,
    "extract": 5,
    "gguf": 5,
    "experts": 5.5,
    "calibration": 5.5,
    "evaluate": 5,
    "lineage": 5,
    "evolve": 6,
    "zoo": 7,
    "localhub": 7,
    "publish": 7,
    "published": 6.5,
    "planning": 7.5,
    "reproduce": 7.6,
    "cards": 7.6,
    "deploy": 7,
    "jobs": 7,
    "cli": 8,
    "__main__": 9,
    "terminal": 8,
    "drawn": 1,
    "console": 0.5,
    "demo": 8,
}
HEAVY = {"torch", "transformers", "evotorch", "ray", "gradio", "matplotlib", "accelerate", "huggingface_hub"}


def modules() -> list[Path]:
    return [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    package = ["hubmerge", *path.relative_to(PACKAGE).parent.parts]
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            stem = package[: len(package) - node.level + 1] if node.level else []
            full = stem + (node.module.split(".") if node.module else [])
            names = [[*full, alias.name] for alias in node.names]
        else:
            continue
        rooms |= {name[1] for name in names if name[0] == "hubmerge" and len(name) > 1}
    return rooms & set(FLOORS)


def test_every_room_has_a_floor() -> None:
    assert {room(path) for path in modules()} <= set(FLOORS)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    here = room(path)
    up = {other for other in imported_rooms(path) if other != here and FLOORS[other] >= FLOORS[here]}
    if FLOORS[here] == 8:
        up -= {"terminal", "demo", "cli"}
    assert not up, f"{here} (floor {FLOORS[here]}) imports {up}"


def test_bare_import_and_help_are_light() -> None:
    script = f"import sys, hubmerge, hubmerge.cli.commands; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_command_that_cannot_start_ends_before_torch_is_imported(tmp_path) -> None:
    """What people get wrong most, a name or a place, is said at once and not after seconds of imports."""
    (tmp_path / "recipe.yaml").write_text("merge_method: linear\nmodels: [{model: ./none}]\n")
    (tmp_path / "method.yaml").write_text("merge_method: lineer\nmodels: [{model: ./none}]\n")
    search = "models: [./none]\nmerge_method: linear\ngenome: {genes: {weight: [0, 1]}}\ntask: ja-word-problems\n"
    (tmp_path / "search.yaml").write_text(search)
    (tmp_path / "wrong.yaml").write_text(search.replace("linear", "lineer"))
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "journal.jsonl").write_text("{}\n{}\n")
    (tmp_path / "task.yaml").write_text(
        "name: tiny\nexamples: {search: [{question: a, answer: b}], test: [{question: c, answer: d}]}\n"
    )
    commands = (
        "plan none.yaml",
        "plan recipe.yaml",
        "plan method.yaml",
        "plan search.yaml",
        "plan wrong.yaml",
        "merge recipe.yaml --out out",
        "evolve search.yaml --out out",
        "evolve search.yaml --out used",
        "evolve wrong.yaml --out out",
        "push none org/none",
        "chat ./none",
        "eval ./none --task task.yaml",
        "report none",
        "export none --candidate 1 --out out",
    )
    script = f"""
import sys
from hubmerge.cli import main

for command in {commands!r}:
    sys.argv = ["hubmerge", *command.split()]
    try:
        main()
    except SystemExit as stopped:
        print(command, stopped.code, {HEAVY - {"huggingface_hub"}!r} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{command} 2 set()" for command in commands], done.stderr


def test_a_merge_of_folders_loads_nothing_that_it_does_without(siblings, tmp_path) -> None:
    """Each of these takes its time, which a small merge has little of: the Hub's client, other kinds of models."""
    recipe = {"merge_method": "linear", "models": [{"model": str(siblings[name])} for name in ("base", "math")]}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe | {"parameters": {"weight": 0.5}}))
    script = """
import sys
from hubmerge.cli import main

sys.argv = ["hubmerge", "merge", "recipe.yaml", "--out", "out"]
try:
    main()
except SystemExit as stopped:
    assert not stopped.code
libraries = {"accelerate", "huggingface_hub.file_download", "huggingface_hub.hf_api", "transformers"}
rooms = {"calibration", "evaluate", "evolve", "gguf", "hub.gguf", "hub.quantised", "stream.unpacking"}
files = {"hub.pickled", "stream.by_token", "stream.lora", "stream.modules", "stream.transplanted", "stream.united"}
print("loaded:", (libraries | {f"hubmerge.{one}" for one in rooms | files}) & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: set()", done.stdout
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_plan_of_folders_loads_no_torch_where_the_speed_is_known(siblings, tmp_path) -> None:
    """Headers tell the rest; torch takes four times as long to load as all that a plan does."""
    base, *models = (str(siblings[name]) for name in ("base", "math", "japanese"))
    merged = {"models": [{"model": model} for model in models], "base_model": base}
    recipes = {
        "linear": {"models": merged["models"], "parameters": {"weight": 0.5}},
        "slerp": {"models": [{"model": models[0]}], "base_model": base, "parameters": {"t": 0.5}},
        "ties": {**merged, "parameters": {"weight": 0.5, "density": 0.5}},
    }
    for name, recipe in recipes.items():
        (tmp_path / f"{name}.yaml").write_text(json.dumps({"merge_method": name, **recipe}))
        assert make_plan(Recipe.from_yaml(tmp_path / f"{name}.yaml")).compute_seconds > 0
    script = f"""
import sys
from hubmerge.cli import main

for name in {[*recipes]}:
    sys.argv = ["hubmerge", "plan", name + ".yaml"]
    try:
        main()
    except SystemExit as stopped:
        assert not stopped.code
    print("loaded:", name, {{"torch", "transformers", "numpy"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    told = [line for line in done.stdout.splitlines() if line.startswith("loaded:")]
    assert told == [f"loaded: {name} set()" for name in recipes], done.stdout
    assert done.stdout.count("| computing ") == 3


def test_what_the_demo_reads_first_leaves_the_environment_to_it() -> None:
    """huggingface_hub reads its environment once; the demo sets it after it has read its search and its zoo."""
    script = (
        "import sys; import hubmerge.zoo.paper; from hubmerge.zoo.kinds import demo_search; demo_search(); "
        "print('huggingface_hub' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
