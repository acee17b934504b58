"""How likely a model finds given answers: batched log-likelihoods of text after a prompt."""

import inspect
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..amounts import size
from ..errors import ResourceError, TaskError
from ..progress import Event, Progress, silent
from .demand import reading_bytes
from .generation import pad_id, position_limit, prompt_texts
from .placement import execution_device, memory_left
from .texts import encode, has_template

_MOST_LOGITS = 2**27  # logits held at once: 512 MB in float32 (a vocabulary may have 262,144 entries)


@dataclass(frozen=True)
class Likelihood:
    """log p of a text after its prompt: the sum over its tokens, in nats, and how many tokens those are."""

    total: float
    tokens: int


def loglikelihoods(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[tuple[str, str]],
    *,
    system: str | None = None,
    batch_size: int = 64,
    memory: int | None = None,
    progress: Progress = silent,
) -> list[Likelihood]:
    """The likelihood of each (prompt, text): of `text` as the answer to `prompt`, or by itself where that is empty.

    Prompts go through the tokenizer's chat template where it has one. Without a template a space parts prompt and
    text, unless the prompt ends in white space or in a script that writes none. Rows are right-padded: no token that
    counts sees padding, whatever the architecture. `memory`: bytes that the model and its answers may take, to which
    batches are fitted. Raises `TaskError` for a text without tokens and for one that does not fit the model's
    positions, `ResourceError` where the longest text does not fit into the memory.
    """
    rows = encode_pairs(tokenizer, pairs, system)
    longest, limit = max((len(ids) for ids, _ in rows), default=0), position_limit(model)
    if limit and longest > limit:
        raise TaskError(
            f"The longest prompt with its answer has {longest} tokens, but the model reads at most {limit}; "
            "shorten the examples."
        )
    found: list[Likelihood | None] = [None] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i][0]))
    done = 0
    room = None if memory is None else memory_left(model, memory)
    for batch in _batches(model, [rows[i] for i in order], batch_size, room):
        for index, likelihood in zip(order[done:], _score(model, tokenizer, batch), strict=False):
            found[index] = likelihood
        done += len(batch)
        progress(Event("score", done, len(rows), "texts"))
    return [likelihood for likelihood in found if likelihood is not None]


_Row = tuple[list[int], int]
"""Token ids, and the index of the first one that counts (at least 1: nothing predicts the first)."""


def encode_pairs(tokenizer: Any, pairs: Sequence[tuple[str, str]], system: str | None) -> list[_Row]:
    """The row of each (prompt, text), as `loglikelihoods` asks it."""
    asked = [prompt for prompt, _ in pairs if prompt or system]
    written = iter(prompt_texts(tokenizer, asked, system))
    contexts = [next(written) if prompt or system else "" for prompt, _ in pairs]
    return _rows(tokenizer, contexts, [text for _, text in pairs])


def _rows(tokenizer: Any, contexts: Sequence[str], texts: Sequence[str]) -> list[_Row]:
    """The rows of texts after their contexts."""
    template = has_template(tokenizer)
    # Encoded as one text: a word is cut differently at the start of a text than inside it.
    whole = [
        f"{context} {text}" if context and not template and not _ends_apart(context) else context + text
        for context, text in zip(contexts, texts, strict=True)
    ]
    plain = [not template or not context for context in contexts]
    pairs = zip(encode(tokenizer, contexts, plain), encode(tokenizer, whole, plain), strict=True)
    return [_row(tokenizer, before, ids) for before, ids in pairs]


def _row(tokenizer: Any, before: list[int], ids: list[int]) -> _Row:
    start = _common_prefix(before, ids)
    if start == 0 and (first := _first_token(tokenizer)) is not None:
        ids, start = [first, *ids], 1
    if len(ids) <= max(start, 1):
        raise TaskError("An answer of the task has no tokens to score; give the model something to say.")
    return ids, max(start, 1)


def _ends_apart(prompt: str) -> bool:
    return prompt[-1].isspace() or unicodedata.east_asian_width(prompt[-1]) in "WF"


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _first_token(tokenizer: Any) -> int | None:
    """What predicts the first token of a text with nothing before it: the token that begins texts, or ends them."""
    return tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id


def _batches(model: Any, rows: Sequence[_Row], batch_size: int, room: int | None) -> Iterator[list[_Row]]:
    """Rows in order, at most `batch_size` at once and no more than memory, or `room` bytes of it, holds."""
    batch: list[_Row] = []
    for row in rows:
        grown = [*batch, row]
        if batch and (len(grown) > batch_size or not _fits(model, grown, room)):
            yield batch
            grown = [row]
        if len(grown) == 1 and room is not None and (needed := _nbytes(model, grown)) > room:
            raise ResourceError(
                f"Scoring a text of {len(row[0])} tokens takes {size(needed)} of memory beside the model, and the "
                f"limit leaves {size(max(0, room))}; allow {size(needed - room)} more."
            )
        batch = grown
    if batch:
        yield batch


def _fits(model: Any, batch: Sequence[_Row], room: int | None) -> bool:
    if room is not None and _nbytes(model, batch) > room:
        return False
    return _logits(model, batch) <= _MOST_LOGITS


def _logits(model: Any, batch: Sequence[_Row]) -> int:
    first, last = _span(batch)
    return len(batch) * (last - first) * int(model.config.get_text_config().vocab_size)


def _nbytes(model: Any, batch: Sequence[_Row]) -> int:
    """Bytes that scoring a batch takes: what a layer makes of its tokens, and the logits, in float32 too."""
    width = max(len(ids) for ids, _ in batch)
    reading = reading_bytes(model.config.get_text_config(), len(batch) * width, width, model.dtype)
    return 2 * reading + _logits(model, batch) * (model.dtype.itemsize + 2 * 4)


def _span(batch: Sequence[_Row]) -> tuple[int, int]:
    """The positions whose logits predict some row's counted tokens, from the first to before the last."""
    return min(start for _, start in batch) - 1, max(len(ids) for ids, _ in batch) - 1


@torch.inference_mode()
def _score(model: Any, tokenizer: Any, batch: Sequence[_Row]) -> list[Likelihood]:
    width = max(len(ids) for ids, _ in batch)
    ids = torch.full((len(batch), width), pad_id(model, tokenizer))
    mask = torch.zeros_like(ids)
    for row, (tokens, _) in enumerate(batch):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    device = execution_device(model)
    ids, mask = ids.to(device), mask.to(device)
    first, last = _span(batch)
    kept = {}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        kept["logits_to_keep"] = torch.arange(first, last, device=device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **kept).logits  # (rows, kept, vocabulary)
    offset = first if kept else 0
    found = []
    for row, (tokens, start) in enumerate(batch):
        said = logits[row, start - 1 - offset : len(tokens) - 1 - offset].float()  # (counted, vocabulary)
        chosen = said.gather(1, ids[row, start : len(tokens), None])[:, 0] - said.logsumexp(dim=1)
        found.append(Likelihood(float(chosen.double().sum()), len(tokens) - start))
    return found
