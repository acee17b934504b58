"""safetensors headers: read in one or two small reads, and every lie refused."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from hubtools import shard
from safetensors.numpy import load, save

from hubmerge.errors import SourceError
from hubmerge.hub.headers import FIRST_READ, TensorHeader, read_headers


def read_all(data: bytes) -> tuple[TensorHeader, ...]:
    return read_headers(lambda start, stop: data[start:stop], "model.safetensors", len(data), "org/name")


def rewritten(data: bytes, change: Callable[[dict], object]) -> bytes:
    """`data` with its header document changed in place and the length put right."""
    length = int.from_bytes(data[:8], "little")
    document = json.loads(data[8 : 8 + length])
    change(document)
    header = json.dumps(document).encode()
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def test_offsets_point_at_the_tensors() -> None:
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(4, dtype=np.int64), "c": np.zeros(0)}
    data = save(tensors, metadata={"format": "pt"})
    headers = read_all(data)
    assert {header.name: header.shape for header in headers} == {"a": (2, 3), "b": (4,), "c": (0,)}
    assert {header.name: header.dtype for header in headers} == {"a": "F32", "b": "I64", "c": "F64"}
    for header in headers:
        assert data[header.start : header.stop] == load(data)[header.name].tobytes()
        assert header.nbytes == tensors[header.name].nbytes


@pytest.mark.parametrize(("count", "reads"), [(3, 1), (1200, 2)])
def test_reads_no_more_than_it_needs(count: int, reads: int) -> None:
    data = shard([f"model.layers.{i}.self_attn.q_proj.weight" for i in range(count)])
    header = 8 + int.from_bytes(data[:8], "little")
    asked = []

    def read(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return data[start:stop]

    assert len(read_headers(read, "model.safetensors", len(data), "org/name")) == count
    assert len(asked) == reads
    assert max(stop for _, stop in asked) == (min(FIRST_READ, len(data)) if reads == 1 else header)
    assert sum(stop - start for start, stop in asked) == max(stop for _, stop in asked)


def test_refuses_what_is_cut_short() -> None:
    data = shard(["a", "b"])
    for kept in (0, 7, 40, len(data) - 1):
        with pytest.raises(SourceError, match="cut short"):
            read_all(data[:kept])
    with pytest.raises(SourceError, match="bytes that belong to no tensor"):
        read_all(data + b"\0")


def test_refuses_what_is_not_safetensors() -> None:
    with pytest.raises(SourceError, match="git lfs pull"):
        read_all(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    with pytest.raises(SourceError, match="not a safetensors file"):
        read_all(b"PK\x03\x04" + b"\xff" * 200)
    for text in (b"[1, 2]", b"{]", b"\xff\xfe", b"[" * 100_000):
        with pytest.raises(SourceError, match="not a safetensors file"):
            read_all(len(text).to_bytes(8, "little") + text)


def test_refuses_a_header_that_lies() -> None:
    data = shard(["a", "b"])
    lies = {
        "overlap": lambda d: d["b"].update(data_offsets=[0, 256]),
        "wrongly": lambda d: d["a"].update(shape=[9, 9]),
        "dtype that hubmerge does not know": lambda d: d["a"].update(dtype="F7"),
        "'a' wrongly": lambda d: d["a"].update(shape=[-8, -8]),
        "describes the tensor": lambda d: d.update(a=3),
    }
    for match, lie in lies.items():
        with pytest.raises(SourceError, match=match):
            read_all(rewritten(data, lie))


def test_refuses_a_tensor_named_twice() -> None:
    entry = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    header = f'{{"a":{entry},"a":{entry}}}'.encode()
    with pytest.raises(SourceError, match="names 'a' twice"):
        read_all(len(header).to_bytes(8, "little") + header + b"\0" * 4)


def headed(header: str) -> bytes:
    return len(header.encode()).to_bytes(8, "little") + header.encode()


EMPTY = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'


def named(name: str, *shape: str) -> str:
    entry = EMPTY.replace("[0]", "[" + ",".join(shape or ("0",)) + "]", 1)
    return "{" + f'"{name}":{entry}' + "}"


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (named("a", *["9" * 4000] * 1500), "4,000 digits"),
        (named("a", *["9" * 90] * 3), "describes the tensor 'a' wrongly"),
        (named("a", *["0"] * 65), "describes the tensor 'a' wrongly"),
        ("{" + ",".join(f'"{n}":{EMPTY}' for n in range(100_000)) + "}", "names 100,000 tensors"),
        (named("a" * 501), "501 characters"),
        (named(""), "0 characters"),
        (named(r"a\u0000"), "no NUL"),
        (named(r"\ud800"), "surrogate"),
    ],
    ids=["digits", "large", "dimensions", "tensors", "name", "nameless", "nul", "surrogate"],
)
def test_refuses_at_once_what_no_model_has(header: str, match: str) -> None:
    with pytest.raises(SourceError, match=match) as caught:
        read_all(headed(header))
    assert len(str(caught.value)) <= 500
