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
from readertools import NOT_JSON, Model, changing, linear, refused
from safetensors.numpy import save_file

from hubmerge.errors import SourceError
from hubmerge.evaluate.models import load_model, load_tokenizer
from hubmerge.hub.source import open_source
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.carried import Carried
from hubmerge.stream.plan import make_plan


@pytest.fixture
def model(siblings, tmp_path) -> Model:
    return changing(siblings, tmp_path)


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
