"""A GGUF file onto the Hub, beside those of the same model."""

from pathlib import Path

from ..errors import RefusedError
from ..hub.holdings import LEFT, MANIFEST
from ..hub.push import PushResult, Upload
from ..progress import Event, Progress, silent
from .card import render
from .conversion import Conversion


def require_no_model(upload: Upload) -> None:
    """Raises `RefusedError` where a started upload of a GGUF file would replace a model's card, unless `overwrite`."""
    if upload.overwrite:
        return
    if model := next(
        (name for name in sorted(upload.present) if name == MANIFEST or name.endswith(".safetensors")), None
    ):
        raise RefusedError(
            f"{upload.repo_id} holds a model ({model}), whose card this one of GGUF files would replace; choose "
            "another name, write the file into the model's folder and push that, or replace the card (--overwrite, "
            "on the page: tick Overwrite)."
        )


def push_gguf(conversion: Conversion, file: Path, upload: Upload, progress: Progress = silent) -> PushResult:
    """Pushes a GGUF file that was written, beside those that the repository holds already, with a card of all; `upload`
    is started."""
    size = file.stat().st_size
    progress(Event("push", 0, size, "B", file.name))
    there = upload.present.get(file.name)
    sha256 = upload.add(file.name, file)
    if there is not None and sha256 not in (None, there.sha256) and not upload.overwrite:
        raise RefusedError(f"{upload.repo_id} already holds another {file.name}, and {LEFT}")
    files = sorted({file.name, *(name for name in upload.present if name.endswith(".gguf"))})
    upload.add("README.md", render(conversion, upload.repo_id, files).encode())
    progress(Event("push", size, size, "B", "commit"))
    return upload.commit(f"Upload {file.name} with hubmerge")
