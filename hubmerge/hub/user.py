"""Whose a token is, and what only that user sees."""

from ..errors import HubError
from .agent import hub_api
from .errors import hub_errors


def user_of(token: str) -> str:
    """The name of the user that a token is of. Raises `HubError` where the Hub does not say."""
    with hub_errors("asking the Hub who you are"):
        answer = hub_api(token).whoami()
    name = answer.get("name") if isinstance(answer, dict) else None
    if not isinstance(name, str) or not name:
        raise HubError("Asking the Hub who you are failed: its answer names nobody; try again later.")
    return name


def is_private(repo_id: str, token: str | None = None) -> bool:
    """Whether a model is private. Raises `HubError` where the Hub does not tell, as of one that `token` may not see."""
    with hub_errors(f"asking whether {repo_id} is private"):
        return hub_api(token).model_info(repo_id, expand=["private"]).private is True
