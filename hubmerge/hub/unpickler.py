"""A pickle read as data: its instructions are followed as far as weights need them, and nothing of it ever runs.

Python's own pickle imports what a file names and calls it. Here a name is a text, looked up in a list of what
torch.save writes for tensors; a call gives a plain description of the tensor. Everything else is refused.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..errors import SourceError

LARGEST = 16 * 2**20
"""Bytes of a pickle; one of 12,000 tensors has 2 million."""

MOST_STEPS = 2**20
"""Instructions of a pickle; a tensor takes about 40, and the most of one file known here are 12,000."""

Refuse = Callable[[str], SourceError]
Call = Callable[..., Any]
"""Makes a value of the arguments of a call. Raises `TypeError` or `ValueError` for arguments that cannot be. They are
a stranger's, of any size and nested to any depth: it may neither hash, copy, compare nor print what it has not checked.
"""


class Named(NamedTuple):
    """Something that a pickle names ("torch.FloatStorage"), and never more than its name."""

    name: str


class _Mark:
    """Where a run of values begins on the stack."""


_MARK = _Mark()
_CONSTANTS = {ord("N"): None, 0x88: True, 0x89: False}
_INTEGERS = {ord("J"): "<i", ord("K"): "<B", ord("M"): "<H"}
_TEXTS = {ord("X"): "<I", 0x8C: "<B", 0x8D: "<Q"}
_TUPLES = {ord(")"): 0, 0x85: 1, 0x86: 2, 0x87: 3}
_PUTS = {ord("q"): "<B", ord("r"): "<I"}
_GETS = {ord("h"): "<B", ord("j"): "<I"}


class Unpickler:
    """Follows one pickle.

    names: what it may name, and what a call of each gives (None: it is not called). persistent: what stands for
    something outside of the pickle, such as a storage. Dicts come as dicts with keys of text and whole numbers.
    """

    def __init__(
        self, data: bytes, names: Mapping[str, Call | None], persistent: Callable[[Any], Any], refuse: Refuse
    ) -> None:
        self._data, self._names, self._persistent, self._refuse = data, names, persistent, refuse
        self._place = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """What the pickle describes. Raises `SourceError` for one that is damaged, too large, or would run code."""
        if len(self._data) > LARGEST:
            raise self._refuse(f"its pickle has {len(self._data):,} bytes, and at most {LARGEST:,} are read")
        try:
            for _ in range(MOST_STEPS):
                code = self._data[self._place]
                self._place += 1
                if code == ord("."):
                    return self._stack[-1]
                self._step(code)
        except (IndexError, KeyError, TypeError, ValueError, struct.error, OverflowError):
            raise self._refuse(f"its pickle is damaged at byte {self._place:,}") from None
        except (MemoryError, RecursionError):
            raise self._refuse(f"its pickle needs more memory than there is, at byte {self._place:,}") from None
        raise self._refuse(f"its pickle has more than {MOST_STEPS:,} instructions")

    def _step(self, code: int) -> None:
        stack = self._stack
        if code in _PUTS:
            self._memo[self._number(_PUTS[code])] = stack[-1]
        elif code in _GETS:
            stack.append(self._memo[self._number(_GETS[code])])
        elif code in _INTEGERS:
            stack.append(self._number(_INTEGERS[code]))
        elif code in _TEXTS:
            stack.append(self._take(self._number(_TEXTS[code])).decode())
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in _TUPLES:
            self._tuple(_TUPLES[code])
        elif code == ord("("):
            stack.append(_MARK)
        elif code == ord("t"):
            stack.append(tuple(self._since_mark()))
        elif code == ord("Q"):
            stack.append(self._persistent(stack.pop()))
        elif code == ord("R"):
            arguments, named = stack.pop(), stack.pop()
            stack.append(self.call(named, arguments))
        elif code == 0x94:
            self._memo[len(self._memo)] = stack[-1]
        else:
            self._rarer(code)

    def _rarer(self, code: int) -> None:
        stack = self._stack
        if code == ord("}"):
            stack.append({})
        elif code == ord("]"):
            stack.append([])
        elif code == ord("s"):
            value, key = stack.pop(), stack.pop()
            self._set([key, value])
        elif code == ord("u"):
            self._set(self._since_mark())
        elif code == ord("a"):
            value = stack.pop()
            self._extend([value])
        elif code == ord("e"):
            self._extend(self._since_mark())
        elif code == ord("c"):
            stack.append(self._name(self._line(), self._line()))
        elif code == 0x93:
            name, module = stack.pop(), stack.pop()
            stack.append(self._name(module, name))
        elif code == ord("b"):
            # What is set on an object beside its values, such as the versions that a state dict has of its modules.
            state, holder = stack.pop(), stack[-1]
            if not isinstance(holder, dict) or not isinstance(state, dict):
                raise self._refuse("its pickle sets the inner state of an object, as no weights need it")
        elif code == 0x8A:
            stack.append(int.from_bytes(self._take(self._number("<B")), "little", signed=True))
        elif code == ord("G"):
            stack.append(self._number(">d"))
        elif code == 0x80:
            self._take(1)
        elif code == 0x95:
            self._take(8)
        else:
            raise self._refuse(f"its pickle uses the instruction {_instruction(code)}, which weights have no need of")

    def call(self, named: Any, arguments: Any) -> Any:
        """What a call gives that is only described."""
        if not isinstance(named, Named) or not isinstance(arguments, tuple):
            raise TypeError
        made = self._names[named.name]
        if made is None:
            raise self._refuse(f"its pickle calls {named.name}, which no weights need")
        return made(*arguments)

    def _number(self, form: str) -> Any:
        [number] = struct.unpack(form, self._take(struct.calcsize(form)))
        return number

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self._place:
            raise ValueError
        self._place += count
        return self._data[self._place - count : self._place]

    def _line(self) -> str:
        end = self._data.index(b"\n", self._place, self._place + 200)
        return self._take(end + 1 - self._place)[:-1].decode()

    def _name(self, module: Any, name: Any) -> Named:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError
        whole = f"{module[:100]}.{name[:100]}"
        if whole not in self._names:
            raise self._refuse(f"its pickle names {whole}, which is no part of weights and may be code to run")
        return Named(whole)

    def _tuple(self, count: int) -> None:
        if count > len(self._stack):
            raise IndexError
        values = tuple(self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        self._stack.append(values)

    def _since_mark(self) -> list[Any]:
        place = len(self._stack) - 1
        while self._stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise IndexError
        values = self._stack[place + 1 :]
        del self._stack[place:]
        return values

    def _set(self, items: list[Any]) -> None:
        holder = self._stack[-1]
        if not isinstance(holder, dict) or len(items) % 2:
            raise TypeError
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):
                raise TypeError
            if key in holder:
                raise self._refuse(f"its pickle gives {str(key)[:60]!r} twice")
            holder[key] = value

    def _extend(self, values: list[Any]) -> None:
        holder = self._stack[-1]
        if not isinstance(holder, list):
            raise TypeError
        holder.extend(values)


def _instruction(code: int) -> str:
    import pickletools

    return next((one.name for one in pickletools.opcodes if ord(one.code) == code), f"0x{code:02x}")
