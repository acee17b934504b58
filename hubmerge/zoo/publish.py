"""Puts the demo zoo on a Hub: models and two data sets of word problems."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .cards import DATASETS, NAMESPACE, REPOS, dataset_card
from .word_problems import COUNTS, problems

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CHECKPOINTS = Path(__file__).parent / "checkpoints"


def publish(endpoint: str, token: str, namespace: str = NAMESPACE, zoo: Path = CHECKPOINTS) -> dict[str, str]:
    """Upload a zoo, by default the shipped one, to the Hub at `endpoint`; the repository id of each thing uploaded.

    Keys: those of `cards.REPOS` (models), `ja`, `en` (data sets of lines {"question": str, "answer": "37",
    "template": "seen" or "unseen"}).
    Running it again makes no new commit where nothing changed. Raises `HubError` where a repository holds what hubmerge
    did not put there.
    """
    from ..hub.agent import hub_api

    api = hub_api(token, endpoint)
    repos = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, repo in REPOS.items():
            folder = model_folder(name, Path(scratch) / repo, namespace, zoo)
            repos[name] = upload(api, folder, f"{namespace}/{repo}", "model")
        for lang, (repo, *_) in DATASETS.items():
            folder = dataset_folder(lang, Path(scratch) / repo)
            repos[lang] = upload(api, folder, f"{namespace}/{repo}", "dataset")
    return repos


def model_folder(name: str, folder: Path, namespace: str = NAMESPACE, zoo: Path = CHECKPOINTS) -> Path:
    """A copy of the model `name` of a zoo in `folder`, its card pointing to `namespace`."""
    folder.mkdir(parents=True)
    for file in sorted((zoo / name).rglob("*")):  # not copytree, whose error does not say what the machine refused
        copy = folder / file.relative_to(zoo / name)
        if file.is_dir():
            copy.mkdir()
        else:
            shutil.copyfile(file, copy)
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8").replace(f"{NAMESPACE}/", f"{namespace}/")
    card.write_text(text, encoding="utf-8")
    return folder


def dataset_folder(lang: str, folder: Path) -> Path:
    """The word problems in `lang` as one JSONL file a split and a card, in `folder`."""
    folder.mkdir(parents=True)
    for split, count in COUNTS.items():
        lines = [
            json.dumps({"question": p.question, "answer": str(p.answer), "template": p.template}, ensure_ascii=False)
            for p in problems(split, count, lang)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(dataset_card(lang, COUNTS), encoding="utf-8")
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
