"""Links in folders: one that leads out of its folder would publish, or merge, what nobody put there."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path


def leaving(root: Path, paths: Iterable[Path]) -> Path | None:
    """The first of `paths`, which lie in `root`, that a link leads out of it; None where none does.

    The Hub cache's own links are fine: a snapshot's files are links to the blobs of the same repository.
    """
    real = os.path.realpath(root)
    places = [real]
    repository = Path(real).parent.parent
    if Path(real).parent.name == "snapshots" and _is_folder(repository / "blobs"):
        places.append(str(repository / "blobs"))
    for path in paths:
        target = os.path.realpath(path)
        if not any(target.startswith(place.rstrip(os.sep) + os.sep) for place in places):
            return path
    return None


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False
