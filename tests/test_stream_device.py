"""Which device blocks are computed on: asked of accelerate, never guessed."""

import pytest
import torch
from test_stream_merge import Siblings, recipe

import hubmerge.stream.device as device
from hubmerge.errors import ResourceError
from hubmerge.stream.plan import make_plan

CPU, FIRST, SECOND = "cpu", "cuda:0", "cuda:1"


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> dict[object, int]:
    """A machine with one GPU that has 1 GB free, as accelerate would tell; more may be added."""
    memory: dict[object, int] = {0: 10**9, "cpu": 5 * 10**9}
    monkeypatch.setattr("accelerate.utils.get_max_memory", lambda: memory)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    return memory


def test_the_processor_is_always_there() -> None:
    assert device.find_devices("cpu", 10**15, 2) == (CPU, CPU)
    assert device.free_memory() > 0
    assert device.cores() >= 1


@pytest.mark.usefixtures("gpus")
def test_an_accelerator_is_taken_where_it_has_room() -> None:
    for name in ("cuda", "cuda:0", "auto"):
        assert device.find_devices(name, 10**8, 3) == (FIRST,) * 3
        assert device.find_devices(name, 4 * 10**8, 3) == (FIRST,) * 2  # no more fit
    assert device.find_devices("auto", 10**10, 3) == (CPU,) * 3
    with pytest.raises(ResourceError, match=r"cuda has 1,000,000,000 bytes free and the merge needs 10,000,000,000"):
        device.find_devices("cuda", 10**10, 3)
    with pytest.raises(ResourceError, match=r"no device 'cuda:1' on this machine; it has: cuda:0, cpu"):
        device.find_devices("cuda:1", 1, 3)


def test_threads_are_spread_over_all_devices_by_what_these_have_free(gpus: dict[object, int]) -> None:
    gpus[1] = 2 * 10**9
    assert device.find_devices("cuda", 4 * 10**8, 4) == (FIRST, SECOND, SECOND, SECOND)
    assert device.find_devices("auto", 4 * 10**8, 9) == (FIRST,) * 2 + (SECOND,) * 5
    assert device.find_devices("cuda:0", 4 * 10**8, 4) == (FIRST,) * 2


def test_a_plan_tells_where_each_thread_computes(gpus: dict[object, int], siblings: Siblings) -> None:
    gpus[1] = 10**9
    plan = make_plan(recipe(siblings), threads=4, device="cuda")
    assert plan.devices == ("cuda:0", "cuda:0", "cuda:1", "cuda:1") and plan.device == "cuda:0+cuda:1"
    assert plan.key != make_plan(recipe(siblings), threads=4, device="cuda:0").key
    gpus[0] = gpus[1] = 15_000_000
    assert make_plan(recipe(siblings), threads=4, device="cuda").threads == 2


def test_a_device_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(ResourceError, match=r"There is no device 'warp' on this machine; it has: .*cpu\."):
        device.find_devices("warp", 1, 1)
