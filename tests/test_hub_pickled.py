"""What torch.save wrote, read without running any of it: every tensor where it lies, and one sentence for the rest."""

import io
import os
import pickle
import random
import struct
import tarfile
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from bintools import archive, harmed, members, pickle_of, tensor, text, torch_file, with_pickle
from outside import judge

from hubmerge.errors import SourceError
from hubmerge.hub import archive as archives
from hubmerge.hub import pickled, unpickler
from hubmerge.hub.archive import LAST_READ
from hubmerge.hub.headers import TensorHeader
from hubmerge.hub.pickled import read_pickled
from hubmerge.stream.dtypes import DTYPES
from hubmerge.stream.laid import in_order

FILE = "pytorch_model.bin"


def headers(file: bytes, reads: list[tuple[int, int]] | None = None) -> dict[str, TensorHeader]:
    def read(start: int, stop: int) -> memoryview:
        assert 0 <= start <= stop <= len(file), "a read beside the file"
        if reads is not None:
            reads.append((start, stop))
        return memoryview(file)[start:stop]

    return {header.name: header for header in read_pickled(read, FILE, len(file), "org/model")}


def values(file: bytes) -> dict[str, torch.Tensor]:
    def stored(header: TensorHeader) -> torch.Tensor:
        dtype, data = DTYPES[header.dtype].torch, bytearray(file[header.start : header.stop])
        return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)

    return {name: in_order(stored(header), header) for name, header in headers(file).items()}


def state() -> dict[str, torch.Tensor]:
    """Tensors of every dtype, and every way to lie in a storage."""
    made = {name: torch.arange(6).reshape(2, 3).to(dtype.torch) for name, dtype in DTYPES.items()}
    shared = torch.randn(5, 8)
    return {
        **made,
        "turned": torch.randn(4, 6).t(),
        "permuted": torch.randn(2, 3, 4).permute(2, 0, 1),
        "column": torch.randn(6, 4)[:, 1:3],
        "row": shared[3],
        "rows": shared[1:3],
        "same": shared,
        "again": shared,
        "single": torch.randn(1, 7)[:, :],
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(1)[:0],
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "marked": marked(torch.randn(3)),
        "日本": torch.randn(2),
    }


def marked(tensor: torch.Tensor) -> torch.Tensor:
    tensor.sequence_parallel = True  # as a framework of training leaves it
    return tensor


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "as torch writes it": lambda file: file,
    "by another program": lambda file: archive(members(file)),
    "without a folder": lambda file: archive({name.partition("/")[2]: one for name, one in members(file).items()}),
}  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("way", WAYS)
def test_every_tensor_is_where_torch_finds_it(way: str, protocol: int) -> None:
    expected = OrderedDict(state())
    expected._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    found = values(WAYS[way](torch_file(expected, pickle_protocol=protocol)))
    assert found.keys() == expected.keys()
    for name, one in expected.items():
        assert found[name].dtype == one.dtype, name
        assert torch.equal(found[name], one.detach()), name


def test_a_file_of_any_size_takes_three_reads() -> None:
    state = {f"model.layers.{n}.mlp.weight": torch.zeros(50, 100) for n in range(99)}
    file = torch_file({**state, "lm_head.weight": torch.zeros(500, 100)})
    reads: list[tuple[int, int]] = []
    assert len(headers(file, reads)) == 100
    # Its end, its pickle, and one header, to see that it lies as torch writes it.
    assert [stop - start for start, stop in reads][::2] == [LAST_READ, 30]
    assert reads[0][1] == len(file)
    assert reads[1][1] < 40_000


def test_numbers_beyond_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    assert torch.equal(values(archive(members(torch_file({"a": torch.arange(300)}))))["a"], torch.arange(300))


class Module:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("true",)


GOOD = torch_file({"layer": torch.arange(4.0), "other": torch.arange(4.0)})


def torn_directory(file: bytes, at: int, count: int, value: int) -> bytes:
    """`file` with a number of its first member's entry in the directory changed."""
    place = file.index(b"PK\1\2") + at
    return file[:place] + value.to_bytes(count, "little") + file[place + count :]


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        made.addfile(tarfile.TarInfo("sys_info"))
    return file.getvalue()


def built(*items: bytes) -> bytes:
    return with_pickle(GOOD, pickle_of(*items))


PLAIN = archive(members(GOOD))
REFUSED = {
    "format of PyTorch before 1.6": lambda: torch_file({"a": torch.zeros(1)}, _use_new_zipfile_serialization=False),
    "format of PyTorch before 1.6,": tar,
    "is a Git LFS pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n",
    "has only 0 bytes": lambda: b"",
    "no directory at its end; it was cut short": lambda: GOOD[:-10],
    "not a file that torch.save writes": lambda: b"\x89HDF\r\n" + b"\0" * 100,
    "data.pkl' in it is compressed": lambda: archive(members(GOOD), zipfile.ZIP_DEFLATED),
    "another byte order": lambda: archive({**members(GOOD), "archive/byteorder": b"big"}),
    "TorchScript": lambda: archive({**members(GOOD), "archive/constants.pkl": b""}),
    "0 files named data.pkl": lambda: archive({"a/b/c.txt": b"x"}),
    "2 files named data.pkl": lambda: archive({**members(GOOD), "other/data.pkl": b""}),
    "'model' in it holds further values": lambda: torch_file({"model": {"a": torch.zeros(1)}, "epoch": 3}),
    "'epoch' in it is no tensor": lambda: torch_file({"epoch": 3}),
    "holds no tensors by name": lambda: with_pickle(GOOD, b"\x80\2]."),
    "'7' in it is no name": lambda: with_pickle(GOOD, pickle_of(b"K\7" + tensor())),
    r"a view that is changed as it is read \(neg\)": lambda: torch_file({"a": torch._neg_view(torch.ones(4))}),
    r"a view that is changed as it is read \(conj\)": lambda: torch_file(
        {"a": torch.ones(4, dtype=torch.cfloat).conj()}
    ),
    "elements that overlap": lambda: torch_file({"a": torch.zeros(1).expand(1000)}),
    "elements that overlap;": lambda: torch_file({"a": torch.zeros(8).as_strided((3, 3), (2, 1))}),
    r"shape \[5\] in it reaches beyond": lambda: built(text("a") + tensor(shape=b"K\5\x85")),
    r"reaches beyond its storage": lambda: built(text("a") + tensor(offset=b"K\1")),
    r"should have 400 bytes and has 16": lambda: built(text("a") + tensor(elements=100, shape=b"K\4\x85")),
    "lacks the storage '9'": lambda: built(text("a") + tensor(key="9")),
    "'a' twice": lambda: built(text("a") + tensor(), text("a") + tensor()),
    "pickle is damaged": lambda: built(text("a") + tensor(shape=b"J\xff\xff\xff\xff\x85")),
    "pickle is damaged at": lambda: built(text("a") + tensor(shape=b"K\2K\2\x86")),
    "names torch.QInt8Storage": lambda: built(text("a") + tensor(storage="torch\nQInt8Storage")),
    "no name of a tensor": lambda: built(text("a" * 501) + tensor()),
    "names os.system|names posix.system|names nt.system": lambda: torch_file({"a": Module()}),
    "share their bytes more than 16 times": lambda: torch_file(dict.fromkeys(map(str, range(20)), torch.zeros(90_000))),
    "overlaps what follows": lambda: torn_directory(PLAIN, 20, 8, (999 << 32) + 999),
    "its directory is damaged": lambda: torn_directory(PLAIN, 0, 1, 0),
    "not UTF-8": lambda: torn_directory(PLAIN, 46, 1, 0xFF),
    "does not fit its directory": lambda: archive(members(GOOD)).replace(b"PK\3\4", b"PK\3\5"),
    "lacks a size beyond 4 GB": lambda: torn_directory(PLAIN, 20, 8, 2**64 - 1),
    "directory does not lie at its end": lambda: b"junk" + PLAIN,
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_refuses_with_a_sentence(reason: str) -> None:
    with pytest.raises(SourceError, match=reason) as caught:
        headers(REFUSED[reason]())
    assert str(caught.value).startswith(f"{FILE} of org/model ")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for _ in range(2):
            made.writestr("archive/data.pkl", b"")
    with pytest.raises(SourceError, match=r"holds 'archive/data\.pkl' twice"):
        headers(file.getvalue())


class Ran(BaseException):
    """Something of a file was run."""


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hostile files call in these tests, and what Python and torch would read them with."""

    def ran(*_: object, **__: object) -> None:
        raise Ran

    for holder, name in ((os, "system"), (os, "popen"), (pickle, "loads"), (pickle, "load"), (torch, "load")):
        monkeypatch.setattr(holder, name, ran)
    monkeypatch.setattr(pickle, "Unpickler", ran)
    monkeypatch.setattr("builtins.eval", ran)
    monkeypatch.setattr("builtins.exec", ran)


_ARGUMENT = text("touch /tmp/x")
CODE = {
    "GLOBAL": b"cos\nsystem\n",
    "REDUCE": b"cos\nsystem\n(" + _ARGUMENT + b"tR",
    "STACK_GLOBAL": text("os") + text("system") + b"\x93" + _ARGUMENT + b"\x85R",
    "a name with dots": text("torch") + text("_utils.os.system") + b"\x93",
    "a module within": text("torch._utils.os") + text("system") + b"\x93",
    "INST": b"(" + _ARGUMENT + b"ios\nsystem\n",
    "OBJ": b"(ccollections\nOrderedDict\n" + _ARGUMENT + b"o",
    "NEWOBJ": b"ccollections\nOrderedDict\n)\x81",
    "NEWOBJ_EX": b"ccollections\nOrderedDict\n)}\x92",
    "BUILD": b"ctorch.nn.parameter\nParameter\n}" + text("__setstate__") + b"cos\nsystem\nsb",
    "BUILD on a tensor": tensor() + b"}b",
    "EXT1": b"\x82\1",
    "EXT2": b"\x83\1\0",
    "EXT4": b"\x84\1\0\0\0",
    "PERSID": b"Pos.system\n",
    "BINPERSID of a text": text("storage") + b"Q",
    "BINPERSID of a call": b"(" + text("storage") + b"ccollections\nOrderedDict\n" + text("0") + text("cpu") + b"K\4tQ",
    "REDUCE of a type": b"ctorch\nFloatStorage\n)R",
    "REDUCE of a text": text("system") + b")R",
    "REDUCE of a dict with a list": b"ccollections\nOrderedDict\n]\x85R",
    "_rebuild_from_type_v2": b"ctorch._tensor\n_rebuild_from_type_v2\n(ccollections\nOrderedDict\nctorch\nTensor\n)}tR",
    "a dict of items": b"ccollections\nOrderedDict\n](" + text("a") + b"N\x86e\x85R",
    "a dict of a dict": b"ccollections\nOrderedDict\n}\x85R",
    "more arguments than there are": tensor()[:-2] + b"NNNNtR",
    "hooks": tensor().replace(b"OrderedDict\n)R", b"OrderedDict\n)RN]s"),
    "a gradient that is none": tensor().replace(b"\x89ccoll", b"K\1ccoll"),
    "itself": b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._tensor\n_rebuild_from_type_v2\nctorch\nTensor\n)}tR",
    "getattr": b"c__builtin__\ngetattr\n",
    "eval": b"c__builtin__\neval\n" + text("1") + b"\x85R",
    "exec": b"cbuiltins\nexec\n" + text("1") + b"\x85R",
    "torch.load": b"ctorch\nload\n",
    "numpy": b"cnumpy.core.multiarray\n_reconstruct\n",
    "codecs": b"c_codecs\nencode\n",
    "runpy": b"crunpy\n_run_code\n",
    "torch's own reduction": b"ctorch.storage\n_load_from_bytes\n" + text("x") + b"\x85R",
    "BINBYTES": b"C\1x",
    "FROZENSET": b"(\x91",
    "NEXT_BUFFER": b"\x97",
    "INT": b"I1\n",
    "nothing known": b"\xff",
}  # fmt: skip


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("place", ["value", "alone", "before"])
@pytest.mark.parametrize("code", CODE)
def test_nothing_of_a_file_runs(code: str, place: str) -> None:
    piece = CODE[code]
    if place == "value":
        made = pickle_of(text("a") + piece)
    elif place == "alone":
        made = b"\x80\2" + piece + b"."
    else:
        made = b"\x80\2" + piece + pickle_of(text("a") + tensor())[2:]
    file = with_pickle(GOOD, made)
    with pytest.raises(SourceError, match=f"^{FILE} of org/model is not read: "):
        headers(file)


STEPS = 2_000
BOMBS = {
    "a tower of tuples": b"\x80\2)" + b"\x85" * STEPS + b".",
    "a tower of lists": b"\x80\2" + b"]" * STEPS + b"a" * (STEPS - 1) + b".",
    "doubled tuples as a key": b"\x80\2})" + b"q\0h\0\x86" * 600 + b"Ns.",
    "tuples to hash": b"\x80\2ccollections\nOrderedDict\n])" + b"\x85" * 1500 + b"N\x86a\x85R.",
    "a dict copied": b"\x80\2ccollections\nOrderedDict\nq\1}q\0("
    + b"".join(b"M" + struct.pack("<H", n) + b"N" for n in range(500))
    + b"u"
    + b"h\1h\0\x85R" * 200
    + b".",
    "arguments copied": b"\x80\2ctorch._utils\n_rebuild_parameter\nq\0("
    + b"N" * 500
    + b"tq\1"
    + b"h\0h\1R" * 200
    + b".",
    "marks": b"\x80\2" + b"(" * STEPS + b".",
    "dicts kept": b"\x80\4" + b"}\x94" * STEPS + b".",
    "a giant pickle": b"\x80\2" + text("x" * unpickler.LARGEST) + b".",
    "a text that is not there": b"\x80\4\x8d" + b"\xff" * 8 + b".",
    "a number of the memo": b"\x80\2Nr\xff\xff\xff\xff.",
    "a shape": pickle_of(text("a") + tensor(shape=b"(\x8a\x08" + b"\xff" * 7 + b"\x7fK\2t")),
    "a storage": pickle_of(text("a") + tensor(elements=2**31 - 1, shape=b"J\xff\xff\xff\x7f\x85")),
    "dimensions": pickle_of(text("a") + tensor(shape=b"(" + b"K\1" * 900 + b"t", strides=b"(" + b"K\1" * 900 + b"t")),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_bounded_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickler, "MOST_STEPS", STEPS)
    file = with_pickle(GOOD, BOMBS[name])
    tracemalloc.start()
    try:
        with pytest.raises(SourceError):
            headers(file)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(file) + 1e6
    finally:
        tracemalloc.stop()


def test_names_of_a_file_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickled, "MOST_TENSORS", 1)
    with pytest.raises(SourceError, match="names 2 tensors, and at most 1 a file"):
        headers(GOOD)


def test_a_directory_of_many_files_is_refused() -> None:
    content = {**members(GOOD), **{f"archive/data/x{n}": b"" for n in range(5)}}
    file = archive(content)
    end = file.rindex(b"PK\5\6")
    lying = file[:end] + struct.pack(
        "<4s4H2IH", b"PK\5\6", 0, 0, 60_000, 60_000, *struct.unpack_from("<2I", file, end + 12), 0
    )
    with pytest.raises(SourceError, match="for 60,000 files"):
        headers(lying)
    lying = file[:end] + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9, 9, 2**31, 0, 0)
    with pytest.raises(SourceError, match="its directory would have 2,147,483,648 bytes"):
        headers(lying)


def test_members_that_lie_anyhow_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_ASKED", 1)
    with pytest.raises(SourceError, match="2 files do not lie as torch writes them"):
        headers(PLAIN)


@pytest.mark.usefixtures("guarded")
def test_harmed_files_are_values_or_one_sentence(request: pytest.FixtureRequest) -> None:
    chance = random.Random(18)
    whole = torch_file(state())
    longest, read = 0.0, 0
    for _ in range(request.config.getoption("--documents") or 300):
        file = harmed(whole, chance)
        began = time.perf_counter()
        read += judge(lambda file=file: all(0 <= one.start <= one.stop <= len(file) for one in headers(file).values()))
        longest = max(longest, time.perf_counter() - began)
    assert read
    print(f"{read} were read, the longest took {longest:.3f} s")
