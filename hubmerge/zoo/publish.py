"""Puts a zoo on a Hub: its models and its data sets."""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .cards import NAMESPACE
from .kinds import Kind, repositories, shipped

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def publish(
    endpoint: str, token: str, namespace: str = NAMESPACE, zoo: Path | None = None, kind: Kind = "words"
) -> dict[str, str]:
    """Upload a zoo, by default the shipped one, to the Hub at `endpoint`; the repository id of each thing uploaded.

    Keys: those of `REPOS` in the `cards` of its kind (models), and of its data sets `ja`, `en` (lines {"question": str,
    "answer": "37", "template": "seen" or "unseen"}), `questions` (vlm) or `prompts` (image).
    Running it again makes no new commit where nothing changed. Raises `HubError` where a repository holds what hubmerge
    did not put there.
    """
    from ..hub.agent import hub_api

    api, repos = hub_api(token, endpoint), {}
    models, datasets = repositories(kind)
    with tempfile.TemporaryDirectory() as scratch:
        for name, repo in models.items():
            folder = model_folder(name, Path(scratch) / repo, namespace, zoo or shipped(kind))
            repos[name] = upload(api, folder, f"{namespace}/{repo}", "model")
        for name, (repo, written) in datasets.items():
            repos[name] = upload(api, written(Path(scratch) / repo), f"{namespace}/{repo}", "dataset")
    return repos


def model_folder(name: str, folder: Path, namespace: str = NAMESPACE, zoo: Path | None = None) -> Path:
    """A copy of the model `name` of a zoo, by default the shipped one, in `folder`; its card points to `namespace`."""
    source = (zoo or shipped()) / name
    folder.mkdir(parents=True)
    for file in sorted(source.rglob("*")):  # not copytree, whose error does not say what the machine refused
        copy = folder / file.relative_to(source)
        if file.is_dir():
            copy.mkdir()
        else:
            shutil.copyfile(file, copy)
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8").replace(f"{NAMESPACE}/", f"{namespace}/")
    card.write_text(text, encoding="utf-8")
    return folder


def claim(api: "HfApi", repo_id: str, repo_type: str, private: bool = False) -> None:
    """Makes a repository, where there is none.

    Raises `HubError` where it holds what hubmerge did not put there, or should be `private` and is not.
    """
    from ..hub.errors import hub_errors
    from ..hub.holdings import require_own, require_private

    with hub_errors(f"uploading {repo_id}"):
        api.create_repo(repo_id, repo_type=repo_type, exist_ok=True, private=private)
        present = frozenset(api.list_repo_files(repo_id, repo_type=repo_type))
        require_own(api, repo_id, repo_type, None, present)
        if private:
            require_private(repo_id, bool(api.repo_info(repo_id, repo_type=repo_type).private))


def upload(
    api: "HfApi", folder: Path, repo_id: str, repo_type: str, message: str = "Upload the hubmerge demo zoo"
) -> str:
    """Uploads a folder, but for hidden files, to a repository that is made or our own (`claim`); its ID."""
    from ..hub.errors import hub_errors
    from ..hub.holdings import marked

    claim(api, repo_id, repo_type)
    with hub_errors(f"uploading {repo_id}"):
        api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            repo_type=repo_type,
            commit_message=message,
            commit_description=marked(""),
            ignore_patterns=[".*"],
        )
    return repo_id
