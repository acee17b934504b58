"""Vocabularies merged by token: every kind of tokenizer, in any order, padded, with tokens that others lack."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from streamtools import rewrite, weights
from tokenizertools import (
    EMBEDDING,
    FIRST,
    HEAD,
    KINDS,
    SECOND,
    by_text,
    linear,
    model,
    numbers,
    permuted,
    tokenizer,
    words,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

from hubmerge.errors import HubmergeError, RecipeError, SourceError
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan
from hubmerge.stream.rows import Rows
from hubmerge.stream.verify import verify


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> Callable[[str], dict[str, Path]]:
    """A function of a kind of tokenizer: folders of "first", padded by 9 rows, "other" (its tokens in another order),
    "second" (other tokens and an added one), and "third" (of both)."""
    made: dict[str, dict[str, Path]] = {}

    def build(kind: str) -> dict[str, Path]:
        if kind not in made:
            root = tmp_path_factory.mktemp(kind)
            one, two = tokenizer(kind, FIRST, ["<|im_start|>", "<extra>"]), tokenizer(kind, SECOND, ["<|im_end|>"])
            both = tokenizer(kind, FIRST + SECOND)
            first = model(root / "first", one, 1, rows=len(one) + 9)
            made[kind] = {
                "first": first,
                "other": permuted(first, root / "other"),
                "second": model(root / "second", two, 2),
                "third": model(root / "third", both, 3, rows=len(both) + 2),
            }
        return made[kind]

    return build


def logits(folder: Path, text: str) -> tuple[torch.Tensor, list[str]]:
    """What a model says of each token that it knows, after a text, and the texts of these tokens."""
    spoken = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(folder)(**spoken(text, return_tensors="pt")).logits[0, -1]
    texts = sorted(spoken.get_vocab())
    return found[[spoken.get_vocab()[token] for token in texts]], texts


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_and_itself_in_another_order_are_that_model(kind: str, family, tmp_path: Path) -> None:
    first, other = family(kind)["first"], family(kind)["other"]
    assert numbers(first) != numbers(other) and numbers(first).keys() == numbers(other).keys()
    merge(linear(first, other, tokenizer_source="base"), tmp_path / "first")
    merge(linear(first, other, tokenizer_source=f"model:{other}"), tmp_path / "other")
    for place, like in (("first", first), ("other", other)):
        found, expected = weights(tmp_path / place), weights(like)
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
        assert (tmp_path / place / "tokenizer.json").read_bytes() == (like / "tokenizer.json").read_bytes()
        config = json.loads((tmp_path / place / "config.json").read_text())
        assert config["eos_token_id"] == numbers(like)["</s>"]
    (ours, texts), (theirs, their_texts) = (logits(tmp_path / place, FIRST[0]) for place in ("first", "other"))
    assert texts == their_texts and torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_the_union_knows_what_each_knows(kind: str, family, tmp_path: Path) -> None:
    first, second = family(kind)["first"], family(kind)["second"]
    merge(linear(first, second, tokenizer_source="union"), tmp_path / "out")
    ours, theirs, found = numbers(first), numbers(second), numbers(tmp_path / "out")
    assert found.keys() == ours.keys() | theirs.keys() and found.items() >= ours.items()
    assert sorted(found.values()) == list(range(len(found)))
    for name in (EMBEDDING, HEAD):
        rows, one, two = by_text(tmp_path / "out", name), by_text(first, name), by_text(second, name)
        for text, row in rows.items():
            expected = (one[text] + two[text]) / 2 if text in one and text in two else one.get(text, two.get(text))
            torch.testing.assert_close(row, expected, rtol=0, atol=1e-7)
    spoken = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert spoken.get_vocab() == found and "<|im_end|>" in spoken.all_special_tokens + list(spoken.added_tokens_encoder)
    for folder, text in ((first, FIRST[0]), (second, SECOND[0]), (second, "<|im_end|>")):
        alone = AutoTokenizer.from_pretrained(folder)
        assert spoken.decode(spoken(text)["input_ids"]) == alone.decode(alone(text)["input_ids"])
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["vocab_size"] == len(weights(tmp_path / "out")[EMBEDDING]) >= len(found)
    assert logits(tmp_path / "out", SECOND[0])[0].isfinite().all()


@pytest.mark.parametrize("tied", [(True, True), (True, False), (False, True)], ids=["both", "first", "second"])
def test_tied_heads(tied: tuple[bool, bool], tmp_path: Path) -> None:
    one, two = tokenizer("bytes", FIRST), tokenizer("bytes", SECOND)
    first, second = model(tmp_path / "a", one, 1, tied=tied[0]), model(tmp_path / "b", two, 2, tied=tied[1])
    merge(linear(first, second, tokenizer_source="union"), tmp_path / "out")
    assert (HEAD in weights(tmp_path / "out")) == (tied != (True, True))
    for name in set(weights(tmp_path / "out")) & {EMBEDDING, HEAD}:
        own = [by_text(folder, name if name in weights(folder) else EMBEDDING) for folder in (first, second)]
        for text, row in by_text(tmp_path / "out", name).items():
            known = [rows[text] for rows in own if text in rows]
            torch.testing.assert_close(row, sum(known) / len(known), rtol=0, atol=1e-7)


def test_a_token_that_a_model_lacks_is_the_base_s_or_the_only_one_s_or_the_mean(family, tmp_path: Path) -> None:
    folders = [family("bytes")[name] for name in ("first", "second", "third")]
    merge(linear(*folders, tokenizer_source="union"), tmp_path / "plain")
    based = {"merge_method": "task_arithmetic", "base_model": str(folders[0]), "tokenizer": {"source": "union"}}
    entries = [{"model": str(one), "parameters": {"weight": 0.5}} for one in folders[1:]]
    merge(Recipe.from_dict({**based, "models": entries}), tmp_path / "based")
    one, two, three = (by_text(folder, HEAD) for folder in folders)
    seen = set()
    for text, row in by_text(tmp_path / "plain", HEAD).items():
        known = [rows[text] for rows in (one, two, three) if text in rows]
        seen.add(len(known))
        each = [rows.get(text, sum(known) / len(known)) for rows in (one, two, three)]
        torch.testing.assert_close(row, sum(each) / 3, rtol=0, atol=1e-7)
        base = one.get(text, sum(known) / len(known))
        others = [rows.get(text, one.get(text, sum(known) / len(known))) for rows in (two, three)]
        expected = base + sum(0.5 * (other - base) for other in others)
        torch.testing.assert_close(by_text(tmp_path / "based", HEAD)[text], expected, rtol=0, atol=1e-7)
    assert seen == {1, 2, 3}


def test_single_tokens_as_the_recipe_says(family, tmp_path: Path) -> None:
    first, second = family("wordpiece")["first"], family("wordpiece")["second"]
    block = {
        "source": "union",
        "pad_to_multiple_of": 16,
        "tokens": {
            "<|im_end|>": {"source": {"kind": "zero"}},
            "<unk>": {"source": str(second), "force": True},
            "<added>": {"source": {"kind": "model_token", "model": str(first), "token": "</s>"}},
            "<more>": {"source": {"kind": "model_token", "model": str(second), "token_id": 7}},
        },
    }
    recipe = linear(first, second, tokenizer=block)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    plan = make_plan(recipe)
    assert not plan.errors and plan.recipe.output.tokenizer.models[0].is_folder
    merge(plan, tmp_path / "out")
    rows, one, two = (by_text(folder, EMBEDDING) for folder in (tmp_path / "out", first, second))
    assert torch.equal(rows["<unk>"], two["<unk>"]) and torch.equal(rows["<added>"], one["</s>"])
    torch.testing.assert_close(rows["<|im_end|>"], two["<|im_end|>"] / 2)
    assert torch.equal(rows["<more>"], weights(second)[EMBEDDING][7])
    assert len(weights(tmp_path / "out")[EMBEDDING]) % 16 == 0
    assert AutoTokenizer.from_pretrained(tmp_path / "out").convert_tokens_to_ids("<more>") == len(rows) - 1


def test_models_with_one_vocabulary_are_read_as_they_are(family, tmp_path: Path) -> None:
    """Whatever is said of tokenizers: nothing is by token where all have the same."""
    first = family("bytes")["first"]
    for more in ({"tokenizer_source": "base"}, {"tokenizer_source": "union"}, {"tokenizer": {"source": str(first)}}):
        plan = make_plan(linear(first, first, **more))
        assert not plan.errors and not any(isinstance(one, Rows) for one in plan.stage.weights)
    assert plan.tokenizer.united is None


def test_what_is_left_out_and_what_nobody_has_is_said(family, tmp_path: Path) -> None:
    first, second = family("bpe")["first"], family("bpe")["second"]
    said = " ".join(finding.message for finding in make_plan(linear(first, second, tokenizer_source="base")).findings)
    assert "has no row for" in said and "`tokenizer_source: union` keeps the tokens of all" in said
    long = tokenizer("bpe", FIRST, ["<|beyond|>"])
    beyond = model(tmp_path / "beyond", long, 4, rows=len(long) - 1)
    plan = make_plan(linear(first, beyond, tokenizer_source="union"))
    assert any("which has no row for it" in one.message for one in plan.warnings)
    plan = make_plan(linear(beyond, first, tokenizer_source="union"))
    assert not plan.errors and any("'<|beyond|>'): zeros stand there" in one.message for one in plan.warnings)
    merge(plan, tmp_path / "out")
    assert not by_text(tmp_path / "out", EMBEDDING)["<|beyond|>"].any()


def changed(source: Path, out: Path, change: Callable[[dict], object]) -> Path:
    """A copy with another tokenizer.json."""
    out.mkdir()
    for file in source.iterdir():
        (out / file.name).write_bytes(file.read_bytes())
    document = json.loads((out / "tokenizer.json").read_text())
    change(document)
    (out / "tokenizer.json").write_text(json.dumps(document))
    return out


REFUSED = {
    "kind": (lambda d: d["model"].update(type="WordLevel"), "are of the kinds WordLevel and BPE"),
    "letters": (lambda d: d.update(pre_tokenizer=None, decoder=None), "tokens are words and bytes"),
    "normaliser": (
        lambda d: d.update(normalizer={"type": "NFC"}),
        r'normalizer is \["{\\"type\\": \\"NFC\\"}"\] and \[\]',
    ),
    "prefix": (lambda d: d["model"].update(continuing_subword_prefix="##"), "continuing_subword_prefix is ## and null"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_tokenizers_that_cannot_be_one(case: str, family, tmp_path: Path) -> None:
    change, said = REFUSED[case]
    second = changed(family("bytes")["second"], tmp_path / "second", change)
    with pytest.raises(RecipeError, match=said) as raised:
        make_plan(linear(family("bytes")["first"], second, tokenizer_source="union")).require()
    assert str(raised.value).count(". ") == 0 and "tokenizer_source" in str(raised.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["model"].update(type="BPEE"),
        lambda d: d["model"].update(merges=[["nowhere", "to be found"]]),
        lambda d: d.update(pre_tokenizer={"type": "Unheard"}),
        lambda d: d.update(normalizer={"type": "Replace", "pattern": {"Regex": "("}, "content": 3}),
    ],
)
@pytest.mark.parametrize("tokens", [{}, {"tokenizer_source": "base"}])
def test_a_tokenizer_that_no_program_reads_is_not_carried(change, tokens, family, tmp_path: Path) -> None:
    first = changed(family("bytes")["first"], tmp_path / "first", change)
    with pytest.raises(SourceError, match=r"^tokenizer.json of .*first cannot be read: .*save the tokenizer again"):
        make_plan(linear(first, first, **tokens)).require()


def test_no_expression_of_a_tokenizer_is_compiled_for_a_plan(family, tmp_path: Path) -> None:
    pattern = {"Regex": "(((((((a{1,999}){1,999}){1,999}){1,999}){1,999}){1,999}){1,999})("}
    cut = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    first = changed(family("bytes")["first"], tmp_path / "first", lambda d: d.update(pre_tokenizer=cut))
    make_plan(linear(first, first)).require()


@pytest.mark.parametrize("file", ["tokenizer.model", "tekken.json"])
@pytest.mark.parametrize("source", ["union", "base"])
def test_tokens_that_nobody_can_tell(file: str, source: str, family, tmp_path: Path) -> None:
    second = changed(family("bytes")["second"], tmp_path / "second", lambda _: None)
    (second / "tokenizer.json").unlink()
    (second / file).write_bytes(b"{}")
    with pytest.raises(HubmergeError, match=f"has {file} and no tokenizer.json.*load its tokenizer with transformers"):
        make_plan(linear(family("bytes")["first"], second, tokenizer_source=source)).require()


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"sorce": "base"}, "did you mean 'source'"),
        ({"source": 3}, "expected a model as text"),
        ({"tokens": {"<x>": {"source": {"kind": "zer"}}}}, "did you mean zero"),
        ({"tokens": {"<x>": {"source": {"kind": "model_token", "model": "a/b"}}}}, "either `token` or `token_id`"),
        ({"tokens": {"<x>": {"source": "a/b", "forced": True}}}, "did you mean 'force'"),
        ({"pad_to_multiple_of": 0}, "whole number from 1"),
        ({"pad_to_multiple_of": True}, "whole number from 1"),
    ],
)
def test_the_block_says_what_is_wrong_with_it(block: dict, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Recipe.from_dict({"merge_method": "linear", "models": [{"model": "a/b"}], "tokenizer": block})


def test_one_of_two_ways_to_name_a_tokenizer() -> None:
    with pytest.raises(RecipeError, match="write one of them"):
        linear(Path("./x"), tokenizer_source="base", tokenizer={"source": "base"})


def test_a_token_that_its_model_does_not_have(family) -> None:
    first, second = family("bytes")["first"], family("bytes")["second"]
    tokens = {"<s>": {"source": {"kind": "model_token", "model": str(second), "token": "<nowhere>"}}}
    with pytest.raises(RecipeError, match="has no row for the token '<nowhere>'"):
        make_plan(linear(first, second, tokenizer={"source": "base", "tokens": tokens})).require()


def test_a_stage_hands_its_vocabulary_on(family, tmp_path: Path) -> None:
    first, other, second = (family("unigram")[name] for name in ("first", "other", "second"))
    stage = {"name": "known", **linear(first, second, tokenizer_source="union").to_dict()}
    last = linear(tmp_path, other, tokenizer_source="base").to_dict()
    last["models"][0]["model"] = "stage:known"
    merge(Recipe.from_dict({"stages": [stage], **last}), tmp_path / "staged")
    merge(linear(first, second, tokenizer_source="union"), tmp_path / "known")
    merge(linear(tmp_path / "known", other, tokenizer_source="base"), tmp_path / "twice")
    staged, twice = weights(tmp_path / "staged"), weights(tmp_path / "twice")
    assert staged.keys() == twice.keys() and all(torch.equal(staged[name], twice[name]) for name in twice)
    assert numbers(tmp_path / "staged") == numbers(tmp_path / "known")


def test_a_stack_takes_each_end_by_token(family, tmp_path: Path) -> None:
    first, other = family("bytes")["first"], family("bytes")["other"]
    slices = [{"sources": [{"model": str(one), "layer_range": [0, 2]}]} for one in (first, other)]
    merge(
        Recipe.from_dict({"merge_method": "passthrough", "slices": slices, "tokenizer_source": "base"}),
        tmp_path / "out",
    )
    found, own = weights(tmp_path / "out"), weights(first)
    assert torch.equal(found[EMBEDDING], own[EMBEDDING]) and torch.equal(found[HEAD], own[HEAD])


def test_answers_end_as_the_template_does(family, tmp_path: Path) -> None:
    """`chat_template: auto` takes a template, and with it the token that ends an answer there."""
    first, second = family("bytes")["first"], family("bytes")["second"]
    chat = changed(second, tmp_path / "chat", lambda _: None)
    (chat / "chat_template.jinja").write_text("{{ messages[0]['content'] }}<|im_end|>")
    for file in ("config.json", "generation_config.json"):
        settings = json.loads((chat / file).read_text())
        (chat / file).write_text(json.dumps({**settings, "eos_token_id": numbers(chat)["<|im_end|>"]}))
    recipe = linear(first, chat, tokenizer_source="union", chat_template="auto")
    merge(recipe, tmp_path / "out")
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    ids = numbers(tmp_path / "out")
    assert generation["eos_token_id"] == [ids["</s>"], ids["<|im_end|>"]]
    assert any("ends answers with <|im_end|> too" in finding.message for finding in make_plan(recipe).findings)


def test_merged_again_and_broken_off(family, tmp_path: Path) -> None:
    """A merge by token that broke goes on to the same bytes, and gives them again."""
    first, second = family("bytes")["first"], family("bytes")["second"]
    recipe = linear(first, second, tokenizer_source="union")

    def stop(event) -> None:
        if event.note == HEAD:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(recipe, tmp_path / "out", shard_size=20_000, progress=stop)
    result = merge(recipe, tmp_path / "out", shard_size=20_000)
    assert result.tensors == merge(recipe, tmp_path / "whole").tensors
    assert verify(ModelRef(str(tmp_path / "out")), recompute=True).ok


def test_a_candidate_of_a_search_has_the_rows_that_are_written(family, tmp_path: Path) -> None:
    from hubmerge.evolve.workers.resident import ResidentModel

    first, second = family("wordpiece")["first"], family("wordpiece")["second"]
    recipe = linear(first, second, tokenizer_source="union")
    resident = ResidentModel(make_plan(linear(first, second, weight=0.25, tokenizer_source="union")), device="cpu")
    resident.load(recipe)
    merge(recipe, tmp_path / "out")
    state = resident.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in weights(tmp_path / "out").items())
    assert resident.tokenizer.get_vocab() == numbers(tmp_path / "out")


def test_a_bias_of_the_head_goes_with_its_token(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    one, two = tokenizer("wordpiece", FIRST), tokenizer("wordpiece", SECOND)
    folders = []
    for seed, spoken in enumerate((one, two)):
        torch.manual_seed(seed)
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        bert = BertForMaskedLM(BertConfig(vocab_size=len(spoken), max_position_embeddings=16, **sizes))
        folders.append(tmp_path / str(seed))
        bert.save_pretrained(folders[-1])
        spoken.save_pretrained(folders[-1])
        rewrite(folders[-1], {"cls.predictions.bias": torch.randn(len(spoken))})
    merge(linear(*folders, tokenizer_source="union"), tmp_path / "out")
    found, first, second = (by_text(folder, "cls.predictions.bias") for folder in (tmp_path / "out", *folders))
    for text, bias in found.items():
        known = [rows[text] for rows in (first, second) if text in rows]
        torch.testing.assert_close(bias, sum(known) / len(known), rtol=0, atol=1e-7)


def test_a_token_behind_the_rows_of_its_model_is_none_of_the_union(tmp_path: Path) -> None:
    spoken = tokenizer("bytes", FIRST)
    base = model(tmp_path / "base", spoken, 1)
    spoken.add_tokens(["<unused>"])
    padded = model(tmp_path / "padded", spoken, 2, rows=len(spoken) - 1)
    chat = model(tmp_path / "chat", tokenizer("bytes", FIRST, ["<|im_end|>"]), 3)
    merge(linear(base, padded, chat, tokenizer_source="union"), tmp_path / "out")
    found = by_text(tmp_path / "out", EMBEDDING)
    assert "<unused>" not in found and "<|im_end|>" in found


def test_the_shortest_of_vocabularies_merged_by_number(tmp_path: Path) -> None:
    listed = [f"w{number}" for number in range(12)]
    long, short = words(tmp_path / "long", listed, 1), words(tmp_path / "short", listed[:9], 2)
    for untold in (long, short):
        (untold / "tokenizer.json").unlink()
    result = merge(linear(long, short, tokenizer_source="shortest"), tmp_path / "out")
    assert any("tokens are not compared" in finding.message for finding in result.plan.warnings)
    assert result.plan.config["vocab_size"] == 9
    out, first, second = weights(tmp_path / "out"), weights(long), weights(short)
    for name in (EMBEDDING, HEAD):
        torch.testing.assert_close(out[name], (first[name][:9] + second[name]) / 2, rtol=0, atol=1e-6)
    with pytest.raises(RecipeError, match="neither `tokens` nor"):
        linear(long, short, tokenizer={"source": "shortest", "pad_to_multiple_of": 8})


def test_a_tokenizer_longer_than_the_shortest_is_refused(tmp_path: Path) -> None:
    listed = [f"w{number}" for number in range(12)]
    long, short = words(tmp_path / "long", listed, 1), words(tmp_path / "short", listed[:9], 2)
    with pytest.raises(HubmergeError, match="token with the number 11"):
        make_plan(linear(long, short, tokenizer_source="shortest")).require()


def test_a_plain_model_beside_one_that_sees(family, tmp_path: Path) -> None:
    """Tokens of pictures are the seeing one's alone; nothing has to be said of tokenizers."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    plain = model(tmp_path / "plain", tokenizer("bytes", FIRST), 5)
    spoken = tokenizer("bytes", FIRST, ["<image>"])
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        text_config=LlamaConfig(vocab_size=len(spoken) + 5, max_position_embeddings=64, num_key_value_heads=2, **sizes),
        vision_config=CLIPVisionConfig(image_size=16, patch_size=8, projection_dim=8, **sizes),
        image_token_index=spoken.get_vocab()["<image>"],
    )
    torch.manual_seed(6)
    LlavaForConditionalGeneration(config).save_pretrained(tmp_path / "vlm")
    spoken.save_pretrained(tmp_path / "vlm")
    entries = [{"model": f"{tmp_path / 'vlm'}#language_model"}, {"model": str(plain)}]
    recipe = {"merge_method": "linear", "models": entries}
    merge(Recipe.from_dict(recipe), tmp_path / "out")
    [name] = [name for name in weights(tmp_path / "vlm") if name.endswith("embed_tokens.weight")]
    found, seeing, own = (
        weights(tmp_path / one)[EMBEDDING if one == "plain" else name] for one in ("out", "vlm", "plain")
    )
    assert found.shape == seeing.shape
    torch.testing.assert_close(found[: len(own)], (seeing[: len(own)] + own) / 2)
    assert torch.equal(found[len(own) :], seeing[len(own) :])
    assert json.loads((tmp_path / "out" / "config.json").read_text())["image_token_index"] == len(own)
    # With the plain one's order of tokens, the picture's has another number, or there is none.
    with pytest.raises(HubmergeError, match="is the token '<image>', which the result has not"):
        make_plan(Recipe.from_dict({**recipe, "tokenizer_source": str(plain)})).require()
    turned = permuted(plain, tmp_path / "turned")
    moved = {**recipe, "models": [entries[0], {"model": str(turned)}]}
    moved["tokenizer"] = {"source": str(turned), "tokens": {"<image>": {"source": entries[0]["model"]}}}
    merge(Recipe.from_dict(moved), tmp_path / "moved")
    index = json.loads((tmp_path / "moved" / "config.json").read_text())["image_token_index"]
    assert index == numbers(tmp_path / "moved")["<image>"]
    assert torch.equal(weights(tmp_path / "moved")[name][index], seeing[len(own)])
