"""Commands that make hubmerge a command of hf, and undo it: register, unregister."""

import os
import shutil
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import HubmergeError
from ..typed import EXTENSION
from .options import app

if TYPE_CHECKING:
    from huggingface_hub.cli.extensions import ExtensionManifest

PROGRAM = "hf-merge.exe" if os.name == "nt" else "hf-merge"
_OWNER = "_"
"""No account of GitHub can be called so: hf never takes an update of somebody else's for ours."""
_FILE = "manifest.json"
_LATEST = ".latest_commit"
_NEVER = datetime(2100, 1, 1, tzinfo=timezone.utc).timestamp()


@app.command()
def register() -> None:
    """Make `hf merge` run this hubmerge: `hf merge plan recipe.yaml`, `hf merge push ...`."""
    from ..terminal import marked, out

    manifest, folder = _manifest(), EXTENSION.expanduser()
    program = _program()
    _require_own(manifest, folder)
    made = manifest(
        owner=_OWNER,
        repo="hf-merge",
        repo_id="hubmerge register",
        short_name="merge",
        executable_path=str(program),
        type="binary",
        installed_at=datetime.now(timezone.utc),
        description="Merge and evolve models of the Hub.",
    )
    try:
        made.save(folder)
        # hf asks GitHub for a newer version where this is older than a day; what pip installed, pip brings up to date.
        (folder / _LATEST).touch()
        os.utime(folder / _LATEST, (_NEVER, _NEVER))
    except OSError as exc:
        raise HubmergeError(
            f"{folder} cannot be written ({exc.strerror}); make that folder, or let you write there."
        ) from None
    out.print(marked("[bold]hf merge[/] runs {} now. Try: hf merge --help", program), soft_wrap=True)


@app.command()
def unregister() -> None:
    """Undo `register`."""
    from ..terminal import marked, out

    folder = EXTENSION.expanduser()
    if not folder.exists():
        out.print("hf merge was not registered.")
        return
    _require_own(_manifest(), folder)
    for name in (_FILE, _LATEST):
        (folder / name).unlink(missing_ok=True)
    out.print("hf merge is no command any more; hubmerge is.")
    if left := sorted(path.name for path in folder.iterdir()):
        out.print(marked("{} keeps what register did not write: {}", folder, ", ".join(left)), soft_wrap=True)
    else:
        folder.rmdir()


def _manifest() -> "type[ExtensionManifest]":
    try:
        from huggingface_hub.cli.extensions import ExtensionManifest
    except ImportError:
        from huggingface_hub import __version__

        raise HubmergeError(
            f"The hf of huggingface_hub {__version__} takes no extensions; pip install 'huggingface_hub>=2.4' "
            "brings one that does."
        ) from None
    return ExtensionManifest


def _require_own(manifest: "type[ExtensionManifest]", folder: Path) -> None:
    """Raises `HubmergeError` where `hf merge` is something that `register` did not make."""
    if not os.path.lexists(folder):
        return
    try:
        owner, of = (found := manifest.load(folder)).owner, found.repo_id
    except Exception:  # whatever hf says of it
        owner, of = None, "something that cannot be read"
    if owner != _OWNER:
        raise HubmergeError(
            f"hf merge is the extension {of} already ({folder}); `hf extensions remove merge` makes room."
        )


def _program() -> Path:
    """The console script hf-merge of this installation."""
    called = Path(shutil.which(sys.argv[0]) or sys.argv[0])
    for at in (called.resolve(), Path(sys.executable)):
        if at.is_file() and (program := at.with_name(PROGRAM)).is_file():
            return program
    raise HubmergeError(
        f"{PROGRAM}, which hf would run, lies neither beside {called} nor beside {sys.executable}; install hubmerge "
        "with pip, pipx or uv, and run the hubmerge that they install."
    )
