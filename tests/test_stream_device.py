"""Which device blocks are computed on: asked of accelerate, never guessed."""

import pytest
import torch

import hubmerge.stream.device as device
from hubmerge.errors import ResourceError


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one GPU that has 1 GB free, as accelerate would tell."""
    monkeypatch.setattr(device, "get_max_memory", lambda: {0: 10**9, "cpu": 5 * 10**9})
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))


def test_the_processor_is_always_there() -> None:
    assert device.find_device("cpu", 10**15) == torch.device("cpu")
    assert device.free_memory() > 0
    assert device.cores() >= 1


@pytest.mark.usefixtures("one_gpu")
def test_an_accelerator_is_taken_where_it_has_room() -> None:
    for name in ("cuda", "cuda:0", "auto"):
        assert device.find_device(name, 10**8) == torch.device("cuda:0")
    assert device.find_device("auto", 10**10) == torch.device("cpu")
    with pytest.raises(ResourceError, match=r"cuda has 1,000,000,000 bytes free and the merge needs 10,000,000,000"):
        device.find_device("cuda", 10**10)
    with pytest.raises(ResourceError, match=r"no device 'cuda:1' on this machine; it has: cuda:0, cpu"):
        device.find_device("cuda:1", 1)


def test_a_device_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(ResourceError, match=r"There is no device 'warp' on this machine; it has: .*cpu\."):
        device.find_device("warp", 1)
