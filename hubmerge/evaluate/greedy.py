"""Greedy decoding of many prompts: the tokens of `model.generate`, without the work that it does for nothing.

What all prompts begin with is read once and shared by all of them; the rest is read in runs of rows of similar length;
a row leaves its batch as soon as its answer ends, and others that wait take the free places; and keys and values are
written into memory that was taken once.
"""

import inspect
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from .placement import execution_device, is_in_one_place

_RUN = {"cpu": 1024}
"""Tokens, padding included, that are read at a time: on a CPU few, so that they stay in its cache."""
_RUN_ELSEWHERE = 16384

_SHARED_FROM = 8
"""Common first tokens that are worth a run of their own; a lone start token is not."""

_REFILL = 0.25
"""The share of a batch's places that must be free before others join: to read a few prompts takes as long as many."""


def run_tokens(device: torch.device) -> int:
    """How many tokens of prompts are read at a time."""
    return _RUN.get(device.type, _RUN_ELSEWHERE)


def can_decode(model: Any) -> bool:
    """Whether `model` keeps keys and values of past tokens and nothing else, in one place."""
    if not is_in_one_place(model) or getattr(model, "_is_stateful", False):
        return False
    if not {"attention_mask", "position_ids", "logits_to_keep"} <= inspect.signature(model.forward).parameters.keys():
        return False
    if model.config.get_text_config() is not model.config:  # one that sees may number positions in its own way
        return False
    layers = DynamicCache(config=model.config).layers
    return bool(layers) and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


class Decoder:
    """Decodes batches of prompts with `model`, whose weights must not change meanwhile.

    prompts: the tokens of all prompts that will be asked; what they share is read here. ends: tokens that end an
    answer. run: tokens of prompts to read at a time, where memory is scarce. shared: how many tokens all prompts begin
    with, 0 where they are too few to matter. made: how many tokens of answers were made so far.
    """

    @torch.inference_mode()
    def __init__(
        self, model: Any, prompts: Sequence[Sequence[int]], ends: Collection[int], run: int | None = None
    ) -> None:
        self._model = model
        self._ends = frozenset(ends)
        self.made = 0
        names = inspect.signature(model.forward).parameters
        self._cache_argument = "cache" if "cache" in names else "past_key_values"  # its name until transformers 5.24
        self._device = execution_device(model)
        self._run = run or run_tokens(self._device)
        shared = _shared(prompts)
        self.shared = shared if shared >= _SHARED_FROM else 0
        self._layers = len(DynamicCache(config=model.config).layers)
        self._first = _Memory(1, self.shared, self._layers)
        if self.shared:
            ids = torch.tensor([prompts[0][: self.shared]])
            self._logits(self._first, ids, torch.ones_like(ids), torch.arange(self.shared)[None])

    def __call__(self, rows: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        """The tokens that answer each prompt, all in one batch; see `stream`."""
        made = dict(self.stream(rows, max_new_tokens, len(rows)))
        return [made[number] for number in range(len(rows))]

    @torch.inference_mode()
    def stream(
        self, rows: Sequence[Sequence[int]], max_new_tokens: int, places: int
    ) -> Iterator[tuple[int, list[int]]]:
        """Yields (number, tokens) of each prompt when its answer ends, the end token included.

        At most `places` prompts are in work, and what `rows` names first begins first. Neighbours should be of similar
        length and the longest come first: all pad each other to one length.
        """
        if max_new_tokens < 1 or not rows:
            yield from ((number, []) for number in range(len(rows)))
            return
        places, longest = min(places, len(rows)), max(map(len, rows))
        # Where rows follow others there is room for more steps, before what is held must move.
        columns = longest + max_new_tokens * (1 if places == len(rows) else 2) - 1
        memory = _Memory(places, columns, self._layers)
        alive: list[_Row] = []
        come, end = 0, longest  # `end` is the column that the next token of every row goes into
        while alive or come < len(rows):
            free = places - len(alive)
            if come < len(rows) and free >= places * _REFILL:
                joining = [_Row(row, number, end) for number, row in enumerate(rows[come : come + free], come)]
                self._read(memory, joining, len(alive), end)
                alive += joining
                come += len(joining)
            else:
                if end == memory.columns:
                    back = min(end - longest, *(row.start for row in alive))
                    memory.move(len(alive), back)
                    end -= back
                    for row in alive:
                        row.start -= back
                self._step(memory, alive, end)
                end += 1
            ended = {
                place
                for place, row in enumerate(alive)
                if row.made[-1] in self._ends or len(row.made) == max_new_tokens
            }
            if ended:
                gone = [alive[place] for place in sorted(ended)]
                # The last rows that go on take the places of those that ended.
                left = len(alive) - len(ended)
                holes = [place for place in range(left) if place in ended]
                movers = [place for place in range(left, len(alive)) if place not in ended]
                memory.take(holes, movers)
                for hole, mover in zip(holes, movers, strict=True):
                    alive[hole] = alive[mover]
                del alive[left:]
                yield from ((row.number, row.made) for row in gone)

    def _read(self, memory: "_Memory", rows: "Sequence[_Row]", place: int, end: int) -> None:
        """Reads prompts into the places from `place` on, up to the column `end`, and makes their first new tokens."""
        memory.clear(slice(place, place + len(rows)), end)
        start = 0
        while start < len(rows):
            length = max(len(rows[start].prompt) - self.shared, 1)
            run = rows[start : start + max(1, self._run // length)]
            self._read_run(memory, run, place + start, end)
            start += len(run)

    def _read_run(self, memory: "_Memory", rows: "Sequence[_Row]", place: int, end: int) -> None:
        first = min(row.start for row in rows)
        for at, row in enumerate(rows, place):
            memory.copy(self._first, at, row.start)
        memory.open(slice(place, place + len(rows)), first, self.shared)
        ids = torch.zeros(len(rows), end - first - self.shared, dtype=torch.long)
        for at, row in enumerate(rows):
            ids[at, row.start - first :] = torch.tensor(row.prompt[self.shared :])
        starts = torch.tensor([[row.start] for row in rows])
        columns = torch.arange(first, end)
        own = columns[self.shared :]
        if self.shared:
            memory.window.written = own >= starts + self.shared
        self._forward(memory, rows, ids, columns >= starts, (own - starts).clamp_(min=0))
        memory.window.written = None

    def _step(self, memory: "_Memory", rows: "Sequence[_Row]", end: int) -> None:
        """Makes the next token of all rows, of which the one before goes into the column `end`."""
        # Columns that are padding in every row are not looked at.
        first = min(row.start for row in rows)
        memory.open(slice(0, len(rows)), first, end - first)
        starts = torch.tensor([[row.start] for row in rows])
        ids = torch.tensor([[row.made[-1]] for row in rows])
        self._forward(memory, rows, ids, torch.arange(first, end + 1) >= starts, end - starts)

    def _forward(self, memory: "_Memory", rows: "Sequence[_Row]", ids: Tensor, mask: Tensor, positions: Tensor) -> None:
        tokens = self._logits(memory, ids, mask, positions).argmax(-1).tolist()
        for row, token in zip(rows, tokens, strict=True):
            row.made.append(token)
        self.made += len(rows)

    def _logits(self, memory: "_Memory", ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """(rows, vocabulary) what the model makes of the last column of `ids`, (rows, tokens)."""
        device = self._device
        if memory.window.written is not None:
            memory.window.written = memory.window.written.to(device)
        logits = self._model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device, torch.long),
            position_ids=positions.to(device),
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_argument: memory.cache},
        ).logits
        return logits[:, -1]


class _Row:
    """A prompt in work: `number` among those asked, the column of the memory that it starts in, its answer so far."""

    def __init__(self, prompt: Sequence[int], number: int, end: int) -> None:
        self.prompt = prompt
        self.number = number
        self.start = end - len(prompt)
        self.made: list[int] = []


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

    def __init__(self, size: int, columns: int, layers: int) -> None:
        self.columns = columns
        self.window = _Window(size, columns, slice(0, size))
        # Layers know the window and the room alone: in a cycle of references, memory would wait for Python's collector.
        layer: Any = partial(_Layer, self.window, _Room(2 * layers))
        self._layer = layer
        self.cache: Any = Cache(layer_class_to_replicate=layer)

    def open(self, rows: slice, start: int, filled: int) -> None:
        """The next tokens are of these rows, whose columns from `start` on are looked at, so many of them filled."""
        self.window.rows, self.window.start, self.window.filled = rows, start, filled

    @property
    def tensors(self) -> list[Tensor]:
        """Keys and values of all layers, each (rows, heads, columns, size of a head)."""
        return [tensor for layer in self.cache.layers for tensor in (layer.all_keys, layer.all_values)]

    def clear(self, rows: slice, end: int) -> None:
        """Forgets what rows held before the column `end`: what is masked away must be a number, too."""
        for one in self.tensors:
            one[rows, :, :end] = 0

    def take(self, rows: Sequence[int], others: Sequence[int]) -> None:
        """Puts other rows into the places of some."""
        for one in self.tensors if rows else ():
            one[rows] = one[others]

    def move(self, rows: int, back: int) -> None:
        """Moves what the first rows hold so many columns to the front."""
        for one in self.tensors:
            one[:rows, :, :-back] = one[:rows, :, back:].clone()

    def copy(self, first: "_Memory", row: int, column: int) -> None:
        """Puts what `first` holds into one row, from `column` on."""
        for index, source in enumerate(first.cache.layers):
            if index == len(self.cache.layers):
                self.cache.layers.append(self._layer())
            self.cache.layers[index].put(source, row, column)


class _Room:
    """Takes memory for tensors of one shape at once: what is taken in many pieces, the system does not get back."""

    def __init__(self, pieces: int) -> None:
        self._pieces = pieces
        self._free: list[Tensor] | None = None

    def zeros(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Zeros of the dtype and on the device of `like`."""
        if self._free is None:
            self._free = list(like.new_zeros(self._pieces, *shape))
        # Models whose layers differ in shape are rare: the others are taken one by one.
        return self._free.pop() if self._free and self._free[-1].shape == shape else like.new_zeros(shape)


class _Layer(DynamicLayer):
    """One layer's part of a `_Memory`, as transformers asks for it."""

    is_initialized: bool

    def __init__(self, window: _Window, room: _Room) -> None:
        super().__init__()
        self._window = window
        self._room = room
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
            self.all_keys, self.all_values = (
                self._room.zeros(one, (size.size, one.shape[1], size.columns, one.shape[3])) for one in (keys, values)
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
