"""The files that are written, in llama.cpp itself: the same logits, tokens and answers as in transformers.

llama.cpp keeps keys and values in float16, which makes the differences of a few ten-thousandths.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from ggufmodels import MODELS, build, bytewise, pieces, sentencepiece
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from hubmerge.gguf.conversion import plan_gguf, write_gguf
from hubmerge.gguf.texts import TEXTS, around
from hubmerge.hub import open_source
from hubmerge.hub.gguf.splits import DISTINCT
from hubmerge.hub.source import open_alone
from hubmerge.zoo import word_problems

pytest.importorskip("gguf", reason="the extra gguf is not installed")
llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

ZOO = Path(__file__).parent.parent / "hubmerge" / "zoo" / "checkpoints"


def opened(folder: Path, kind: str, **how):
    file = folder.with_name("made.gguf")
    write_gguf(plan_gguf(open_source(str(folder)), kind), file)
    return llama_cpp.Llama(str(file), verbose=False, n_threads=1, **how)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_logits(name: str, tmp_path: Path) -> None:
    folder, model = build(tmp_path / "own", name)
    ids = bytewise()(TEXTS[0], add_special_tokens=False)["input_ids"][:32]
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0].numpy()
    theirs = opened(folder, "F32", n_ctx=64, logits_all=True)
    theirs.eval(ids)
    found = np.array(theirs.scores[: len(ids)])
    np.testing.assert_allclose(found, expected, atol=3e-3 * np.abs(expected).max())
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.9


@pytest.mark.parametrize("make", [*DISTINCT, pieces])
def test_the_same_tokens(make, tmp_path: Path) -> None:
    own = bytewise(make) if isinstance(make, str) else make()
    folder, _ = build(tmp_path / "own", "llama", own)
    theirs = opened(folder, "F32", vocab_only=True)
    for text in TEXTS:
        found = theirs.tokenize(text.encode(), add_bos=own is pieces(), special=True)
        assert found == own(text)["input_ids"], text


def added(make, *tokens: AddedToken | str, normalizer=None):
    core = Tokenizer.from_str(make().backend_tokenizer.to_str())
    core.add_tokens(list(tokens))
    core.normalizer = normalizer or core.normalizer
    return type(make())(tokenizer_object=core, eos_token=make().eos_token)


PHI = [AddedToken(one, rstrip=True, normalized=False, special=True) for one in ("</s>", "<|user|>", "<|end|>")]


@pytest.mark.parametrize(
    "own",
    [
        lambda: added(bytewise, "<foo>"),
        lambda: added(
            pieces, AddedToken("<foo>", normalized=False), AddedToken("<|a|>", normalized=False, special=True)
        ),
        lambda: added(lambda: pieces(False), *(AddedToken("▁" * n, normalized=False) for n in (2, 3)), "\n\n"),
        lambda: added(pieces, *PHI, AddedToken("<|endoftext|>", normalized=False, special=True)),
    ],
    ids=["bytes", "pieces", "runs", "phi-3"],
)
def test_the_same_tokens_around_added_ones(own, tmp_path: Path) -> None:
    tokenizer = own()
    folder, _ = build(tmp_path / "phi3", "llama", tokenizer)
    theirs = opened(folder, "F32", vocab_only=True)
    for text in (*TEXTS, *(around(one) for one in tokenizer.get_added_vocab())):
        found = theirs.tokenize(text.encode(), add_bos=False, special=True)
        assert found == tokenizer(text, add_special_tokens=False)["input_ids"], text


@pytest.mark.parametrize(
    "make", [lambda: added(lambda: bytewise("qwen2"), normalizer=normalizers.NFC()), lambda: metaspace("first")]
)
def test_what_is_read_back_is_what_llama_cpp_does(make, tmp_path: Path) -> None:
    """Where it does otherwise than the model's own tokenizer, which is told."""
    folder, _ = build(tmp_path / "own", "llama", make())
    assert plan_gguf(open_source(str(folder)), "F32").remarks
    theirs = opened(folder, "F32", vocab_only=True)
    made = Tokenizer.from_str(open_alone(folder.with_name("made.gguf")).listing.read_bytes("tokenizer.json").decode())
    for text in (*TEXTS, *(around(one.content) for one in made.get_added_tokens_decoder().values())):
        found = theirs.tokenize(text.encode(), add_bos=False, special=True)
        assert found == made.encode(text, add_special_tokens=False).ids, text


def test_the_file_of_sentencepiece_alone(tmp_path: Path) -> None:
    folder, _ = build(tmp_path / "own", "llama", pieces())
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(sentencepiece(pieces()))
    theirs = opened(folder, "F32", vocab_only=True)
    for text in TEXTS:
        assert theirs.tokenize(text.encode(), add_bos=True, special=True) == pieces()(text)["input_ids"], text


def metaspace(scheme: str):
    core = Tokenizer.from_str(pieces().backend_tokenizer.to_str())
    core.normalizer, core.pre_tokenizer = None, pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    return type(pieces())(tokenizer_object=core, eos_token="</s>")


def test_the_zoo_answers_alike(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(ZOO / "math", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(ZOO / "math")
    file = tmp_path / "math.gguf"
    write_gguf(plan_gguf(open_source(str(ZOO / "math")), "F16"), file)
    theirs = llama_cpp.Llama(str(file), verbose=False, n_threads=1, n_ctx=256)
    for problem in word_problems.problems("test", 8, "en"):
        asked = [{"role": "user", "content": problem.question}]
        prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        answer = model.generate(**prompt, max_new_tokens=32, do_sample=False)[0, prompt["input_ids"].shape[1] :]
        said = theirs.create_chat_completion(asked, max_tokens=32, temperature=0.0)["choices"][0]["message"]["content"]
        assert said == tokenizer.decode(answer, skip_special_tokens=True)
