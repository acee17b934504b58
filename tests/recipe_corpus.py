"""Three hundred recipes as people write them, over tiny models of the depth that such recipes are about.

What is drawn follows 278 public recipes: how often each method is named, and how often each thing that mergekit reads
otherwise, or leaves out without a word. Nobody's recipe is copied.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

DEPTH = 32
WIDTH, MIDDLE = 4, 6
PLAIN = ("base", "math", "code", "japanese", "story")
LONGER = "chat"
"""A model with tokens of its own."""

METHODS = {
    "slerp": 62,
    "dare_ties": 42,
    "ties": 36,
    "passthrough": 26,
    "task_arithmetic": 20,
    "linear": 20,
    "della_linear": 19,
    "sce": 11,
    "della": 10,
    "model_stock": 8,
    "nuslerp": 6,
    "breadcrumbs_ties": 4,
    "arcee_fusion": 4,
    "dare_linear": 3,
    "karcher": 3,
    "breadcrumbs": 2,
    "nearswap": 2,
    "multislerp": 2,
}
"""How many recipes of each, of the 280 that are drawn; the rest are `CURIOUS`."""

WITH_DENSITY = ("dare_ties", "ties", "della_linear", "della", "breadcrumbs_ties", "dare_linear", "breadcrumbs")
WITH_WEIGHT = (*WITH_DENSITY, "task_arithmetic", "linear", "nuslerp", "multislerp")
WITHOUT_BASE = ("linear", "karcher", "nuslerp", "passthrough")


@dataclass(frozen=True)
class Written:
    """A recipe as a file has it; `refused`: part of the reason, where it cannot be planned."""

    content: bytes
    refused: str | None = None


def models(root: Path) -> dict[str, Path]:
    """Folders of the models and of a LoRA, by name."""
    made = {name: _model(root / name, seed, 40) for seed, name in enumerate(PLAIN)}
    made[LONGER] = _model(root / LONGER, 9, 43, ["<|im_start|>", "<|im_end|>", "<|eot|>"])
    made["lora"] = _lora(root / "lora")
    return made


def _model(folder: Path, seed: int, rows: int, more: list[str] | None = None) -> Path:
    folder.mkdir(parents=True)
    draw = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("model.embed_tokens", "lm_head"), (rows, WIDTH))
    shapes["model.norm"] = (WIDTH,)
    for layer in range(DEPTH):
        prefix = f"model.layers.{layer}."
        shapes |= {prefix + f"self_attn.{part}_proj": (WIDTH, WIDTH) for part in "qkvo"}
        shapes |= {prefix + f"mlp.{part}_proj": (MIDDLE, WIDTH) for part in ("gate", "up")}
        shapes[prefix + "mlp.down_proj"] = (WIDTH, MIDDLE)
        shapes |= {prefix + name: (WIDTH,) for name in ("input_layernorm", "post_attention_layernorm")}
    state = {f"{name}.weight": torch.randn(shape, generator=draw).bfloat16() for name, shape in shapes.items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": rows, "dtype": "bfloat16"}
    config |= {"num_hidden_layers": DEPTH, "hidden_size": WIDTH, "intermediate_size": MIDDLE, "eos_token_id": 1}
    config |= {"num_attention_heads": 2, "num_key_value_heads": 2, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    words = {word: at for at, word in enumerate(["<s>", "</s>", *(f"w{number}" for number in range(38))])}
    added = [
        {"id": 40 + at, "content": text, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for at, text in enumerate(more or [])
    ]  # fmt: skip
    core = {"type": "WordLevel", "vocab": words, "unk_token": "<s>"}
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": added, "model": core}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "bos_token": "<s>"}))
    return folder


def _lora(folder: Path) -> Path:
    folder.mkdir()
    prefix = "base_model.model.model.layers"
    state = {}
    for layer in range(DEPTH):
        state[f"{prefix}.{layer}.self_attn.q_proj.lora_A.weight"] = torch.full((1, WIDTH), 0.1)
        state[f"{prefix}.{layer}.self_attn.q_proj.lora_B.weight"] = torch.full((WIDTH, 1), 0.1)
    save_file(state, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def corpus(named: dict[str, Path], seed: int = 18) -> list[Written]:
    """The recipes, 300 of them."""
    draw = random.Random(seed)
    methods = [method for method, count in METHODS.items() for _ in range(count)]
    draw.shuffle(methods)
    habits = _habits(draw, len(methods))
    pairs = zip(methods, habits, strict=True)
    drawn = [_file(_with_habits(_recipe(method, draw), habit, draw), draw) for method, habit in pairs]
    return [Written(filled(one.content, named), one.refused) for one in [*drawn, *CURIOUS]]


def filled(content: bytes, named: dict[str, Path]) -> bytes:
    """With the folders in place of names."""
    for encoding in ("utf-8", "utf-16"):
        try:
            text = content.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    for name, folder in named.items():
        text = text.replace(f"org/{name}", str(folder))
    return text.encode(encoding)


def _recipe(method: str, draw: random.Random) -> dict[str, Any]:
    """A recipe of a method as most people write it."""
    count = (
        1
        if method in ("slerp", "arcee_fusion", "nearswap")
        else 2
        if method == "nuslerp"
        else draw.choice((2, 2, 3, 4))
    )
    base, *others = ["base", *draw.sample(PLAIN[1:], count)]
    document: dict[str, Any] = {"merge_method": method}
    if method == "passthrough":
        return document | _stack(others, draw) | {"dtype": draw.choice(("bfloat16", "float16"))}
    if method not in WITHOUT_BASE or (method == "nuslerp" and draw.random() < 0.3):
        document["base_model"] = f"org/{base}"
    entries = [{"model": f"org/{name}", "parameters": _settings(method, draw)} for name in others]
    if method in ("slerp", "arcee_fusion", "nearswap") or ("base_model" in document and draw.random() < 0.4):
        entries.insert(0, {"model": f"org/{base}"})
    entries = [entry if entry.get("parameters") else {"model": entry["model"]} for entry in entries]
    shared: dict[str, Any] = {}
    if method == "slerp":
        curve = [0, 0.5, 0.3, 0.7, 1]
        shared["t"] = draw.choice(
            (
                0.5,
                [0, 0.25, 0.5, 1],
                [{"filter": "self_attn", "value": curve}, {"filter": "mlp", "value": curve[::-1]}, {"value": 0.5}],
            )
        )
    elif method == "nearswap":
        shared["t"] = 0.0001
    elif method == "sce":
        shared["select_topk"] = draw.choice((0.1, 0.15, 1.0))
    elif method in WITH_WEIGHT and method not in ("nuslerp", "multislerp") and draw.random() < 0.5:
        shared["normalize"] = draw.choice((True, False))
    if method in ("ties", "dare_ties", "slerp", "della_linear") and draw.random() < 0.4:
        shared["int8_mask"] = True
    if shared:
        document["parameters"] = shared
    if method == "slerp" and draw.random() < 0.7:
        sources = [{"model": entry["model"], "layer_range": [0, DEPTH]} for entry in entries]
        document["slices"] = [{"sources": sources}]
    else:
        document["models"] = entries
    document["dtype"] = draw.choice(("bfloat16", "bfloat16", "float16", "float32"))
    if draw.random() < 0.1:
        document["out_dtype"] = "bfloat16"
    return document


def _settings(method: str, draw: random.Random) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if method in WITH_WEIGHT:
        settings["weight"] = draw.choice(
            (0.3, 0.5, 1, 1.0, [0.1, 0.5, 0.9], [{"filter": "mlp", "value": 0.4}, {"value": 0.6}])
        )
    if method in WITH_DENSITY:
        settings["density"] = draw.choice((0.5, 0.53, 0.7, 1, [1, 0.7, 0.1]))
    if method.startswith("breadcrumbs"):
        settings["gamma"] = 0.01
    if method.startswith("della"):
        settings["epsilon"] = draw.choice((0.05, 0.1))
        settings["density"] = draw.choice((0.5, 0.7))
    return settings


def _stack(names: list[str], draw: random.Random) -> dict[str, Any]:
    """Layers of models on top of each other, the same ones again, or one model with some of its parts scaled."""
    kind = draw.random()
    if kind < 0.15:
        cases = [{"filter": "o_proj", "value": 0.0}, {"filter": "down_proj", "value": 0.0}, {"value": 1.0}]
        return {"models": [{"model": f"org/{names[0]}", "parameters": {"scale": cases}}]}
    step, pieces = draw.choice((8, 12, 16)), []
    for number, first in enumerate(range(0, DEPTH - step + 1, step // 2)):
        name = names[0] if kind < 0.5 else names[number % len(names)]
        source: dict[str, Any] = {"model": f"org/{name}", "layer_range": [first, first + step]}
        if kind > 0.9:
            source["parameters"] = {"scale": 0.7}
        pieces.append({"sources": [source]})
    return {"slices": pieces}


HABITS = {
    "tokenizer_source: base": 40,
    "tokenizer_source: union": 22,
    "tokenizer block": 16,
    "chat template by name": 7,
    "chat_template: auto": 6,
    "name": 5,
    "numbers as text": 6,
    "1e-1": 4,
    "normalize: 1.0": 3,
    "normalize: 0": 2,
    "weight: true": 1,
    "single conditional": 2,
    "path": 2,
    "anchor": 3,
    "beside": 3,
    "revision": 1,
    "out_path": 1,
    "random_seed": 2,
    "typing error": 2,
    "parameter of another method": 8,
    "rescale": 3,
    "residual_weight": 2,
    "empty layers": 2,
    "beyond": 2,
    "float64": 1,
    "utf-16": 2,
    "comments": 30,
}
"""What people do beside that, and how many of them."""


def _habits(draw: random.Random, count: int) -> list[str]:
    found = [habit for habit, times in HABITS.items() for _ in range(times)]
    found += [""] * (count - len(found))
    draw.shuffle(found)
    return found


def _with_habits(document: dict[str, Any], habit: str, draw: random.Random) -> tuple[dict[str, Any], str]:
    """The recipe with one of `HABITS`; where it does not fit, as it is."""
    shared = document.setdefault("parameters", {})
    entries = document.get("models") or [source for piece in document["slices"] for source in piece["sources"]]
    own = entries[-1].setdefault("parameters", {})
    takes_weight = document["merge_method"] in WITH_WEIGHT
    match habit:
        case "tokenizer_source: base" | "tokenizer_source: union":
            document["tokenizer_source"] = habit.split(": ")[1]
            if document.get("models") and document["merge_method"] != "passthrough":
                entries[-1]["model"] = f"org/{LONGER}"
        case "tokenizer block":
            document["tokenizer"] = {"source": draw.choice(("union", "base", f"org/{LONGER}")), "pad_to_multiple_of": 8}
            document["tokenizer"]["tokens"] = {"<|im_start|>": {"source": f"org/{LONGER}", "force": True}}
        case "chat template by name":
            document["chat_template"] = draw.choice(("chatml", "llama3", "mistral", "alpaca", "exaone"))
        case "chat_template: auto":
            document["chat_template"] = "auto"
        case "name":
            document["name"] = "my-merge-7B"
        case "numbers as text" if takes_weight:
            own["weight"] = "0.6"
        case "1e-1" if takes_weight:
            own["weight"] = draw.choice(("1e-1", ["1e-1", 1]))
        case "normalize: 1.0" | "normalize: 0" if takes_weight and document["merge_method"] not in (
            "nuslerp",
            "multislerp",
        ):
            shared["normalize"] = 1.0 if habit.endswith("1.0") else 0
        case "weight: true" if takes_weight:
            own["weight"] = True
        case "single conditional" if takes_weight:
            own["weight"] = {"value": 0.5}
        case "path":
            entries[0]["model"] = {"model": {"path": entries[0]["model"]}}
        case "anchor":
            document["x-common"] = own
        case "beside" if document.get("models"):
            entries[0]["weight"] = 0.5
        case "revision":
            entries[0]["revision"] = "main"
        case "out_path":
            document["out_path"] = "./merged"
        case "random_seed":
            document["random_seed"] = 42
        case "typing error":
            document["tokenizer_sources"] = "base"
        case "parameter of another method":
            own |= {"density": 0.5} if document["merge_method"] in ("task_arithmetic", "linear") else {"layers": 1}
        case "rescale":
            shared["rescale"] = draw.choice((True, False))
        case "residual_weight" if "slices" in document:
            document["slices"][0]["residual_weight"] = 0.5
        case "empty layers" if document["merge_method"] == "passthrough" and "slices" in document:
            document["slices"].append({"sources": [{**entries[-1], "layer_range": [DEPTH, DEPTH]}]})
        case "beyond" if document["merge_method"] in ("ties", "dare_ties", "breadcrumbs"):
            own["density"] = 1.2
        case "beyond" if document["merge_method"] == "slerp":
            shared["t"] = [0, 1.2]
        case "float64":
            document["dtype"] = "float64"
    for place in (document, *entries):
        if not place.get("parameters", True):
            del place["parameters"]
    return document, habit


def _file(given: tuple[dict[str, Any], str], draw: random.Random) -> Written:
    document, habit = given
    text = yaml.dump(document, sort_keys=False, default_flow_style=draw.choice((False, None)))
    if habit == "comments":
        text = "# made with love\n---\n" + text.replace("\n", "   # yes\n", 1) + "\n"
    return Written(text.encode("utf-16" if habit == "utf-16" else "utf-8"))


_TWO = "models:\n  - model: org/math\n  - model: org/code\n"
_ENDS = "layer_range: [0, 32]"

CURIOUS = tuple(
    Written(text.encode(), refused)
    for text, refused in (
        (f"merge_method: slerp\n{_TWO}parameters: {{t: 0.4}}\ndtype: bfloat16\n", None),
        (
            f"slices:\n  - sources:\n      - {{model: org/math, {_ENDS}}}\n      - {{model: org/code, {_ENDS}}}\n"
            "merge_method: slerp\nparameters:\n  t: 0.5\n",
            None,
        ),
        ("merge_method: slerp\nbase_model: org/base\n" + _TWO + "parameters: {t: 0.5}\n", "at most 1 model"),
        (
            "merge_method: slerp\nmodels: [{model: org/math}, {model: org/code}, {model: org/story}]\n"
            "base_model: org/math\nparameters: {t: .5}\n",
            "at most 1 model",
        ),
        ("base_model: org/base+org/lora\nmerge_method: task_arithmetic\nmodels: [{model: org/base+org/lora}]\n", None),
        (
            "base_model: org/math+org/lora\nmodels:\n  - model: org/math+org/lora\n"
            "merge_method: task_arithmetic\nparameters:\n  normalize: false\ndtype: bfloat16\n",
            None,
        ),
        ("merge_method: passthrough\nmodels:\n  - model: org/code+org/lora\ndtype: bfloat16\n", None),
        (f"merge_method: ties\n{_TWO}parameters: {{weight: 0.5, density: 0.5}}\n", "needs a `base_model`"),
        (f"merge_method: linear\nbase_model: org/base\n{_TWO}parameters: {{weight: 0.3}}\n", None),
        (f"merge_method: karcher\nbase_model: org/base\n{_TWO}parameters: {{max_iter: 5.0, tol: '1e-5'}}\n", None),
        (
            f"merge_method: linear\nparameters: {{weight: 0.5}}\nmodules:\n  default:\n"
            f"    slices: [{{sources: [{{model: org/math, {_ENDS}}}, {{model: org/code, {_ENDS}}}]}}]\n",
            None,
        ),
        (
            f"name: first\nmerge_method: linear\n{_TWO}parameters: {{weight: 0.5}}\n---\n"
            "merge_method: slerp\nbase_model: first\nmodels: [{model: org/story}]\nparameters: {t: 0.5}\n",
            None,
        ),
        (
            "merge_method: dare_ties\nbase_model: org/base\nparameters: {density: 0.5, weight: 0.5}\n"
            "models: [{model: a}, {model: b}]\n"
            f"---\nname: a\nmerge_method: linear\n{_TWO}parameters: {{weight: .5}}\n"
            "---\nname: b\nmerge_method: passthrough\nmodels: [{model: org/story}]\n",
            None,
        ),
        (
            "merge_method: task_arithmetic\nparameters: {weight: 1.0}\nslices:\n"
            f"  - base_model: org/base\n    sources: [{{model: org/base, {_ENDS}}}, {{model: org/math, {_ENDS}}}]\n",
            None,
        ),
        (
            "merge_method: linear\nmodels:\n  - model: org/math\n    parameters: &half\n      weight: 0.5\n"
            "  - model: org/code\n    parameters: *half\n",
            None,
        ),
        (
            "merge_method: linear\nmodels:\n  - model: org/math\n"
            "    parameters: {weight: [{filter: mlp, value: 1}]}\n"
            "  - model: org/code\n    parameters: {weight: 0.5}\n",
            "needs a value of weight",
        ),
        (f"merge_method: tieses\nbase_model: org/base\n{_TWO}", "did you mean ties"),
        (
            "merge_method: linear\nmodels:\n  - {model: org/math, parameters: {weight: 0.5}}\n"
            "  - {model: org/chat, parameters: {weight: 0.5}}\n",
            "tokenizer_source: base",
        ),
        (
            "merge_method: model_stock\nbase_model: org/base\nmodels:\n  - model: org/base\n  - model: org/math\n",
            "at least 2 model",
        ),
        (
            "slices:\n" + "".join(
                f"  - sources:\n      - model: org/math\n        layer_range: [{layer}, {layer + 1}]\n"
                for layer in (0, 1, 2, 3, 3, 3, 4, *range(4, DEPTH))
            ) + "merge_method: passthrough\ndtype: float16\n",
            None,
        ),
    )
)  # fmt: skip
"""Each as some of the public ones are; those that nobody can merge are among them."""


def files(folder: Path, named: dict[str, Path]) -> Iterator[tuple[Path, Written]]:
    """The corpus as files."""
    folder.mkdir()
    for number, one in enumerate(corpus(named)):
        path = folder / f"{number:03}.yaml"
        path.write_bytes(one.content)
        yield path, one
