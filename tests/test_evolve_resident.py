"""The resident model is the streamed merge, bit for bit, in the memory that was stated."""

import os
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save_file

from hubmerge.errors import ResourceError, SourceError
from hubmerge.evaluate import models
from hubmerge.evaluate.demand import Demand
from hubmerge.evaluate.generation import generate
from hubmerge.evolve.workers import resident as resident_module
from hubmerge.evolve.workers.building import build_model
from hubmerge.evolve.workers.footprint import footprint
from hubmerge.evolve.workers.resident import ResidentModel
from hubmerge.hub.source import open_source
from hubmerge.recipe import ModelEntry, Output, Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.dtypes import DTYPES
from hubmerge.stream.executor import merge
from hubmerge.stream.mapped import map_tensors
from hubmerge.stream.plan import make_plan

PROMPTS = [f"w{i} {i} w{(i * 7) % 30}" for i in range(24)]


def candidate(method: str, folders: dict[str, Path], shift: float, dtype: str | None = None) -> Recipe:
    """A recipe with values that differ from layer to layer."""
    weight, density = [0.4 + shift, 1.5, -0.3 - shift], [0.3, 0.6 + shift, 1.0]
    genes = {"weight": weight, "density": density} if method in ("ties", "dare_ties") else {"weight": weight}
    models = [folders["math"], folders["japanese"]][: 1 if method == "slerp" else 2]
    return Recipe.from_dict(
        {
            "merge_method": method,
            "models": [{"model": str(m), **({} if method == "slerp" else {"parameters": genes})} for m in models],
            **({} if method == "linear" else {"base_model": str(folders["base"])}),
            **({"parameters": {"t": [0.1, 0.5 + shift, 0.9]}} if method == "slerp" else {}),
            "dtype": dtype,
        }
    )


def same_as_written(model: torch.nn.Module, folder: Path) -> bool:
    """Whether each of the model's weights is, in its dtype, the file's."""
    written, held = load_file(folder / "model.safetensors"), dict(model.named_parameters())
    return written.keys() == held.keys() and all(
        torch.equal(held[name], tensor.to(held[name].dtype)) for name, tensor in written.items()
    )


@pytest.mark.parametrize("method", ["linear", "slerp", "task_arithmetic", "ties", "dare_ties"])
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_the_resident_candidate_is_the_streamed_merge(
    method: str, dtype: str | None, siblings: dict[str, Path], tmp_path: Path
) -> None:
    first, second = (candidate(method, siblings, shift, dtype) for shift in (0.1, 0.3))
    resident = ResidentModel(make_plan(first))
    standing = resident.model
    resident.load(second)
    assert resident.is_written_in_place, "candidates are written into the standing model"
    assert resident.model is standing
    merge(second, tmp_path / "out")
    assert same_as_written(standing, tmp_path / "out")
    assert standing.lm_head.weight is standing.model.embed_tokens.weight


def test_threads_change_no_bit(siblings: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(candidate("dare_ties", siblings, 0.1), threads=3)
    states = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
        states.append(ResidentModel(plan).model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_sources_and_other_methods_are_held_as_they_are(siblings: dict[str, Path], tmp_path: Path) -> None:
    recipe = candidate("dare_ties", siblings, 0.3)
    resident = ResidentModel(make_plan(recipe))
    tokenizer = resident.load_source(ModelRef(str(siblings["math"])))
    loaded, own = models.load_model(str(siblings["math"]), dtype="float32")
    assert generate(resident.model, tokenizer, PROMPTS, max_new_tokens=8) == generate(
        loaded, own, PROMPTS, max_new_tokens=8
    )
    for method in ("linear", "ties", "slerp"):  # of some of the models that the plan has
        other = candidate(method, siblings, 0.2)
        resident.load(other)
        merge(other, tmp_path / method)
        assert same_as_written(resident.model, tmp_path / method)


def test_models_whose_weights_are_fused_are_built_anew(tmp_path: Path, tiny_tokenizer) -> None:
    """transformers 5 keeps the experts of a Mixtral in one tensor; files keep them apart."""
    from transformers import MixtralConfig, MixtralForCausalLM

    folders = {}
    for seed, name in enumerate(("base", "math", "japanese")):
        torch.manual_seed(seed)
        config = MixtralConfig(
            vocab_size=len(tiny_tokenizer),
            hidden_size=16,
            intermediate_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            num_local_experts=2,
            max_position_embeddings=64,
        )
        folders[name] = tmp_path / name
        MixtralForCausalLM(config).save_pretrained(folders[name])
        tiny_tokenizer.save_pretrained(folders[name])
    first, second = (candidate("task_arithmetic", folders, shift) for shift in (0.1, 0.3))
    resident = ResidentModel(make_plan(first))
    assert not resident.is_written_in_place
    resident.load(second)
    merge(second, tmp_path / "out")
    streamed = MixtralForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    for (name, held), (_, written) in zip(
        sorted(resident.model.state_dict().items()), sorted(streamed.state_dict().items()), strict=True
    ):
        assert torch.equal(held, written), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("native", [True, False])
def test_a_search_holds_what_its_footprint_says(
    dtype: str, tied: bool, native: bool, tiny_llama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_has_bfloat16", lambda: native)
    folder = tiny_llama(tmp_path / "model", dtype=dtype, tie_word_embeddings=tied)
    plan = make_plan(Recipe("linear", models=(ModelEntry(ModelRef(str(folder))),)))
    stated = footprint(plan, "cpu")
    resident = ResidentModel(plan, device="cpu")
    assert resident.model.dtype == (torch.bfloat16 if native and dtype == "bfloat16" else torch.float32)
    assert stated.model == sum(weight.nbytes for weight in resident.model.parameters())
    assert stated.sources == plan.sources[0].nbytes and stated.gpu == 0
    assert stated.memory == stated.model + stated.sources + plan.peak_memory
    assert footprint(plan, "cuda").gpu == footprint(plan, "cuda").model == plan.output_bytes
    asked = Demand(4, 20, 8)
    answering = footprint(plan, "cuda", asked)
    assert answering.generation == asked.nbytes(plan.config, DTYPES[plan.tensors[0].dtype].torch, torch.device("cuda"))
    assert answering.gpu == answering.model + answering.generation
    assert answering.memory == footprint(plan, "cuda").memory  # what lies on the GPU does not lie here


def test_merged_tensors_become_the_model_uncopied(siblings: dict[str, Path]) -> None:
    plan = make_plan(Recipe("linear", models=(ModelEntry(ModelRef(str(siblings["base"]))),)))
    state = {tensor.name: torch.ones(tensor.shape) for tensor in plan.tensors}
    places = {tensor.data_ptr() for tensor in state.values()}
    model = build_model(plan, state, torch.device("cpu"))
    assert {weight.data_ptr() for weight in model.parameters()} == places


def test_what_does_not_fit_is_not_mapped_and_at_last_refused(
    siblings: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hubmerge.evolve.workers import footprint as taken

    plan = make_plan(candidate("linear", siblings, 0.1))
    free = footprint(plan, "cpu").memory - 1
    monkeypatch.setattr(taken, "free_memory", lambda _: free)
    monkeypatch.setattr(resident_module, "map_tensors", lambda source: pytest.fail("mapped"))
    ResidentModel(plan, device="cpu")
    free = 10_000_000
    with pytest.raises(ResourceError, match=r"A candidate needs .* of memory at least"):
        ResidentModel(plan, device="cpu")


def test_mapped_tensors_are_those_of_the_files(tiny_llama, tmp_path: Path) -> None:
    source = open_source(ModelRef(str(tiny_llama(tmp_path / "model", dtype="bfloat16"))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mapped = dict(map_tensors(source))
    assert mapped.keys() == source.tensors.keys()
    expected = load((tmp_path / "model" / "model.safetensors").read_bytes())
    for name, tensor in mapped.items():
        assert tensor.dtype == expected[name].dtype and torch.equal(tensor, expected[name])


def test_mapped_tensors_may_lie_anywhere(tiny_llama, tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "model")
    path = folder / "model.safetensors"
    expected = load(path.read_bytes())
    # A header one byte longer moves all that follows to odd places.
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    path.write_bytes((length + 1).to_bytes(8, "little") + content[8 : 8 + length] + b" " + content[8 + length :])
    mapped = dict(map_tensors(open_source(ModelRef(str(folder)))))
    assert all(torch.equal(mapped[name], tensor) for name, tensor in expected.items())


def test_files_that_cannot_be_mapped_are_named(tiny_llama, tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "model")
    path = folder / "model.safetensors"
    source, stored = open_source(ModelRef(str(folder))), load(path.read_bytes())
    path.chmod(0)
    if not os.access(path, os.R_OK):  # the superuser reads everything
        with pytest.raises(SourceError, match="cannot be read"):
            dict(map_tensors(source))
    path.chmod(0o600)
    stored["model.norm.weight"] = torch.full_like(stored["model.norm.weight"], float("nan"))
    save_file(stored, path, metadata={"format": "pt"})
    with pytest.raises(SourceError, match=r"model\.norm\.weight of .* NaN"):
        dict(map_tensors(open_source(ModelRef(str(folder)))))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(SourceError, match="changed while it was being used"):
        dict(map_tensors(source))


def test_a_candidate_with_other_settings_is_another_model(siblings: dict[str, Path], tmp_path: Path) -> None:
    """Fewer layers cannot be written into the standing model: one that fits takes its place."""
    whole = candidate("linear", siblings, 0.1)
    resident = ResidentModel(make_plan(whole))
    piece = {"sources": [{"model": str(siblings["math"]), "layer_range": [0, 2]}]}
    short = Recipe.from_dict({"merge_method": "passthrough", "slices": [piece]})
    resident.load(short)
    assert resident.model.config.num_hidden_layers == 2
    merge(short, tmp_path / "short")
    assert same_as_written(resident.model, tmp_path / "short")
    resident.load(replace(whole, output=Output(dtype="float32")))
    assert resident.model.config.num_hidden_layers == 3
