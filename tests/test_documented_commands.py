"""What README.md and docs/ tell people to type is what the program takes."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from hubmerge import Recipe, Search
from hubmerge.cli.commands import app
from hubmerge.evolve.plan import plan_search
from hubmerge.zoo.publish import publish

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "skills" / "hubmerge" / "SKILL.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [line for kind, block in FENCE.findall(text) if kind == "bash" for line in block.splitlines()]
        inline = re.findall(r"`(hubmerge [^`\n]+)`", FENCE.sub("", text))
        found += [line for line in (*lines, *inline) if line.startswith("hubmerge ")]
    return sorted(dict.fromkeys(found))


def require_command(line: str) -> None:
    """Fails where a line is no command of the program with options that it has."""
    words = shlex.split(line, comments=True)[1:]
    command: Any = typer.main.get_command(app)
    path = ["hubmerge"]
    context = None
    while words and words[0] in getattr(command, "commands", {}):
        path.append(words.pop(0))
        command = command.commands[path[-1]]
    assert len(path) > 1, f"no such command: {line}"
    if any(not word.startswith("-") for word in words):  # else it is only named, in a sentence
        context = command.make_context(" ".join(path), words)
        assert context is not None


@pytest.mark.parametrize("line", commands())
def test_every_command_is_one_of_the_program(line: str) -> None:
    require_command(line)


@pytest.mark.parametrize(
    ("option", "page", "told"),
    [
        ("--memory", "memory.md", r"^`--memory SIZE` .*? is what hubmerge may take"),
        ("--json", "commands.md", r"^`plan`.*? take `--json`"),
        ("--on", "commands.md", r"^`evolve`.*? take `--on "),
    ],
)
def test_the_commands_that_take_an_option_are_all_named(option: str, page: str, told: str) -> None:
    group: Any = typer.main.get_command(app)
    taking = {name for name, one in group.commands.items() if any(option in each.opts for each in one.params)}
    said = re.search(told, (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert said is not None and taking == set(re.findall(r"`([\w-]+)`", said[0])) & set(group.commands)


def test_the_yaml_of_the_readme_is_taken_as_it_stands(hub) -> None:
    publish(hub.endpoint, "hf_alice")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    recipe, search = [block for kind, block in FENCE.findall(text) if kind == "yaml"]
    assert Recipe.from_yaml(recipe).merge_method == "ties"  # of models too large to fetch here
    outlook = plan_search(Search.from_yaml(search))
    outlook.require()
    assert not outlook.findings
    assert outlook.demand.prompt_tokens + outlook.demand.new_tokens <= 256


def test_the_recipes_of_their_page_are_taken_as_they_stand() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    stages, modules, seeing = [Recipe.from_yaml(block) for kind, block in FENCE.findall(text) if kind == "yaml"]
    assert (
        len(stages.stages) == 1 and len(modules.modules) == 2 and seeing.models[0].model.component == "language_model"
    )


def test_clusters_are_told_commands_of_the_program() -> None:
    """What SkyPilot and Slurm run: read as they read it, and every command is one that is taken."""
    folder = ROOT / "examples" / "clusters"
    sky = yaml.safe_load((folder / "skypilot.yaml").read_text(encoding="utf-8"))
    assert set(sky) == {"name", "workdir", "resources", "secrets", "setup", "run"} and sky["secrets"] == {
        "HF_TOKEN": None
    }
    slurm = (folder / "slurm.sh").read_text(encoding="utf-8")
    asked = re.findall(r"^#SBATCH --([\w-]+)(?:=\S+)?$", slurm, re.MULTILINE)
    assert {"gpus", "mem", "time", "requeue", "signal", "output"} < set(asked)
    assert slurm.rindex("#SBATCH") < slurm.index("set -euo"), "Slurm reads none behind the first command"
    for script in (sky["setup"], sky["run"], slurm):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    lines = [line for line in (sky["run"] + slurm).splitlines() if line.startswith("hubmerge ")]
    assert len(lines) == 2
    for line in lines:
        require_command(line.removesuffix(" &"))
