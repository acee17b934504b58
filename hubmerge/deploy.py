"""The page as a Space of one's own: the files that `python app.py` needs, as one commit to a repository of the Hub.

They are this installation's own, whether it is a wheel or a checkout. A Space that this module made holds `MARKER`, a
list of what was deployed; any other repository with files in it is left as it is.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import HfApi

from . import __version__
from .documents import parse_object
from .errors import HubmergeError
from .hub.agent import hub_api
from .hub.checkpoint import check_name
from .hub.errors import hub_errors
from .hub.push import PushResult, Upload
from .hub.session import find_token, patiently
from .progress import Event, Progress, silent
from .text import hide_tokens

MARKER = "hubmerge-space.json"
"""The file by which a Space is known to be ours: {"hubmerge": version, "files": [path, ...]}."""

_PACKAGE = Path(__file__).parent
_TOP = ("app.py", "README.md", "requirements.txt", "LICENSE")
_NEEDED = (
    ".py",
    ".typed",
    ".css",
    ".yaml",
    ".md",
    ".jinja",
    ".txt",
    ".otf",
)  # of the packages; the demo's models stay behind
_UNTOUCHED = {".gitattributes", "README.md"}  # what the Hub itself puts into a new Space


def space_files() -> dict[str, Path]:
    """What a Space needs: path in its repository -> file of this installation.

    Raises `HubmergeError` where the installation lacks one.
    """
    # In a wheel the page is a folder of the package, and what lies beside both is in `top` there (pyproject.toml).
    inner = _PACKAGE / "space"
    page, top = (inner, inner / "top") if inner.is_dir() else (_PACKAGE.parent / "space", _PACKAGE.parent)
    files = {name: top / name for name in _TOP}
    for name, folder, other in (("hubmerge", _PACKAGE, inner), ("space", page, page / "top")):
        for path in sorted(folder.rglob("*")):
            if path.suffix in _NEEDED and not path.is_relative_to(other):
                files[f"{name}/{path.relative_to(folder).as_posix()}"] = path
    if missing := [name for name, path in files.items() if not path.is_file()]:
        raise HubmergeError(
            f"This installation of hubmerge lacks {missing[0]}, which a Space needs; install hubmerge anew, or deploy "
            "from a checkout of its repository."
        )
    return files


def deploy(
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = True,
    hardware: str | None = None,
    variables: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> PushResult:
    """Makes the Space `repo_id` or brings it up to this version, in one commit; again, it changes what has changed.

    hardware: as the Hub names it ("cpu-basic", "zero-a10g", "t4-small"); variables: public settings, as
    HUBMERGE_SPACE_MAX_MINUTES. Those of an existing Space are kept where none are given, and so is its visibility.
    Files of others in it stay; what others changed in ours is overwritten, and remains in the Space's history. A
    repository with files that this function did not make is refused (`HubmergeError`) before anything is changed.
    Raises `HubError` for what the Hub refuses.
    """
    for name, value in (variables or {}).items():
        if hide_tokens(value) != value:
            raise HubmergeError(
                f"The variable {name} looks like a token: everybody can read it, and a Space needs none."
            )
    files = {name: path.read_bytes() for name, path in space_files().items()}
    progress(Event("deploy", 0, 2, note="space"))
    upload = Upload(repo_id, token=token, private=private, sdk="gradio")
    upload.start()
    api = hub_api(find_token(token))
    earlier = _deployed(api, upload)
    if others := sorted((set(files) - earlier - _UNTOUCHED) & upload.present.keys()):
        raise HubmergeError(
            f"The Space {upload.repo_id} holds a file {others[0]} that `hubmerge space deploy` did not put there and "
            "would overwrite; move it in the Space, or choose another name."
        )
    marker = {"hubmerge": __version__, "files": sorted(files)}
    files[MARKER] = (json.dumps(marker, indent=2) + "\n").encode()
    # Before the commit: that is what the Hub builds and starts the Space by.
    with hub_errors(f"setting up {upload.repo_id}"):
        for name, value in (variables or {}).items():
            api.add_space_variable(upload.repo_id, name, value)
        if hardware is not None:
            api.request_space_hardware(upload.repo_id, hardware)  # type: ignore[arg-type]  # the Hub knows which
    progress(Event("deploy", 1, 2, note=f"{len(files)} files"))
    upload.add_all(files)
    upload.delete(earlier - set(files))
    done = upload.commit(f"Deploy hubmerge {__version__}")
    progress(Event("deploy", 2, 2))
    return done


def _deployed(api: HfApi, upload: Upload) -> set[str]:
    """The files of the Space that are ours; raises `HubmergeError` where it is somebody else's."""
    with hub_errors(f"reading {upload.repo_id}"):
        if MARKER in upload.present:
            path = api.hf_hub_download(upload.repo_id, MARKER, repo_type="space")
            try:
                files = parse_object(Path(path).read_bytes(), MARKER, HubmergeError)["files"]
                if not isinstance(files, list):
                    raise TypeError
                return {check_name(name, MARKER) for name in files}
            except (HubmergeError, KeyError, TypeError, AttributeError):
                raise HubmergeError(
                    f"{MARKER} of the Space {upload.repo_id} cannot be read; restore it from the Space's history, or "
                    "choose another name."
                ) from None
        commits = patiently(lambda: api.list_repo_commits(upload.repo_id, repo_type="space"))
    if upload.present.keys() <= _UNTOUCHED and len(commits) == 1:
        return set()
    raise HubmergeError(
        f"The Space {upload.repo_id} was not made by `hubmerge space deploy` (it has no {MARKER}) and is left as it "
        "is; choose another name."
    )
