"""Cards that the Hub understands, licences added up honestly, and models found by name."""

import dataclasses
import re
import sys
import types
from typing import Any

import pytest
from hubtools import checkpoint, publish
from huggingface_hub import HfApi, ModelCard, constants
from markdown_it import MarkdownIt

from hubmerge.hub import Card, CardRow, combine, open_source, push_folder, render, search_models
from hubmerge.hub.markdown import escape, fence, link, table
from hubmerge.hub.scores import Pictures
from hubmerge.hub.search import similar_models
from hubmerge.hub.source import Licence, Source
from hubmerge.hub.spdx import alternatives
from hubmerge.publish import merge
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef

RECIPE = "merge_method: linear\nmodels:\n- model: alice/card-math\n- model: alice/card-ja\n"


@pytest.fixture(scope="module")
def parents() -> dict[str, Source]:
    for name, licence in {"base": "apache-2.0", "math": "apache-2.0", "ja": "mit"}.items():
        publish(f"alice/card-{name}", checkpoint(seed=len(name), front_matter=f"license: {licence}"))
    return {name: open_source(ModelRef(f"alice/card-{name}")) for name in ("base", "math", "ja")}


def row(model: str, value: float) -> CardRow:
    return CardRow(model, "exact_number", value, value - 0.05, value + 0.05, 300, "test", "ja-word-problems")


@pytest.fixture(scope="module")
def card(parents: dict[str, Source]) -> Card:
    return Card(
        title="Math in Japanese",
        sources=list(parents.values()),
        recipe_yaml=RECIPE,
        method="linear",
        repo_id="alice/card-merged",
        base_model="alice/card-base",
        evaluations=[row("alice/card-math", 0.2), row("Math in Japanese", 0.62)],
        curve_image="curve.png",
        commands=["hubmerge merge recipe.yaml --out merged"],
        search={"searcher": "cmaes", "popsize": 8, "evaluations": 1200, "seed": 1234, "seconds": 754.2},
        languages=["ja", "en"],
        notes=["A note of its own."],
    )


def section(text: str, heading: str) -> str:
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def test_metadata_round_trip(card: Card) -> None:
    data = ModelCard(render(card)).data
    assert data.base_model == ["alice/card-base", "alice/card-math", "alice/card-ja"]
    assert data.base_model_relation == "merge"
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")
    assert data.tags == ["merge", "hubmerge", "linear"]
    assert data.language == ["ja", "en"]
    assert (data.license, data.license_name) == ("other", "apache-2.0-and-mit")
    assert data.license_link == f"{constants.ENDPOINT}/alice/card-merged#licence"
    (own,) = data.eval_results
    assert (own.metric_type, own.metric_value, own.dataset_split) == ("exact_number", 0.62, "test")
    assert own.metric_args == {"n": 300, "interval_95": [0.57, 0.67]}
    assert own.dataset_name == "ja-word-problems"


def test_the_story_is_told(card: Card, parents: dict[str, Source]) -> None:
    text = render(card)
    for name, source in parents.items():
        assert f"{constants.ENDPOINT}/alice/card-{name}/tree/{source.commit}" in section(text, "Parents")
    assert re.search(r"\[alice/card-base\]\(\S+\) \| base \|", text)
    assert (
        Recipe.from_yaml(section(text, "How it was merged").split("```yaml\n")[1].split("```")[0]).merge_method
        == "linear"
    )
    results = section(text, "Results")
    assert "| **Math in Japanese** | ja-word-problems / exact_number | test | 300 | 62.0% | 57.0% to 67.0% |" in results
    assert "| alice/card-math |" in results
    assert "](curve.png)" in results
    for fact in ("cmaes", "1,200", "| Seed | 1234 |", "12 min 34 s"):
        assert fact in results
    assert "hubmerge merge recipe.yaml --out merged" in section(text, "Make it again")
    assert "arxiv.org/abs/2403.13187" in text
    assert "A note of its own." in text
    assert text.endswith("\n")


def test_every_table_is_a_table(card: Card) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(render(card).split("---\n", 2)[2])
    assert sum(token.type == "table_open" for token in tokens) == 3
    assert sum(token.type == "fence" for token in tokens) == 4


def test_the_least_card(parents: dict[str, Source]) -> None:
    text = render(Card("Plain", [parents["math"]], "merge_method: passthrough\n", "passthrough"))
    data = ModelCard(text).data
    assert data.eval_results is None
    assert data.license == "apache-2.0"
    assert text.count("apache-2.0") == 1 and "icence" not in text.split("---\n")[2]
    assert "## Results" not in text
    assert "## Make it again" not in text
    assert 'model_id = "."' in text


def test_folders_are_told_but_not_linked(card: Card, tmp_path) -> None:
    for name, content in checkpoint().items():
        (tmp_path / name).write_bytes(content)
    folder = open_source(ModelRef(str(tmp_path)))
    text = render(dataclasses.replace(card, sources=[folder, card.sources[1]]))
    assert ModelCard(text).data.base_model == ["alice/card-math"]
    assert f"local folder `{tmp_path.name}`" in section(text, "Parents")
    assert str(tmp_path) not in text and str(tmp_path.parent) not in text
    alone = ModelCard(render(dataclasses.replace(card, sources=[folder]))).data
    assert alone.base_model is None
    assert alone.get("base_model_relation") is None


def test_licences_that_differ_are_said_once_each(card: Card) -> None:
    text = render(card)
    assert section(text, "Licence").strip().startswith("The parents carry different licences; this model is bound")
    assert section(text, "Parents").count("| apache-2.0 |") == 2 and section(text, "Parents").count("| mit |") == 1
    assert "apache-2.0" not in section(text, "Licence")


def test_hostile_text_stays_text(card: Card, parents: dict[str, Source]) -> None:
    evil = "x | y\n---\n# <script>alert(1)</script> [a](javascript:b) `"
    licence = Licence("other", evil, "javascript:alert(1)")
    source = with_licence(parents["math"], licence)
    hostile = dataclasses.replace(
        card,
        title=evil,
        sources=[source, card.sources[0]],
        recipe_yaml="a: b\n```\n# out\n```\n",
        evaluations=[row(evil, 0.5)],
        search={evil: evil},
    )
    text = render(hostile)
    assert ModelCard(text).data.model_name == evil
    body = text.split("\n---\n\n# ", 1)[1]
    html = MarkdownIt("commonmark").enable("table").render(f"# {body}")
    assert "<script" not in html
    assert 'href="javascript' not in html
    assert html.count("<h1>") == 1
    assert html.count("<table>") == 3
    assert len(re.findall("<td[ >]", html)) == 2 * 5 + 6 + 2


def test_no_token_gets_into_a_card(parents: dict[str, Source]) -> None:
    source = open_source(ModelRef("alice/card-math"), token="hf_alice")
    assert "hf_alice" not in render(Card("Quiet", [source], RECIPE, "linear"))


def test_the_hub_takes_the_card_and_its_code_runs(card: Card, tiny_llama, tmp_path, capsys) -> None:
    folder = tiny_llama(tmp_path / "model", seed=4)
    text = render(dataclasses.replace(card, example="w1 w2 3"))
    ModelCard(text).validate()
    (folder / "README.md").write_text(text, encoding="utf-8")
    (folder / "curve.png").write_bytes(b"\x89PNG")
    result = push_folder(folder, "alice/card-merged")
    info = HfApi().model_info("alice/card-merged", revision=result.commit)
    assert info.card_data.base_model == ["alice/card-base", "alice/card-math", "alice/card-ja"]
    assert "merge" in info.tags
    code = section(text, "Use it").split("```python\n")[1].split("```")[0]
    module = types.ModuleType("usage")
    sys.stdout.flush()
    exec(code, module.__dict__)
    assert module.output.shape[1] > module.inputs["input_ids"].shape[1]
    assert capsys.readouterr().out


def with_licences(source: Source, *licences: Licence | str | None) -> list[Source]:
    given = [value if isinstance(value, Licence) else Licence(value) for value in licences]
    return [with_licence(source, licence, str(number)) for number, licence in enumerate(given)]


def with_licence(source: Source, licence: Licence, identity: str = "other") -> Source:
    stated = {"license": licence.id, "license_name": licence.name, "license_link": licence.link}
    return dataclasses.replace(source, listing=dataclasses.replace(source.listing, card=stated, identity=identity))


def test_equal_licences_are_copied(parents: dict[str, Source]) -> None:
    result = combine(with_licences(parents["math"], "apache-2.0", "apache-2.0"))
    assert (result.license, result.license_name, result.warnings) == ("apache-2.0", None, ())
    custom = Licence("other", "acme-1.0", "https://acme.example/licence")
    result = combine(with_licences(parents["math"], custom, custom))
    assert (result.license, result.license_name, result.license_link) == ("other", "acme-1.0", custom.link)


def test_different_licences_become_other(parents: dict[str, Source]) -> None:
    result = combine(with_licences(parents["math"], "mit", "apache-2.0", "mit"), "https://hub.example/a/b#licence")
    assert (result.license, result.license_name) == ("other", "apache-2.0-and-mit")
    assert result.license_link == "https://hub.example/a/b#licence"
    assert result.warnings == ()
    assert len(result.rows) == 3
    assert combine(with_licences(parents["math"], None, "mit")).license_name == "mit-and-unknown"


@pytest.mark.parametrize(
    ("licence", "warning"),
    [
        ("cc-by-nc-4.0", "no commercial use"),
        ("cc-by-nc-nd-4.0", "a merge may not be shared"),
        ("cc-by-nd-4.0", "a merge may not be shared"),
        ("cc-by-sa-4.0", "share alike"),
        ("agpl-3.0", "share alike"),
        ("llama3.1", "names begin with Llama"),
        ("gemma", "Google's terms"),
        ("openrail++", "use restrictions"),
        ("bigscience-bloom-rail-1.0", "use restrictions"),
        ("other", "read them"),
        ("unknown", "ask who made"),
        (None, "ask who made"),
    ],
)
def test_conditions_are_pointed_out(parents: dict[str, Source], licence: str | None, warning: str) -> None:
    result = combine(with_licences(parents["math"], "mit", licence))
    assert len(result.warnings) == 1 + (licence == "cc-by-nc-nd-4.0")
    assert any(warning in text and "alice/card-math" in text for text in result.warnings)


@pytest.mark.parametrize("licence", ["apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc0-1.0", "wtfpl"])
def test_permissive_licences_carry_no_warning(parents: dict[str, Source], licence: str) -> None:
    assert combine(with_licences(parents["math"], licence)).warnings == ()


def test_two_share_alikes_clash(parents: dict[str, Source]) -> None:
    result = combine(with_licences(parents["math"], "gpl-3.0", "cc-by-sa-4.0"))
    assert any("both cannot be met" in text for text in result.warnings)


def test_nothing_stated_states_nothing(parents: dict[str, Source]) -> None:
    result = combine(with_licences(parents["math"], None, None))
    assert (result.license, result.license_name, result.license_link) == (None, None, None)
    assert result.warnings == ("No licence is stated by alice/card-math; ask who made it.",)


def test_an_evaluation_holds_together() -> None:
    CardRow("m", "x", 1.0, 0.9, 1.0 - 1e-12, 10, "test")
    for value, low, high, n in [(0.5, 0.6, 0.7, 1), (62.0, 57.0, 67.0, 300), (0.5, 0.4, 0.6, 0)]:
        with pytest.raises(ValueError, match="expected 0 <= low"):
            CardRow("m", "x", value, low, high, n, "test")


def test_markdown_pieces() -> None:
    assert escape("a|b\n*c* <d> & [e]") == r"a\|b \*c\* &lt;d&gt; &amp; \[e\]"
    assert link("x", "https://a.example/b") == "[x](https://a.example/b)"
    assert link("x", "https://a.example/b) [y](http://c") == "x"
    assert link("x", None) == "x"
    assert fence("a\n```\nb", "yaml") == "````yaml\na\n```\nb\n````"
    assert table(("a", "n>"), [("1", "2")]) == "| a | n |\n| --- | ---: |\n| 1 | 2 |"


def test_search_finds_by_name_and_keeps_secrets() -> None:
    publish("alice/findable-one", checkpoint(front_matter="license: mit"))
    publish("alice/findable-two", checkpoint(), private=True)
    found = search_models("findable")
    assert {model.repo_id for model in found} == {"alice/findable-one", "alice/findable-two"}
    one = next(model for model in found if model.repo_id.endswith("one"))
    assert (one.architecture, one.license, one.private, one.gated) == ("LlamaForCausalLM", "mit", False, False)
    assert one.parameters == 64
    assert [model.repo_id for model in search_models("findable", token="hf_bob")] == ["alice/findable-one"]
    assert len(search_models("findable", limit=1)) == 1
    assert search_models("findable", author="bob") == []
    assert search_models("no such thing at all") == []


def test_a_name_that_is_no_model_finds_those_like_it() -> None:
    publish("alice/findable-one", checkpoint(front_matter="license: mit"))
    publish("alice/findable-two", checkpoint(), private=True)
    assert similar_models("alice/findable-on")[0] == "alice/findable-one"
    assert similar_models("alicia/findable-one")[0] == "alice/findable-one"
    assert similar_models("alice/findable-twoo")[0] == "alice/findable-two"
    assert "alice/findable-two" not in similar_models("alice/findable-twoo", token="hf_bob")
    assert similar_models("alice/findable-one") == similar_models("bob/something-else") == []


def _settings(kind: str, size: int) -> Any:
    import transformers

    if kind == "T5":
        sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
        config = transformers.T5Config(vocab_size=size, decoder_start_token_id=0, **sizes)
        return transformers.T5ForConditionalGeneration(config)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    if kind == "Bert":
        return transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=size, **small))
    text = transformers.LlamaConfig(vocab_size=size, **small)
    if kind == "Llama":
        return transformers.LlamaForCausalLM(text)
    vision = transformers.CLIPVisionConfig(**small, image_size=16, patch_size=8, projection_dim=8)
    config = transformers.LlavaConfig(text_config=text, vision_config=vision, image_token_index=size - 1)
    return transformers.LlavaForConditionalGeneration(config)


@pytest.mark.parametrize("kind", ["Llama", "T5", "Bert", "Llava"])
def test_the_code_of_any_kind_runs_as_it_is(kind, tiny_tokenizer, tmp_path, monkeypatch, capsys) -> None:
    """Without a chat template, of what answers and what does not, and of a model that sees without its processor."""
    import copy

    _settings(kind, len(tiny_tokenizer)).save_pretrained(tmp_path / "model")
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "model")
    recipe = Recipe.from_yaml(f"merge_method: passthrough\nmodels: [{{model: {tmp_path / 'model'}}}]\n")
    merge(recipe, tmp_path / "out")
    code = section((tmp_path / "out" / "README.md").read_text(), "Use it").split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path / "out")
    exec(code.replace("max_new_tokens=64", "max_new_tokens=2"), {})
    assert capsys.readouterr().out
    if kind in ("Llama", "Llava"):
        from hubmerge.evaluate.generation import generate, stream_chat
        from hubmerge.evaluate.models import load_model

        model, reader = load_model(str(tmp_path / "out"))
        assert len(generate(model, reader, ["w1 w2", "w3"], max_new_tokens=2)) == 2
        "".join(stream_chat(model, reader, [{"role": "user", "content": "w1"}], max_new_tokens=2))


@pytest.mark.parametrize(
    ("licences", "carried"),
    [
        (("MIT OR Apache-2.0", "apache-2.0"), "apache-2.0"),
        (("Apache-2.0", "apache-2.0"), "apache-2.0"),
        (("GPL-3.0-or-later", "gpl-3.0"), "gpl-3.0"),
        (("mit", "gpl-3.0", "apache-2.0"), "gpl-3.0"),
        (("mit", "cc-by-sa-4.0", "cc-by-4.0"), "cc-by-sa-4.0"),
        (("mit AND bsd-3-clause", "agpl-3.0"), "agpl-3.0"),
        (("apache-2.0", "gpl-2.0"), "other"),
        (("cc-by-nc-4.0", "mit"), "other"),
        (("mit", "llama3.1"), "other"),
        (("gpl-3.0", None), "other"),
        (("gpl-3.0", "cc-by-sa-4.0"), "other"),
        (("MIT AND Apache-2.0", "MIT AND Apache-2.0"), "other"),
    ],
)
def test_one_licence_for_all_where_there_is_one(parents: dict[str, Source], licences, carried: str) -> None:
    result = combine(with_licences(parents["math"], *licences))
    assert result.license == carried
    assert (result.license_name is None) == (carried != "other")


def test_a_list_of_licences_is_all_of_them(tmp_path) -> None:
    for name, content in checkpoint(front_matter="license: [mit, cc-by-nc-4.0]").items():
        (tmp_path / name).write_bytes(content)
    result = combine([open_source(ModelRef(str(tmp_path)))])
    assert (result.license, result.license_name) == ("other", "mit-and-cc-by-nc-4.0")
    assert any("no commercial use" in text for text in result.warnings)


@pytest.mark.parametrize(
    ("licences", "said"),
    [
        (("gpl-3.0", "cc-by-nc-4.0"), "gpl-3.0 lets nobody add restrictions, and cc-by-nc-4.0 has some"),
        (("cc-by-sa-4.0", "llama3.1", "gemma"), "cc-by-sa-4.0 lets nobody add restrictions, and gemma and llama3.1"),
        (("gpl-2.0", "apache-2.0"), "patent terms"),
    ],
)
def test_licences_that_contradict_each_other(parents: dict[str, Source], licences, said: str) -> None:
    assert any(said in text for text in combine(with_licences(parents["math"], *licences)).warnings)


def test_of_licences_that_are_offered_the_free_one_counts(parents: dict[str, Source]) -> None:
    assert combine(with_licences(parents["math"], "MIT OR GPL-3.0-only", "mit")).warnings == ()


def test_expressions_that_are_none_stand_for_themselves() -> None:
    assert alternatives("MIT OR") == (("mit or",),)
    assert alternatives("(MIT OR ISC AND") == (("(mit or isc and",),)
    assert alternatives("GPL-2.0-only WITH Classpath-exception-2.0") == (("gpl-2.0",),)
    assert len(alternatives(" AND ".join(["(A OR B)"] * 40))) <= 16


def test_pictures_are_told_in_plain_words() -> None:
    """Whatever prompts and names hold; and nothing of prompts where none are told."""
    told = Pictures("pic tures.jpg", ["a|b", "c (base)"], ["![x](http://x)\n<b>", "鳥居" * 200]).render()
    assert "](pic%20tures.jpg)" in told and "**this model**, then a\\|b, then c" in told
    assert "\\!\\[x\\]" in told and "<b>" not in told and "…" in told and len(told) < 700
    assert "From the left" not in Pictures("p.jpg", ["a"], []).render()
