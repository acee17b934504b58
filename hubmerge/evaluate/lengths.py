"""How long a task's examples are for a model, told from its tokenizer and config.json before any weight is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import SourceError, TaskError
from ..stream.architecture import read_text_architecture
from . import seeing
from .examples import Example
from .generation import prompt_texts
from .likelihood import encode_pairs
from .task import SPLITS, Task
from .texts import as_asked, encode_prompts


@dataclass(frozen=True)
class Longest:
    """The example that takes most tokens: its split, where it comes from, and the tokens that the model reads of it."""

    split: str
    where: str
    tokens: int

    def require(self, task: Task, limit: int | None, model: str) -> None:
        """Raises `TaskError` where `model`, which reads `limit` tokens at most, cannot be asked it."""
        new = task.max_new_tokens if task.asked.asks == "text" else 0
        if not limit or self.tokens + new <= limit:
            return
        room = limit - self.tokens
        mend = "shorten or leave out that example"
        if new and room > 0:
            mend = f"write `max_new_tokens: {room}` or less into the task, or {mend}"
        answer = f" and max_new_tokens is {new}" if new else ""
        where = f" ({self.where})" if self.where else ""
        raise TaskError(
            f"Task {task.name}: the longest example of the {self.split} split{where} has {self.tokens} tokens{answer}, "
            f"but {model} reads at most {limit}; {mend}."
        )


def longest(tokenizer: Any, task: Task, splits: tuple[str, ...] = SPLITS) -> Longest | None:
    """The longest example of these splits as a model with this tokenizer reads it; None where they are empty.

    None too where lm-eval asks, which cuts prompts to what fits. Where the task shows pictures, `tokenizer` is the
    processor, and all of them are opened. Raises `TaskError` for what cannot be asked at all.
    """
    found: Longest | None = None
    tokenizer = as_asked(tokenizer, task.chat_template)
    for split in splits if task.asked.asks != "lm_eval" else ():
        for example, tokens in _lengths(tokenizer, task, split):
            if found is None or tokens > found.tokens:
                found = Longest(split, example.where, tokens)
    return found


def _lengths(tokenizer: Any, task: Task, split: str) -> list[tuple[Example, int]]:
    examples = task.split(split)
    if task.sees:
        return list(zip(examples, seeing.lengths(tokenizer, examples, task.system), strict=True))
    if task.asked.asks == "text":
        prompts = [example.prompt for example in examples]
        rows = encode_prompts(tokenizer, prompt_texts(tokenizer, prompts, task.system))
        return [(example, len(ids)) for example, ids in zip(examples, rows, strict=True)]
    asked = [(example, text) for example in examples for text in example.choices or (example.answer,)]
    found = encode_pairs(tokenizer, [(example.prompt, text) for example, text in asked], task.system)
    return [(example, len(ids)) for (example, _), (ids, _) in zip(asked, found, strict=True)]


def positions(config: Mapping[str, Any]) -> int | None:
    """How many tokens a model with this config.json reads at most; None where nothing says."""
    # As `generation.position_limit` has it of a model: other architectures have other names for it.
    try:
        text = read_text_architecture(config)
    except SourceError:  # loading the model says what is wrong with it
        return None
    limit = getattr(text, "max_position_embeddings", None)
    return limit if isinstance(limit, int) else None
