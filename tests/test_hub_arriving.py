"""What is brought onto this machine is told as it comes: to whoever waits in a terminal, and on the page."""

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hubtools import publish
from huggingface_hub import constants
from huggingface_hub.utils._xet_progress_reporting import XetDownloadProgressReporter

from hubmerge.errors import Interrupted, SourceError
from hubmerge.evaluate.models import fetch
from hubmerge.hub import Source, arriving, open_source
from hubmerge.hub.arriving import Arrival
from hubmerge.hub.patience import check_stopped
from hubmerge.progress import Event
from hubmerge.reference import ModelRef
from space.limits import Limits
from space.tabs.answer import Question, answers
from space.work.timed_cache import TimedCache
from space.work.turns import Turns


@pytest.fixture
def remote(siblings, request, monkeypatch) -> Source:
    """A model of the Hub that nobody has fetched; it comes in pieces of 10,000 bytes."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    name = f"alice/comes-{request.node.name.replace('_', '-')[5:60]}".strip("-")
    files = {one.name: one.read_bytes() + b" " * (one.suffix == ".json") for one in siblings["math"].iterdir()}
    publish(name, files | {"NOTICE": name.encode()})
    return open_source(ModelRef.parse(name))


def missing(source: Source) -> int:
    return sum(one.size for name, one in source.files.items() if name != "README.md" and not source.is_here(name))


def test_every_piece_is_told_once(remote: Source) -> None:
    told: list[Event] = []
    whole = sum(remote.files[name].size for name in remote.files if not remote.is_here(name))
    fetch(remote, told.append)
    done = [one.done for one in told]
    assert done == sorted(done) and done[-1] == told[-1].total <= whole
    assert len([one for one in told if one.note == "model.safetensors"]) >= remote.nbytes // 10_000 > 2
    assert remote.files["model.safetensors"].size < told[-1].total
    told.clear()
    fetch(remote, told.append)
    assert not told, "what is here does not come again"


def test_whoever_is_told_may_end_it_and_begin_anew(remote: Source) -> None:
    def stop(event: Event) -> None:
        if event.note == "model.safetensors" and event.done > 30_000:
            raise Interrupted("enough")

    with pytest.raises(Interrupted):
        fetch(remote, stop)
    assert not remote.is_here("model.safetensors")
    told: list[Event] = []
    fetch(remote, told.append)
    assert told[-1].done == told[-1].total and remote.is_here("model.safetensors")


def test_what_comes_damaged_is_not_counted_twice(remote: Source, monkeypatch) -> None:
    from hubmerge.hub import store

    wrong = iter(["other bytes", None])
    monkeypatch.setattr(store, "differs", lambda path, file: next(wrong) if file.path == "model.safetensors" else None)
    told: list[Event] = []
    arriving.bring(remote, ["model.safetensors"], told.append)
    assert max(one.done for one in told) == told[-1].total == remote.files["model.safetensors"].size


def test_what_comes_by_xet_counts_once_it_is_written() -> None:
    """As huggingface_hub tells of it: what came over the network, and what of the file is there."""
    told: list[int] = []
    outer = arriving._told.set(told.append)
    try:
        how = {"reconstruction_desc": "a", "total": 100, "log_level": 20, "tqdm_class": Arrival, "name": "x"}
        with XetDownloadProgressReporter(**how) as bars:
            for came, written in ((60, 0), (90, 40), (120, 100)):
                report = SimpleNamespace(
                    total_bytes=100,
                    total_bytes_completed=written,
                    total_transfer_bytes=120,
                    total_transfer_bytes_completed=came,
                    total_bytes_completion_rate=1.0,
                    total_transfer_bytes_completion_rate=1.0,
                )
                bars.update_progress(report)
    finally:
        arriving._told.reset(outer)
    assert sum(told) == 100


def test_the_terminal_tells_it_once(remote: Source, call) -> None:
    first = call("chat", remote.name, "--prompt", "1 2 w3", "--max-new-tokens", 2)
    assert first.returncode == 0 and "fetch  " in first.stderr and "fetch" not in first.stdout
    assert "fetch" not in call("chat", remote.name, "--prompt", "1 2 w3", "--max-new-tokens", 2).stderr


def page() -> SimpleNamespace:
    return SimpleNamespace(
        gpu=None,
        settings=SimpleNamespace(limits=Limits(), on_space=False),
        open=lambda name, token: open_source(ModelRef.parse(name)),
        loaded=TimedCache(2, 60.0, in_use=True),
        turns=Turns(1, 4),
    )


def asked(model: str, halt: threading.Event, **said: object) -> Iterator[list[str]]:
    turn = [{"role": "user", "content": "1 2 w3"}]
    values = {"other": None, "system": "", "temperature": 0.0, "length": 2.0, "picture": None, **said}
    owner = SimpleNamespace(person="alice")
    return answers(page(), owner, Question(turn, turn, model, **values), None, halt)


@pytest.fixture
def slow(monkeypatch) -> threading.Event:
    """The page's downloads wait, once a piece has come, until this is set."""
    from space.tabs import answer

    go = threading.Event()

    def held(source: Source, progress) -> Path:
        def tell(event: Event) -> None:
            progress(event)
            while not go.wait(0.02):
                check_stopped()

        return fetch(source, tell)

    monkeypatch.setattr(answer, "fetch", lambda source, progress=lambda event: None: held(source, progress))
    return go


def test_the_page_tells_it_in_place_of_the_answer(remote: Source, slow: threading.Event) -> None:
    pieces = asked(remote.name, threading.Event())
    shown = next(said for (said,) in pieces if " of " in said)
    assert shown.startswith("… ") and shown.endswith(" fetched")
    slow.set()
    (last,) = list(pieces)[-1]
    assert last and "fetched" not in last and "⚠️" not in last


def test_a_question_that_is_taken_back_ends_the_download(remote: Source, slow: threading.Event) -> None:
    halt = threading.Event()
    pieces = asked(remote.name, halt)
    next(said for (said,) in pieces if " of " in said)
    halt.set()
    assert "taken back" in list(pieces)[-1][0]
    left = asked(remote.name, threading.Event())
    next(said for (said,) in left if " of " in said)
    left.close()
    assert not remote.is_here("model.safetensors")


def test_what_is_refused_is_refused_before_anything_comes(remote: Source) -> None:
    (said,) = list(asked(remote.name, threading.Event(), temperature=99.0))[-1]
    assert "temperature must be" in said and not remote.is_here("model.safetensors")
    with pytest.raises(SourceError):
        arriving.bring(remote, ["none.bin"])
