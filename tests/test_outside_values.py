"""Names, numbers and values of others are read or refused in a sentence."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from readertools import DIGITS, NOT_JSON, Model, changing, linear, refused

from hubmerge import demo
from hubmerge.errors import SourceError
from hubmerge.evaluate.demand import Demand
from hubmerge.evaluate.lengths import positions
from hubmerge.evaluate.models import load_model
from hubmerge.evaluate.task import load_task
from hubmerge.evolve.report import write_report
from hubmerge.evolve.run import evolve
from hubmerge.evolve.search import Search
from hubmerge.hub import push_folder
from hubmerge.hub.source import open_source
from hubmerge.localhub import LocalHub
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan
from hubmerge.stream.verify import verify
from space.settings import Settings
from space.work.jobs import Jobs


@pytest.fixture
def model(siblings, tmp_path) -> Model:
    return changing(siblings, tmp_path)


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
