"""Documents of others - configs, adapters, cards, tokenizers - are values or one sentence.

Each kind is read by what a user would call; `NOT_JSON` are texts that no reader of JSON may trip over.
"""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from hubmerge import demo
from hubmerge.errors import HubmergeError, SourceError
from hubmerge.evaluate.demand import Demand
from hubmerge.evaluate.lengths import positions
from hubmerge.evaluate.models import load_model, load_tokenizer
from hubmerge.evaluate.task import load_task
from hubmerge.evolve.report import write_report
from hubmerge.evolve.run import evolve
from hubmerge.evolve.search import Search
from hubmerge.hub import push_folder
from hubmerge.hub.source import open_source
from hubmerge.localhub import LocalHub
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.carried import Carried
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan
from hubmerge.stream.verify import verify
from space.settings import Settings
from space.work.jobs import Jobs

DIGITS = "9" * 5_000
NOT_JSON = {
    "empty": b"",
    "torn": b'{"a": [1, 2',
    "no object": b"[]",
    "null": b"null",
    "a number": b"7",
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "digits": b'{"a": ' + DIGITS.encode() + b"}",
    "half a character": rb'{"a": "\ud800"}',
    "half a key": rb'{"\udfff": 1}',
    "not text": b'\xff\xfe{"a": 1}',
    "nul": b"\0" * 20,
}

Model = Callable[..., Path]


@pytest.fixture
def model(siblings, tmp_path) -> Model:
    """A function `(changes, name="model")` that gives a copy of a tiny model with files changed.

    A change is bytes, a mapping whose values replace those of the file's JSON object, or None to take the file away.
    """

    def build(changes: dict[str, Any], name: str = "model", like: str = "math") -> Path:
        folder = tmp_path / name
        shutil.copytree(siblings[like], folder)
        for file, change in changes.items():
            if change is None:
                (folder / file).unlink()
            elif isinstance(change, bytes):
                (folder / file).write_bytes(change)
            else:
                before = json.loads((folder / file).read_bytes()) if (folder / file).exists() else {}
                (folder / file).write_text(json.dumps(before | change))
        return folder

    return build


ADAPTER = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}


@pytest.fixture
def lora(tmp_path) -> Callable[[bytes | dict[str, Any]], Path]:
    """A function that gives a LoRA of the tiny models with its adapter_config.json changed."""
    factors = {
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": np.ones((2, 16), np.float32),
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": np.ones((16, 2), np.float32),
    }

    def build(change: bytes | dict[str, Any]) -> Path:
        folder = tmp_path / "lora"
        folder.mkdir()
        save_file(factors, folder / "adapter_model.safetensors")
        text = change if isinstance(change, bytes) else json.dumps(ADAPTER | change).encode()
        (folder / "adapter_config.json").write_bytes(text)
        return folder

    return build


def linear(*folders: Path | str, **settings: Any) -> Recipe:
    models = [{"model": str(folder), "parameters": {"weight": 1.0}} for folder in folders]
    return Recipe.from_dict({"merge_method": "linear", "models": models, **settings})


def refused(call: Callable[[], Any], *, said: str = "", error: type[HubmergeError] = HubmergeError) -> None:
    """`call` ends in an error that is made of sentences."""
    with pytest.raises(error) as caught:
        call()
    lines = str(caught.value).split("\n")
    assert said in str(caught.value)
    assert all(0 < len(line) <= 500 and line.isprintable() for line in lines), lines


class TestConfig:
    @pytest.mark.parametrize("text", NOT_JSON.values(), ids=NOT_JSON)
    def test_what_is_no_object_is_refused(self, model: Model, text: bytes) -> None:
        folder = model({"config.json": text})
        refused(lambda: open_source(ModelRef(str(folder))), said="config.json", error=SourceError)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("vocab_size", "x"),
            ("vocab_size", -1),
            ("vocab_size", 10**80),
            ("vocab_size", 64.0),
            ("architectures", 5),
            ("architectures", "LlamaForCausalLM"),
            ("architectures", [5]),
            ("model_type", ["llama"]),
            ("num_hidden_layers", "4"),
            ("num_hidden_layers", 10**12),
            ("num_hidden_layers", True),
            ("tie_word_embeddings", "x"),
            ("tie_word_embeddings", 1),
            ("quantization_config", 5),
            ("quantization_config", "bnb"),
            ("eos_token_id", "</s>"),
            ("eos_token_id", [[2]]),
            ("text_config", 5),
            ("text_config", {"vocab_size": "x"}),
            ("text_config", {"num_hidden_layers": {}}),
        ],
    )
    def test_a_field_of_another_type_is_refused_when_it_is_read(self, model: Model, field: str, value: Any) -> None:
        folder = model({"config.json": {field: value}})
        refused(lambda: open_source(ModelRef(str(folder))), error=SourceError)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("hidden_size", "x"),
            ("num_attention_heads", "4"),
            ("num_attention_heads", 0),
            ("max_position_embeddings", "128"),
            ("rope_scaling", 5),
            ("rope_parameters", ["x"]),
            ("hidden_act", ["silu"]),
            ("layer_types", [5, None, {}]),
            ("layer_types", []),
            ("moe_layers", "1,2"),
            ("mlp_only_layers", 5),
            ("sliding_window_pattern", "LLG"),
            ("sliding_window", {}),
            ("dtype", 5),
            ("auto_map", 5),
            ("id2label", 5),
            ("", {"": {"": None}}),
            ("rms_norm_eps", float("inf")),
        ],
    )
    def test_a_field_that_only_transformers_reads_stops_nothing_here(
        self, model: Model, siblings, field: str, value: Any
    ) -> None:
        folder = model({"config.json": {field: value}})
        make_plan(linear(siblings["base"], folder))
        slices = [{"sources": [{"model": str(folder), "layer_range": [0, 2]}]}] * 2
        make_plan(Recipe.from_dict({"merge_method": "passthrough", "slices": slices}))

    @pytest.mark.parametrize("text", [*NOT_JSON.values(), b'{"weight_map": 5}', b'{"weight_map": {"a": ["b"]}}'])
    def test_an_index_that_is_none_is_refused(self, model: Model, text: bytes) -> None:
        folder = model({"model.safetensors.index.json": text, "model.safetensors": None})
        (folder / "model-00001-of-00001.safetensors").write_bytes(b"")
        refused(lambda: open_source(ModelRef(str(folder))), said="index", error=SourceError)


class TestAdapter:
    def opened(self, siblings: dict[str, Path], lora: Path) -> Any:
        return open_source(ModelRef(str(siblings["base"]), lora=ModelRef(str(lora))))

    @pytest.mark.parametrize("text", NOT_JSON.values(), ids=NOT_JSON)
    def test_what_is_no_object_is_refused(self, siblings, lora, text: bytes) -> None:
        folder = lora(text)
        refused(lambda: self.opened(siblings, folder), said="adapter_config.json", error=SourceError)
        refused(lambda: open_source(ModelRef(str(folder))), said="adapter_config.json", error=SourceError)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("lora_alpha", "16"),
            ("lora_alpha", [16]),
            ("lora_alpha", True),
            ("lora_alpha", None),
            ("r", "8"),
            ("r", [8]),
            ("alpha_pattern", "x"),
            ("alpha_pattern", {"q_proj": "4"}),
            ("alpha_pattern", {"q_proj": None}),
            ("rank_pattern", 5),
            ("rank_pattern", {"q_proj": [2]}),
            ("use_rslora", "yes"),
            ("fan_in_fan_out", "x"),
            ("peft_type", ["LORA"]),
            ("base_model_name_or_path", 5),
            ("init_lora_weights", {"x": 1}),
            ("modules_to_save", {"x": 1}),
            ("never_heard_of", [1]),
        ],
    )
    def test_a_field_of_another_type_is_refused(self, siblings, lora, field: str, value: Any) -> None:
        folder = lora({field: value})
        refused(lambda: self.opened(siblings, folder), error=SourceError)

    def test_a_lora_alpha_of_400_digits_is_refused(self, siblings, lora) -> None:
        for number in (b"9" * 400, b"1e400", b"NaN"):
            folder = lora(json.dumps(ADAPTER).encode().replace(b'"lora_alpha": 4', b'"lora_alpha": ' + number))
            refused(lambda folder=folder: self.opened(siblings, folder), error=SourceError)
            shutil.rmtree(folder)

    def test_the_one_that_is_right_is_read(self, siblings, lora) -> None:
        source = self.opened(siblings, lora({"lora_alpha": 5.0, "rank_pattern": {}, "alpha_pattern": None}))
        (factors,) = source.adapter.changes.values()
        assert (factors.scale, factors.rank) == (2.5, 2)


def vocabulary(vocab: Any, added: Any = None) -> bytes:
    return json.dumps(
        {"version": "1.0", "added_tokens": added, "model": {"type": "WordLevel", "vocab": vocab}}
    ).encode()


TOKENIZERS = {
    **NOT_JSON,
    "no model": b"{}",
    "model": b'{"model": 5}',
    "vocab": vocabulary(5),
    "list ids": vocabulary({"a": [0], "b": {}}),
    "text ids": vocabulary({"a": "0"}),
    "large ids": vocabulary({"a": 2**40}),
    "pieces": vocabulary([["a", 0.0], "b"]),
    "named pieces": vocabulary([[["a"], 0.0]]),
    "added": vocabulary({"a": 0}, 5),
    "added texts": vocabulary({"a": 0}, ["<s>"]),
    "added list ids": vocabulary({"a": 0}, [{"id": [1], "content": "<s>"}]),
    "added objects": vocabulary({"a": 0}, [{"id": 1, "content": {}}]),
}
SETTINGS = {**NOT_JSON, "template": b'{"chat_template": 5}'}
GENERATIONS = {**NOT_JSON, "ends": b'{"eos_token_id": "x"}', "nested ends": b'{"eos_token_id": [[1]]}'}
BESIDE = {
    **{f"tokenizer.json {name}": ("tokenizer.json", text) for name, text in TOKENIZERS.items()},
    **{f"tokenizer_config.json {name}": ("tokenizer_config.json", text) for name, text in SETTINGS.items()},
    **{f"generation_config.json {name}": ("generation_config.json", text) for name, text in GENERATIONS.items()},
    "special_tokens_map.json": ("special_tokens_map.json", b"{"),
    "added_tokens.json": ("added_tokens.json", rb'{"\ud800": 1}'),
    "template": ("chat_template.jinja", b"{{ '\xff' }}"),
}


class TestBesideTheWeights:
    @pytest.mark.parametrize(("file", "text"), BESIDE.values(), ids=BESIDE)
    def test_what_the_result_would_carry_is_refused_before_weights_are_merged(
        self, model: Model, siblings, tmp_path, file: str, text: bytes
    ) -> None:
        first = model({file: text})
        refused(lambda: make_plan(linear(first, siblings["base"])), said=file, error=SourceError)
        refused(lambda: load_tokenizer(Carried(open_source(ModelRef(str(first))))), error=SourceError)
        # Of a model whose tokenizer is not taken, it is only known that it cannot be compared.
        plan = make_plan(linear(siblings["base"], first))
        plan.require()
        if file in ("tokenizer.json", "generation_config.json"):
            assert any(file in problem.message and len(problem.message) <= 500 for problem in plan.warnings)

    def test_a_template_for_all_that_cannot_be_read_is_refused(self, model: Model, siblings) -> None:
        other = model({"tokenizer_config.json": rb'{"chat_template": "{{ \"\ud800\" }}"}', "chat_template.jinja": None})
        refused(lambda: make_plan(linear(siblings["base"], other, chat_template="auto")), error=SourceError)

    @pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "\u202e", "hf_" + "aB3" * 12, "x" * 10_000])
    @pytest.mark.parametrize("file", ["special_tokens_map.json", "tokenizer_config.json"])
    def test_no_name_is_left_for_the_library_to_print(self, model: Model, capfd, file: str, name: str) -> None:
        odd = {"content": "</s>", "lstrip": False, name: 1}
        folder = model({file: {"pad_token": odd, "extra_special_tokens": [odd]}})
        for work in (lambda: make_plan(linear(folder)), lambda: load_model(str(folder))):
            refused(work, said=file)
        assert not capfd.readouterr().out

    def test_a_tokenizer_of_pieces_and_one_without_added_tokens_are_read(self, model: Model, siblings) -> None:
        pieces = [[f"p{n}", -float(n)] for n in range(64)]
        other = model({"tokenizer.json": vocabulary(pieces), "tokenizer_config.json": b'{"model_max_length": 1e30}'})
        plan = make_plan(linear(siblings["base"], other))
        assert any("128 tokens different ids" in problem.message for problem in plan.warnings), plan.warnings

    @pytest.mark.parametrize(
        "text",
        [
            vocabulary({"a": 0}),
            b'{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": 5}}',
            b'{"version": 5, "model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 99}}',
            b'{"model": {"vocab": {}}, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}}}',
        ],
    )
    def test_what_only_transformers_can_refuse_is_one_sentence_too(self, model: Model, text: bytes) -> None:
        source = open_source(ModelRef(str(model({"tokenizer.json": text}))))
        with suppress(SourceError):
            load_tokenizer(Carried(source))


class TestOutFolder:
    @pytest.mark.parametrize(
        "text",
        [
            *NOT_JSON.values(),
            b'{"key": 5}',
            b'{"key": "x", "shards": 5}',
            b'{"key": "x", "shards": {"a": 5}}',
            b'{"key": "x", "shards": {"a": {"file": "a", "nbytes": "1", "header": 1, "tensors": []}}}',
            b'{"key": "x", "files": ["a"], "uploaded": 5}',
        ],
    )
    def test_a_broken_record_is_nobodys(self, siblings, tmp_path, text: bytes) -> None:
        recipe = linear(siblings["base"])
        for name in ("hubmerge.json", ".hubmerge/journal.json"):
            out = tmp_path / name.replace("/", "-")
            (out / name).parent.mkdir(parents=True)
            (out / name).write_bytes(text)
            if name == "hubmerge.json":
                refused(lambda out=out: merge(recipe, out))
                assert (out / name).read_bytes() == text
                refused(lambda out=out: verify(ModelRef(str(out))))
            merge(recipe, out, overwrite=True)
            assert verify(ModelRef(str(out))).ok

    @pytest.mark.parametrize("text", NOT_JSON.values(), ids=NOT_JSON)
    def test_a_broken_manifest_of_a_model_is_one_sentence(self, model: Model, text: bytes) -> None:
        folder = model({"hubmerge.json": text})
        refused(lambda: verify(ModelRef(str(folder))), said="hubmerge.json", error=SourceError)
        make_plan(linear(folder)).require()


NAMES = {
    "300 letters": "a" * 300,
    "a folder of 300 letters": "./" + "a" * 300,
    "an owner of 300 letters": "a" * 300 + "/b",
    "a thousand plus signs": "+" * 1_000,
    "a thousand LoRAs": "+".join(["a/b"] * 400),
    "a thousand folders": "+".join(["."] * 900),
    "folders that are not there": "+".join(["./x"] * 400),
    "nul": "./a\0b",
    "nul in a name": "org/a\0b",
    "half a character": "./a\ud800",
    "half a character in a name": "org/\udfffa",
    "nobody's home": "~nobody-of-this-name/x",
    "a revision of 300 letters": "org/a@" + "b" * 300,
    "nul in a revision": "org/a@\0",
    "half a character in a revision": "org/a@\ud800",
    "blank": "   ",
    "a long path": "/" + "a/" * 900,
    "longer than any": "a" * 1_000_000,
}


class TestNames:
    @pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
    def test_what_no_model_is_called_is_refused(self, siblings, name: str) -> None:
        refused(lambda: open_source(ModelRef.parse(name)))
        refused(lambda: make_plan(linear(siblings["base"], name)))
        refused(lambda: make_plan(linear(siblings["base"], tokenizer_source=name)))
        refused(lambda: make_plan(linear(f"{siblings['base']}+{name}")))
        refused(lambda: Search.from_dict({"models": [name, "org/b"], "merge_method": "linear", "task": "x"}))
        refused(lambda: load_task(name))
        refused(lambda: load_task({"examples": {"folder": name, "test": "a.jsonl"}}))
        refused(lambda: load_task({"examples": {"folder": ".", "test": name}}))
        rows = {"examples": {"test": [{"question": "q", "answer": "a"}]}}
        refused(lambda: load_task({**rows, "python": f"{name}:grade"}))
        refused(lambda: load_task({"lm_eval": {"task": "x", "include_path": name}, "examples": {"test": "test"}}))
        refused(lambda: push_folder(Path(name), "org/x"))

    @pytest.mark.parametrize("name", ["a" * 300, "a\0b", "\udfff", "file/x", "circle/x"])
    def test_a_folder_that_cannot_be_made_is_one_sentence(self, siblings, tiny_search, tmp_path, name: str) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "circle").symlink_to("circle")
        folder = tmp_path / name
        refused(lambda: merge(linear(siblings["base"]), folder))
        refused(lambda: evolve(tiny_search(), folder))
        refused(lambda: demo.run(folder))
        refused(lambda: write_report(folder))
        refused(lambda: Jobs(folder, {}, workers=0))
        refused(lambda: LocalHub(folder, {}).start())

    def test_links_that_lead_in_a_circle_are_no_folder(self, siblings, tmp_path) -> None:
        (circle := tmp_path / "circle").symlink_to(circle)
        refused(lambda: make_plan(linear(siblings["base"], str(circle))))
        refused(lambda: load_task(str(circle)))
        refused(lambda: push_folder(circle, "org/x"))
        refused(lambda: merge(linear(siblings["base"]), circle))
        refused(lambda: LocalHub(circle, {}).start())

    def test_a_page_has_no_folder_in_nobodys_home(self) -> None:
        refused(lambda: Settings.from_environment({"HUBMERGE_SPACE_DIR": NAMES["nobody's home"]}), said="is no path")

    def test_a_folder_may_have_a_plus_in_its_name(self, siblings, tmp_path, monkeypatch) -> None:
        shutil.copytree(siblings["base"], tmp_path / "a+b")
        monkeypatch.chdir(tmp_path)
        assert ModelRef.parse("./a+b") == ModelRef("./a+b")
        assert ModelRef.parse("./a+b+org/lora@x") == ModelRef("./a+b", lora=ModelRef("org/lora", "x"))
        assert ModelRef.parse("org/m+./a+b").lora == ModelRef("./a+b")


DIGIT_VALUES = [10**400, -(10**5_000), 2**64, float("inf"), float("nan"), "9" * 400]


class TestNumbers:
    @pytest.mark.parametrize("digits", ["9" * 400, DIGITS, "-" + DIGITS, "1" + "0" * 300 + ".0e99999", ".inf", "1e999"])
    def test_of_many_digits_in_yaml_are_refused(self, digits: str) -> None:
        models = "models: [org/a, org/b]"
        refused(
            lambda: Recipe.from_yaml(
                f"merge_method: linear\nmodels:\n- {{model: org/a, parameters: {{weight: {digits}}}}}"
            )
        )
        refused(lambda: Recipe.from_yaml(f"merge_method: linear\n{models}\nparameters: {{weight: {digits}}}"))
        for gene in (f"weight: [0, {digits}]", f"weight: [{digits}, 1]"):
            text = f"{models}\nmerge_method: linear\ngenome: {{genes: {{{gene}}}}}\ntask: {{examples: {{test: []}}}}"
            refused(lambda text=text: Search.from_yaml(text))

    @pytest.mark.parametrize("value", DIGIT_VALUES, ids=lambda value: f"{type(value).__name__}")
    def test_that_a_program_gives_are_refused_too(self, siblings, tiny_search, value: Any) -> None:
        base = str(siblings["base"])
        given = {"merge_method": "linear", "models": [{"model": base, "parameters": {"weight": value}}]}
        refused(lambda: make_plan(Recipe.from_dict(given)).require())
        refused(lambda: make_plan(Recipe.from_dict(given | {"parameters": {"weight": [1, value]}})).require())
        layers = [{"sources": [{"model": base, "layer_range": [0, value]}]}]
        refused(lambda: make_plan(Recipe.from_dict({"merge_method": "passthrough", "slices": layers})).require())
        for bounds in ([0, value], [value, 1]):
            refused(lambda bounds=bounds: tiny_search(genome={"genes": {"weight": bounds}}))
        refused(lambda: tiny_search(genome={"genes": {"weight": [0, 1]}, "start": {"weight": value}}))
        refused(lambda: tiny_search(parameters={"normalize": value, "lambda": value}))
        refused(lambda: tiny_search(searcher={"name": "cmaes", "evaluations": value}))
        refused(lambda: tiny_search(splits={"search": value}))

    def test_documents_that_hold_themselves_are_refused(self) -> None:
        endless: list[Any] = []
        endless.append(endless)
        for document in ({"models": endless}, {"merge_method": endless}, {"parameters": {"x": endless}}):
            refused(lambda document=document: Recipe.from_dict(document))
            refused(lambda document=document: Search.from_dict(document))
            refused(lambda document=document: load_task(document))

    def test_half_of_a_character_that_a_program_gives_is_refused(self, siblings) -> None:
        for settings in ({"chat_template": "{{ '\ud800' }}"}, {"chat_template": "{{ '\0' }}"}):
            refused(lambda settings=settings: linear(siblings["base"], **settings))


class TestArchitecture:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("model_type", "never_heard_of"),
            ("model_type", None),
            ("num_labels", 10**12),
            ("num_hidden_layers", 99_999_999_999),
            ("num_attention_heads", "4"),
            ("num_attention_heads", 10**6),
            ("hidden_size", "x"),
            ("hidden_size", None),
            ("rope_parameters", 5),
            ("head_dim", -3),
            ("vocab_size", 0),
        ],
    )
    def test_what_answering_takes_is_told_or_refused(self, siblings, field: str, value: Any) -> None:
        config = json.loads((siblings["base"] / "config.json").read_text()) | {field: value}
        asked = Demand(1, 8, 8)
        refused(lambda: asked.nbytes(config, torch.float32, torch.device("cpu")), error=SourceError)
        assert positions(config) in (None, 128)

    @pytest.mark.parametrize("change", [{"num_labels": 10**12}, {"rope_parameters": 5}, {"hidden_act": "odd"}])
    def test_a_model_that_cannot_be_loaded_is_one_sentence(self, model: Model, change: dict[str, Any]) -> None:
        folder = model({"config.json": change})
        refused(lambda: load_model(str(folder)), error=SourceError)


class TestCard:
    @pytest.mark.parametrize(
        "head",
        [
            b"x: !!bool foo",
            b"x: !!int x",
            b"license: [",
            b"x: !!python/object:os.system x",
            b"x: " + b"[" * 5_000,
            b"- a\n- b",
            b"x: \xff",
            b"x: " + DIGITS.encode(),
            b'x: "\\ud800"',
            b"a: &a [*a]",
            b"license: mit\nlicense: gpl",
        ],
    )
    def test_a_broken_card_says_nothing_and_stops_nothing(self, model: Model, siblings, head: bytes) -> None:
        folder = model({"README.md": b"---\n" + head + b"\n---\n# A model\n"})
        plan = make_plan(linear(siblings["base"], folder))
        plan.require()
        (said,) = [problem.message for problem in plan.warnings if "README.md" in problem.message]
        assert len(said) <= 500 and open_source(ModelRef(str(folder))).licence.id is None

    def test_a_card_is_read(self, model: Model) -> None:
        text = "---\r\nlicense: mit\r\ndate: 2026-13-01\r\nbase_model: [org/a]\r\n---\r\n# A model\r\n"
        source = open_source(ModelRef(str(model({"README.md": text.encode()}))))
        assert (source.licence.id, source.base_models, source.listing.remark) == ("mit", ("org/a",), None)

    @pytest.mark.parametrize(
        "text", [b"", b"# A model\n", b"---\n", b"---\n---\n", b"---\n\n---\nx", b"--- x\na: 1\n---\n"]
    )
    def test_a_card_without_front_matter_is_no_broken_one(self, model: Model, text: bytes) -> None:
        listing = open_source(ModelRef(str(model({"README.md": text})))).listing
        assert (dict(listing.card), listing.remark) == ({}, None)
