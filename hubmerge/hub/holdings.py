"""What a repository already holds before something is pushed to it: nothing, our own earlier push, or another's work.

Every commit of hubmerge carries `MARK` in its description. A repository whose every commit does, but for the one that
the Hub makes it with, holds nothing that others put there; so a push that broke can be repeated, and a model pushed
again. Whatever else lies in it is somebody's.
"""

from typing import TYPE_CHECKING

from ..errors import HubError
from .errors import hub_errors
from .session import patiently

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MARK = "Pushed with hubmerge."

_UNTOUCHED = {".gitattributes", "README.md"}  # what the Hub itself puts into a new repository


def marked(description: str) -> str:
    """The description of a commit of hubmerge."""
    return f"{description}\n\n{MARK}".strip()


def require_private(repo_id: str, is_private: bool) -> None:
    """Raises `HubError` where a push that was not asked to be public goes into a public repository."""
    if not is_private:
        raise HubError(
            f"{repo_id} is public, so everybody would see what is pushed to it; choose another name, or say that it "
            "may be public (--public, on the page: untick Private)."
        )


def require_own(
    api: "HfApi",
    repo_id: str,
    repo_type: str,
    revision: str | None,
    present: frozenset[str],
    *,
    shared: bool = False,
) -> None:
    """Raises `HubError` where the repository holds something that hubmerge did not push. `present`: its files.

    `shared`: others may have put something beside what hubmerge pushed, but not before all of it.
    """
    with hub_errors(f"reading {repo_id}"):
        commits = patiently(lambda: api.list_repo_commits(repo_id, repo_type=repo_type, revision=revision))
    others = [commit for commit in commits if MARK not in str(commit.message or "").split("\n")]
    # The first commit, which comes last, is the Hub's own; if it is all, so is the card that it may have come with.
    if shared and len(others) < len(commits):
        return
    if not others or (others == commits[-1:] and (len(commits) > 1 or present <= _UNTOUCHED)):
        return
    newest, commit = others[0], str(others[0].commit_id)[:8]
    raise HubError(
        f"{repo_id} already holds what hubmerge did not push (commit {commit}: {newest.title!r}), and "
        "is left as it is; choose another name, or ask to overwrite it (--overwrite, on the page: tick Overwrite)."
    )
