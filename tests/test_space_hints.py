"""What the page may show of a sentence: one that says what to type in a terminal says what to do on the page, too."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import typer

from hubmerge.cli.commands import app

HERE = Path(__file__).parents[1]
COMMANDS = "|".join(sorted(typer.main.get_group(app).commands))
TYPED = re.compile(rf"(?<![\w-])--[a-z]+(?:-[a-z]+)*\b|\bhubmerge (?:{COMMANDS})\b")
SERVED_OTHERWISE = {
    ", or leave out --stream": "the page reads files that it has fetched whole",
}
"""Sentences of rooms that the page shows, which it never comes to, and why."""
OF_TERMINALS = {
    "cli": "commands",
    "terminal.py": "what commands print",
    "demo.py": "the command `demo`",
    "jobs": "`--on jobs:`",
    "localhub": "the command `hub`",
    "zoo": "the commands `zoo` and `demo`",
    "deploy.py": "the command `space deploy`",
    "cards.py": "the command `card`",
    "published.py": "a recipe by the name of a published merge; the page takes its text",
    "evolve/tracking.py": "`--track`",
    "evolve/records/mirror.py": "the card of a journal that is mirrored",
    "evolve/records/journal.py": "an output folder with another search; each job has its own",
    "stream/journal.py": "an output folder with something else; each job has its own",
    "gguf/beside.py": "an output folder with something else; each job has its own",
    "evolve/report": "how to go on with the folder of a run that was fetched",
    "evolve/result.py": "how a stranger makes a winner again, on its card",
    "extract/card.py": "how a stranger makes a LoRA again, on its card",
    "publish.py": "how a stranger makes a merge again, on its card",
    "zoo/cards.py": "cards",
    "hub/card.py": "cards",
    "methods/page.py": "docs/methods.md",
    "methods/matrix_table.py": "docs/methods.md",
}
"""Rooms and files whose sentences no page shows, and what they are of."""


def sentences(tree: ast.Module) -> Iterator[str]:
    """Texts of a module as they are written, docstrings left out; what `typed` is given counts as typed."""
    documents = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
    inner = {id(part) for one in ast.walk(tree) if isinstance(one, ast.JoinedStr) for part in ast.walk(one)} - {
        id(one) for one in ast.walk(tree) if isinstance(one, ast.JoinedStr)
    }
    for one in ast.walk(tree):
        if isinstance(one, ast.JoinedStr | ast.Constant) and id(one) not in documents | inner:
            yield re.sub(r"typed\(f?['\"]", "hubmerge ", ast.unparse(one))


def test_what_is_to_be_typed_is_said_for_the_page_too() -> None:
    found = []
    for room in ("hubmerge", "space"):
        for path in sorted((HERE / room).rglob("*.py")):
            place = path.relative_to(HERE / room).as_posix()
            if any(place == one or place.startswith(f"{one}/") for one in OF_TERMINALS) or place == "__main__.py":
                continue
            for said in sentences(ast.parse(path.read_text(encoding="utf-8"))):
                if said.strip("'\"") in SERVED_OTHERWISE:
                    continue
                if TYPED.search(said) and "page" not in said and " " in said.strip("'\""):
                    found.append(f"{room}/{place}: {said[:160]}")
    assert not found, "\n".join(found)
