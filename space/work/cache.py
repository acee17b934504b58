"""The Hub cache of a machine that many share: models that nobody has used for a while make room for others."""

import time

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


def _last_used(repo: CachedRepoInfo) -> float:
    # Many disks note an access once a day: whatever was written since counts too.
    return max(repo.last_accessed, repo.last_modified)
