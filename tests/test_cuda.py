"""What a GPU changes: only where things are computed. `pytest -m cuda` on a machine that has one."""

from pathlib import Path

import pytest
import torch
from streamtools import weights

from hubmerge.evaluate.generation import generate, stream_chat
from hubmerge.evaluate.likelihood import loglikelihoods
from hubmerge.evaluate.models import best_device, load_model
from hubmerge.evolve.run import evolve
from hubmerge.evolve.search import Search
from hubmerge.evolve.spaces.layer_path import LayerPath
from hubmerge.evolve.workers.footprint import footprint
from hubmerge.evolve.workers.path_model import PathModel
from hubmerge.evolve.workers.resident import ResidentModel
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no GPU, or hidden from the suite; `pytest -m cuda` shows it"
    ),
]

PROMPTS = [f"w{i} {i} w{(i * 7) % 30}" for i in range(24)]


def recipe(folders: dict[str, Path], method: str = "ties") -> Recipe:
    genes = {"weight": [0.5, 1.5, -0.3], "density": [0.3, 0.6, 1.0]} if method == "ties" else {"weight": [0.5, 1.5]}
    models = [{"model": str(folders[name]), "parameters": genes} for name in ("math", "japanese")]
    return Recipe.from_dict({"merge_method": method, "base_model": str(folders["base"]), "models": models})


def test_a_candidate_on_the_gpu_is_the_streamed_merge(siblings: dict[str, Path], tmp_path: Path) -> None:
    plan = make_plan(recipe(siblings))
    resident = ResidentModel(plan)
    assert next(resident.model.parameters()).device.type == "cuda"
    assert footprint(plan).gpu >= sum(p.nbytes for p in resident.model.parameters())
    merge(recipe(siblings, "task_arithmetic"), tmp_path / "out")
    resident.load(recipe(siblings, "task_arithmetic"))
    assert resident._targets
    held = dict(resident.model.named_parameters())
    assert all(torch.equal(held[name].cpu(), tensor) for name, tensor in weights(tmp_path / "out").items())


@pytest.mark.parametrize("method", ["ties", "task_arithmetic"])
def test_merging_on_the_gpu_differs_in_last_bits_alone(method: str, siblings: dict[str, Path], tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        merge(make_plan(recipe(siblings, method), device=device), tmp_path / device)
    ours, theirs = weights(tmp_path / "cuda"), weights(tmp_path / "cpu")
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-5, atol=1e-6)


def test_answers_and_likelihoods_are_those_of_the_cpu(tiny_llama, tmp_path: Path) -> None:
    folder = str(tiny_llama(tmp_path / "model", seed=5, tie_word_embeddings=False))
    made, found = [], []
    for device in ("cpu", "cuda"):
        model, tokenizer = load_model(folder, dtype="float32", device=device)
        made.append(generate(model, tokenizer, PROMPTS, max_new_tokens=12, batch_size=7))
        pairs = [(prompt, f" w{i} {i}") for i, prompt in enumerate(PROMPTS)]
        found.append(loglikelihoods(model, tokenizer, pairs, batch_size=5))
    assert made[0] == made[1]
    assert len(set(made[0])) > 4
    for ours, theirs in zip(*found, strict=True):
        assert ours.total == pytest.approx(theirs.total, abs=1e-4)


def test_a_chat_runs_where_the_model_is(tiny_llama, tmp_path: Path) -> None:
    model, tokenizer = load_model(str(tiny_llama(tmp_path / "model", seed=5, tie_word_embeddings=False)))
    assert best_device() == "cuda"
    assert model.device.type == "cuda"
    pieces = list(stream_chat(model, tokenizer, [{"role": "user", "content": "w1 2 w3"}], max_new_tokens=6))
    assert "".join(pieces).strip()


def test_a_live_path_is_its_export(siblings: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from hubmerge.evolve.spaces.families import family_of
    from hubmerge.hub.source import open_source

    models = tuple(ModelRef(str(siblings[name])) for name in ("math", "japanese"))
    path = LayerPath(models, ((0, 0), (1, 2), (0, 1), (0, 1), (0, 2)), (1.0, 0.4, -1.5, 2.5, -0.7))
    live = PathModel(models)
    live.load(path)
    merge(path.recipe(family_of(open_source(models[0]).config)), tmp_path / "out")
    vanilla = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).to("cuda")
    ids = torch.arange(24, device="cuda").view(2, 12) * 7 % 61 + 3
    with torch.no_grad():
        ours, theirs = (model(input_ids=ids).logits for model in (live.model, vanilla))
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-4


@pytest.mark.parametrize("space", ["ps", "dfs"])
def test_a_search_runs_on_the_gpu_and_its_winner_scores_the_same_on_the_cpu(
    space: str, tiny_llama, tmp_path: Path
) -> None:
    names = ("base", "math", "japanese")
    folders = {n: tiny_llama(tmp_path / n, seed=i, tie_word_embeddings=False) for i, n in enumerate(names)}
    model, tokenizer = load_model(str(folders["math"]), dtype="float32")
    answers = generate(model, tokenizer, PROMPTS, max_new_tokens=3)
    rows = [{"question": prompt, "answer": answer} for prompt, answer in zip(PROMPTS, answers, strict=True)]
    document = {
        "models": [str(folders["math"]), str(folders["japanese"])],
        "task": {
            "name": "echo",
            "examples": {"search": rows[:10], "validation": rows[10:16], "test": rows[16:]},
            "metric": "exact_match",
            "max_new_tokens": 3,
        },
        "searcher": {"name": "cmaes", "popsize": 6, "evaluations": 12, "seed": 1},
        "baselines": [],
        "select": 2,
    }
    recipes = {
        "base_model": str(folders["base"]),
        "merge_method": "task_arithmetic",
        "genome": {"granularity": "layer", "genes": {"weight": [0, 2]}},
    }
    search = Search.from_dict(document | (recipes if space == "ps" else {"data_flow": {"repeats": 1}}))
    result = evolve(search, tmp_path / "run")
    winner = next(row for row in result.rows if row.p_value is None)
    model, tokenizer = load_model(str(tmp_path / "run" / "model"), dtype="float32", device="cpu")
    again = generate(model, tokenizer, PROMPTS[16:], max_new_tokens=3)
    assert winner.value == sum(a == row["answer"] for a, row in zip(again, rows[16:], strict=True)) / 8
