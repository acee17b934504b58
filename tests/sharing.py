"""How the processes of the suite share its files out: the slow ones first, and all that ask for a page to one process.

A page takes seconds to start and is kept for the session. A slow file that comes last leaves the other process idle.
"""

import re
from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).parent.parent
_PAGE = re.compile(r"\b(?:own|public)_page\b")


class Sharing(LoadFileScheduling):
    """Hands out files in the order they are collected in; those that ask for a page together."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "pages" if asks_for_a_page(file) else file


@cache
def asks_for_a_page(file: str) -> bool:
    """Whether tests of a file, named from the root, need a served page."""
    return bool(_PAGE.search((ROOT / file).read_text(encoding="utf-8")))


def in_order(items: list[pytest.Item]) -> list[pytest.Item]:
    """Tests file by file: those of a page, then the files with a slow test, then those with many tests."""
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)

    def place(file: str) -> tuple[bool, bool, int]:
        slow = any(item.get_closest_marker("slow") for item in files[file])
        return not asks_for_a_page(file), not slow, 0 if asks_for_a_page(file) else -len(files[file])

    return [item for file in sorted(files, key=place) for item in files[file]]
