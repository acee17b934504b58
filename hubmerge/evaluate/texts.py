"""Prompts as a model reads them: through its chat template, and as tokens."""

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import TaskError
from . import apart

Conversation = Sequence[Mapping[str, Any]]
"""Turns: role, and content as a text or in parts."""

_PART = "{'type': 'text'"
"""What a template that knows texts alone writes of parts."""

_LONGEST_TEMPLATE = 1_000_000
"""Characters; the longest known ones have some 20,000."""


def has_template(tokenizer: Any) -> bool:
    """Whether prompts go through a chat template, which writes its own special tokens."""
    return bool(getattr(tokenizer, "chat_template", None))


def as_asked(tokenizer: Any, chat_template: bool) -> Any:
    """The tokenizer; without `chat_template` as if the model had none."""
    if chat_template:
        return tokenizer
    plain = copy.copy(tokenizer)
    plain.chat_template = None
    return plain


def chat_texts(tokenizer: Any, conversations: Sequence[Conversation]) -> list[str]:
    """Conversations of {role, content} through the tokenizer's chat template, up to where the answer begins.

    Templates of models that see may take content in parts alone, and of a text make nothing at all: they get parts.
    Raises `TaskError` where the template refuses one, or does not come to an end.
    """
    if not conversations:
        return []
    try:
        template = tokenizer.get_chat_template()
    except ValueError as exc:  # several, and none of them the default
        raise TaskError(f"The model's chat template cannot be chosen: {exc}") from None
    if not isinstance(template, str) or len(template) > _LONGEST_TEMPLATE:
        raise TaskError(f"The model's chat template must be text of at most {_LONGEST_TEMPLATE:,} characters.")
    # Written by this very line: a copy of plain values.
    special = json.loads(json.dumps(dict(tokenizer.special_tokens_map), default=str))
    refused: TaskError | None = None
    texts = [""] * len(conversations)
    try:
        texts = apart.render(template, special, conversations)
    except TaskError as exc:
        refused = exc
    if lost := [at for at, turns in enumerate(conversations) if refused or not _holds(texts[at], turns)]:
        try:
            made = apart.render(template, special, [_in_parts(conversations[at]) for at in lost])
        except TaskError:
            made = [_PART] * len(lost)
        for at, text in zip(lost, made, strict=True):
            if _holds(text, conversations[at]) and _PART not in text:
                texts[at] = text
            elif refused is not None:
                raise refused
    return texts


def _holds(text: str, turns: Conversation) -> bool:
    """Whether what was said last is in the text; of what is in parts already its writer knows."""
    content = turns[-1]["content"]
    return not isinstance(content, str) or content.strip() in text


def _in_parts(turns: Conversation) -> Conversation:
    said = ((turn, turn["content"]) for turn in turns)
    return [{**turn, "content": [{"type": "text", "text": c}] if isinstance(c, str) else c} for turn, c in said]


def encode_prompts(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text that `prompt_texts` made. Raises `TaskError` for one that has none."""
    rows = encode(tokenizer, texts, [not has_template(tokenizer)] * len(texts))
    if not all(rows):
        raise TaskError("A prompt is empty: it has no tokens; give the model something to answer.")
    return rows


def encode(tokenizer: Any, texts: Sequence[str], special: Sequence[bool]) -> list[list[int]]:
    """The tokens of each text, with the special tokens that the tokenizer adds where `special` says so.

    Raises `TaskError` for text that cannot be encoded, and where the tokenizer's own expressions do not come to an end.
    """
    for text in texts:
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise TaskError("A prompt holds half of a surrogate pair, which is no character; take it out.")
    if texts and (words := _words(tokenizer)) is not None:
        apart.cut(words, texts)
    rows: list[list[int]] = [[]] * len(texts)
    for kind in (True, False):
        chosen = [at for at, added in enumerate(special) if added is kind]
        if chosen:
            made = tokenizer([texts[at] for at in chosen], add_special_tokens=kind)["input_ids"]
            for at, ids in zip(chosen, made, strict=True):
                rows[at] = ids
    return rows


def _words(tokenizer: Any) -> Mapping[str, Any] | None:
    """The part of a fast tokenizer that cuts text into words, as a tokenizer.json without a vocabulary.

    None where it has no expressions of its own.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = {name: getattr(backend, name, None) for name in ("normalizer", "pre_tokenizer")}
    states = {name: json.loads(part.__getstate__()) if part is not None else None for name, part in parts.items()}
    if "Regex" not in json.dumps(states):
        return None
    added = [
        {"id": at, **{key: getattr(token, key) for key in ("content", "single_word", "lstrip", "rstrip", "normalized")}}
        | {"special": token.special}
        for at, token in enumerate(tokenizer.added_tokens_decoder.values(), 1)
    ]
    model = {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}
    nothing = dict.fromkeys(("truncation", "padding", "post_processor", "decoder"))
    return {"version": "1.0", **nothing, "added_tokens": added, **states, "model": model}
