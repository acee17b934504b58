"""The kinds of documents that come from outside, each with what hubmerge does with one that it is given."""

import json
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from architectures import folder_of
from hypothesis import strategies as st
from outside import json_bytes, safetensors, torn, yaml_bytes
from safetensors.numpy import save

from hubmerge import METHODS, HubmergeError, ModelRef, Recipe, make_plan, open_source, terminal
from hubmerge.evaluate.lengths import positions
from hubmerge.evaluate.models import load_tokenizer
from hubmerge.hub.card import render
from hubmerge.hub.source import Source
from hubmerge.publish import card_of, merge
from hubmerge.stream.plan import Plan
from hubmerge.stream.verify import verify
from hubmerge.text import has_token


@dataclass(frozen=True)
class Kind:
    """Documents, what a user would do with one, and how many are tried where nobody asks for more."""

    documents: st.SearchStrategy[Any]
    read: Callable[[Any], object]
    few: int = 25


@dataclass
class Bench:
    """Where documents are tried: tiny models, and a `folder` for what is made."""

    folder: Path
    models: Mapping[str, Path]
    opened: dict[ModelRef, Source] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.opened = {ref: open_source(ref) for ref in map(ModelRef.parse, map(str, self.models.values()))}

    def copy(self, name: str, model: str = "base") -> Path:
        """A model of its own, to be changed."""
        return Path(shutil.copytree(self.models[model], self.folder / name))

    def plan(self, recipe: Recipe, document: Any = b"") -> Plan:
        """Plans, shows the plan, and of one in 15 that have no errors makes the model, which must not fail any more."""
        plan = make_plan(recipe, sources=self.opened)
        with terminal.out.capture():
            terminal.show_plan(plan)
        plan.require()
        card = render(card_of(plan))
        assert not has_token(card)
        card.encode()
        if one_in(15, document):
            out = self.folder / "merged"
            shutil.rmtree(out, ignore_errors=True)
            try:
                merge(plan, out)
            except HubmergeError as exc:
                raise AssertionError(f"planned without an error, and then: {exc}") from exc
        return plan

    def merged_with(self, model: Path, other: str = "math", method: str = "linear", **more: Any) -> Recipe:
        """A recipe of the model in a folder and of another."""
        models = [{"model": str(model)}, {"model": str(self.models[other])}]
        return Recipe.from_dict({"merge_method": method, "models": models, **more})


def one_in(count: int, document: Any) -> bool:
    """Whether this is one of the few that more is done with; the same ones in every run."""
    return zlib.crc32(repr(document).encode("utf-8", "replace")) % count == 0


_VALUES: Mapping[str, Any] = {
    "weight": [{"filter": "mlp", "value": [0, 0.5, 1]}, {"value": 0.3}],
    "density": 0.5,
    "gamma": 0.1,
    "t": [0, 0.5, 1],
    "lambda": 1.5,
    "normalize": True,
    "rescale": False,
    "seed": 3,
    "scale": 0.5,
    "shift": 0.1,
}


def recipes(base: Path, one: Path, two: Path) -> list[dict[str, Any]]:
    """A valid recipe of every method, one of layers, and one with all keys."""
    made = []
    for method in METHODS.values():
        own = {p.name: _VALUES.get(p.name, p.default) for p in method.parameters if p.per_model}
        shared = {p.name: _VALUES.get(p.name, p.default) for p in method.parameters if not p.per_model}
        models = [one, two][: method.max_models]
        document: dict[str, Any] = {
            "merge_method": method.name,
            "models": [{"model": str(model), "parameters": own} for model in models],
            "parameters": shared,
        }
        if method.base == "required":
            document["base_model"] = str(base)
        if method.name == "slerp":
            document["models"].insert(0, {"model": str(base)})
        made.append(document)
    sources = [{"model": str(model), "layer_range": [0, 2], "parameters": {"weight": 0.5}} for model in (one, two)]
    last = {"sources": [{"model": str(base), "layer_range": [1, 3]}]}
    made.append({"merge_method": "linear", "slices": [{"sources": sources}, last], "dtype": "float16"})
    made.append({"merge_method": "passthrough", "slices": [last, last, last]})
    made.append(
        {
            **made[3],
            "dtype": "float32",
            "out_dtype": "bfloat16",
            "tokenizer_source": str(two),
            "chat_template": "{{ messages }}",
        }
    )
    return made


def a_recipe(bench: Bench) -> Kind:
    """A recipe: read, written, planned, merged."""

    def read(text: bytes) -> None:
        file = bench.folder / "recipe.yaml"
        file.write_bytes(text)
        given = Recipe.from_yaml(file)
        assert Recipe.from_yaml(given.to_yaml()) == given
        bench.plan(given, text)

    return Kind(yaml_bytes(*recipes(*bench.models.values())), read)


def a_config(bench: Bench) -> Kind:
    """config.json of a model, in a merge with another and in a stack of its own layers."""
    folder = bench.copy("config")

    def read(text: bytes) -> None:
        (folder / "config.json").write_bytes(text)
        positions(open_source(ModelRef(str(folder))).config)
        bench.plan(bench.merged_with(folder), text)
        pieces = [{"sources": [{"model": str(folder), "layer_range": [n, n + 2]}]} for n in (0, 1)]
        bench.plan(Recipe.from_dict({"merge_method": "passthrough", "slices": pieces}), text)

    return Kind(json_bytes(json.loads((folder / "config.json").read_bytes())), read)


OTHERS = ("qwen3-tied", "gpt2-tied", "bert-tied", "t5-tied", "whisper", "mixtral-untied", "vit", "wav2vec2")
"""Of architectures.CASES: other names of the settings, other stacks, no text at all."""


def other_configs(bench: Bench) -> Kind:
    """config.json of models of other architectures, in a merge with what it was and in a stack of its own layers."""
    wholes = {name: folder_of(name, 0) for name in OTHERS}
    folders = {name: Path(shutil.copytree(whole, bench.folder / name)) for name, whole in wholes.items()}
    bench.opened |= {ref: open_source(ref) for ref in map(ModelRef.parse, map(str, wholes.values()))}

    def read(changed: tuple[str, bytes]) -> None:
        name, text = changed
        folder = folders[name]
        (folder / "config.json").write_bytes(text)
        positions(open_source(ModelRef(str(folder))).config)
        models = [{"model": str(one)} for one in (folder, wholes[name])]
        bench.plan(Recipe.from_dict({"merge_method": "linear", "models": models}), changed)
        pieces = [{"sources": [{"model": str(folder), "layer_range": [n, n + 2]}]} for n in (0, 1)]
        bench.plan(Recipe.from_dict({"merge_method": "passthrough", "slices": pieces}), changed)

    texts = {name: json_bytes(json.loads((whole / "config.json").read_bytes())) for name, whole in wholes.items()}
    return Kind(st.one_of([st.tuples(st.just(name), text) for name, text in texts.items()]), read, 26)


def a_header(bench: Bench) -> Kind:
    """A file of weights."""
    folder = bench.copy("header")
    weights = folder / "model.safetensors"

    def read(content: bytes) -> None:
        weights.write_bytes(content)
        bench.plan(bench.merged_with(folder), content)

    return Kind(safetensors(weights.read_bytes()), read)


def an_index(bench: Bench) -> Kind:
    """The index of weights in several files."""
    plan = make_plan(bench.merged_with(bench.models["base"]), sources=bench.opened, shard_size=8_000)
    folder = bench.folder / "index"
    merge(plan, folder)
    index = folder / "model.safetensors.index.json"

    def read(text: bytes) -> None:
        index.write_bytes(text)
        bench.plan(bench.merged_with(folder), text)

    return Kind(json_bytes(json.loads(index.read_bytes())), read)


_ODD_TEMPLATE = st.sampled_from(
    ["", "{", "{%", "{% for m in messages %}", "{{ x.y.z }}", "{{ 1/0 }}", "{% include 'x' %}", "\ud800", "a" * 100_000]
)


def a_tokenizer(bench: Bench) -> Kind:
    """The files of a tokenizer: loaded for itself, compared with another, and written beside the result."""
    folder = bench.copy("tokenizer")
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    told = {
        name: json.loads(whole[name]) for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
    }
    told["special_tokens_map.json"] = {"bos_token": "<s>", "pad_token": {"content": "<pad>", "lstrip": False}}
    told["added_tokens.json"] = {"<new>": 63}
    told["chat_template.json"] = {"chat_template": "{{ messages }}"}
    unigram = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.5], ["b", -2.5]]}
    merges = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]], "unk_token": None}
    models = [unigram, merges, {**merges, "merges": ["a b"]}]
    others = [{**told["tokenizer.json"], "model": model} for model in models]

    def read(changed: tuple[str, bytes]) -> None:
        name, text = changed
        (folder / name).write_bytes(text)
        try:
            plan = bench.plan(bench.merged_with(folder, chat_template="auto" if one_in(2, text) else None), text)
            load_tokenizer(plan.tokenizer)
        finally:
            (folder / name).unlink()
            if name in whole:
                (folder / name).write_bytes(whole[name])

    files = [st.tuples(st.just(name), json_bytes(document)) for name, document in told.items()]
    files += [st.tuples(st.just("tokenizer.json"), json_bytes(told["tokenizer.json"], *others))] * 3
    template = _ODD_TEMPLATE.map(lambda text: text.encode("utf-8", "surrogatepass")) | torn(
        whole["chat_template.jinja"]
    )
    return Kind(st.one_of([*files, st.tuples(st.just("chat_template.jinja"), template)]), read)


def an_adapter(bench: Bench) -> Kind:
    """A LoRA on a model: its config, or its weights."""
    folder = bench.folder / "adapter"
    folder.mkdir()
    factors = {
        f"base_model.model.model.layers.{n}.self_attn.q_proj.lora_{side}.weight": np.full(shape, 0.1, np.float32)
        for n in (0, 2)
        for side, shape in (("A", (2, 16)), ("B", (16, 2)))
    }
    told = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": "org/base",
        "alpha_pattern": {"layers.0.self_attn.q_proj": 3},
        "rank_pattern": {},
        "init_lora_weights": True,
        "use_rslora": False,
        "bias": "none",
        "modules_to_save": None,
        "fan_in_fan_out": False,
    }
    whole = {"adapter_config.json": json.dumps(told).encode(), "adapter_model.safetensors": save(factors)}

    def read(changed: tuple[str, bytes]) -> None:
        for name, text in {**whole, changed[0]: changed[1]}.items():
            (folder / name).write_bytes(text)
        model = f"{bench.models['base']}+{folder}"
        bench.plan(Recipe.from_dict({"merge_method": "linear", "models": [{"model": model}] * 2}), changed)

    configs = st.tuples(st.just("adapter_config.json"), json_bytes(told))
    weights = st.tuples(st.just("adapter_model.safetensors"), safetensors(whole["adapter_model.safetensors"]))
    return Kind(configs | configs | weights, read)


CARD = {
    "license": "apache-2.0",
    "license_name": "x",
    "license_link": "https://example.com/licence",
    "language": ["en", "ja"],
    "base_model": ["org/base"],
    "tags": ["merge"],
    "model-index": [{"name": "x", "results": []}],
}


def a_card(bench: Bench) -> Kind:
    """The front matter of a model's README.md, which the result's card quotes."""
    folder = bench.copy("card")

    def read(text: bytes) -> None:
        (folder / "README.md").write_bytes(text)
        bench.plan(bench.merged_with(folder), text)

    cards = [CARD, {**CARD, "license": "other"}, {"license": ["mit"], "base_model": "org/base"}]
    whole = yaml_bytes(*cards).map(lambda text: b"---\n" + text + b"\n---\n# A model\n")
    return Kind(st.one_of(whole, whole, whole, whole.flatmap(torn)), read, 33)


def a_record(bench: Bench) -> Kind:
    """hubmerge.json, or the journal of a merge that broke, in the folder that a merge is told to write to."""
    plan = make_plan(bench.merged_with(bench.models["base"]), sources=bench.opened)
    merge(plan, bench.folder / "finished")
    told = json.loads((bench.folder / "finished" / "hubmerge.json").read_bytes())
    journal = {
        "key": plan.key,
        "shards": told["shards"],
        "uploaded": {"model.safetensors": ["org/model@main", "0" * 64]},
        "files": told["files"],
    }
    victim, out = bench.folder / "victim.txt", bench.folder / "record"
    victim.write_text("precious")
    theirs = {**journal, "key": "x", "files": {"../victim.txt": "0" * 64}}

    def read(changed: tuple[str, bytes]) -> None:
        name, text = changed
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(bench.folder / "finished", out)
        if name != "hubmerge.json":
            (out / "hubmerge.json").unlink()
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(text)
        try:
            if name == "hubmerge.json" and one_in(2, text):
                verify(ModelRef(str(out)), recompute=one_in(8, text)).require()
            else:
                merge(plan, out)
                assert verify(ModelRef(str(out))).ok
        finally:
            assert victim.read_text() == "precious"

    records = st.tuples(st.just("hubmerge.json"), json_bytes(told))
    journals = st.tuples(st.just(".hubmerge/journal.json"), json_bytes(journal, theirs))
    return Kind(records | journals, read)


MODEL_KINDS: Mapping[str, Callable[[Bench], Kind]] = {
    "recipe": a_recipe,
    "config": a_config,
    "other config": other_configs,
    "index": an_index,
    "header": a_header,
    "tokenizer": a_tokenizer,
    "adapter": an_adapter,
    "card": a_card,
    "record": a_record,
}
