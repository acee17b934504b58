"""Files that a finished job made, fetched as they lie on disk, each by an address that only its owner is told."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse

from .state import Page
from .work.job import Job
from .work.tools import FILES

_PLACE = "download"
_PATTERNS = ("*.gguf", "adapter_*")


@dataclass(frozen=True)
class Download:
    """A file: its name, its bytes, and its address, from that of the page."""

    name: str
    nbytes: int
    url: str


def downloads(page: Page, job: Job) -> Sequence[Download]:
    """The files of a job that can be fetched; whoever has an address needs nothing else."""
    place = f"{_PLACE}/{job.id}/{_ticket(page, job.id)}"
    return [Download(path.name, path.stat().st_size, f"{place}/{path.name}") for path in _files(job)]


def add_downloads(page: Page, app: Starlette) -> None:
    """Serves them."""

    def fetch(request: Request) -> FileResponse:
        job_id, ticket, name = (request.path_params[part] for part in ("job_id", "ticket", "name"))
        known = hmac.compare_digest(ticket.encode(), _ticket(page, job_id).encode())
        job = page.jobs.known(job_id) if known else None
        file = next((path for path in _files(job) if path.name == name), None) if job is not None else None
        if file is None:
            raise HTTPException(404, "There is no such file; it may have been cleaned up.")
        return FileResponse(file, filename=name, media_type="application/octet-stream")

    app.add_route(f"/{_PLACE}/{{job_id}}/{{ticket}}/{{name}}", fetch, methods=["GET", "HEAD"])


def _ticket(page: Page, job_id: str) -> str:
    """What nobody can make up who does not know the page's secret."""
    return hmac.new(page.settings.secret().encode(), job_id.encode(), hashlib.sha256).hexdigest()[:32]


def _files(job: Job) -> list[Path]:
    if job.kind not in FILES or job.status != "done":
        return []
    folder = Path(str(job.result["folder"]))
    return sorted(path for pattern in _PATTERNS for path in folder.glob(pattern) if path.is_file())
