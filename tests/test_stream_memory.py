"""A merge under a limit of memory: fewer threads, less read ahead, the same bytes - or one sentence."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_stream_merge import Siblings, recipe

from hubmerge import amounts
from hubmerge.errors import HubmergeError, ResourceError
from hubmerge.hub import push_folder
from hubmerge.localhub import LocalHub
from hubmerge.reference import ModelRef
from hubmerge.stream import budget, hashing
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan
from hubmerge.stream.stage import Stage
from hubmerge.stream.tensors import TensorPlan
from hubmerge.stream.verify import verify
from hubmerge.stream.weights import Extent

METHODS = ("dare_ties", "ties")


@pytest.mark.parametrize("method", METHODS)
def test_threads_are_fitted_to_the_limit(siblings: Siblings, method: str) -> None:
    free = make_plan(recipe(siblings, method), threads=8)
    assert free.threads == 8
    for threads in (8, 5, 1):
        limit = make_plan(recipe(siblings, method), threads=threads).peak_memory
        plan = make_plan(recipe(siblings, method), threads=8, memory=limit)
        assert plan.threads == threads and plan.peak_memory == limit and not plan.errors and plan.key == free.key


@pytest.mark.parametrize("method", METHODS)
def test_what_is_read_ahead_is_fitted_to_the_limit(
    siblings: Siblings, hub: LocalHub, tmp_path: Path, method: str
) -> None:
    for name, folder in siblings.items():
        push_folder(folder, f"alice/limited-{name}", private=False)
    far = {name: f"alice/limited-{name}" for name in siblings}
    free = make_plan(recipe(far, method), ranged=True, threads=4)
    alone = make_plan(recipe(siblings, method), threads=1).peak_memory
    plan = make_plan(recipe(far, method), ranged=True, threads=4, memory=alone + 8 * 2**20)
    assert plan.peak_memory <= alone + 8 * 2**20 < free.peak_memory
    assert plan.effort.ahead.span < free.effort.ahead.span
    merged = merge(plan, tmp_path / "out")
    assert dict(merged.tensors) == dict(merge(recipe(siblings, method), tmp_path / "free").tensors)


def test_what_tensors_need_is_found_once(siblings: Siblings, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred thousand tensors it takes a second each time: bytes, files and what is held follow from it."""
    for name, folder in siblings.items():
        push_folder(folder, f"alice/limited-{name}", private=False)
    asked, needs_all = [], Stage.needs_all

    def watched(stage: Stage, tensor: TensorPlan) -> Iterator[Extent]:
        asked.append(tensor.name)
        return needs_all(stage, tensor)

    monkeypatch.setattr(Stage, "needs_all", watched)
    plan = make_plan(recipe({name: f"alice/limited-{name}" for name in siblings}), ranged=True, memory=10**9)
    assert plan.fetch_bytes == 3 * plan.output_bytes
    assert sorted(asked) == sorted(tensor.name for tensor in plan.tensors)


def test_a_limit_too_small_for_one_block_says_what_the_least_is(siblings: Siblings) -> None:
    least = make_plan(recipe(siblings), threads=1).peak_memory
    plan = make_plan(recipe(siblings), threads=4, memory=20_000_000)
    said = f"takes {amounts.size(least)} of memory at least, one tensor at a time, and may take 20 MB; allow that much."
    with pytest.raises(ResourceError, match=said):
        plan.require()
    assert plan.threads == 1
    assert not make_plan(recipe(siblings), threads=4, memory=least).errors


def test_a_wholes_share_that_cannot_be_held_may_be_downloaded_instead(siblings: Siblings, hub: LocalHub) -> None:
    for name, folder in siblings.items():
        push_folder(folder, f"alice/limited-{name}", private=False)
    far = {name: f"alice/limited-{name}" for name in siblings}
    plan = make_plan(
        recipe(far, "ties"), ranged=True, memory=make_plan(recipe(siblings, "ties"), threads=1).peak_memory
    )
    with pytest.raises(ResourceError, match="allow that much, or leave out --stream"):
        plan.require()


NO_SIZES = ("", "much", "-5MB", "0", "8", "2.5", "MB", "0.0GB", "0.1B", "5 PB", "1e9", "²MB", "200MB of it")


@pytest.mark.parametrize("text", NO_SIZES)
def test_a_size_that_is_none(text: str) -> None:
    with pytest.raises(HubmergeError, match="A size is a number with a unit, such as 200MB or 2GiB, got "):
        amounts.parse_size(text)


def test_a_window_holds_what_is_needed_at_once() -> None:
    ahead = budget.far_ahead()
    assert ahead.most(ahead.held(10**9, 3, reread=True), 3) > 10**9
    assert ahead.most(ahead.held(10**9, 3, reread=False), 3) == ahead.window


def test_a_merge_is_verified_within_a_limit(
    siblings: Siblings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call
) -> None:
    out = tmp_path / "out"
    merge(recipe(siblings), out)
    workers, in_order = [], hashing.in_order

    def watched(jobs, at_a_time, *more):
        workers.append(at_a_time)
        return in_order(jobs, at_a_time, *more)

    monkeypatch.setattr(hashing, "in_order", watched)
    monkeypatch.setattr(hashing, "cores", lambda: 4)
    for memory in (None, 3 * hashing.PIECE, hashing.PIECE):
        assert verify(ModelRef(str(out)), memory=memory).ok
    assert workers == [4, 3, 1]
    done = call("verify", out, "--memory", "15MB")
    assert done.returncode == 2
    assert f"Hashing {out} takes 16 MB of memory at least, and may take 15 MB; allow that much." in done.stderr
    done = call("verify", out, "--recompute", "--memory", "20MB")
    assert done.returncode == 2 and "one tensor at a time, and may take 20 MB" in done.stderr
    for command in ("verify --recompute", "reproduce"):
        name, *more = command.split()
        assert call(name, out, *more, "--memory", "100MB").returncode == 0


def test_a_candidate_is_exported_within_a_limit(
    siblings: Siblings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call
) -> None:
    monkeypatch.setattr("hubmerge.evolve.export.candidate_recipe", lambda *_, **__: recipe(siblings))
    monkeypatch.setattr("hubmerge.evolve.export.candidate_card", lambda run, number, card: card)
    ask = ("export", tmp_path, "--candidate", 0, "--out", tmp_path / "out", "--memory")
    done = call(*ask, "20MB")
    assert done.returncode == 2 and "one tensor at a time, and may take 20 MB" in done.stderr
    assert call(*ask, "100MB").returncode == 0
    free = merge(recipe(siblings), tmp_path / "free")
    assert verify(ModelRef(str(tmp_path / "out"))).matching == len(free.tensors)


def test_the_demo_takes_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call) -> None:
    given: list[object] = []
    monkeypatch.setattr("hubmerge.demo.run", lambda out, memory: given.append(memory))
    monkeypatch.setattr("hubmerge.demo.paper", lambda *values: given.append(values[-1]))
    assert call("demo", "--out", tmp_path, "--memory", "200MB").returncode == 0
    assert call("demo", "--paper", "--out", tmp_path, "--memory", "300MB").returncode == 0
    assert given == [200_000_000, 300_000_000]
