"""What a repository already holds before something is pushed to it: nothing, our own earlier push, or another's work;
and what a push tells to whom.

Every commit of hubmerge carries `MARK` in its description. A repository whose every commit does, but for the one that
the Hub makes it with, holds nothing that others put there; so a push that broke can be repeated, and a model pushed
again. Whatever else lies in it is somebody's. A model of another recipe is another model, whoever pushed it.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..documents import parse_object
from ..errors import AccessError, NotFoundError, RecipeError, RefusedError, SourceError
from ..reference import ModelRef
from .answers import ask_about
from .errors import hub_errors
from .listing import WEIGHTS
from .session import patiently

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MARK = "Pushed with hubmerge."
MANIFEST = "hubmerge.json"
"""The file in which a merge says by which recipe it was made, and of what."""

_UNTOUCHED = {".gitattributes", "README.md"}  # what the Hub itself puts into a new repository
DATASETS = "datasets/"
"""What the name of a dataset begins with beside those of models, as on the Hub."""
_PIN = re.compile(r"@(?:[0-9a-f]{40}|sha256:[0-9a-f]{12})(?=[#+]|$)")


@dataclass(frozen=True)
class Told:
    """What a push tells of a model: the `recipe` that made it, as its manifest has it (None: made otherwise), and the
    `models` and datasets that card and manifest name, those that others cannot see only with `names_private`.
    `is_model`: it takes the place of a model there."""

    recipe: Mapping[str, Any] | None
    models: tuple[str, ...] = ()
    names_private: bool = False
    is_model: bool = True

    @classmethod
    def read(cls, manifest: str | None, names: Iterable[str] = (), names_private: bool = False) -> "Told":
        """What hubmerge.json tells, and `names` beside it; of a broken one, or none, only these."""
        document: dict[str, Any] = {}
        with suppress(SourceError):
            document = parse_object(manifest or "{}", MANIFEST, SourceError)
        recipe, sources = document.get("recipe"), document.get("sources")
        named = [one.get("model") for one in sources if isinstance(one, dict)] if isinstance(sources, list) else []
        texts = document.get("calibration")
        used = [one.get("dataset") for one in texts if isinstance(one, dict)] if isinstance(texts, list) else []
        named += [f"{DATASETS}{name}" for name in used if name]
        models = dict.fromkeys(name for name in (*named, *names) if isinstance(name, str))
        return cls(recipe if isinstance(recipe, dict) else None, tuple(models), names_private)

    def require_seen(self) -> None:
        """Raises `RefusedError` where it names models that nobody else can see."""
        if self.names_private:
            return
        if hidden := [name for name in self.models if not _is_seen(name)]:
            *most, last = hidden
            all_of = f"{', '.join(most)} and {last}" if most else last
            they, are = ("them", "are") if hidden[1:] else ("it", "is")
            raise RefusedError(
                f"{all_of} {are} private, or gone, and a public card and recipe would name {they} to everybody; "
                f"push without --public, or say that {they} may be named (--name-private, on the page: tick Name "
                "private models)."
            )

    def require_same(self, repo_id: str, files: Collection[str], manifest: str | None) -> None:
        """Raises `RefusedError` where a repository with these files, and this manifest, holds a model that another
        recipe made: commits of models, which change with time, apart."""
        other = Told.read(manifest).recipe
        if not self.is_model:
            return
        if other is not None and self.recipe is not None and _as_written(other) == _as_written(self.recipe):
            return
        if manifest is not None:
            method = other.get("merge_method") if other else None
            what = f"the model of another merge{f' ({method})' if isinstance(method, str) else ''}"
        elif self.recipe is not None and (weights := sorted(name for name in files if name.endswith(WEIGHTS))):
            what = f"another model ({weights[0]})"
        else:
            return
        raise RefusedError(f"{repo_id} already holds {what}, and {LEFT}")


LEFT = "is left as it is; choose another name, or ask to overwrite it (--overwrite, on the page: tick Overwrite)."


def _as_written(recipe: Mapping[str, Any]) -> str:
    """A recipe without the commits and digests that its models were pinned to."""

    def unpinned(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: unpinned(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [unpinned(one) for one in value]
        return _PIN.sub("", value) if isinstance(value, str) else value

    return json.dumps(unpinned(recipe), sort_keys=True, default=str)


def _is_seen(name: str) -> bool:
    """Whether somebody without a token can see a model or dataset of the Hub; whatever is none, is nobody's."""
    kind = "dataset" if name.startswith(DATASETS) else "model"
    try:
        ref = ModelRef.parse(name.removeprefix(DATASETS))
    except RecipeError:
        return True
    if ref.is_folder:
        return True
    try:
        ask_about(ModelRef(ref.repo_id), None, kind)
    except (NotFoundError, AccessError):
        return False
    return True


def marked(description: str) -> str:
    """The description of a commit of hubmerge."""
    return f"{description}\n\n{MARK}".strip()


def require_private(repo_id: str, is_private: bool) -> None:
    """Raises `RefusedError` where a push that was not asked to be public goes into a public repository."""
    if not is_private:
        raise RefusedError(
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
    """Raises `RefusedError` where the repository holds something that hubmerge did not push. `present`: its files.

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
    raise RefusedError(
        f"{repo_id} already holds what hubmerge did not push (commit {commit}: {newest.title!r}), and {LEFT}"
    )
