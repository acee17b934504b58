"""The files that are written, in llama.cpp itself: the same logits, tokens and answers as in transformers.

llama.cpp keeps keys and values in float16, which makes the differences of a few ten-thousandths.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from ggufmodels import MODELS, build, bytewise, pieces
from transformers import AutoModelForCausalLM, AutoTokenizer

from hubmerge.gguf.conversion import plan_gguf, write_gguf
from hubmerge.gguf.texts import TEXTS
from hubmerge.hub import open_source
from hubmerge.hub.gguf.splits import DISTINCT
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
