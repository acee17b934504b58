"""Published merges of every kind, merged again from their repositories alone: each comes out to the byte, or says why
not."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from bintools import as_pickled
from hubtools import publish
from huggingface_hub import HfApi, constants
from safetensors.torch import load_file, save
from test_stream_adapted import lora
from test_stream_gguf import KINDS
from test_transplant import MINE, THEIRS, speaking  # noqa: F401 (a fixture)
from vlms import make_plain, make_whole

from hubmerge.errors import HubmergeError, NotFoundError, RecipeError, SourceError
from hubmerge.hub import open_source, push_folder
from hubmerge.progress import silent
from hubmerge.publish import merge, merge_to_hub, planned
from hubmerge.published import read_published
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.reproduce import reproduce

A = "alice/again-"


@pytest.fixture(scope="module")
def parents(siblings, tiny_llama, speaking, hub, tmp_path_factory) -> None:  # noqa: F811
    """Everything that is merged here, on the Hub."""
    from gguftools import write_gguf

    root = tmp_path_factory.mktemp("again")
    folders = {name: siblings[name] for name in ("base", "math", "japanese")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folders["lora"] = lora(siblings["math"], root / "lora")[0]
    folders["mine"] = speaking("mine", MINE, "<s>", "</s>")
    folders["theirs"] = speaking("theirs", THEIRS, "[BOS]", "[EOS]", dtype="bfloat16")
    folders["vlm"] = make_whole("llava", root / "vlm", 1)
    folders["vlm-2"] = make_whole("llava", root / "vlm-2", 2)
    folders["plain"] = make_plain("llava", root / "plain", 3)
    wide = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1}
    folders["wide"] = tiny_llama(root / "wide", seed=1, **wide)
    folders["old"] = Path(shutil.copytree(siblings["math"], root / "old"))
    as_pickled(folders["old"], shards=2)
    write_gguf(tiny_llama(root / "small", seed=2, sibling_of=folders["wide"]), root / "gguf" / "small-q8.gguf", KINDS)
    folders["gguf"] = root / "gguf"
    for name, folder in folders.items():
        publish(A + name, {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "README.md"})


def models(*names: str, **parameters: Any) -> list[dict[str, Any]]:
    return [{"model": A + name, "parameters": {"weight": 0.4, **parameters}} for name in names]


def based(method: str, **parameters: Any) -> dict[str, Any]:
    own = {"density": 0.6} if method in ("ties", "dare_ties", "della", "breadcrumbs_ties") else {}
    merged = models("math", "japanese", **own)
    return {"merge_method": method, "base_model": f"{A}base", "models": merged, "parameters": parameters}


def slices(*pieces: tuple[str, list[int]], **parameters: Any) -> list[dict[str, Any]]:
    of = [{"model": A + name, "layer_range": layers, "parameters": parameters} for name, layers in pieces]
    return [{"sources": [one]} for one in of]


BY_LAYER = {"weight": [{"filter": "mlp", "value": [0.1, 0.9, 0.4]}, {"value": 0.3}]}
SLERP = {"merge_method": "slerp", "base_model": f"{A}base", "models": models("math"), "parameters": {"t": [0.2, 0.8]}}
STACK = {
    "merge_method": "passthrough",
    "slices": [
        *slices(("base", [0, 2])),
        *slices(("math", [1, 3]), scale=[{"filter": "down_proj", "value": 0.7}, {"filter": "o_proj", "value": 0.7}]),
        *slices(("japanese", [1, 3]), shift=[{"filter": "norm", "value": 0.1}]),
    ],
}
FIRST = {"name": "first", **based("dare_ties", seed=4)}
PIECE = {"sources": [{"model": "stage:first", "layer_range": [0, 3], "parameters": {"scale": 0.5}}]}
MODULES = {
    "text_decoder": {
        "merge_method": "task_arithmetic",
        "base_model": f"{A}vlm",
        "models": models("vlm-2", "plain"),
    },
    "vision_tower": {"models": models("vlm", "vlm-2")},
}
RECIPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "linear, in bfloat16": ({"merge_method": "linear", "models": models("math", "old"), "dtype": "bfloat16"}, {}),
    "ties": (based("ties"), {}),
    "dare_ties, by a seed": (based("dare_ties", seed=7), {}),
    "dare_linear, in small shards": (based("dare_linear", seed=1), {"shard_size": 9000}),
    "della, by a seed": (based("della", seed=3), {"threads": 1}),
    "breadcrumbs_ties, written in float16": (based("breadcrumbs_ties") | {"out_dtype": "float16"}, {}),
    "model_stock": (based("model_stock"), {}),
    "layer by layer, by filters": (based("task_arithmetic") | {"models": models("math", **BY_LAYER)}, {}),
    "slerp, of a gradient": (SLERP, {}),
    "a path through layers": (STACK, {"shard_size": 20_000}),
    "a merge and then a path": ({"stages": [FIRST], **STACK, "slices": [*STACK["slices"][:2], PIECE]}, {}),
    "stages": ({"stages": [FIRST], "merge_method": "linear", "models": [{"model": "stage:first"}]}, {}),
    "a LoRA": ({"merge_method": "linear", "models": models("math+alice/again-lora", "base")}, {}),
    "a union of tokens": (
        {"merge_method": "linear", "models": models("mine", "theirs"), "tokenizer_source": "union"},
        {},
    ),
    "other tokens": (
        {"merge_method": "passthrough", "models": [{"model": f"{A}mine"}]}
        | {"tokenizer": {"source": f"{A}theirs", "transplant": 5}},
        {},
    ),
    "parts of models that see": ({"merge_method": "linear", "modules": MODULES}, {}),
    "a language model inside": (
        {"merge_method": "linear", "models": [{"model": f"{A}vlm#language_model"}, {"model": f"{A}plain"}]},
        {},
    ),
    "weights in GGUF": ({"merge_method": "linear", "models": models("wide", "gguf")}, {}),
}
RECIPES["stages"][0]["models"][0]["parameters"] = {"weight": 1.0}


@pytest.mark.parametrize("kind", RECIPES)
def test_a_merge_onto_the_hub_comes_out_the_same(kind: str, parents) -> None:
    document, how = RECIPES[kind]
    repo_id = f"{A}made-{abs(hash(kind)) % 10**8}"
    merge_to_hub(planned(Recipe.from_dict(document), ranged=True, pushing=True, **how), repo_id)
    same(repo_id)


def same(repo_id: str) -> None:
    result = reproduce(ModelRef.parse(repo_id))
    result.require()
    assert result.identical == len(open_weights(repo_id)) and result.unpinned == () and result.folder is None
    cached = Path(constants.HF_HUB_CACHE) / f"models--{repo_id.replace('/', '--')}"
    assert not list(cached.rglob("*.safetensors")), "nothing is kept"


def open_weights(repo_id: str) -> dict[str, Any]:
    from hubmerge.stream.verify import open_weights

    return dict(open_weights(ModelRef.parse(repo_id)).tensors)


def test_what_is_pushed_from_a_folder_comes_out_the_same_and_is_kept(parents, tmp_path: Path, call) -> None:
    done = merge(Recipe.from_dict(based("ties")), tmp_path / "out")
    assert call("push", tmp_path / "out", f"{A}folder").returncode == 0
    said = call("reproduce", f"{A}folder", "--out", tmp_path / "again")
    assert said.returncode == 0, said.stderr
    assert f"all {len(done.tensors)} tensor(s) identical" in said.stdout and str(tmp_path / "again") in said.stdout
    assert load_file(tmp_path / "again" / "model.safetensors").keys() == done.tensors.keys()
    card = open_source(ModelRef.parse(f"{A}folder")).read_text("README.md")
    assert (tmp_path / "again" / "README.md").read_text() == card and f'model_id = "{A}folder"' in card
    assert reproduce(ModelRef.parse(str(tmp_path / "again"))).ok


def test_mixtures_and_loras_come_out_the_same(parents, tmp_path: Path, call) -> None:
    experts = [{"source_model": A + name, "positive_prompts": [f"w{at} 3"]} for at, name in enumerate(("math", "base"))]
    (tmp_path / "moe.yaml").write_text(yaml.safe_dump({"base_model": f"{A}base", "experts": experts}))
    assert call("moe", tmp_path / "moe.yaml", "--stream", "--push", f"{A}moe").returncode == 0
    extracted = call("extract-lora", f"{A}math", "--base", f"{A}base", "--rank", 2, "--push", f"{A}extracted")
    assert extracted.returncode == 0, extracted.stderr
    for name in ("moe", "extracted"):
        same(A + name)
        refused = call("merge", A + name, "--out", tmp_path / "none")
        assert refused.returncode == 2 and f"hubmerge reproduce {A}{name} --out FOLDER" in refused.stderr


def test_pipelines_that_draw_come_out_the_same(hub, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from pipelines import save as save_pipeline

    for seed, name in enumerate("ab", 1):
        push_folder(save_pipeline("sd15", tmp_path / name, seed), f"{A}draws-{name}", private=False)
    document = {
        "merge_method": "linear",
        "base_model": f"{A}draws-a",
        "components": {"unet": {"models": models("draws-a", "draws-b")}, "vae": f"{A}draws-b"},
    }
    merge_to_hub(planned(Recipe.from_dict(document), ranged=True, pushing=True), f"{A}drawn")
    same(f"{A}drawn")


def test_what_the_page_publishes_comes_out_the_same(parents, tmp_path: Path, call) -> None:
    from space.limits import Limits
    from space.work.job import Work
    from space.work.runners import run_merge, run_publish

    spec = {"recipe": Recipe.from_dict(based("dare_ties", seed=2)).to_yaml()}
    made = run_merge(Work(spec, tmp_path / "page", "hf_alice", silent, False), Limits())
    pushed = {"kind": "merge", **made, "repo_id": f"{A}page", "private": True}
    run_publish(Work(pushed, tmp_path / "page", "hf_alice", silent, False), Limits())
    assert call("transplant", f"{A}mine", "--tokenizer", f"{A}theirs", "--push", f"{A}given").returncode == 0
    for name in ("page", "given"):
        same(A + name)


@pytest.mark.filterwarnings("ignore:.*")
def test_winners_and_candidates_of_searches_come_out_the_same(parents, tiny_search, tmp_path: Path, call) -> None:
    search = tiny_search(
        base_model=f"{A}base",
        models=[f"{A}math", f"{A}japanese"],
        searcher={"name": "random", "popsize": 4, "evaluations": 4},
        data_flow={"repeats": 1},
        baselines=[],
    )
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(search.to_dict()))
    evolved = call("evolve", tmp_path / "search.yaml", "--out", tmp_path / "run", "--push", f"{A}evolved")
    assert evolved.returncode == 0, evolved.stderr
    exported = call("export", tmp_path / "run", "--candidate", 1, "--push", f"{A}exported")
    assert exported.returncode == 0, exported.stderr
    for name in ("evolved", "exported"):
        same(A + name)


def test_what_differs_is_named(parents, tmp_path: Path, call) -> None:
    merge(Recipe.from_dict(SLERP), tmp_path / "out")
    state = load_file(tmp_path / "out" / "model.safetensors")
    norm, other = "model.norm.weight", "model.layers.0.mlp.up_proj.weight"
    state[norm] = state[norm] + 1
    state["extra.weight"] = state.pop(other).clone()
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    publish(f"{A}altered", files | {"model.safetensors": save(state, {"format": "pt"})})
    said = call("reproduce", f"{A}altered")
    assert said.returncode == 2
    assert f"1 tensor with other bytes ({norm}), 1 tensor that the model lacks ({other})" in said.stderr
    assert "1 tensor that the recipe does not make (extra.weight)" in said.stderr


def test_parents_that_are_gone_are_named(parents, tmp_path: Path, call) -> None:
    for name in ("lost", "squashed"):
        copied = open_source(ModelRef.parse(f"{A}math")).listing
        publish(A + name, {one: copied.read_bytes(one) for one in ("config.json", "model.safetensors")})
    merged = {"merge_method": "linear", "models": models("base", "lost", "squashed")}
    merge_to_hub(planned(Recipe.from_dict(merged), ranged=True, pushing=True), f"{A}orphan")
    commit = HfApi().model_info(f"{A}squashed").sha
    HfApi().delete_repo(f"{A}lost")
    HfApi().delete_repo(f"{A}squashed")
    publish(f"{A}squashed", {"config.json": b"{}"})
    with pytest.raises(NotFoundError, match="cannot be merged again, for what it was made of is not there") as told:
        reproduce(ModelRef.parse(f"{A}orphan"))
    assert f"{A}lost" in str(told.value) and f"{A}squashed@{commit}" in str(told.value)
    assert f"{A}base" not in str(told.value)
    assert call("reproduce", f"{A}orphan").returncode == 3


def mergekit(repo_id: str, recipe: str, made: Path, name: str = "mergekit_config.yml") -> None:
    """A repository as mergekit's users publish one: weights, and the recipe under mergekit's name."""
    files = {path.name: path.read_bytes() for path in made.iterdir() if path.is_file()}
    del files["hubmerge.json"]
    publish(repo_id, files | {name: recipe.encode()})


def test_a_recipe_that_mergekit_left_is_followed(parents, tmp_path: Path, call) -> None:
    recipe = yaml.safe_dump({**SLERP, "out_path": "x"})
    merge(Recipe.from_text(recipe), tmp_path / "out")
    mergekit(f"{A}kit", recipe, tmp_path / "out")
    assert reproduce(ModelRef.parse(f"{A}kit")).ok
    planned = call("plan", f"{A}kit")
    assert planned.returncode == 0 and "slerp -> " in planned.stdout and "out_path" in planned.stdout
    assert call("plan", f"{A}kit", "--strict").returncode == 2
    assert call("merge", f"{A}kit", "--out", tmp_path / "again").returncode == 0
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "out" / "model.safetensors"
    ).read_bytes()
    changed = open_source(ModelRef.parse(f"{A}japanese")).listing.read_bytes("model.safetensors")
    before = open_source(ModelRef.parse(f"{A}math")).listing.read_bytes("model.safetensors")
    publish(f"{A}math", {"model.safetensors": changed})
    try:
        with pytest.raises(SourceError, match=f"names .*{A}math.* without a commit, so they may have changed"):
            reproduce(ModelRef.parse(f"{A}kit")).require()
    finally:
        publish(f"{A}math", {"model.safetensors": before})


def test_the_recipe_of_a_published_merge_is_merged_at_its_commits(parents, tmp_path: Path, call) -> None:
    merge_to_hub(planned(Recipe.from_dict(based("ties")), ranged=True, pushing=True), f"{A}pinned")
    for named in (f"{A}pinned", f"{A}pinned@main"):
        assert "ties -> " in call("plan", named).stdout
    assert call("merge", f"{A}pinned", "--out", tmp_path / "out").returncode == 0
    written = json.loads((tmp_path / "out" / "hubmerge.json").read_text())["recipe"]
    assert written == read_published(ModelRef.parse(f"{A}pinned")).recipe.to_dict()
    assert "ties -> " in call("plan", tmp_path / "out").stdout


@pytest.mark.parametrize(
    ("files", "error", "said"),
    [
        ({}, SourceError, "tells no recipe: it has neither hubmerge.json nor mergekit_config.yml"),
        (
            {"mergekit_config.yml": b"models: [linear"},
            RecipeError,
            "mergekit_config.yml of .* cannot be followed",
        ),
        ({"mergekit_config.yml": b"\xff\xfe\xff"}, SourceError, "not UTF-8"),
        ({"mergekit_moe_config.yml": b"experts: 3"}, RecipeError, "mergekit_moe_config.yml of .* cannot be followed"),
        (
            {"mergekit_config.yml": b"merge_method: linear\nmodels: [{model: /etc}, {model: ~/secret}]"},
            SourceError,
            "from folders of its maker's machine .*/etc",
        ),
        ({"hubmerge.json": b"{}"}, SourceError, "lists no shards"),
    ],
)
def test_what_tells_no_recipe_that_can_be_followed(
    files: dict[str, bytes], error: type[HubmergeError], said: str, hub, call: Callable[..., Any]
) -> None:
    repo_id = f"{A}wrong-{abs(hash(said)) % 10**8}"
    publish(repo_id, {"config.json": b"{}", **files})
    with pytest.raises(error, match=said):
        read_published(ModelRef.parse(repo_id))
    for command in (("reproduce", repo_id), ("plan", repo_id), ("merge", repo_id, "--out", "never")):
        assert call(*command).returncode == 2
    assert not Path("never").exists()


def test_a_file_that_is_not_there_is_no_repository(call) -> None:
    for named in ("none/of/these.yaml", "none/ties.yaml", "./none", "ties"):
        said = call("plan", named)
        assert said.returncode == 2 and "There is no recipe file at" in said.stderr, named
