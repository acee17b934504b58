"""The disk of a machine that many share: models and statistics of models that nobody has used for a while make room."""

import shutil
import time
from pathlib import Path

from huggingface_hub import CachedRepoInfo, constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound

SPARED = 3600.0
"""Seconds since its last use in which nothing is deleted: a job may be about to read it."""


def trim(most: int, *, spared: float = SPARED) -> int:
    """Deletes what was used longest ago until the cache holds at most `most` bytes; returns how many were freed.

    A file that is open or mapped stays readable for whoever has it; who needs it again downloads it again.
    """
    try:
        cache = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return 0
    over, spent = cache.size_on_disk - most, []
    for repo in sorted(cache.repos, key=_last_used):
        if over <= 0 or time.time() - _last_used(repo) < spared:
            break
        over -= repo.size_on_disk
        spent += [revision.commit_hash for revision in repo.revisions]
    freed = cache.delete_revisions(*spent)
    freed.execute()
    return freed.expected_freed_size


def trim_statistics(most: int, *, spared: float = SPARED) -> int:
    """As `trim`, of what was measured of models for merges; what goes is measured again when it is asked for."""
    folder, freed = Path(constants.HF_HOME) / "hubmerge" / "statistics", 0
    kept = [(*_files(one), one) for one in folder.iterdir() if one.is_dir()] if folder.is_dir() else []
    over = sum(size for _, size, _ in kept) - most
    for used, size, one in sorted(kept):
        if over <= 0 or time.time() - used < spared:
            break
        shutil.rmtree(one, ignore_errors=True)
        over, freed = over - size, freed + size
    return freed


def _files(folder: Path) -> tuple[float, int]:
    """When any file of a folder was last used, and the bytes of all."""
    found = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return max((max(one.st_atime, one.st_mtime) for one in found), default=0.0), sum(one.st_size for one in found)


def _last_used(repo: CachedRepoInfo) -> float:
    # Many disks note an access once a day: whatever was written since counts too.
    return max(repo.last_accessed, repo.last_modified)
