"""What the pages of docs/ need to be a site: files of examples/ that they link to lie in it, too."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
LINKED = "examples"
KINDS = (".ipynb", ".md", ".py", ".sh", ".yaml")


def on_files(files: Files, config: Any) -> Files:
    """Adds the examples, by their own names."""
    for path in sorted((ROOT / LINKED).rglob("*")):
        if path.suffix in KINDS:
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Leads links out of docs/ to where the examples lie in the site, and links among these to where docs/ is."""
    there = f"](../{LINKED}/"
    return markdown.replace(there, f"]({LINKED}/").replace("](../../docs/", "](../../")
