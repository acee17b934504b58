"""What a model is called: a Hub ID or a folder, at a commit or a digest, with a LoRA on top of it."""

import os
import re
from dataclasses import dataclass, field, replace

from .errors import RecipeError
from .places import folder_name

_REPO_ID = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
_LONGEST_NAME = 2_000
_UNREADABLE = re.compile("[\0\ud800-\udfff]")
# A name of git's, which is a file there.
_REVISION = re.compile(r"[^\s@+\x00-\x1f\x7f\ud800-\udfff]{1,255}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{12}")
_PINNED_FOLDER = re.compile(rf"(?P<folder>\./[^/]+?)@(?P<digest>{_DIGEST.pattern})(?:\+(?P<lora>.+))?", re.DOTALL)


@dataclass(frozen=True)
class ModelRef:
    """A model by Hub ID (`org/name`, optionally `@revision`) or by folder, optionally with a LoRA on top.

    `revision` is a branch, tag, pull request ref or commit. Raises `RecipeError` for a name that no Hub repository
    can have; a folder is accepted only where it exists or is written as a path (`./x`, `/x`, `~/x`). What is shared
    names no path: there a folder is `./NAME@sha256:0123456789ab`, its own name and a digest of its tensors as the
    revision (see places.py). `place` is where it lies on this machine, as far as that is known; no text tells it.
    """

    repo_id: str
    revision: str | None = None
    lora: "ModelRef | None" = None
    place: str | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.lora is not None and self.lora.lora is not None:
            raise _two_loras(self.repo_id)
        if len(self.repo_id) > _LONGEST_NAME or _UNREADABLE.search(self.repo_id):
            raise RecipeError(
                f"{self.repo_id[:60]!r} is no name of a model ({len(self.repo_id):,} characters): it is too long, or "
                "holds what is no character; rename the folder."
            )
        if self.is_folder:
            return
        parts = self.repo_id.split("/")
        fits = len(parts) <= 2 and len(self.repo_id) <= 96 and all(_REPO_ID.fullmatch(part) for part in parts)
        if not fits or "--" in self.repo_id or ".." in self.repo_id or self.repo_id.endswith(".git"):
            raise RecipeError(
                f"{self.repo_id!r} is neither a Hub ID (org/name) nor an existing folder; write a folder as ./name."
            )
        if self.revision is not None and not _REVISION.fullmatch(self.revision):
            raise RecipeError(
                f"{self.revision!r} is not a revision of {self.repo_id}; expected a branch, tag or commit."
            )

    @classmethod
    def parse(cls, text: str) -> "ModelRef":
        """Reads `org/name`, `org/name@revision` or a folder, each with `+` and the same for a LoRA on top of it."""
        if not isinstance(text, str) or not text.strip():
            raise RecipeError(f"Expected a model (org/name or a folder), got {text!r}.")
        text = text.strip()
        if len(text) > _LONGEST_NAME:
            raise RecipeError(f"A model's name has {len(text):,} characters; expected org/name or a folder.")
        return cls._read(text, None)

    @classmethod
    def _read(cls, text: str, model: str | None) -> "ModelRef":
        """Reads a model, or what stands on top of the `model`."""

        def on_top(of: str, lora: str) -> ModelRef:
            if model is not None:
                raise _two_loras(model)
            return cls._read(lora, of)

        if (named := _PINNED_FOLDER.fullmatch(text)) and not os.path.isdir(text):
            pinned = cls(named["folder"], named["digest"])
            return replace(pinned, lora=on_top(pinned.repo_id, named["lora"])) if named["lora"] else pinned
        if _is_folder(text):
            # A folder's own name may have a plus.
            ends = [] if os.path.isdir(text) else [at for at, sign in enumerate(text) if sign == "+"]
            end = next((at for at in ends if os.path.isdir(text[:at]) and text[at + 1 :]), None)
            return cls(text) if end is None else cls(text[:end], lora=on_top(text[:end], text[end + 1 :]))
        repository, plus, lora = text.partition("+")
        repo_id, at, revision = repository.partition("@")
        if (plus and not lora) or (at and not revision):
            raise RecipeError(f"{text!r} ends too early; expected org/name@revision+org/lora@revision.")
        return cls(repo_id, revision or None, on_top(repository, lora) if plus else None)

    def __str__(self) -> str:
        text = self.repo_id + (f"@{self.revision}" if self.revision else "")
        return f"{text}+{self.lora}" if self.lora else text

    @property
    def is_folder(self) -> bool:
        """Whether this names a folder on disk rather than a repository of the Hub."""
        return _is_folder(self.repo_id)

    @property
    def reads_folder(self) -> bool:
        """Whether this or its LoRA is a folder on disk."""
        return self.is_folder or (self.lora is not None and self.lora.is_folder)

    @property
    def bare(self) -> str:
        """The model as people call it: without revisions. A folder keeps its digest, as many have the same name."""
        name = str(replace(self, lora=None)) if self.is_folder else self.repo_id
        return f"{name}+{self.lora.bare}" if self.lora else name

    @property
    def title(self) -> str:
        """The model in a table that is shared: without revisions, and of a folder its own name."""
        name = f"local folder {folder_name(self.repo_id)}" if self.is_folder else self.repo_id
        return f"{name}+{self.lora.title}" if self.lora else name

    def pinned(self, commit: str | None) -> "ModelRef":
        """The same model at `commit` (40 hex digits); a folder stays as it is."""
        return self if commit is None else replace(self, revision=commit)


def _two_loras(model: str) -> RecipeError:
    return RecipeError(f"{model} has two LoRAs; a model takes one, so merge the models with one each.")


def _is_folder(text: str) -> bool:
    return text.startswith(("./", "../", "/", "~")) or text in (".", "..") or os.path.isdir(text)
