"""Tokenizers as keys of a GGUF header and back: the same numbers for all texts, or a sentence."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from ggufmodels import ROWS, SPECIAL, TEMPLATE, bytewise, pieces, sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from transformers import AutoTokenizer

from hubmerge.errors import SourceError
from hubmerge.gguf.sentencepiece import tokenizer_of
from hubmerge.gguf.texts import TEXTS, around
from hubmerge.gguf.tokens import keys_of
from hubmerge.hub import open_source
from hubmerge.hub.gguf.header import Header
from hubmerge.hub.gguf.splits import DISTINCT, GPT_2, SPLITS, Split, expressions
from hubmerge.hub.gguf.vocabulary import CONTROL, UNUSED, USER_DEFINED, files_of
from hubmerge.stream.carried import Carried
from hubmerge.zoo.tokenizer import WORDS


def keys(tokenizer, like: Path, out: Path, name: str = "it") -> dict:
    """The keys of a header for a model of a `name` that has the tokenizer."""
    tokenizer.save_pretrained(out)
    for file in ("config.json", "model.safetensors"):
        (out / file).write_bytes((like / file).read_bytes())
    return keys_of(Carried(open_source(str(out))), {}, ROWS, "it", name).keys


def back(told: dict, out: Path):
    """The tokenizer that transformers reads of what a header tells."""
    out.mkdir()
    for name, content in files_of(Header(told, {}, ()), {"model_type": "llama"}, "it").items():
        (out / name).write_bytes(content)
    return AutoTokenizer.from_pretrained(out)


@pytest.mark.parametrize("name", DISTINCT)
def test_bytewise_and_back(name: str, siblings, tmp_path: Path) -> None:
    own = bytewise(name)
    told = keys(own, siblings["base"], tmp_path / "own")
    assert (told["tokenizer.ggml.model"], told["tokenizer.ggml.pre"]) == ("gpt2", name)
    again = back(told, tmp_path / "again")
    said = [one.apply_chat_template([{"role": "user", "content": "It's 121."}], tokenize=False) for one in (own, again)]
    assert said[0] == said[1]
    for text in (*TEXTS, said[0]):
        assert again(text)["input_ids"] == own(text)["input_ids"]
        assert again.decode(again(text)["input_ids"]) == own.decode(own(text)["input_ids"])
    assert (again.bos_token, again.eos_token) == (own.bos_token, own.eos_token)


@pytest.mark.parametrize("begins", [True, False])
def test_pieces_and_back(begins: bool, siblings, tmp_path: Path) -> None:
    own = pieces(begins)
    told = keys(own, siblings["base"], tmp_path / "own")
    assert (told["tokenizer.ggml.model"], told["tokenizer.ggml.add_space_prefix"]) == ("llama", begins)
    assert told["tokenizer.ggml.add_bos_token"] is True and told["tokenizer.ggml.unknown_token_id"] == 0
    again = back(told, tmp_path / "again")
    for text in TEXTS:
        assert again(text)["input_ids"] == own(text)["input_ids"]
        assert again.decode(again(text)["input_ids"]) == own.decode(own(text)["input_ids"])


def test_what_is_told_of_tokens(siblings, tmp_path: Path) -> None:
    own = Tokenizer.from_str(bytewise().backend_tokenizer.to_str())
    own.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    tokenizer = type(bytewise())(tokenizer_object=own, eos_token=SPECIAL[1], pad_token=SPECIAL[2])
    tokenizer.chat_template = TEMPLATE
    told = keys(tokenizer, siblings["base"], tmp_path / "own")
    kinds, tokens = told["tokenizer.ggml.token_type"], told["tokenizer.ggml.tokens"]
    thought = tokens.index("<think>")
    assert kinds[:3] == [CONTROL] * 3 and kinds[thought] == USER_DEFINED
    assert len(tokens) == ROWS and kinds[-1] == UNUSED and tokens[-1] == f"[PAD{ROWS - 1}]"
    assert told["tokenizer.chat_template"] == TEMPLATE and told["tokenizer.ggml.padding_token_id"] == 2
    again = back(told, tmp_path / "again")
    assert again("a<think>b")["input_ids"] == tokenizer("a<think>b")["input_ids"]
    assert len(again) == thought + 1, "rows without a token are none for transformers"
    made = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    assert made["eos_token_id"] == [1] and made["pad_token_id"] == 2


def test_what_is_written_otherwise_and_cuts_alike(siblings, tmp_path: Path) -> None:
    own = Tokenizer.from_str(bytewise().backend_tokenizer.to_str())
    # The same with an alternative that never matches.
    own.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(f"(?!.)x|{GPT_2}"), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    told = keys(type(bytewise())(tokenizer_object=own), siblings["base"], tmp_path / "own")
    assert told["tokenizer.ggml.pre"] == "gpt-2"


def test_what_llama_cpp_cannot_cut(siblings, tmp_path: Path) -> None:
    own = Tokenizer.from_str(bytewise().backend_tokenizer.to_str())
    own.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(WORDS), "isolated"), pre_tokenizers.ByteLevel(False)]
    )
    with pytest.raises(SourceError, match=r"the nearest of those it has \(.*\), \d+ of \d+ texts"):
        keys(type(bytewise())(tokenizer_object=own), siblings["base"], tmp_path / "own")


def changed(tokenizer, *tokens: AddedToken | str, **parts):
    """The tokenizer with tokens added and parts of it put in."""
    core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    for name, part in parts.items():
        setattr(core, name, part)
    core.add_tokens(list(tokens))
    return type(tokenizer)(tokenizer_object=core, eos_token=tokenizer.eos_token)


@pytest.mark.parametrize(
    ("make", "how", "named"),
    [
        (pieces, {}, "normalized"),
        (bytewise, {"rstrip": True}, "rstrip"),
        (bytewise, {"lstrip": True}, "lstrip"),
        (bytewise, {"single_word": True}, "single_word"),
        (pieces, {"single_word": True, "normalized": False}, "single_word"),
    ],
)
def test_an_added_token_that_llama_cpp_finds_otherwise(make, how: dict, named: str, siblings, tmp_path: Path) -> None:
    own = changed(make(), AddedToken("<foo>", **how), AddedToken("<bar>", normalized=False))
    with pytest.raises(SourceError, match=rf"the added token '<foo>', which .* it knows no {named}\. Where"):
        keys(own, siblings["base"], tmp_path / "own")


def test_added_tokens_that_llama_cpp_finds_alike(siblings, tmp_path: Path) -> None:
    for number, own in enumerate(
        [
            changed(bytewise(), "<foo>", AddedToken("<bar>", normalized=False)),
            changed(pieces(), AddedToken("<foo>", normalized=False)),
            changed(pieces(False), AddedToken("▁▁", normalized=False), "\n\n"),
        ]
    ):
        again = back(keys(own, siblings["base"], tmp_path / f"own{number}"), tmp_path / f"again{number}")
        for text in (*TEXTS, *map(around, own.get_added_vocab())):
            found = again(text, add_special_tokens=False)["input_ids"]
            assert found == own(text, add_special_tokens=False)["input_ids"], text


def test_spaces_after_tokens_go_by_the_name(siblings, tmp_path: Path) -> None:
    stripped = [AddedToken(one, rstrip=True, normalized=False, special=True) for one in ("</s>", "<|user|>")]
    own = changed(pieces(), *stripped, AddedToken("<|endoftext|>", normalized=False, special=True))
    told = keys(own, siblings["base"], tmp_path / "own")
    assert told["general.name"] == "it (Phi-3)"
    again = back(told, tmp_path / "again")
    for text in map(around, own.get_added_vocab()):
        found = again(text, add_special_tokens=False)["input_ids"]
        assert found == own(text, add_special_tokens=False)["input_ids"], text
    # llama.cpp does not open another model of that name.
    assert keys(bytewise(), siblings["base"], tmp_path / "other", "My-Phi3")["general.name"] == "My-Phi 3"
    assert keys(bytewise(), siblings["base"], tmp_path / "other", "mine")["general.name"] == "mine"


def test_what_is_only_said(siblings, tmp_path: Path) -> None:
    def remarks(own) -> tuple[str, ...]:
        own.save_pretrained(tmp_path)
        for name in ("config.json", "model.safetensors"):
            (tmp_path / name).write_bytes((siblings["base"] / name).read_bytes())
        return keys_of(Carried(open_source(str(tmp_path))), {}, ROWS, "it").remarks

    assert remarks(pieces()) == remarks(bytewise()) == ()
    (said,) = remarks(changed(bytewise("qwen2"), normalizer=normalizers.NFC()))
    assert said == "llama.cpp leaves letters and accents apart, which the model's own tokenizer composes (NFC)."
    for scheme, where in (("first", "begins with a space and after each special token"), ("always", "with a space")):
        own = changed(
            pieces(),
            "<foo>",
            normalizer=None,
            pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False),
        )
        (said,) = remarks(own)
        assert f"{where} llama.cpp puts one more" in said


def alone(tokenizer, like: Path, out: Path, content: bytes) -> Path:
    """A model with SentencePiece's own file in place of tokenizer.json."""
    keys(tokenizer, like, out)
    (out / "tokenizer.json").unlink()
    (out / "tokenizer.model").write_bytes(content)
    return out


@pytest.mark.parametrize("begins", [True, False])
def test_the_file_of_sentencepiece_alone(begins: bool, siblings, tmp_path: Path) -> None:
    own = pieces(begins)
    folder = alone(own, siblings["base"], tmp_path / "own", sentencepiece(own, begins))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    count = len(own)
    settings["added_tokens_decoder"] = {
        str(count): {"content": "<|user|>", "special": True},
        str(count + 2): {"content": "<think>", "special": False},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    told = keys_of(Carried(open_source(str(folder))), {}, ROWS, "it").keys
    assert told["tokenizer.ggml.tokens"][count : count + 3] == ["<|user|>", f"[PAD{count + 1}]", "<think>"]
    assert told["tokenizer.ggml.token_type"][count : count + 3] == [CONTROL, UNUSED, USER_DEFINED]
    assert told["tokenizer.ggml.add_space_prefix"] is begins
    again = back(told, tmp_path / "again")
    for text in TEXTS:
        assert again(text)["input_ids"] == own(text)["input_ids"], text
    assert again("a<think>")["input_ids"][-1] == count + 2
    settings["added_tokens_decoder"][str(count)]["rstrip"] = True
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(SourceError, match=r"the added token '<\|user\|>', which .* knows no rstrip"):
        keys_of(Carried(open_source(str(folder))), {}, ROWS, "it")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"kind": 1}, "is of the kind Unigram, words or characters; BPE is written"),
        ({"charsmap": b"abc"}, "changes characters"),
        ({"extra": 1}, "drops spaces that follow another"),
        (None, "is not SentencePiece's"),
    ],
)
def test_a_file_of_sentencepiece_that_llama_cpp_reads_otherwise(how, reason: str, siblings, tmp_path: Path) -> None:
    content = b"IQ== 0\nIg== 1\n" if how is None else sentencepiece(pieces(), **how)
    folder = alone(pieces(), siblings["base"], tmp_path / "own", content)
    with pytest.raises(SourceError, match=rf"^tokenizer\.model of it {reason}"):
        keys_of(Carried(open_source(str(folder))), {}, ROWS, "it")


def test_no_cut_of_a_file_of_sentencepiece_is_a_traceback(siblings, tmp_path: Path) -> None:
    content = sentencepiece(pieces())
    for size in (*range(60), *range(60, len(content), 331)):
        with suppress(SourceError):
            tokenizer_of({"tokenizer.model": content[:size]}, {}, "it")


def test_a_tokenizer_of_another_kind_is_refused(siblings) -> None:
    with pytest.raises(SourceError, match="a tokenizer of the kind WordLevel, which is not written as GGUF; BPE is"):
        keys_of(Carried(open_source(str(siblings["base"]))), {}, 64, "it")


def test_too_few_rows(siblings, tmp_path: Path) -> None:
    keys(bytewise(), siblings["base"], tmp_path / "own")
    with pytest.raises(SourceError, match="has a token with the number 514, and 500 rows"):
        keys_of(Carried(open_source(str(tmp_path / "own"))), {}, 500, "it")


BYTES = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": ["a", "b", "ab"],
    "tokenizer.ggml.merges": ["a b"],
}


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        ({"tokenizer.ggml.tokens": ["a", "a", "ab"]}, "two tokens that are the same"),
        ({"tokenizer.ggml.tokens": []}, "without tokens, or without their kinds"),
        ({"tokenizer.ggml.tokens": [1, 2, 3]}, "without tokens, or without their kinds"),
        ({"tokenizer.ggml.token_type": [1]}, "without tokens, or without their kinds"),
        ({"tokenizer.ggml.merges": ["a c"]}, "joins .* which are no tokens of it"),
        ({"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": [1.0]}, "1 scores of 3 tokens"),
    ],
)
def test_a_damaged_tokenizer(harm: dict, reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        files_of(Header({**BYTES, **harm}, {}, ()), {}, "it")


@pytest.mark.parametrize("other", [{"tokenizer.ggml.model": "bert"}, {"tokenizer.ggml.pre": "made-up"}])
def test_a_tokenizer_that_is_not_read_is_none(other: dict) -> None:
    assert files_of(Header({**BYTES, **other}, {}, ()), {}, "it").keys() == {"config.json"}
    assert "tokenizer.json" in files_of(Header(BYTES, {}, ()), {}, "it")


def test_expressions_of_other_steps() -> None:
    assert expressions({"type": "Whitespace"}) is None and expressions(None) is None
    assert expressions({"type": "ByteLevel", "add_prefix_space": True}) is None
    assert Split((GPT_2,)) == SPLITS["gpt-2"]


def test_a_tokenizer_of_bytes_without_its_merges_is_refused() -> None:
    told = {"model": "gpt2", "pre": next(iter(SPLITS)), "tokens": ["a", "b", "ab"]}
    values = {f"tokenizer.ggml.{key}": value for key, value in told.items()}
    with pytest.raises(SourceError, match=r"^it has a tokenizer of bytes without tokenizer\.ggml\.merges"):
        files_of(Header(values, {}, ()), {}, "it")
    files_of(Header({**values, "tokenizer.ggml.merges": ["a b"]}, {}, ()), {}, "it")
