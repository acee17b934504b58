"""Merging what torch.save wrote: the same bytes as from safetensors - of folders, of the cache, by range."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from bintools import as_pickled, save_pickled, torch_file
from hubtools import on_path, publish
from huggingface_hub import CommitOperationAdd, HfApi, constants
from safetensors.torch import load_file, save_file
from streamtools import naive, weights
from test_stream_merge import Siblings, recipe
from transformers import MistralConfig, MistralForCausalLM

from hubmerge.errors import PlanError, SourceError
from hubmerge.evaluate.models import load_model
from hubmerge.evolve.workers.resident import ResidentModel
from hubmerge.hub import open_source, push_folder
from hubmerge.hub.conversion import BOT
from hubmerge.localhub import Fault
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream import prefetch
from hubmerge.stream.executor import merge
from hubmerge.stream.laid import Laid
from hubmerge.stream.plan import make_plan

TURNED = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def pickled(siblings: Siblings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The siblings as older models are published: one file, two, and one with a tied head and a turned matrix in it."""
    root = tmp_path_factory.mktemp("pickled")
    made = {name: Path(shutil.copytree(folder, root / name)) for name, folder in siblings.items()}
    as_pickled(made["base"])
    as_pickled(made["math"], shards=2)
    state = load_file(siblings["japanese"] / "model.safetensors")
    embedding = state["model.embed_tokens.weight"]
    (made["japanese"] / "model.safetensors").unlink()
    save_pickled(made["japanese"], state | {TURNED: state[TURNED].t().contiguous().t(), "lm_head.weight": embedding})
    return made


def published(folders: Mapping[str, Path], word: str) -> dict[str, str]:
    ids = {name: f"alice/{word}-{name}" for name in folders}
    for name, folder in folders.items():
        publish(ids[name], {path.name: path.read_bytes() for path in folder.iterdir()})
    return ids


def one_slerp(folders: Siblings) -> Recipe:
    models = [{"model": str(folders[name])} for name in ("base", "japanese")]
    return Recipe.from_dict(
        {"merge_method": "slerp", "base_model": str(folders["base"]), "models": models, "parameters": {"t": 0.4}}
    )


RECIPES: dict[str, Callable[[Siblings], Recipe]] = {
    "ties": recipe,
    "dare_ties": lambda folders: recipe(folders, "dare_ties"),
    "slerp": one_slerp,
}


@pytest.mark.parametrize("method", RECIPES)
def test_same_bytes_as_from_safetensors(method: str, siblings: Siblings, pickled, tmp_path: Path) -> None:
    expected, found = (
        merge(RECIPES[method](one), tmp_path / word) for one, word in ((siblings, "safe"), (pickled, "torch"))
    )
    assert found.tensors == expected.tensors
    written = [sorted(path.name for path in (tmp_path / word).iterdir()) for word in ("safe", "torch")]
    assert written[0] == written[1]


def test_same_bytes_by_range_and_from_the_cache(siblings: Siblings, pickled, hub, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(prefetch, "SPAN", 8_000)  # many to a file
    ids = published(pickled, "pickled")
    hub.clear_log()
    plan = make_plan(recipe(ids), ranged=True)
    assert isinstance(plan.stage.weights[2], Laid)
    opened = [request for request in hub.log if request.path.endswith(".bin")]
    assert len(opened) <= 3 * 4
    hub.clear_log()
    streamed = merge(plan, tmp_path / "streamed")
    reads = [request for request in hub.log if request.path.endswith(".bin")]
    assert {request.status for request in reads} == {206}
    sizes = [file.size for source in plan.sources for file in source.files.values() if file.path.endswith(".bin")]
    # What lies between tensors comes with them, and each file is hashed whole; nothing comes twice.
    assert plan.fetch_bytes <= sum(request.sent for request in reads) <= sum(sizes)
    assert not any(source.is_here(file) for source in plan.sources for file in source.files if file.endswith(".bin"))
    expected = merge(recipe(siblings), tmp_path / "folders").tensors
    assert streamed.tensors == expected
    assert merge(recipe(ids), tmp_path / "downloaded").tensors == expected
    cached = make_plan(recipe(ids), ranged=True)
    assert cached.fetch_bytes == 0
    assert merge(cached, tmp_path / "cached").tensors == expected


def test_a_file_that_arrives_otherwise_is_noticed(pickled, hub, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(prefetch, "SPAN", 8_000)
    ids = published({"base": pickled["base"]}, "tampered")
    plan = make_plan(Recipe.from_dict({"merge_method": "passthrough", "models": [{"model": ids["base"]}]}), ranged=True)
    file = plan.sources[0].files["pytorch_model.bin"]
    first = min(tensor.start for tensor in plan.sources[0].tensors.values())
    content = bytearray((pickled["base"] / file.path).read_bytes())

    def faults(request):
        asked = request.headers.get("range", "")
        if file.path not in request.url.path or not asked.startswith(f"bytes={first}-"):
            return None
        stop = int(asked.partition("-")[2]) + 1
        part = bytes(content[first : stop - 1]) + bytes([content[stop - 1] ^ 1])
        headers = {"Content-Range": f"bytes {first}-{stop - 1}/{file.size}"}
        return Fault(status=206, headers=headers, body=part)

    hub.faults = faults
    try:
        with pytest.raises(SourceError, match="arrived otherwise than the Hub lists it"):
            merge(plan, tmp_path / "out")
    finally:
        hub.faults = None


def test_a_turned_matrix_takes_memory_that_the_plan_knows(siblings: Siblings, pickled) -> None:
    plain, turned = (make_plan(recipe(one), threads=1) for one in (siblings, pickled))
    assert turned.peak_memory == plain.peak_memory + 2 * 16 * 32 * 4


def test_a_stage_over_a_turned_matrix(siblings: Siblings, pickled, tmp_path: Path) -> None:
    def staged(folders: Siblings) -> Recipe:
        models = [{"model": str(folders[name]), "parameters": {"weight": 0.5}} for name in ("math", "japanese")]
        last = [{"model": "stage:first", "parameters": {"weight": 1, "density": 0.5}}]
        return recipe(folders, stages=[{"name": "first", "merge_method": "linear", "models": models}], models=last)

    results = [merge(staged(one), tmp_path / str(number)).tensors for number, one in enumerate((siblings, pickled))]
    assert results[0] == results[1]


def test_in_memory_and_to_chat_with(siblings: Siblings, pickled) -> None:
    models = [ResidentModel(make_plan(recipe(one))).model.state_dict() for one in (siblings, pickled)]
    assert models[0].keys() == models[1].keys()
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    for name in ("math", "japanese"):
        (ours, _), (theirs, _) = (load_model(str(one[name]), dtype="float32") for one in (pickled, siblings))
        found, expected = ours.state_dict(), theirs.state_dict()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_pinned_folder_is_found_again(pickled, tmp_path: Path) -> None:
    plan = make_plan(recipe(pickled))
    merge(plan, tmp_path / "out")
    again = Recipe.from_yaml(plan.recipe.to_yaml())
    assert make_plan(again).recipe == plan.recipe


def test_safetensors_go_first(siblings: Siblings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(siblings["math"], tmp_path / "both"))
    (folder / "pytorch_model.bin").write_bytes(torch_file({"a": torch.zeros(1)}))
    (folder / "training_args.bin").write_bytes(b"\x80\2.")
    assert {tensor.file for tensor in open_source(ModelRef.parse(str(folder))).tensors.values()} == {
        "model.safetensors"
    }
    (folder / "model.safetensors").unlink()
    assert {tensor.file for tensor in open_source(ModelRef.parse(str(folder))).tensors.values()} == {
        "pytorch_model.bin"
    }
    (folder / "pytorch_model.bin").rename(folder / "weights.pth")
    assert open_source(ModelRef.parse(str(folder))).tensors.keys() == {"a"}
    shutil.copy(folder / "weights.pth", folder / "more.pt")
    with pytest.raises(SourceError, match=r"2 PyTorch files but no pytorch_model\.bin\.index\.json"):
        open_source(ModelRef.parse(str(folder)))


def test_a_variant_is_read_where_it_is_alone(siblings: Siblings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(siblings["math"], tmp_path / "fp16"))
    state = {name: one.half() for name, one in load_file(folder / "model.safetensors").items()}
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    files = {"model.fp16-00001-of-00002.safetensors": names[::2], "model.fp16-00002-of-00002.safetensors": names[1::2]}
    for file, held in files.items():
        save_file({name: state[name] for name in held}, folder / file)
    weight_map = {name: file for file, held in files.items() for name in held}
    (folder / "model.safetensors.index.fp16.json").write_text(json.dumps({"weight_map": weight_map}))
    assert {one.dtype for one in open_source(ModelRef.parse(str(folder))).tensors.values()} == {"F16"}
    save_pickled(folder, state)  # what has no variant in its name goes first, as transformers has it
    found = {one.file for one in open_source(ModelRef.parse(str(folder))).tensors.values()}
    assert found == {"pytorch_model.bin"}


def test_pickles_are_not_pushed(pickled) -> None:
    with pytest.raises(SourceError, match=r"a kind of file that can hold code, so it is not pushed"):
        push_folder(pickled["base"], "alice/no-pickles")


def offer_copy(repo_id: str, folder: Path, author: str = BOT, config: bytes | None = None) -> str:
    """A pull request with the weights of `folder`, as the Hub's bot opens them; its commit."""
    operations = [CommitOperationAdd("model.safetensors", folder / "model.safetensors")]
    operations += [CommitOperationAdd("config.json", config)] if config else []
    api = HfApi(token=f"hf_{author}")
    return api.create_commit(repo_id, operations, commit_message="Adding `safetensors`", create_pr=True).oid


def a_paper_model(folder: Path, base: Path | None, seed: int, words: int, tokenizer) -> dict[str, torch.Tensor]:
    """A tiny Mistral with a tokenizer in `folder`, without its weights: those, near the ones of `base`."""
    config = MistralConfig(
        vocab_size=words, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=4, tie_word_embeddings=False, dtype="bfloat16",
    )  # fmt: skip
    torch.manual_seed(seed)
    state = MistralForCausalLM(config).state_dict()
    if base is not None:
        state = {
            name: one + 0.02 * torch.randn(one.shape) for name, one in load_file(base / "model.safetensors").items()
        }
    folder.mkdir()
    config.architectures = ["MistralForCausalLM"]
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return state


@pytest.fixture
def paper(tmp_path: Path, tiny_tokenizer) -> dict[str, Path]:
    """The layouts of the paper's models: safetensors, bfloat16 in two files of torch.save's, float32 in three."""
    shisa, wizard, abel = (tmp_path / name for name in ("shisa", "wizard", "abel"))
    words = len(tiny_tokenizer)
    bfloat16 = {name: one.bfloat16() for name, one in a_paper_model(shisa, None, 1, words, tiny_tokenizer).items()}
    save_file(bfloat16, shisa / "model.safetensors", {"format": "pt"})
    tuned = a_paper_model(wizard, shisa, 2, words, tiny_tokenizer)
    save_pickled(wizard, {name: one.bfloat16() for name, one in tuned.items()}, shards=2)
    save_pickled(abel, a_paper_model(abel, shisa, 3, words, tiny_tokenizer), shards=3)
    return {"shisa": shisa, "wizard": wizard, "abel": abel}


def the_paper_recipe(models: Mapping[str, object]) -> Recipe:
    """The form of Akiba et al. 2024, https://arxiv.org/abs/2403.13187: DARE-TIES, a weight and a density a model."""
    tuned = {"wizard": {"weight": 0.6, "density": 0.5}, "abel": {"weight": 0.8, "density": 0.7}}
    document = {
        "merge_method": "dare_ties",
        "base_model": str(models["shisa"]),
        "models": [{"model": str(models[name]), "parameters": own} for name, own in tuned.items()],
        "parameters": {"normalize": False},
        "dtype": "bfloat16",
    }
    return Recipe.from_dict(document)


def test_the_papers_layout_by_range_against_torch(paper: dict[str, Path], tmp_path: Path) -> None:
    plan = make_plan(the_paper_recipe(published(paper, "paper")), ranged=True)
    assert [source.tensors["model.norm.weight"].file for source in plan.sources] == [
        "model.safetensors", "pytorch_model-00002-of-00002.bin", "pytorch_model-00003-of-00003.bin",
    ]  # fmt: skip
    merged = merge(plan, tmp_path / "out")
    assert merged.tensors == merge(the_paper_recipe(paper), tmp_path / "folders").tensors
    states = [
        {name: one for file in sorted(folder.glob(f"*{ending}")) for name, one in read(file).items()}
        for folder, ending, read in (
            (paper["shisa"], ".safetensors", load_file), (paper["wizard"], ".bin", torch.load),
            (paper["abel"], ".bin", torch.load),
        )
    ]  # fmt: skip
    base, *tuned = states
    for name, found in weights(tmp_path / "out").items():
        models = [one[name] for one in tuned]
        expected = naive("dare_ties", name, models, base[name], weight=(0.6, 0.8), density=(0.5, 0.7))
        torch.testing.assert_close(found, expected.to(torch.bfloat16), rtol=2**-7, atol=1e-6)


def test_other_vocabularies_are_still_refused(paper: dict[str, Path], tmp_path: Path, tiny_tokenizer) -> None:
    other = tmp_path / "other"
    state = a_paper_model(other, None, 4, len(tiny_tokenizer) + 1, tiny_tokenizer)
    save_pickled(other, state, shards=2)
    with pytest.raises(PlanError, match="vocabular"):
        make_plan(the_paper_recipe({**paper, "wizard": other})).require()


def test_the_copy_of_the_hub_itself_is_read(siblings: Siblings, pickled, hub, tmp_path: Path, monkeypatch) -> None:
    repo_id = published({"base": pickled["base"]}, "converted")["base"]
    own = open_source(ModelRef.parse(repo_id))
    assert own.commit == HfApi().model_info(repo_id).sha
    offer_copy(repo_id, siblings["base"], author="bob")
    assert open_source(ModelRef.parse(repo_id)).commit == own.commit, "anybody may open a pull request"
    offered = offer_copy(repo_id, siblings["base"])
    changed = json.loads((siblings["base"] / "config.json").read_bytes()) | {"rms_norm_eps": 1e-3}
    offer_copy(repo_id, siblings["base"], config=json.dumps(changed).encode())  # not a copy of what is there
    plan = make_plan(recipe({**siblings, "base": repo_id}), ranged=True)
    source = plan.sources[0]
    assert (source.commit, str(source.ref), str(source.pinned)) == (offered, repo_id, f"{repo_id}@{offered}")
    assert any("safetensors copy of them, refs/pr/2, is read" in one.message for one in plan.warnings)
    assert merge(plan, tmp_path / "out").tensors == merge(recipe(siblings), tmp_path / "folders").tensors
    assert open_source(ModelRef.parse(f"{repo_id}@{own.commit}")).tensors == own.tensors, "who names a commit means it"
    for one in (open_source(ModelRef.parse(repo_id)), own):
        for file in ("model.safetensors", "pytorch_model.bin"):
            if file in one.files:
                one.local_path(file)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert open_source(ModelRef.parse(repo_id)).commit == offered
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.faults = on_path("/discussions", Fault(status=403))
    try:
        assert open_source(ModelRef.parse(repo_id)).commit == own.commit
    finally:
        hub.faults = None
