"""Files as torch.save writes them, honest and not: archives put together by hand, pickles of chosen instructions."""

import io
import json
import random
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

INDEX = "pytorch_model.bin.index.json"


def torch_file(state: Mapping[str, object], **settings: object) -> bytes:
    """What torch.save writes of a state dict."""
    file = io.BytesIO()
    torch.save(state if isinstance(state, OrderedDict) else OrderedDict(state), file, **settings)
    return file.getvalue()


def save_pickled(folder: Path, state: Mapping[str, Tensor], shards: int = 1) -> None:
    """Writes weights as older models have them, in one file or several with an index."""
    if shards == 1:
        torch.save(OrderedDict(state), folder / "pytorch_model.bin")
        return
    names = list(state)
    weight_map = {
        name: f"pytorch_model-{at * shards // len(names) + 1:05d}-of-{shards:05d}.bin" for at, name in enumerate(names)
    }
    for file in sorted(set(weight_map.values())):
        torch.save(OrderedDict((name, state[name]) for name in names if weight_map[name] == file), folder / file)
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map}))


def as_pickled(folder: Path, shards: int = 1) -> None:
    """Turns a checkpoint of one safetensors file into what torch.save writes."""
    weights = folder / "model.safetensors"
    save_pickled(folder, load_file(weights), shards)
    weights.unlink()


def members(file: bytes) -> dict[str, bytes]:
    """The members of an archive by name."""
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive(content: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive as any other program writes it: nothing aligned, no sizes behind the members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, data in content.items():
            made.writestr(name, data)
    return file.getvalue()


def with_pickle(file: bytes, pickle: bytes) -> bytes:
    """`file` with another pickle."""
    return archive({**members(file), "archive/data.pkl": pickle})


def text(value: str) -> bytes:
    """The instruction that puts a text on the stack."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def tensor(storage: str = "torch\nFloatStorage", key: str = "0", elements: int = 4, offset: bytes = b"K\0",
           shape: bytes = b"K\4\x85", strides: bytes = b"K\1\x85") -> bytes:  # fmt: skip
    """The instructions that make a tensor of a storage."""
    place = b"(" + text("storage") + f"c{storage}\n".encode() + text(key) + text("cpu")
    place += b"J" + struct.pack("<i", elements) + b"tQ"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + place
        + offset
        + shape
        + strides
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def pickle_of(*items: bytes) -> bytes:
    """A pickle of a dict with these keys and values."""
    return b"\x80\2}(" + b"".join(items) + b"u."


def harmed(file: bytes, chance: random.Random) -> bytes:
    """`file` with something wrong in it: bytes changed, cut, repeated, or its pickle changed in a whole archive."""
    how = chance.choice(["flip", "flip", "cut", "repeat", "pickle", "pickle", "pickle", "insert", "opcode", "swap"])
    if how in ("flip", "cut", "repeat", "swap"):
        return _torn(file, how, chance)
    content = members(file)
    name = next(name for name in content if name.endswith("data.pkl"))
    pickle = content[name]
    if how == "pickle":
        pickle = _torn(pickle, chance.choice(["flip", "cut", "repeat", "swap"]), chance)
    elif how == "insert":
        at = chance.randrange(len(pickle))
        pickle = pickle[:at] + chance.choice(PIECES) + pickle[at:]
    else:
        at = chance.randrange(len(pickle))
        pickle = pickle[:at] + bytes([chance.choice(CODES)]) + pickle[at + 1 :]
    return archive({**content, name: pickle})


def _torn(data: bytes, how: str, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    end = min(len(data), at + chance.randrange(1, 80))
    if how == "cut":
        return chance.choice([data[:at], data[:at] + data[end:], data[end:]])
    if how == "repeat":
        return data[:end] + data[at:]
    if how == "swap":
        return data[:at] + chance.choice([b"\0", b"\xff"]) * (end - at) + data[end:]
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


RUNS = b"cos\nsystem\n(" + text("true") + b"tR"
PIECES = [
    RUNS, b"ios\nsystem\n", b"(" + b"cos\nsystem\n" + text("true") + b"o", b"c__builtin__\neval\n", b"\x82\1", b"\x81",
    b"Pid\n", b"S'x'\n", b"I1\n", b"\x8b\xff\xff\xff\x7f", b"b", b"}", b"]", b"t", b"u", b"e", b"Q", b"R", b"0", b"2",
    b"(" * 500, b"\x85" * 500, b"2\x86" * 40, b"\x94", b"h\0", b"j\xff\xff\xff\xff", b"K\xff", b"J\xff\xff\xff\xff",
    b"\x8a\xff" + b"\xff" * 255, b"G\x7f\xf0\0\0\0\0\0\0", b"X\xff\xff\xff\xff", b"N", b"\x88", b".",
]  # fmt: skip
CODES = bytes(range(256))
