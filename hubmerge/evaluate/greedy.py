"""Greedy decoding of many prompts: the tokens of `model.generate`, without the work that it does for nothing.

What all prompts begin with is read once and shared by all of them; the rest is read in runs of rows of similar length;
a row leaves its batch as soon as its answer ends; and keys and values are written into memory that was taken once.
"""

import inspect
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

_RUN = {"cpu": 1024}
"""Tokens, padding included, that are read at a time: on a CPU few, so that they stay in its cache."""
_RUN_ELSEWHERE = 16384

_SHARED_FROM = 8
"""Common first tokens that are worth a run of their own; a lone start token is not."""


def can_decode(model: Any) -> bool:
    """Whether `model` keeps keys and values of past tokens and nothing else, in one place."""
    if getattr(model, "hf_device_map", None) or getattr(model, "_is_stateful", False):
        return False
    if not {"attention_mask", "position_ids", "logits_to_keep"} <= inspect.signature(model.forward).parameters.keys():
        return False
    layers = DynamicCache(config=model.config).layers
    return bool(layers) and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


class Decoder:
    """Decodes batches of prompts with `model`, whose weights must not change meanwhile.

    prompts: the tokens of all prompts that will be asked; what they share is read here. ends: tokens that end an
    answer. shared: how many tokens all prompts begin with, 0 where they are too few to matter.
    """

    @torch.inference_mode()
    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], ends: Collection[int]) -> None:
        self._model = model
        self._ends = frozenset(ends)
        names = inspect.signature(model.forward).parameters
        self._cache_argument = "cache" if "cache" in names else "past_key_values"  # its name until transformers 5.24
        self._run = _RUN.get(model.device.type, _RUN_ELSEWHERE)
        shared = _shared(prompts)
        self.shared = shared if shared >= _SHARED_FROM else 0
        self._first = _Memory(1, self.shared)
        if self.shared:
            ids = torch.tensor([prompts[0][: self.shared]])
            self._forward(self._first, ids, torch.ones_like(ids), torch.arange(self.shared)[None])

    @torch.inference_mode()
    def __call__(self, rows: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        """The tokens that answer each prompt, the end token included; `rows` should be sorted, the longest first."""
        made: list[list[int]] = [[] for _ in rows]
        if max_new_tokens < 1 or not rows:
            return made
        device = self._model.device
        width = max(map(len, rows))
        memory = _Memory(len(rows), width + max_new_tokens - 1)
        lengths = torch.tensor([len(row) for row in rows])
        # Prompts end in the same column, whose first token follows in the next one.
        mask = torch.arange(memory.columns) >= (width - lengths)[:, None]
        mask, lengths = mask.to(device, torch.long), lengths.to(device)
        tokens = torch.cat([self._read(memory, rows[run], run, width, mask) for run in self._runs(rows)])
        alive = list(range(len(rows)))
        for step in range(max_new_tokens):
            chosen = tokens.tolist()
            for row, token in zip(alive, chosen, strict=True):
                made[row].append(token)
            ended = [place for place, token in enumerate(chosen) if token in self._ends]
            if step == max_new_tokens - 1 or len(ended) == len(alive):
                break
            if ended:
                # The last rows that go on take the places of those that ended.
                left = len(alive) - len(ended)
                gone = set(ended)
                holes = [place for place in ended if place < left]
                movers = [place for place in range(left, len(alive)) if place not in gone]
                for hole, mover in zip(holes, movers, strict=True):
                    alive[hole] = alive[mover]
                del alive[left:]
                for one in (tokens, mask, lengths, *memory.tensors):
                    one[holes] = one[movers]
                tokens, mask, lengths = tokens[:left], mask[:left], lengths[:left]
            # Columns that are padding in every row are not looked at.
            start = width - max(len(rows[row]) for row in alive)
            memory.open(slice(0, len(alive)), start, width + step - start)
            seen = mask[:, start : width + step + 1]
            tokens = self._forward(memory, tokens[:, None], seen, (lengths + step)[:, None])
        return made

    def _runs(self, rows: Sequence[Sequence[int]]) -> list[slice]:
        runs, start = [], 0
        while start < len(rows):
            length = max(len(rows[start]) - self.shared, 1)
            stop = min(len(rows), start + max(1, self._run // length))
            runs.append(slice(start, stop))
            start = stop
        return runs

    def _read(self, memory: "_Memory", rows: Sequence[Sequence[int]], run: slice, width: int, mask: Tensor) -> Tensor:
        """Reads some prompts, those of the rows `run` of `memory`; their first new tokens."""
        longest = max(map(len, rows))
        own = longest - self.shared
        start = width - longest
        for place, row in zip(range(run.start, run.stop), rows, strict=True):
            memory.copy(self._first, place, width - len(row))
        memory.open(run, start, self.shared)
        ids = torch.zeros(len(rows), own, dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, longest - len(row) :] = torch.tensor(row[self.shared :])
        lengths = torch.tensor([len(row) for row in rows])[:, None]
        columns = torch.arange(self.shared, longest)
        positions = (columns - (longest - lengths)).clamp_(min=0)
        if self.shared:
            memory.window.written = columns >= longest - lengths + self.shared
        tokens = self._forward(memory, ids, mask[run, start:width], positions)
        memory.window.written = None
        return tokens

    def _forward(self, memory: "_Memory", ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        device = self._model.device
        if memory.window.written is not None:
            memory.window.written = memory.window.written.to(device)
        logits = self._model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=positions.to(device),
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_argument: memory.cache},
        ).logits
        return logits[:, -1].argmax(-1)


@dataclass
class _Window:
    """Which part of a `_Memory`, of `size` rows with `columns` each, the next forward is about.

    That is `rows`, of whose columns from `start` on the next `filled` hold tokens. written: (rows, tokens) which of the
    forward's tokens are kept; None for all.
    """

    size: int
    columns: int
    rows: slice
    start: int = 0
    filled: int = 0
    written: Tensor | None = None


class _Memory:
    """Keys and values of `size` rows, each with that many columns, one a token."""

    def __init__(self, size: int, columns: int) -> None:
        self.columns = columns
        self.window = _Window(size, columns, slice(0, size))
        # Layers know the window alone: in a cycle of references, memory would wait for Python's collector.
        layer: Any = partial(_Layer, self.window)
        self.cache: Any = Cache(layer_class_to_replicate=layer)

    def open(self, rows: slice, start: int, filled: int) -> None:
        """The next tokens are of these rows, whose columns from `start` on are looked at, so many of them filled."""
        self.window.rows, self.window.start, self.window.filled = rows, start, filled

    @property
    def tensors(self) -> list[Tensor]:
        """Keys and values of all layers, each (rows, heads, columns, size of a head)."""
        return [tensor for layer in self.cache.layers for tensor in (layer.all_keys, layer.all_values)]

    def copy(self, first: "_Memory", row: int, column: int) -> None:
        """Puts what `first` holds into one row, from `column` on."""
        for index, source in enumerate(first.cache.layers):
            if index == len(self.cache.layers):
                self.cache.layers.append(_Layer(self.window))
            self.cache.layers[index].put(source, row, column)


class _Layer(DynamicLayer):
    """One layer's part of a `_Memory`, as transformers asks for it."""

    def __init__(self, window: _Window) -> None:
        super().__init__()
        self._window = window
        self.all_keys = self.all_values = torch.empty(0)

    def get_seq_length(self) -> int:
        return self._window.filled

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self._take(key_states, value_states)
        self.keys = self._write(self.all_keys, key_states)
        self.values = self._write(self.all_values, value_states)
        return self.keys, self.values

    def put(self, source: "_Layer", row: int, column: int) -> None:
        """Copies all of `source`, one row, into a row of this."""
        self._take(source.all_keys, source.all_values)
        for to, of in ((self.all_keys, source.all_keys), (self.all_values, source.all_values)):
            to[row, :, column : column + of.shape[2]] = of[0]

    def _take(self, keys: Tensor, values: Tensor) -> None:
        if not self.is_initialized:
            size = self._window
            # Zeros: what is masked away must be a number, too.
            self.all_keys, self.all_values = (
                one.new_zeros(size.size, one.shape[1], size.columns, one.shape[3]) for one in (keys, values)
            )
            self.is_initialized = True

    def _write(self, everything: Tensor, new: Tensor) -> Tensor:
        window = self._window
        seen = everything[window.rows, :, window.start : window.start + window.filled + new.shape[2]]
        place = seen[:, :, window.filled :]
        place.copy_(new if window.written is None else torch.where(window.written[:, None, :, None], new, place))
        return seen


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with, leaving at least one to each."""
    if len(prompts) < 2:
        return 0
    most = min(map(len, prompts)) - 1
    first, *others = prompts
    return next((at for at in range(most) if any(row[at] != first[at] for row in others)), most)
