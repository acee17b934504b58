"""The `calibration:` of a recipe: the texts by which methods that need data measure the models.

>>> from hubmerge.documents import DocumentKind
>>> given = {"dataset": "org/texts", "file": "train.jsonl", "examples": 64}
>>> calibration = Calibration.read(given, DocumentKind("recipe", RecipeError))
>>> calibration.examples, calibration.tokens, calibration.text
(64, 256, '{text}')
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..documents import DocumentKind
from ..errors import RecipeError
from ..guesses import guess

LABELS = ("model", "text")

_MOST_EXAMPLES, _MOST_TOKENS, _LARGEST_SEED = 100_000, 32_768, 2**32
_KEYS = ("task", "dataset", "file", "text", "labels", "examples", "tokens", "seed")


@dataclass(frozen=True)
class Calibration:
    """Where the texts come from, and how many are read. Raises `RecipeError` at construction.

    `task`: a task of hubmerge by name, file or plain values: prompts and answers of its search split, and of no other.
    `dataset`: a dataset of the Hub (org/name@revision) with a `file` in it; a `file` alone is one of this machine.
    `text`: what of a row is read, with {fields}. `tokens`: of a text at most. `labels`: whose tokens fisher takes the
    gradients for: the "model"'s own, drawn from what it predicts, or those of the "text". `seed`: of what is drawn.
    """

    task: Any = None
    dataset: str | None = None
    file: str | None = None
    text: str = "{text}"
    labels: str = "model"
    examples: int = 128
    tokens: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.task is None) == (self.file is None) or (self.dataset is not None and self.file is None):
            raise RecipeError(
                "`calibration` needs `task: NAME`, or `dataset: org/name` with a `file` in it, or a `file` of this "
                "machine; one of them."
            )
        if self.labels not in LABELS:
            raise RecipeError(
                f"labels of `calibration` must be {' or '.join(LABELS)}, got {self.labels!r}"
                f"{guess(self.labels, LABELS, few=True)}."
            )
        for name, least, most in (
            ("examples", 1, _MOST_EXAMPLES),
            ("tokens", 2, _MOST_TOKENS),
            ("seed", 0, _LARGEST_SEED),
        ):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise RecipeError(
                    f"{name} of `calibration` must be a whole number from {least} to {most:,}, got {value!r}."
                )

    @property
    def local(self) -> tuple[str, ...]:
        """Files and folders of this machine that the texts come from."""
        if not isinstance(self.task, Mapping):
            named = [self.task] if self.task is not None else [] if self.dataset is not None else [self.file]
        else:
            harness, examples = (self.task.get(key) for key in ("lm_eval", "examples"))
            named = [harness.get("include_path")] if isinstance(harness, Mapping) else []
            named += [examples.get("folder")] if isinstance(examples, Mapping) else []
            python = self.task.get("python")
            named += [python.rpartition(":")[0] or python] if isinstance(python, str) else []
        return tuple(str(one) for one in named if one is not None)

    @classmethod
    def read(cls, value: Any, kind: DocumentKind) -> "Calibration":
        """The calibration that plain values describe, in a document of this kind; raises its error."""
        given = kind.mapping(value, "calibration")
        kind.require_known(given, _KEYS, "`calibration`")
        task = given.get("task")
        if task is not None and not isinstance(task, (str, Mapping)):
            raise kind.error(f"`calibration.task` must be the name of a task, or its own text, got {task!r}.")
        texts = {key: kind.text(given, key) for key in ("dataset", "file", "text", "labels") if given.get(key)}
        numbers = {key: given[key] for key in ("examples", "tokens", "seed") if given.get(key) is not None}
        return cls(task=task, **texts, **numbers)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, which `read` reads back to an equal calibration."""
        document = {key: getattr(self, key) for key in _KEYS}
        if self.task is not None:
            del document["text"]
        return {key: value for key, value in document.items() if value is not None}
