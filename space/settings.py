"""Where the page keeps its work and how much it takes on, read once from the environment."""

import atexit
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hubmerge.errors import HubmergeError
from hubmerge.files import expand

from .limits import Limits


@dataclass(frozen=True)
class Settings:
    """The page's surroundings.

    `folder` holds jobs and their results. `workers` jobs run at once, in threads; `active_jobs` bounds one person's
    queued and running jobs, and `limits` what each may take; a job makes room after `shift_minutes` at work where
    others wait (0: never). Finished jobs older than `keep_hours` are deleted (0: never), and of downloaded models, and
    of statistics of models, what is beyond `cache_gb` gigabytes, those used longest ago first (0: never). `on_space`
    means the process serves strangers: its own token and the machine's folders are then out of their reach.
    """

    folder: Path
    on_space: bool = False
    oauth: bool = False
    workers: int = 2
    active_jobs: int = 3
    shift_minutes: float = 10.0
    keep_hours: float = 0.0
    cache_gb: float = 0.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name, least in (
            ("workers", 1),
            ("active_jobs", 1),
            ("shift_minutes", 0),
            ("keep_hours", 0),
            ("cache_gb", 0),
        ):
            if not getattr(self, name) >= least:
                raise HubmergeError(f"The page's setting {name} must be at least {least}, got {getattr(self, name)}.")
        for name, value in vars(self.limits).items():
            if not value >= 0:
                raise HubmergeError(f"HUBMERGE_SPACE_MAX_{name.upper()} must be 0 (no limit) or more, got {value:g}.")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Reads HUBMERGE_SPACE_DIR, _WORKERS, _ACTIVE_JOBS, _SHIFT_MINUTES, _KEEP_HOURS, _CACHE_GB, _MAX_MODEL_GB,
        _MAX_DISK_GB, _MAX_MINUTES and _MAX_MEMORY_GB, and what a Space sets by itself.

        Without HUBMERGE_SPACE_DIR the folder is a temporary one that is removed when the process ends.
        """
        on_space = bool(environ.get("SPACE_ID"))
        if environ.get("HUBMERGE_SPACE_DIR"):
            folder = expand(environ["HUBMERGE_SPACE_DIR"], HubmergeError)
        else:
            folder = Path(tempfile.mkdtemp(prefix="hubmerge-space-"))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return cls(
            folder=folder,
            on_space=on_space,
            oauth=on_space and bool(environ.get("OAUTH_CLIENT_ID")),
            workers=int(_number(environ, "HUBMERGE_SPACE_WORKERS", cls.workers)),
            active_jobs=int(_number(environ, "HUBMERGE_SPACE_ACTIVE_JOBS", cls.active_jobs)),
            shift_minutes=_number(environ, "HUBMERGE_SPACE_SHIFT_MINUTES", cls.shift_minutes),
            keep_hours=_number(environ, "HUBMERGE_SPACE_KEEP_HOURS", 24.0 if on_space else cls.keep_hours),
            cache_gb=_number(environ, "HUBMERGE_SPACE_CACHE_GB", 20.0 if on_space else cls.cache_gb),
            limits=Limits(
                *(
                    _number(environ, f"HUBMERGE_SPACE_MAX_{name}", 0.0)
                    for name in ("MODEL_GB", "DISK_GB", "MINUTES", "MEMORY_GB")
                )
            ),
        )

    def secret(self) -> str:
        """The key that encrypts what the page keeps in browsers; one a folder, so that it outlives a restart."""
        path = self.folder / "secret"
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_text()
        with os.fdopen(handle, "w") as file:
            file.write(key := secrets.token_urlsafe(24))
        return key


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "")
    if not text:
        return default
    try:
        return float(text)
    except ValueError:
        raise HubmergeError(f"{name} must be a number, got {text!r}.") from None
