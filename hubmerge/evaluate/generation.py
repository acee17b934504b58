"""Text from a model: batched greedy answers for scoring, and a streamed chat."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from ..errors import TaskError
from ..progress import Event, Progress, silent
from .demand import Demand
from .placement import execution_device, memory_left
from .texts import chat_texts, encode_prompts, has_template

GREEDY: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 1,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_new_tokens": 0,
}
"""A repository's generation_config.json may ask for sampling or penalties; greedy scoring must not depend on it."""

_BLOCKS = 2
"""Blocks in work at a time: a step for few rows takes nearly as long as one for twice as many."""


@dataclass(frozen=True)
class Answer:
    """The answer to the prompt at `index`; `tokens` were made for all prompts up to now, end tokens included."""

    index: int
    text: str
    tokens: int


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int = 64,
    system: str | None = None,
    progress: Progress = silent,
) -> list[str]:
    """The greedy answer to each prompt, without the prompt, in the prompts' order. Raises as `answers` does."""
    texts = [""] * len(prompts)
    asked = answers(model, tokenizer, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size, system=system)
    for done, answer in enumerate(asked, 1):
        texts[answer.index] = answer.text
        progress(Event("generate", done, len(prompts), "examples"))
    return texts


def answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int = 64,
    system: str | None = None,
    block_ends: Sequence[int] = (),
    memory: int | None = None,
) -> Iterator[Answer]:
    """Yields the greedy answer to each prompt, without the prompt, when it ends.

    Prompts go through the tokenizer's chat template where it has one, and are asked by falling length, `batch_size` of
    them at a time. `block_ends` divides them into blocks that are asked one after another, never more prompts at a
    time than two blocks have. `memory`: bytes that model and answers may take; fewer prompts are asked at a time where
    more would not fit. The result, its order included, is deterministic. Raises `TaskError` where a prompt does not
    fit the model's positions, `ResourceError` where one prompt does not fit into the memory.
    """
    from .greedy import Decoder, can_decode

    encoded = encode_prompts(tokenizer, prompt_texts(tokenizer, prompts, system))
    check_length(model, max(map(len, encoded), default=0), max_new_tokens)
    stops = eos_ids(model, tokenizer)
    blocks = list(pairwise((0, *(block_ends or (len(encoded),)))))
    # The longest first: they pad each other little, and if memory is short, the first batch shows it.
    order = [at for start, end in blocks for at in sorted(range(start, end), key=lambda i: -len(encoded[i]))]
    rows = [encoded[at] for at in order]
    run = None
    if memory is not None:
        asked = Demand(min(batch_size, len(rows)), max(map(len, rows), default=0), max_new_tokens)
        fitting = asked.within(memory_left(model, memory), model)
        batch_size, run = fitting.prompts, fitting.run
    if can_decode(model):
        decoder = Decoder(model, rows, stops or (), run)
        places = min(batch_size, _BLOCKS * max(end - start for start, end in blocks))
        for number, ids in decoder.stream(rows, max_new_tokens, places):
            yield Answer(order[number], _text(tokenizer, ids), decoder.made)
        return
    tokens, pad = 0, pad_id(model, tokenizer)
    for start, end in blocks:
        for first in range(start, end, batch_size):
            batch = rows[first : min(first + batch_size, end)]
            made = generate_batch(model, batch, max_new_tokens, ends=stops, pad=pad)
            tokens += sum(map(len, made))
            for number, ids in enumerate(made, first):
                yield Answer(order[number], _text(tokenizer, ids), tokens)


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


@torch.inference_mode()
def generate_batch(
    model: Any, rows: Sequence[Sequence[int]], max_new_tokens: int, *, ends: Sequence[int] | None, pad: int
) -> list[list[int]]:
    """The greedy tokens after each row, by `model.generate`: for models that `greedy.Decoder` does not know."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(rows):
        ids[row, width - len(tokens) :] = torch.tensor(tokens)
        mask[row, width - len(tokens) :] = 1
    made = model.generate(
        input_ids=ids.to(execution_device(model)),
        attention_mask=mask.to(execution_device(model)),
        max_new_tokens=max_new_tokens,
        pad_token_id=pad,
        eos_token_id=ends,
        **GREEDY,
    )
    return [until_end(row, ends or ()) for row in made[:, width:].tolist()]


def until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """The tokens up to and including the first that ends an answer: what follows is padding."""
    return ids[: next((at for at, token in enumerate(ids, 1) if token in ends), len(ids))]


def prompt_texts(tokenizer: Any, prompts: Sequence[str], system: str | None) -> list[str]:
    """Each prompt as the model reads it: through the tokenizer's chat template where it has one."""
    if not has_template(tokenizer):
        return [f"{system}\n\n{prompt}" if system else prompt for prompt in prompts]
    first = [{"role": "system", "content": system}] if system else []
    return chat_texts(tokenizer, [[*first, {"role": "user", "content": prompt}] for prompt in prompts])


def position_limit(model: Any) -> int | None:
    """How many tokens the model reads at most; None where nothing says."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def check_length(model: Any, longest: int, max_new_tokens: int) -> None:
    """Raises `TaskError` where a prompt of `longest` tokens and its answer are more than the model reads."""
    limit = position_limit(model)
    if not limit or longest + max_new_tokens <= limit:
        return
    if longest >= limit:
        raise TaskError(
            f"The longest prompt has {longest} tokens, but the model reads at most {limit}, its answer included; "
            "shorten it."
        )
    raise TaskError(
        f"The longest prompt has {longest} tokens and max_new_tokens is {max_new_tokens}, but the model reads at most "
        f"{limit}; write `max_new_tokens: {limit - longest}` or less into the task, or shorten the prompts."
    )


def eos_ids(model: Any, tokenizer: Any) -> list[int] | None:
    """Every token that ends an answer: the model's and the tokenizer's (chat models often differ in the two)."""
    own = getattr(model.generation_config, "eos_token_id", None)
    ids = [*(own if isinstance(own, (list, tuple)) else [own]), tokenizer.eos_token_id]
    return list(dict.fromkeys(i for i in ids if i is not None)) or None


def pad_id(model: Any, tokenizer: Any) -> int:
    """A token to pad with."""
    # The attention mask hides padding, so any token will do where the tokenizer has none of its own.
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    return (eos_ids(model, tokenizer) or [0])[0]


def stream_chat(
    model: Any,
    tokenizer: Any,
    messages: Sequence[Mapping[str, str]],
    *,
    max_new_tokens: int = 512,
    temperature: float = 0.0,
    top_p: float = 1.0,
    stop: threading.Event | None = None,
    turn: AbstractContextManager[None] | None = None,
    memory: int | None = None,
) -> Iterator[str]:
    """The answer to a conversation piece by piece, as the model writes it.

    The prompt is made at once, the answer with the first piece that is asked for, and within `turn`: where people take
    turns at the model, a prompt that takes long to make is nobody else's wait.

    `messages` are {"role": "system" | "user" | "assistant", "content": text}. `temperature` 0 is greedy. Setting
    `stop` (or closing the iterator) ends the answer after the next token. Errors of the model are raised here, and
    `ResourceError` where the conversation takes more than `memory` bytes beside the weights.
    """
    if has_template(tokenizer):
        (text,) = chat_texts(tokenizer, [messages])
    else:
        text = "\n".join(message["content"] for message in messages)
    ids = torch.tensor(encode_prompts(tokenizer, [text]))
    check_length(model, ids.shape[1], 1)
    if memory is not None:
        # All of it is read at once, as transformers does.
        Demand(1, ids.shape[1], 1, ids.shape[1]).within(memory_left(model, memory), model)
    limit = position_limit(model)
    room = min(max_new_tokens, limit - ids.shape[1]) if limit else max_new_tokens
    sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p} if temperature > 0 else {}

    def pieces() -> Iterator[str]:
        with turn or nullcontext():
            where = execution_device(model)
            asked = {"input_ids": ids.to(where), "attention_mask": torch.ones_like(ids).to(where)}
            yield from written(model, tokenizer, asked, {"max_new_tokens": room, **GREEDY, **sampling}, stop)

    return pieces()


def written(
    model: Any, tokenizer: Any, asked: Mapping[str, Any], settings: Mapping[str, Any], stop: threading.Event | None
) -> Iterator[str]:
    """What a model answers to its inputs `asked`, piece by piece; `settings` and `stop` as of `stream_chat`."""
    from transformers import StoppingCriteriaList, TextIteratorStreamer

    closed = threading.Event()
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    failure: list[BaseException] = []

    def ended(*_: Any, **__: Any) -> bool:
        return closed.is_set() or (stop is not None and stop.is_set())

    def work() -> None:
        try:
            with torch.inference_mode():
                model.generate(
                    **asked,
                    pad_token_id=pad_id(model, tokenizer),
                    eos_token_id=eos_ids(model, tokenizer),
                    streamer=streamer,
                    stopping_criteria=StoppingCriteriaList([ended]),
                    **settings,
                )
        except BaseException as exc:  # the reader below must wake up and see it, whatever it is
            failure.append(exc)
            streamer.text_queue.put(streamer.stop_signal)

    thread = threading.Thread(target=work, name="stream_chat", daemon=True)
    thread.start()
    try:
        for piece in streamer:
            if piece:
                yield piece
    finally:
        closed.set()
        thread.join()
    if failure:
        raise failure[0]
