"""Questions about pictures, asked through a model's own processor and chat template.

What the tower makes of a picture does not depend on the language model: it is computed once, and kept within a limit,
for as long as the tower stays the same (see `Seen`).
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import wraps
from itertools import pairwise
from typing import Any

import torch

from ..errors import HubmergeError, ResourceError, SourceError, TaskError
from ..stream.device import free_memory
from .demand import Demand
from .examples import Example
from .fitting import shape_errors
from .generation import GREEDY, Answer, check_length, eos_ids, pad_id, position_limit, until_end, written
from .placement import execution_device, memory_left
from .processing import joined, require_bounded, require_room
from .texts import chat_texts, encode_prompts, has_template

TOGETHER, TOKENS = 8, 4096
"""Questions that are asked at a time at most, as pictures take many tokens each; more, where they are so few tokens."""

SHARE = 0.25
"""The share of what memory is left beside a model that is kept of its pictures."""

_NOT_READ = ("labels", "num_crops", "offset_mapping")
_PIXELS = "pixel_values"
_MAIN = torch.device("cpu")
_BESIDE = ("last_hidden_state", "hidden_states", "attentions")


@dataclass(frozen=True)
class _Batch:
    """Some questions as a model reads them: `inputs` without pixels, and what the tower makes of these."""

    inputs: dict[str, Any]
    features: Any

    @property
    def nbytes(self) -> int:
        """Bytes that it keeps."""
        return sum(one.nbytes for one in _tensors([self.inputs, self.features]))


class Seen:
    """What a tower has made of pictures. `limit`: bytes that are kept; None: a share of what is free as it starts.

    `key` tells whose tower it was; another one's pictures are forgotten.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = int(free_memory(_MAIN) * SHARE) if limit is None else limit
        self.key: object = None
        self.made = 0
        self._kept: dict[object, _Batch] = {}
        self._held = 0

    def by(self, key: object) -> "Seen":
        """For a tower that `key` names; None is a tower that nobody knows, of which nothing is kept from before."""
        if key is None or key != self.key:
            self._forget()
        self.key = key
        return self

    def hold(self, limit: int) -> None:
        """Keeps no more than this from now on; where more is kept, all is forgotten."""
        self.limit = min(self.limit, limit)
        if self._held > self.limit:
            self._forget()

    def _forget(self) -> None:
        self._kept.clear()
        self._held = 0

    @property
    def nbytes(self) -> int:
        """Bytes that are kept now."""
        return self._held

    def get(self, name: object) -> _Batch | None:
        """What is known of a batch."""
        return self._kept.get(name)

    def keep(self, name: object, batch: _Batch) -> None:
        """Keeps what was made of a batch, if there is room: what was there first is asked first again."""
        self.made += 1
        if self._held + batch.nbytes <= self.limit:
            self._kept[name] = batch
            self._held += batch.nbytes


def answers(
    model: Any,
    processor: Any,
    examples: Sequence[Example],
    *,
    max_new_tokens: int,
    batch_size: int = 64,
    system: str | None = None,
    block_ends: Sequence[int] = (),
    memory: int | None = None,
    seen: Seen | None = None,
) -> Iterator[Answer]:
    """Yields the greedy answer to each question when it is made; parameters and errors as of `generation.answers`.

    Raises `TaskError`, too, for a picture that is broken and for a model that does not see.
    """
    require_seeing(model, processor)
    seen = Seen() if seen is None else seen
    tokenizer = processor.tokenizer
    texts = question_texts(processor, examples, system)
    lengths = [len(row) for row in encode_prompts(tokenizer, texts)]
    stops, pad = eos_ids(model, tokenizer), pad_id(model, tokenizer)
    made = 0
    longest = _longest(processor, examples, texts, lengths) if examples else 1
    size = min(batch_size, max(TOGETHER, TOKENS // longest))
    if memory is not None and examples:
        size = _fitting(model, Demand(size, longest, max_new_tokens), memory, seen)
        require_room(processor, examples, memory_left(model, memory) - seen.limit)
    for start, end in pairwise((0, *(block_ends or (len(examples),)))):
        # What has no picture is another kind of question to a processor; then alike in length.
        order = sorted(range(start, end), key=lambda at: (examples[at].image is None, -lengths[at]))
        at = 0
        while at < len(order):
            alike = examples[order[at]].image is None
            batch = [one for one in order[at : at + size] if (examples[one].image is None) is alike]
            at += len(batch)
            with _shown(
                model, processor, [examples[one] for one in batch], [texts[one] for one in batch], seen
            ) as shown:
                width = shown["input_ids"].shape[1]
                check_length(model, width, max_new_tokens)
                with torch.inference_mode(), nullcontext() if alike else shape_errors(tokenizer.name_or_path):
                    found = model.generate(
                        **shown, max_new_tokens=max_new_tokens, pad_token_id=pad, eos_token_id=stops, **GREEDY
                    )
            for one, row in zip(batch, found[:, width:].tolist(), strict=True):
                ids = until_end(row, stops or ())
                made += len(ids)
                yield Answer(one, str(tokenizer.decode(ids, skip_special_tokens=True)).strip(), made)


def stream_answer(
    model: Any,
    processor: Any,
    question: Example,
    *,
    max_new_tokens: int = 512,
    temperature: float = 0.0,
    system: str | None = None,
    stop: threading.Event | None = None,
    memory: int | None = None,
) -> Iterator[str]:
    """The answer to one question about its picture, piece by piece; parameters and errors as of
    `generation.stream_chat`, and `TaskError` for a picture that is broken and for a model that does not see."""
    require_seeing(model, processor, "There is a picture")
    tokenizer = processor.tokenizer
    texts = question_texts(processor, [question], system)
    encode_prompts(tokenizer, texts)
    if memory is not None:
        require_room(processor, [question], memory_left(model, memory))
    with _shown(model, processor, [question], texts, Seen(0)) as shown:
        width = shown["input_ids"].shape[1]
        check_length(model, width, 1)
        if memory is not None:
            Demand(1, width, 1, width).within(memory_left(model, memory), model)
        limit = position_limit(model)
        room = min(max_new_tokens, limit - width) if limit else max_new_tokens
        sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {}
        settings = {"max_new_tokens": room, **GREEDY, **sampling}
        with shape_errors(tokenizer.name_or_path):
            yield from written(model, tokenizer, shown, settings, stop)


def question_texts(processor: Any, examples: Sequence[Example], system: str | None) -> list[str]:
    """Each question as the model reads it, with a mark where its picture is. Raises `TaskError` for one with a mark."""
    tokenizer, mark = processor.tokenizer, _mark(processor)
    for one in examples:
        if mark in one.prompt:
            raise TaskError(
                f"{one.where or 'The question'}: {mark} in a question is how this model marks a picture; take it out."
            )

    def turns(example: Example) -> list[dict[str, Any]]:
        if example.image is None:
            return [*first, {"role": "user", "content": example.prompt}]
        before = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in first]
        return [*before, {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": example.prompt}]}]

    first = [{"role": "system", "content": system}] if system else []
    if not has_template(tokenizer):
        before = f"{system}\n\n" if system else ""
        return [f"{mark}\n{before}{one.prompt}" if one.image else f"{before}{one.prompt}" for one in examples]
    texts = chat_texts(tokenizer, list(map(turns, examples)))
    if all(mark in text and repr("image") not in text for text, one in zip(texts, examples, strict=True) if one.image):
        return texts
    # A template of a plain model knows text alone.
    plain = [f"{mark}\n{one.prompt}" if one.image else one.prompt for one in examples]
    return chat_texts(tokenizer, [[*first, {"role": "user", "content": content}] for content in plain])


def lengths(processor: Any, examples: Sequence[Example], system: str | None) -> list[int]:
    """How many tokens each question is, its picture included; all pictures are decoded. Raises `TaskError`."""
    texts = question_texts(processor, examples, system)
    encode_prompts(processor.tokenizer, texts)
    pairs = zip(examples, texts, strict=True)
    return [int(processed(processor, [one], [text])["input_ids"].shape[1]) for one, text in pairs]


def require_seeing(model: Any, processor: Any, shown: str = "The task shows pictures") -> None:
    """Raises `TaskError` for what is shown no picture."""
    if _eyes(model) is None or not hasattr(processor, "image_processor"):
        raise TaskError(f"{shown}, and this model has no eyes; ask one that sees.")


def _mark(processor: Any) -> str:
    """What stands in a text where a picture is."""
    tokenizer = processor.tokenizer
    for owner, name in ((processor, "boi_token"), (processor, "image_token"), (tokenizer, "image_token")):
        if isinstance(mark := getattr(owner, name, None), str):
            return mark
    return "<image>"


def _longest(processor: Any, examples: Sequence[Example], texts: Sequence[str], lengths: Sequence[int]) -> int:
    """Tokens of the longest question, about: one picture is taken to be as many as another."""
    shown = [at for at, one in enumerate(examples) if one.image is not None]
    first = max(shown, key=lambda at: lengths[at], default=None)
    if first is None:
        return max(lengths)
    whole = int(processed(processor, [examples[first]], [texts[first]])["input_ids"].shape[1])
    return max(lengths) + whole - lengths[first]


def _fitting(model: Any, asked: Demand, memory: int, seen: Seen) -> int:
    """How many questions are asked at a time, beside what is kept of pictures: nothing, where none would fit."""
    left = max(0, memory_left(model, memory))
    seen.hold(int(left * SHARE))
    try:
        return asked.within(left - seen.limit, model).prompts
    except ResourceError:
        seen.hold(0)
        return asked.within(left, model).prompts


@contextmanager
def _shown(
    model: Any, processor: Any, examples: Sequence[Example], texts: Sequence[str], seen: Seen
) -> Iterator[dict[str, Any]]:
    """What a model is given of some questions, and its tower in whose place stands what it made of the same before."""
    name = tuple((one.image.digest if one.image else "", text) for one, text in zip(examples, texts, strict=True))
    device = execution_device(model)
    known = seen.get(name)
    if known is None:
        inputs = {
            key: _moved(value, device, model.dtype) for key, value in processed(processor, examples, texts).items()
        }
        if _PIXELS not in inputs:
            yield inputs
            return
        eyes = _eyes(model)
        with torch.inference_mode(), _in_place_of(eyes, None) as made:
            yield inputs
        rest = {key: value for key, value in inputs.items() if key != _PIXELS}
        if len(made) == 1:
            # In the machine's memory, which the limit is about, wherever the model computes.
            seen.keep(name, _Batch(_on(rest, _MAIN), _on(_needed(made[0]), _MAIN)))
        return
    # Whoever reads the pixels finds them read.
    with _in_place_of(_eyes(model), _on(known.features, device)):
        yield {**_on(known.inputs, device), _PIXELS: torch.zeros(1, device=device, dtype=model.dtype)}


@contextmanager
def _in_place_of(eyes: Any, features: Any) -> Iterator[list[Any]]:
    """While it lasts, a model's pictures are `features`; None: what the tower makes of them is listed."""
    made: list[Any] = []
    look = eyes.get_image_features

    @wraps(look)  # transformers reads which arguments it takes
    def given(*arguments: Any, **named: Any) -> Any:
        if features is not None:
            return features
        made.append(look(*arguments, **named))
        if not all(bool(one.isfinite().all()) for one in _tensors(_needed(made[-1]))):
            raise SourceError("The model makes no numbers (NaN) of a picture: its tower or its processor is broken.")
        return made[-1]

    eyes.get_image_features = given
    try:
        yield made
    finally:
        del eyes.get_image_features


def _needed(features: Any) -> Any:
    """What the language model reads of what the tower gives; not all that the tower's layers made."""
    if getattr(features, "pooler_output", None) is None:
        return features
    return type(features)(**{name: value for name, value in features.items() if name not in _BESIDE})


def sees(model: Any) -> bool:
    """Whether a model looks at pictures."""
    return _eyes(model) is not None


def _eyes(model: Any) -> Any | None:
    """The part of a model that looks at pictures."""
    inner = getattr(model, "model", None)
    return next((one for one in (inner, model) if hasattr(one, "get_image_features")), None)


def processed(processor: Any, examples: Sequence[Example], texts: Sequence[str]) -> dict[str, Any]:
    """Tokens and pixels of some questions, which all have a picture or all have none. Raises `TaskError`."""
    tokenizer, where = processor.tokenizer, examples[0].where
    tokenizer.padding_side = "left"
    how = {"return_tensors": "pt", "padding": True, "add_special_tokens": not has_template(tokenizer)}
    made = []
    try:
        for example, text in zip(examples, texts, strict=True):
            if example.image is None:
                return {key: value for key, value in tokenizer(list(texts), **how).items() if key not in _NOT_READ}
            where = example.where
            require_bounded(processor, example.image)
            # One at a time: a picture may be a hundred times as large as what is made of it.
            one = processor(text=[text], images=[[example.image.load()]], **how)
            made.append({key: value for key, value in one.items() if key not in _NOT_READ})
    except (HubmergeError, MemoryError):
        raise
    except Exception as exc:  # of transformers, which trips over strangers' pictures and settings in many ways
        told = (str(exc) or type(exc).__name__).splitlines()[0][:200]
        raise TaskError(
            f"{where or 'An example'}: the model's processor does not take the question or its picture: {told}"
        ) from exc
    return joined(made, tokenizer.pad_token_id or 0)


def _moved(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(device, dtype) if value.is_floating_point() else value.to(device)


def _on(value: Any, device: torch.device) -> Any:
    """Values of transformers with their tensors on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):  # its outputs are
        return type(value)(**{name: _on(one, device) for name, one in value.items()})
    return type(value)(_on(one, device) for one in value) if isinstance(value, (list, tuple)) else value


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in values of transformers."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):  # its outputs are
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)
