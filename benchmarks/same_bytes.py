"""Digests of every tensor of sixty merges: two versions of hubmerge that should compute the same are told apart.

    python benchmarks/same_bytes.py before.json                     # with the one
    python benchmarks/same_bytes.py after.json --against before.json    # with the other: ends with 1 where they differ

All models are made here from fixed seeds, or are the shipped zoo; nothing is asked of the network.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Document = dict[str, Any]
SHAPE = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 4, "vocab_size": 12_000}
"""Of the Llamas: an embedding of several blocks."""
SMALL = {**SHAPE, "vocab_size": 500, "num_attention_heads": 4}
PARAMETERS: dict[str, Document] = {
    "linear": {"weight": 0.6},
    "slerp": {},
    "task_arithmetic": {"weight": 0.7},
    "ties": {"weight": 0.8, "density": 0.4},
    "breadcrumbs": {"weight": 0.8, "density": 0.5, "gamma": 0.02},
    "breadcrumbs_ties": {"weight": 0.8, "density": 0.5, "gamma": 0.02},
    "dare_linear": {"weight": 0.8, "density": 0.4},
    "dare_ties": {"weight": 0.8, "density": 0.4},
}
FAMILIES: dict[str, tuple[str, Document]] = {
    "gemma3": ("Gemma3TextConfig", {**SMALL, "num_key_value_heads": 2, "head_dim": 16}),
    "mixtral": ("MixtralConfig", {**SMALL, "num_key_value_heads": 2, "num_local_experts": 4}),
    "gpt2": ("GPT2Config", {"vocab_size": 500, "n_embd": 64, "n_layer": 4, "n_head": 4}),
    "bert": ("BertConfig", SMALL),
    "t5": ("T5Config", {"vocab_size": 500, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 3, "num_heads": 4}),
    "vit": ("ViTConfig", {**SHAPE, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}),
}


class Bench:
    """A folder to work in, the models in it, and the merges that are asked for by name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cases: dict[str, Callable[[], Path]] = {}
        from hubmerge.zoo.kinds import shipped

        self.zoo = {name: str(shipped() / name) for name in ("base", "math", "japanese", "math-2", "errands")}

    def merge(self, name: str, document: Document, **plan: Any) -> None:
        """A merge of `document`, planned with `plan`."""

        def run() -> Path:
            from hubmerge import Recipe, make_plan, merge

            out = self.root / "out" / name.replace("/", "-")
            merge(make_plan(Recipe.from_dict(document), **plan), out)
            return out

        assert name not in self.cases, name
        self.cases[name] = run


def llama(folder: Path, seed: int, sibling_of: Path | None = None, dtype: str = "bfloat16", **settings: Any) -> str:
    """A tiny Llama of random weights, or a sibling: another one's weights and small changes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(**{**SHAPE, "num_attention_heads": 4, "num_key_value_heads": 2, **settings})
    model = LlamaForCausalLM(config)
    if sibling_of is not None:
        change(model, LlamaForCausalLM.from_pretrained(sibling_of, dtype=torch.float32), seed)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    return str(folder)


def change(model: Any, other: Any, seed: int) -> None:
    """Makes a model of `other` and small changes, in place."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    theirs = dict(other.named_parameters())
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name in theirs and tensor.is_floating_point():
                tensor.copy_(theirs[name] + 3e-3 * torch.randn(tensor.shape, generator=generator))


def family(root: Path, name: str) -> list[str]:
    """Two siblings of an architecture."""
    import torch
    import transformers

    config_name, settings = FAMILIES[name]
    kind = {"bert": transformers.AutoModelForMaskedLM, "t5": transformers.AutoModelForSeq2SeqLM}.get(name)
    if name == "vit":
        kind = transformers.AutoModelForImageClassification
    made = []
    for seed in (1, 2):
        torch.manual_seed(1)
        model = (kind or transformers.AutoModelForCausalLM).from_config(getattr(transformers, config_name)(**settings))
        if seed == 2:
            change(model, model, 2)
        model.save_pretrained(root / f"{name}-{seed}")
        made.append(str(root / f"{name}-{seed}"))
    return made


def lora(base: str, folder: Path, seed: int) -> str:
    """A LoRA with random factors."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    targets = ["q_proj", "v_proj", "down_proj"]
    config = peft.LoraConfig(r=3, lora_alpha=7, target_modules=targets, init_lora_weights=False)
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config).save_pretrained(
        folder, save_embedding_layers=False
    )
    return str(folder)


def document(method: str, base: str, models: list[str], changes: Document | None = None, **whole: Any) -> Document:
    """A recipe of `method`, with its parameters as in `PARAMETERS`, changed."""
    given = {**PARAMETERS[method], **(changes or {})}
    if method == "slerp":
        return {"merge_method": method, "base_model": base, "models": [{"model": models[0]}], **whole}
    made: Document = {"merge_method": method, "models": [{"model": m, "parameters": given} for m in models], **whole}
    return made if method == "linear" else {**made, "base_model": base}


def prepare(bench: Bench) -> None:
    """Makes the models and names the merges."""
    models = bench.root / "models"
    base = Path(llama(models / "base", 1))
    first, second = (llama(models / name, seed, base) for name, seed in (("first", 2), ("second", 3)))
    both = [first, second]
    zoo = [bench.zoo["math"], bench.zoo["japanese"]]
    by_name = [{"filter": "mlp", "value": 0.3}, {"filter": "self_attn", "value": [0, 1]}, {"value": 0.9}]
    for method in PARAMETERS:
        for name, value in (("", 0.3), (", gradient", [0.2, 1.0, 0.5]), (", filters", by_name)):
            if method == "slerp":
                made = document(method, str(base), both, parameters={"t": value})
            else:
                made = document(method, str(base), both, {"weight": value})
            bench.merge(f"{method}{name}", made)
        whole = {"parameters": {"t": 0.3}} if method == "slerp" else {}
        bench.merge(f"{method} of the zoo", document(method, bench.zoo["base"], zoo, **whole))
    for density in (0, 0.05, 1):
        bench.merge(f"ties, density {density}", document("ties", str(base), both, {"density": density}))
    bench.merge("ties, four models", document("ties", bench.zoo["base"], list(bench.zoo.values())[1:]))
    bench.merge("ties to float16", document("ties", str(base), both, dtype="float32", out_dtype="float16"))
    pieces = [(first, [0, 3]), (second, [1, 4]), (first, [3, 4])]
    slices = [{"sources": [{"model": m, "layer_range": r}]} for m, r in pieces]
    bench.merge("passthrough", {"merge_method": "passthrough", "slices": slices})
    mixed = [
        {
            "sources": [
                {"model": model, "layer_range": [at, at + 2], "parameters": {"weight": weight}}
                for model, weight in ((first, 0.3), (second, 0.7))
            ]
        }
        for at in (0, 2)
    ]
    bench.merge("linear of slices", {"merge_method": "linear", "slices": mixed})
    loras = [lora(first, models / f"lora{seed}", seed) for seed in (1, 2)]
    bench.merge("linear of LoRAs", document("linear", "", [f"{first}+{one}" for one in loras]))
    bench.merge("ties of a LoRA", document("ties", first, [f"{first}+{loras[0]}", second]))
    tied = llama(models / "tied", 5, base, tie_word_embeddings=True)
    bench.merge("a tied head and an untied one", document("linear", "", [tied, first]))
    bench.merge("tied heads", document("linear", "", [tied, tied]))
    for name in FAMILIES:
        siblings = family(models, name)
        bench.merge(f"linear of {name}", document("linear", "", siblings))
        bench.merge(f"ties of {name}", document("ties", siblings[0], siblings[1:]))
    for threads, shard_size in ((1, 10**9), (2, 300_000)):
        made, name = document("dare_ties", str(base), both), f"dare_ties, {threads} threads, shards of {shard_size:,}"
        bench.merge(name, made, threads=threads, shard_size=shard_size)
    publish(bench, {"base": str(base), "first": first, "second": second})
    hub = [f"alice/{name}" for name in ("first", "second")]
    bench.merge("ties from the Hub", document("ties", "alice/base", hub))
    bench.merge("ties from the Hub by range", document("ties", "alice/base", hub), ranged=True)
    for name in ("recipes", "paths", "recipes and paths"):
        bench.cases[f"search for {name}"] = lambda name=name: search(bench, name)


def publish(bench: Bench, folders: dict[str, str]) -> None:
    """Uploads models to the local Hub."""
    from hubmerge import push_folder

    for name, folder in folders.items():
        push_folder(Path(folder), f"alice/{name}", private=False)


def search(bench: Bench, name: str) -> Path:
    """The model of the winner of a small search over the zoo."""
    from hubmerge import Search
    from hubmerge.evolve.run import evolve
    from hubmerge.zoo.word_problems import problems

    rows = {
        split: [{"question": problem.question, "answer": problem.answer} for problem in problems(split, 12)]
        for split in ("search", "validation")
    }
    made: Document = {
        "models": [bench.zoo["math"], bench.zoo["japanese"]],
        "task": {"examples": rows, "max_new_tokens": 24},
        "searcher": {"name": "cmaes", "evaluations": 12, "popsize": 4, "seed": 3},
        "baselines": [],
    }
    if "recipes" in name:
        genome = {"granularity": "model", "genes": {"weight": [0, 1.5]}}
        made |= {"merge_method": "task_arithmetic", "base_model": bench.zoo["base"], "genome": genome}
    if "paths" in name:
        made["data_flow"] = {"repeats": 1, "searcher": made["searcher"]}
    out = bench.root / "runs" / name.replace(" ", "-")
    evolve(Search.from_dict(made), out)
    return out / "model"


def digests(folder: Path) -> dict[str, str]:
    """name -> sha256 of dtype, shape and bytes, of every tensor in a model's folder."""
    import torch
    from safetensors import safe_open

    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - no mapping
                tensor = opened.get_tensor(name)
                digest = hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)}".encode())
                digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
                found[name] = digest.hexdigest()
    return found


def run(bench: Bench, only: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The digests of each merge."""
    for name, case in bench.cases.items():
        if only in name:
            folder = case()
            yield name, digests(folder)
            shutil.rmtree(folder)


def main() -> int:
    """Runs the merges and writes or compares their digests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # beside other programs, waiting threads would take their cores
    from hubmerge.localhub import LocalHub

    with tempfile.TemporaryDirectory() as root, LocalHub(Path(root) / "hub", {"alice": "hf_alice"}) as hub:
        os.environ.update(hub.environment("alice") | {"HF_HOME": f"{root}/home"})
        bench = Bench(Path(root))
        prepare(bench)
        found = {}
        for name, made in run(bench, given.only):
            found[name] = made
            print(f"{len(found):3} {name}: {len(made)} tensors", flush=True)
        given.out.write_text(json.dumps(found, indent=1, sort_keys=True))
    if given.against is None:
        return 0
    before = json.loads(given.against.read_text())
    asked = sorted(name for name in before.keys() | found.keys() if given.only in name)
    wrong = [name for name in asked if before.get(name) != found.get(name)]
    for name in wrong:
        one, other = before.get(name, {}), found.get(name, {})
        print(f"DIFFERENT: {name}: {sum(one.get(t) != other.get(t) for t in one.keys() | other.keys())} tensors")
    print(f"{len(found) - len(wrong)} of {len(found)} merges are the same")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
