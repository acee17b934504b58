"""What a model is called: a Hub ID or a folder, at a commit or a digest, with a LoRA on top of it."""

import os
import re
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

from .errors import RecipeError
from .places import folder_name

_REPO_ID = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
_LONGEST_NAME = 2_000
_UNREADABLE = re.compile("[\0\ud800-\udfff]")
# A name of git's, which is a file there.
_REVISION = re.compile(r"[^\s@+\x00-\x1f\x7f\ud800-\udfff]{1,255}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{12}")
_COMPONENT = re.compile(r"[a-z][a-z0-9_]{0,63}")
_STAGE_MARK = "stage:"
_STAGE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
_FILE = re.compile(r".*(?:\.(?:safetensors|bin|pt|pth|gguf)|\.index(?:\.\w+)?\.json)", re.DOTALL)
"""A file with weights, or an index of some, which may be named itself."""
_ADDRESS = re.compile(r"(?:(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)|hf:/)/(?:models/)?")
_SHOWN = ("tree", "blob", "resolve", "raw", "commit")
"""What stands before a revision in the address of a page of the Hub."""
_NO_MODELS = ("datasets", "spaces", "buckets", "papers", "collections", "docs", "blog")
_PINNED_FOLDER = re.compile(
    rf"(?P<folder>\./[^/]+?)(?:/(?P<inside>[^/]+?\.\w+))?@(?P<digest>{_DIGEST.pattern})(?:\#(?P<component>{_COMPONENT.pattern}))?(?:\+(?P<lora>.+))?",
    re.DOTALL,
)


@dataclass(frozen=True)
class ModelRef:
    """A model by Hub ID (`org/name`, optionally `@revision`) or by folder, optionally with a LoRA on top.

    `inside`: a folder of the repository (`org/name/folder`), or one file with weights (`org/name/model.gguf`,
    `folder/model.safetensors`). `component`: only this part of it, written org/name#language_model (see
    hub/component.py). `stage`: no model of the Hub, but what the recipe's own stage of this name makes, written
    stage:NAME, or a part of that (stage:NAME#language_model).
    `revision` is a branch, tag, pull request ref or commit. Raises `RecipeError` for a name that no Hub repository
    can have; a folder is accepted only where it exists or is written as a path (`./x`, `/x`, `~/x`). What is shared
    names no path: there a folder is `./NAME@sha256:0123456789ab`, its own name and a digest of its tensors as the
    revision (see places.py). `place` is where it lies on this machine, as far as that is known; no text tells it.
    """

    repo_id: str
    revision: str | None = None
    lora: "ModelRef | None" = None
    place: str | None = field(default=None, repr=False, compare=False)
    component: str | None = None
    stage: bool = False
    inside: str = ""

    def __post_init__(self) -> None:
        if self.lora is not None and self.lora.lora is not None:
            raise _two_loras(self.repo_id)
        if self.lora is not None and (self.lora.component is not None or self.lora.stage):
            raise RecipeError(
                f"{self.lora} is no LoRA: a part of a model stands before the plus, as in org/model#part."
            )
        if len(self.repo_id) > _LONGEST_NAME or _UNREADABLE.search(self.repo_id):
            raise RecipeError(
                f"{self.repo_id[:60]!r} is no name of a model ({len(self.repo_id):,} characters): it is too long, or "
                "holds what is no character; rename the folder."
            )
        if self.stage:
            if not _STAGE.fullmatch(self.repo_id):
                raise RecipeError(
                    f"{self.repo_id!r} is no name of a stage; expected letters, digits, - _ and . without a slash."
                )
            return
        if any(part in ("", ".", "..") for part in self.inside.split("/")) and self.inside:
            raise RecipeError(
                f"{self.inside!r} is no folder or file inside of {self.repo_id}; leave out dots and slashes."
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
        """Reads `org/name`, `org/name@revision` or a folder, each with `+` and the same for a LoRA on top of it; or the
        address of a model's page on the Hub."""
        if not isinstance(text, str) or not text.strip():
            raise RecipeError(f"Expected a model (org/name or a folder), got {text!r}.")
        text = _without_address(text.strip())
        if text.startswith(_STAGE_MARK):
            name, component = _parted(text.removeprefix(_STAGE_MARK))
            return cls(name, component=component, stage=True)
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
            pinned = cls(named["folder"], named["digest"], component=named["component"], inside=named["inside"] or "")
            return replace(pinned, lora=on_top(pinned.repo_id, named["lora"])) if named["lora"] else pinned
        if _is_folder(text) or _is_place(text):
            # A folder's own name may have a plus.
            ends = [] if os.path.isdir(text) else [at for at, sign in enumerate(text) if sign == "+"]
            end = next((at for at in ends if _is_place(_parted(text[:at])[0]) and text[at + 1 :]), len(text))
            folder, component = _parted(text[:end])
            rest, inside = text[end + 1 :], ""
            if _is_file(folder):
                folder, inside = os.path.dirname(folder) or ".", os.path.basename(folder)
            return cls(folder, lora=on_top(folder, rest) if rest else None, component=component, inside=inside)
        repository, plus, lora = text.partition("+")
        whole, component = _parted(repository)
        repo_id, at, revision = whole.partition("@")
        if (plus and not lora) or (at and not revision):
            raise RecipeError(f"{text!r} ends too early; expected org/name@revision+org/lora@revision.")
        [*names] = repo_id.split("/", 2)
        repo_id, inside = "/".join(names[:2]), names[2].rstrip("/") if len(names) > 2 else ""
        on = on_top(repository, lora) if plus else None
        return cls(repo_id, revision or None, on, component=component, inside=inside)

    def __str__(self) -> str:
        if self.stage:
            return _STAGE_MARK + self.repo_id + self._part
        text = self.whole + (f"@{self.revision}" if self.revision else "") + self._part
        return f"{text}+{self.lora}" if self.lora else text

    @property
    def whole(self) -> str:
        """The repository or folder, and what of it is meant."""
        return f"{self.repo_id}/{self.inside}" if self.inside else self.repo_id

    @property
    def is_folder(self) -> bool:
        """Whether this names a folder on disk rather than a repository of the Hub."""
        return not self.stage and _is_folder(self.repo_id)

    @property
    def reads_folder(self) -> bool:
        """Whether this or its LoRA is a folder on disk."""
        return self.is_folder or (self.lora is not None and self.lora.is_folder)

    @property
    def bare(self) -> str:
        """The model as people call it: without revisions. A folder keeps its digest, as many have the same name."""
        named = self.is_folder or self.stage
        name = str(replace(self, lora=None)) if named else self.whole + self._part
        return f"{name}+{self.lora.bare}" if self.lora else name

    @property
    def title(self) -> str:
        """The model in a table that is shared: without revisions, and of a folder its own name."""
        if self.stage:
            return str(self)
        name = f"local folder {folder_name(self.repo_id)}" if self.is_folder else self.whole
        name += f" ({self.inside})" if self.is_folder and self.inside else ""
        return f"{name}{self._part}+{self.lora.title}" if self.lora else name + self._part

    @property
    def _part(self) -> str:
        return f"#{self.component}" if self.component else ""

    @property
    def whole_stage(self) -> "ModelRef":
        """Of a stage: all that it makes, where this is a part of it."""
        return replace(self, component=None)

    def pinned(self, commit: str | None) -> "ModelRef":
        """The same model at `commit` (40 hex digits); a folder stays as it is."""
        return self if commit is None else replace(self, revision=commit)


def repository_of(name: object) -> str | None:
    """The Hub ID that somebody wrote, as that or as the address of its page; None for whatever else it is."""
    try:
        ref = ModelRef.parse(name) if isinstance(name, str) else None
    except RecipeError:
        return None
    return None if ref is None or ref.stage or ref.reads_folder or ref.lora is not None else ref.repo_id


def _without_address(text: str) -> str:
    """What the address of a page of the Hub names, as org/name/folder@revision; any other text as it is."""
    hub = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    own = f"{hub}/" if hub and text.startswith(f"{hub}/") else None
    begin = own or ((found := _ADDRESS.match(text)) and found.group())
    if not begin or len(text) > _LONGEST_NAME or text.startswith((".", "/")):
        return text
    parts = re.split(r"[?#]", text[len(begin) :])[0].strip("/").split("/")
    if parts[0] in _NO_MODELS:
        raise RecipeError(
            f"{text[:200]!r} is an address of the Hub's {parts[0]}, and of no model; name one as org/name."
        )
    at = next((at for at in (1, 2) if at < len(parts) and parts[at] in _SHOWN), None)
    names, [kind, *rest] = parts[: at or 2], [unquote(part) for part in parts[at:]] if at else [""]
    if not all(_REPO_ID.fullmatch(name.partition("@")[0]) for name in names):
        return text  # a folder of this machine is no page of the Hub
    inside = rest[1:] if kind == "tree" or _FILE.fullmatch(parts[-1]) else []
    revision = f"@{rest[0]}" if rest and rest[0] != "main" else ""
    return "/".join([*names, *inside]) + revision


def _parted(text: str) -> tuple[str, str | None]:
    """A name without the part that it ends in, and that; a folder's own name may have such an end."""
    whole, mark, component = text.rpartition("#")
    if not mark or not _COMPONENT.fullmatch(component) or os.path.isdir(text):
        return text, None
    return whole, component


def _two_loras(model: str) -> RecipeError:
    return RecipeError(f"{model} has two LoRAs; a model takes one, so merge the models with one each.")


def _is_folder(text: str) -> bool:
    return text.startswith(("./", "../", "/", "~")) or text in (".", "..") or os.path.isdir(text)


def _is_place(text: str) -> bool:
    return os.path.isdir(text) or _is_file(text)


def _is_file(text: str) -> bool:
    return _FILE.fullmatch(text) is not None and os.path.isfile(os.path.expanduser(text))
