"""A repository that is not there: what its name may have been meant for, or where the demo's are."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from huggingface_hub.errors import RepositoryNotFoundError

from ..errors import HubError, NetworkError, NotFoundError
from ..guesses import nearest
from ..reference import ModelRef
from ..typed import typed
from .errors import hub_errors
from .session import ask

DEMO = "hubmerge-demo"
_LISTED = 200


@contextmanager
def helped(ref: ModelRef, kind: str, token: str | None) -> Iterator[None]:
    """Adds to the error inside, where a repository or the Hub is not there, what may help."""
    try:
        yield
    except (NotFoundError, NetworkError) as exc:
        near = _near(ref.repo_id, kind, token) if isinstance(exc.__cause__, RepositoryNotFoundError) else None
        if near is not None:
            hint = f"Did you mean {near}?"
        elif ref.repo_id.startswith(f"{DEMO}/"):
            hint = (
                f"This is one of the demo's: `{typed('hub --demo')}` serves them, and prints what to set to reach it; "
                f"`{typed('space --demo')}` opens the page on them."
            )
        else:
            raise
        raise type(exc)(f"{exc} {hint}") from exc.__cause__


def _near(repo_id: str, kind: str, token: str | None) -> str | None:
    """The most similar name among the repositories of the same owner, as the Hub lists them to this token."""
    owner = repo_id.partition("/")[0]
    listed = None
    with suppress(HubError), hub_errors(f"listing what {owner} has"):
        listed = ask(f"api/{kind}s", {"author": owner, "sort": "downloads", "limit": _LISTED}, token)
    ids = [item.get("id") for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    first = f"{owner}/"
    near = nearest(
        repo_id.removeprefix(first),
        [name.removeprefix(first) for name in ids if isinstance(name, str) and name.startswith(first)],
    )
    return None if near is None else first + near
