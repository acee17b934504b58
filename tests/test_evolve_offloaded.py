"""Searches over models that do not fit: candidates are written where they live, and are those of a search that fits."""

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_evolve_path_model import IDS, LAYERS, SCALES
from test_evolve_resident import PROMPTS, candidate

from hubmerge.errors import ResourceError
from hubmerge.evaluate import models, placement
from hubmerge.evaluate.demand import Demand
from hubmerge.evaluate.generation import generate
from hubmerge.evaluate.spool import spool_root
from hubmerge.evolve.plan import plan_search
from hubmerge.evolve.run import evolve
from hubmerge.evolve.spaces.layer_path import LayerPath
from hubmerge.evolve.workers.footprint import least_effort, require_room
from hubmerge.evolve.workers.path_model import PathModel
from hubmerge.evolve.workers.resident import ResidentModel
from hubmerge.evolve.workers.workers import Workers
from hubmerge.progress import Event
from hubmerge.recipe import Output
from hubmerge.reference import ModelRef
from hubmerge.stream import budget
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan

LIMIT = 200_000_000


def files() -> list[Path]:
    """The files of models that are still there."""
    gc.collect()
    return sorted(spool_root().glob("*/model.safetensors"))


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the limit, 15 kB are for weights: a part of a tiny model, also where the processor computes in bfloat16."""
    monkeypatch.setattr(placement, "WHOLE", 0.0)
    monkeypatch.setattr(placement, "WEIGHTS", 7.5e-5)


@pytest.mark.usefixtures("scarce")
@pytest.mark.parametrize(("dtype", "native"), [("float32", False), ("bfloat16", False), ("bfloat16", True)])
def test_a_candidate_lies_partly_in_a_file_and_is_the_merge(
    siblings: dict[str, Path], tmp_path: Path, dtype: str, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_has_bfloat16", lambda: native)
    events: list[Event] = []
    first, second = (
        replace(candidate("task_arithmetic", siblings, shift), output=Output(out_dtype=dtype)) for shift in (0.1, 0.4)
    )
    resident = ResidentModel(make_plan(first), memory=LIMIT, progress=events.append)
    assert resident.is_written_in_place
    told = next(event for event in events if event.stage == "offload")
    assert 0 < told.done < told.total and "slow" in told.note
    [file] = files()
    before = file.stat().st_ino
    resident.load(second)
    merge(second, tmp_path / "out")
    assert file.stat().st_ino == before  # written over, not made anew
    right = load_file(tmp_path / "out" / "model.safetensors")
    in_file = load_file(file)
    state = dict(resident.model.named_parameters())
    places = {name: state[name].device.type for name in right}
    assert set(places.values()) == {"cpu", "meta"}
    for name, tensor in right.items():
        held = in_file[name] if places[name] == "meta" else state[name].detach().to(tensor.dtype)
        assert torch.equal(held, tensor), name
    free = ResidentModel(make_plan(second))
    assert generate(resident.model, resident.tokenizer, PROMPTS, max_new_tokens=8) == generate(
        free.model, free.tokenizer, PROMPTS, max_new_tokens=8
    )
    resident.load_source(ModelRef(str(siblings["math"])))
    resident.load(second)
    [file] = files()  # another one where the model's own dtype is not that of candidates
    assert torch.equal(load_file(file)["model.layers.2.mlp.up_proj.weight"], right["model.layers.2.mlp.up_proj.weight"])


@pytest.mark.usefixtures("scarce")
def test_weights_that_transformers_puts_together_are_loaded_anew(tmp_path: Path, tiny_tokenizer: Any) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    folders = {}
    sizes = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 4, "num_local_experts": 2}
    for seed, name in enumerate(("base", "math", "japanese")):
        torch.manual_seed(seed)
        heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64}
        config = MixtralConfig(vocab_size=len(tiny_tokenizer), **sizes, **heads)
        MixtralForCausalLM(config).save_pretrained(tmp_path / name)
        tiny_tokenizer.save_pretrained(tmp_path / name)
        folders[name] = tmp_path / name
    resident = ResidentModel(make_plan(candidate("task_arithmetic", folders, 0.1)), memory=LIMIT)
    assert not resident.is_written_in_place and "disk" in resident.model.hf_device_map.values()
    for shift in (0.3, 0.5):
        resident.load(candidate("task_arithmetic", folders, shift))
        free = ResidentModel(make_plan(candidate("task_arithmetic", folders, shift)))
        with torch.inference_mode():
            assert torch.equal(resident.model(IDS).logits, free.model(IDS).logits)
    assert len(files()) == 1


@pytest.mark.usefixtures("scarce")
def test_a_pool_of_layers_is_read_from_the_models_own_files(siblings: dict[str, Path]) -> None:
    models = tuple(ModelRef(str(siblings[name])) for name in ("math", "japanese"))
    free, within = PathModel(models), PathModel(models, memory=LIMIT)
    for path in (LayerPath(models, LAYERS, SCALES), LayerPath(models, LAYERS[::-1], (1.0,) * len(LAYERS))):
        free.load(path)
        within.load(path)
        assert "disk" in within.model.hf_device_map.values()
        with torch.inference_mode():
            assert torch.equal(within.model(IDS).logits, free.model(IDS).logits)
            assert torch.equal(within.model(IDS[:1]).logits, free.model(IDS[:1]).logits)
    [file] = files()
    assert (load_file(file)["model.layers.5.mlp.up_proj.weight"] == 0).all()  # a hole: it is read where it lies
    tokenizer = within.load_source(models[1])
    assert (
        generate(within.model, tokenizer, PROMPTS, max_new_tokens=6)
        == generate(free.model, free.load_source(models[1]), PROMPTS, max_new_tokens=6)
        or free.model is not None
    )
    within.load(path)
    with torch.inference_mode():
        assert within.model(IDS).logits.shape[0] == 2


@pytest.mark.usefixtures("scarce")
def test_a_search_within_a_limit_ends_like_one_without(tiny_search: Callable[..., Any], tmp_path: Path) -> None:
    search = tiny_search()
    free = evolve(search, tmp_path / "free")
    events: list[Event] = []
    found = evolve(search, tmp_path / "within", workers=Workers(memory=LIMIT), progress=events.append)
    assert any(event.stage == "offload" for event in events)
    assert found.recipe == free.recipe and found.rows == free.rows
    lines = [
        [json.loads(line) for line in (tmp_path / name / "journal.jsonl").read_text().splitlines()]
        for name in ("free", "within")
    ]
    scores = [[(line.get("number"), line.get("score")) for line in one] for one in lines]
    assert scores[0] == scores[1]
    assert files() == []
    planned = plan_search(search, memory=LIMIT)
    assert planned.held.disk and any("read from disk for every answer" in one.message for one in planned.findings)
    assert planned.held.sources == 0 and not plan_search(search).held.disk


@pytest.mark.parametrize("space", ["ps", "dfs"])
def test_plan_and_search_refuse_a_limit_in_the_same_words(space, tiny_search, tmp_path) -> None:
    made = tiny_search()
    paths = {"data_flow": {}, "models": made.to_dict()["models"], "task": made.to_dict()["task"]}
    search = type(made).from_dict(paths) if space == "dfs" else made
    for limit in (1_000, 10_000_000):
        planned = plan_search(search, memory=limit)
        assert planned.held.merging > limit  # what it takes, and not what it is given
        with pytest.raises(ResourceError, match=r"A candidate needs .* may take") as refused:
            planned.require()
        with pytest.raises(ResourceError) as stopped:
            evolve(search, tmp_path / "out", workers=Workers(memory=limit))
        assert str(stopped.value) == str(refused.value) and not (tmp_path / "out" / "journal.jsonl").exists()
    plan_search(search, memory=LIMIT).require()


def test_an_answer_that_does_not_fit_is_foreseen(siblings: dict[str, Path]) -> None:
    plan = make_plan(candidate("linear", siblings, 0.1))
    require_room(plan, LIMIT, Demand(64, 20, 100))
    with pytest.raises(ResourceError, match="Answering one prompt of 20 tokens takes"):
        require_room(plan, LIMIT, Demand(64, 20, 1_000_000))


def test_what_does_not_fit_says_the_least(siblings: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(candidate("linear", siblings, 0.1))
    with pytest.raises(ResourceError, match=r"A candidate needs .* of memory at least, for .* may take 10 MB; allow"):
        ResidentModel(plan, memory=10_000_000)
    monkeypatch.setattr(budget, "_LIBRARY_BYTES", 0)
    ResidentModel(plan, memory=least_effort(plan) + 200_000)
