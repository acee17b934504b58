"""ZeroGPU, with a stand-in for the package `spaces`: what goes through it, how, and that nothing does elsewhere."""

import json
import pickle
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio_client import Client
from space_server import ROOT, ended, served

from hubmerge.errors import Interrupted, ResourceError
from hubmerge.evaluate.generation import stream_chat
from hubmerge.evaluate.models import load_model
from hubmerge.evolve.records.journal import read_evaluations
from hubmerge.evolve.search import Search
from hubmerge.hub import open_source
from hubmerge.progress import silent
from hubmerge.reference import ModelRef
from space.limits import Limits
from space.tabs.answer import reply
from space.work import zero_gpu
from space.work.job import Work
from space.work.runners import RUN_FOLDER, runners
from space.work.zero_gpu import CHAT_SECONDS, SEARCH_SECONDS, ZeroGpu

ON = {"SPACES_ZERO_GPU": "true"}
ASK = [{"role": "user", "content": "w20 w21"}]
EVALUATIONS = 12


@pytest.fixture
def spaces(monkeypatch):
    """A `spaces` whose calls stay in this process, but pickle what goes in and out: its notes."""
    notes = SimpleNamespace(declared={}, called=[], fails=None)

    def gpu(task, duration):
        notes.declared[task.__name__] = duration

        def called(*args):
            notes.called.append(task.__name__)
            if notes.fails:
                raise gr.Error(notes.fails)
            for item in task(*pickle.loads(pickle.dumps(args))):
                yield pickle.loads(pickle.dumps(item))

        return called

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=gpu))
    monkeypatch.setattr(zero_gpu, "_held", {})
    return notes


@pytest.fixture
def search(tiny_search) -> Search:
    return tiny_search(searcher={"name": "cmaes", "popsize": 4, "evaluations": EVALUATIONS, "seed": 1}, baselines=[])


def test_elsewhere_nothing_is_wrapped(spaces, monkeypatch) -> None:
    assert ZeroGpu.borrow({}) is None and ZeroGpu.borrow({"SPACES_ZERO_GPU": "false"}) is None
    assert spaces.declared == {}
    monkeypatch.setitem(sys.modules, "spaces", None)  # as if it were not installed
    assert ZeroGpu.borrow(ON) is None


def test_what_computes_asks_for_its_time(spaces) -> None:
    assert ZeroGpu.borrow(ON) is not None
    assert spaces.declared == {"_speak": CHAT_SECONDS, "_search_slice": SEARCH_SECONDS}
    assert spaces.called == []


def test_an_answer_comes_from_a_model_that_is_loaded_once_in_there(spaces, siblings, monkeypatch) -> None:
    loaded = []
    monkeypatch.setattr(zero_gpu, "load_model", lambda ref, **how: loaded.append(ref) or load_model(ref, **how))
    gpu, folder = ZeroGpu.borrow(ON), str(siblings["math"])
    page = SimpleNamespace(
        gpu=gpu, settings=SimpleNamespace(limits=Limits()), open=lambda *_: open_source(ModelRef(folder))
    )
    expected = "".join(stream_chat(*load_model(folder), ASK, max_new_tokens=8))
    assert expected
    for _ in range(2):
        assert "".join(reply(page, "alice", folder, ASK, None, max_new_tokens=8, turn=nullcontext())) == expected
    assert spaces.called == ["_speak", "_speak"]
    assert len(loaded) == 1
    list(gpu.speak(str(siblings["japanese"]), None, ASK, max_new_tokens=8))
    assert len(loaded) == 2 and len(zero_gpu._held) == 1


def test_the_files_of_a_hub_model_are_fetched_before_the_gpu_is_taken(spaces, hub, siblings) -> None:
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo("alice/zero-gpu", exist_ok=True)
    api.upload_folder(repo_id="alice/zero-gpu", folder_path=siblings["math"])
    source = open_source(ModelRef("alice/zero-gpu"))
    gpu = ZeroGpu.borrow(ON)
    assert not source.is_here("model.safetensors")
    spaces.fails = "No GPU was available"
    with pytest.raises(ResourceError, match="No GPU was available"):
        next(gpu.speak(source, None, ASK, max_new_tokens=4))
    assert all(source.is_here(name) for name in ("model.safetensors", "config.json", "tokenizer.json"))
    spaces.fails, before = None, len(hub.log)
    assert isinstance("".join(gpu.speak(source, None, ASK, max_new_tokens=4)), str)
    read = [entry for entry in hub.log[before:] if entry.path.endswith(".safetensors") and entry.method == "GET"]
    assert all(entry.status == 206 for entry in read)  # headers by range, and no file again


def test_an_answer_can_be_stopped(spaces, siblings) -> None:
    stop, said = threading.Event(), []
    for piece in ZeroGpu.borrow(ON).speak(str(siblings["math"]), None, ASK, max_new_tokens=64, stop=stop):
        said.append(piece)
        stop.set()
    assert len(said) == 1


def test_errors_in_there_keep_their_sentence(spaces, tmp_path) -> None:
    with pytest.raises(ResourceError, match="has no weights"):
        next(ZeroGpu.borrow(ON).speak(str(tmp_path), None, ASK))


def test_a_search_goes_on_from_call_to_call(spaces, search, tmp_path, monkeypatch) -> None:
    journal, events = tmp_path / RUN_FOLDER / "journal.jsonl", []
    # A clock that moves with every candidate: a call has the time for five.
    clock = SimpleNamespace(monotonic=lambda: len(journal.read_bytes().splitlines()) if journal.exists() else 0)
    monkeypatch.setattr(zero_gpu, "time", clock)
    monkeypatch.setattr(zero_gpu, "WORKING_SECONDS", 4.5)
    work = Work({"search": search.to_dict()}, tmp_path, None, events.append, False)
    result = runners(Limits(), ZeroGpu.borrow(ON))["evolve"](work)
    assert 2 < len(spaces.called) < EVALUATIONS
    assert [evaluation.number for evaluation in read_evaluations(journal)] == list(range(EVALUATIONS))
    assert [event.done for event in events if event.data] == list(range(1, EVALUATIONS + 1))
    assert Path(result["folder"], "model.safetensors").exists() and result["rows"]


def test_a_search_that_gets_nowhere_in_a_call_says_so(spaces, search, tmp_path, monkeypatch) -> None:
    seconds = iter(range(10**9))
    monkeypatch.setattr(zero_gpu, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    monkeypatch.setattr(zero_gpu, "WORKING_SECONDS", 1)
    with pytest.raises(ResourceError, match=r"no further than .* of ZeroGPU"):
        ZeroGpu.borrow(ON).search(search, tmp_path / "run", resume=False, token=None, progress=silent)
    assert spaces.called == ["_search_slice"] * 2


def test_a_search_can_be_stopped_and_its_errors_keep_their_sentence(spaces, search, tmp_path) -> None:
    def stop(event) -> None:
        if event.data and event.done == 3:
            raise Interrupted("stop")

    gpu, run = ZeroGpu.borrow(ON), tmp_path / "run"
    with pytest.raises(Interrupted):
        gpu.search(search, run, resume=False, token=None, progress=stop)
    assert 3 <= len(read_evaluations(run / "journal.jsonl")) < EVALUATIONS
    with pytest.raises(ResourceError, match="already holds a search"):
        gpu.search(search, run, resume=False, token=None, progress=silent)


@pytest.mark.slow
def test_the_page_computes_in_processes_of_their_own(hub, search, siblings, tmp_path) -> None:
    log = tmp_path / "calls"
    fake = Path(__file__).parent / "fake_spaces"
    environment = {**hub.environment("alice"), **ON, "FAKE_SPACES_LOG": str(log), "PYTHONPATH": f"{fake}:{ROOT}"}
    with served(environment, tmp_path) as page:
        client = Client(page.url, verbose=False)
        assert isinstance(client.predict(str(siblings["math"]), "w1 2 w3", max_new_tokens=4, api_name="/chat"), str)
        job = client.predict(search.to_yaml(), api_name="/evolve")
        now = ended(lambda: client.predict(job, api_name="/job"))
        assert now["status"] == "done", now
        assert isinstance(client.predict(job, "w1 2 w3", max_new_tokens=4, api_name="/chat"), str)
        client.close()
    notes = [json.loads(line) for line in log.read_text().splitlines()]
    assert [note["declared"] for note in notes if "declared" in note] == ["_speak", "_search_slice"]
    assert [note["called"] for note in notes if "called" in note] == ["_speak", "_search_slice", "_speak"]
