"""How much of a journal is known to be in order, so that opening it does not parse all of it again.

.hubmerge/seal.json beside the journal tells how many bytes at its beginning were written or parsed, and their sha256.
It is written as the journal grows, and when it is opened and closed. A journal that begins with other bytes, or has no
seal, is parsed as a whole: whatever becomes of this file, nothing is lost.
"""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ...documents import parse_object
from ...errors import HubmergeError, SearchError
from ...files import note_down
from ...stream.owned import inside, read_plain

EVERY = 1000
"""Lines; what a killed search wrote after its last seal is parsed when it goes on."""

_NAME = ".hubmerge/seal.json"


class Seal:
    """The seal of the journal in a folder, which takes note of the journal's lines one after another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.clear()

    def clear(self) -> None:
        """Begins anew, with an empty journal."""
        self._digest, self._bytes, self._lines = hashlib.sha256(), 0, 0

    def take(self, lines: Iterable[bytes]) -> int:
        """Takes note of the lines that are there, each with its end; how many of the first are sealed."""
        found, known = self._read(), 0
        for line in lines:
            self._note(line)
            if self._bytes == found.get("bytes") and self._digest.hexdigest() == found.get("sha256"):
                known = self._lines
        return known

    def add(self, line: bytes) -> None:
        """Takes note of a line that was written, and is on disk."""
        self._note(line)
        if self._lines % EVERY == 0:
            self.write()

    def write(self) -> None:
        """Seals what was noted; where that cannot be, the journal is parsed again."""
        content = {"bytes": self._bytes, "sha256": self._digest.hexdigest()}
        if content != self._read():
            with suppress(HubmergeError):
                note_down(inside(self._folder, _NAME), json.dumps(content))

    def _note(self, line: bytes) -> None:
        self._digest.update(line)
        self._bytes += len(line)
        self._lines += 1

    def _read(self) -> dict[str, object]:
        with suppress(HubmergeError):
            return parse_object(read_plain(self._folder / _NAME) or b"", "the seal", SearchError)
        return {}
