"""Puts the zoo that draws on a Hub: three pipelines, two judges and a data set of prompts."""

import tempfile
from pathlib import Path

from ...errors import HubmergeError
from ...typed import typed
from ..cards import NAMESPACE
from ..publish import model_folder, upload
from .cards import REPOS
from .prompts import NAME, dataset_folder

CHECKPOINTS = Path(__file__).parent / "checkpoints"


def require_zoo(folder: Path) -> None:
    """Raises `HubmergeError` where a folder is no zoo that draws."""
    if missing := [name for name in REPOS if not (folder / name / "README.md").is_file()]:
        made = typed(f"zoo train --image --out {folder}")
        raise HubmergeError(f"{folder} is no zoo that draws: it lacks {', '.join(missing)}; `{made}` makes one.")


def publish_image(endpoint: str, token: str, namespace: str = NAMESPACE, zoo: Path = CHECKPOINTS) -> dict[str, str]:
    """Upload a zoo that draws, by default the shipped one; the repository ID of each thing uploaded.

    Keys: those of `cards.REPOS` (models) and `prompts` (the data set). As `zoo.publish.publish` does otherwise.
    """
    from ...hub.agent import hub_api

    api, repos = hub_api(token, endpoint), {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, repo in REPOS.items():
            folder = model_folder(name, Path(scratch) / repo, namespace, zoo)
            repos[name] = upload(api, folder, f"{namespace}/{repo}", "model")
        repos["prompts"] = upload(api, dataset_folder(Path(scratch) / NAME), f"{namespace}/{NAME}", "dataset")
    return repos
