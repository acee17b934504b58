"""Likelihoods in batches equal a plain loop, and decide multiple choice and perplexity."""

import math
from typing import Any

import pytest
import torch

from hubmerge.errors import TaskError
from hubmerge.evaluate import likelihood
from hubmerge.evaluate.likelihood import loglikelihoods
from hubmerge.evaluate.models import load_model
from hubmerge.evaluate.score import evaluate
from hubmerge.evaluate.task import Example, Task, load_task

PAIRS = [("w1 w2", "3 w4"), ("w3", "5"), ("w4 w5 w6 w7 w8 w9 10", "11 12 13 14 w1"), ("1 2 3", "4"), ("w20 w21", "w22")]
EXAMPLES = tuple(Example(prompt, answer) for prompt, answer in PAIRS)


@pytest.fixture(scope="module")
def loaded(siblings):
    return load_model(str(siblings["math"]), dtype="float32")


@torch.no_grad()
def plain(model, context: list[int], answer: list[int]) -> float:
    """log p as the definition says: one token after the other, no batch, no padding."""
    total, ids = 0.0, list(context)
    for token in answer:
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        total += float(logits.double().log_softmax(0)[token])
        ids.append(token)
    return total


def template(prompt: str) -> str:
    return f"<s> {prompt} <unk> "


def per_token(model: Any, tokenizer: Any, **how: Any) -> list[float]:
    """The mean log p per token of each example's answer."""
    pairs = [(example.prompt, example.answer) for example in EXAMPLES]
    return [one.total / one.tokens for one in loglikelihoods(model, tokenizer, pairs, **how)]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batches_score_like_one_token_after_the_other(loaded, batch_size: int) -> None:
    model, tokenizer = loaded
    encode = tokenizer.convert_tokens_to_ids
    expected = [plain(model, encode(template(p).split()), encode(a.split())) / len(a.split()) for p, a in PAIRS]
    events = []
    found = per_token(model, tokenizer, batch_size=batch_size, progress=events.append)
    assert found == pytest.approx(expected, abs=1e-5)
    assert max(found) < 0
    assert (events[-1].done, events[-1].total) == (5, 5)


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "gemma3", "bloom"])
def test_padding_counts_in_no_architecture(family: str, tiny_tokenizer, monkeypatch) -> None:
    from transformers import (
        BloomConfig,
        BloomForCausalLM,
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        GPT2Config,
        GPT2LMHeadModel,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    sizes = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    more = {"num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 32}
    build = {
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=64)),
        "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**sizes, **more)),
        "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**sizes, **more, sliding_window=4)),
        "bloom": lambda: BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=16, n_layer=2, n_head=2)),
    }
    torch.manual_seed(0)
    model = build[family]().eval()
    together = loglikelihoods(model, tiny_tokenizer, PAIRS)
    alone = [loglikelihoods(model, tiny_tokenizer, [pair])[0] for pair in PAIRS]
    assert [found.total for found in together] == pytest.approx([found.total for found in alone], abs=1e-4)
    # A batch whose logits would not fit into memory is cut; a model that cannot leave logits out gives all.
    monkeypatch.setattr(likelihood, "_MOST_LOGITS", 64 * 8)
    forward = model.forward

    def all_logits(input_ids, attention_mask, use_cache):
        return forward(input_ids=input_ids, attention_mask=attention_mask)

    monkeypatch.setattr(model, "forward", all_logits)
    cut = loglikelihoods(model, tiny_tokenizer, PAIRS)
    assert [found.total for found in cut] == pytest.approx([found.total for found in alone], abs=1e-4)


def test_text_alone_is_predicted_from_the_token_that_begins_texts(loaded) -> None:
    model, tokenizer = loaded
    ids = tokenizer.convert_tokens_to_ids(["<s>", "w1", "2", "w3"])
    (found,) = loglikelihoods(model, tokenizer, [("", "w1 2 w3")])
    assert found.tokens == 3
    assert found.total == pytest.approx(plain(model, ids[:1], ids[1:]), abs=1e-5)


def test_without_template_a_space_parts_prompt_and_text_where_the_script_has_them(loaded) -> None:
    seen = []

    class Spy:
        chat_template = None
        bos_token_id, eos_token_id, pad_token_id = 1, 2, 0

        def __call__(self, text: list[str], add_special_tokens: bool) -> dict:
            seen.extend(text)
            return {"input_ids": [[ord(char) % 60 for char in one] for one in text]}

    loglikelihoods(loaded[0], Spy(), [("w1", "w2"), ("w1 ", "w2"), ("w1 答え：", "w2")])
    assert seen[3:] == ["w1 w2", "w1 w2", "w1 答え：w2"]


def test_what_cannot_be_scored_is_refused(loaded) -> None:
    with pytest.raises(TaskError, match="reads at most 128"):
        loglikelihoods(*loaded, [("w1", "w2 " * 130)])
    with pytest.raises(TaskError, match="no tokens to score"):
        loglikelihoods(*loaded, [("w1", " ")])


def test_the_likeliest_choice_is_chosen(loaded) -> None:
    model, tokenizer = loaded
    choices = ("w1 w2 w3 w4", "5", "w17 12")
    encode = tokenizer.convert_tokens_to_ids
    sums = {c: plain(model, encode(template("w1 5").split()), encode(c.split())) for c in choices}
    by_length = {c: total / len(c) for c, total in sums.items()}
    best, best_sum = max(by_length, key=by_length.__getitem__), max(sums, key=sums.__getitem__)
    assert best != best_sum
    for metric, right in (("loglikelihood", best), ("loglikelihood_sum", best_sum)):
        examples = tuple(Example("w1 5", answer, choices) for answer in choices)
        task = Task("t", test=examples[:1], metric=metric)
        scores = evaluate(model, tokenizer, examples, task)
        assert scores.values == tuple(float(choice == right) for choice in choices)
        assert set(scores.outputs) == {right}
        assert scores.tokens == 3 * 7


def test_perplexity_is_a_probability_per_token_or_byte(loaded) -> None:
    model, tokenizer = loaded
    answers = per_token(model, tokenizer)
    for metric, length in (("perplexity", lambda a: len(a.split())), ("byte_perplexity", lambda a: len(a.encode()))):
        task = Task("t", test=EXAMPLES, metric=metric)
        scores = evaluate(model, tokenizer, task.test, task)
        expected = [
            math.exp(mean * len(e.answer.split()) / length(e.answer)) for mean, e in zip(answers, EXAMPLES, strict=True)
        ]
        assert scores.values == pytest.approx(expected, rel=1e-5)
        assert 0 < scores.interval[0] < scores.score < scores.interval[1] < 1


def test_a_split_can_be_asked_in_pieces(loaded) -> None:
    task = load_task(
        {"examples": {"test": [{"text": answer} for _, answer in PAIRS]}, "prompt": "", "answer": "{text}"}
        | {"metric": "perplexity"}
    )
    whole = evaluate(*loaded, task.test, task)
    pieces = [evaluate(*loaded, task.test[at : at + 2], task) for at in (0, 2, 4)]
    assert [value for piece in pieces for value in piece.values] == pytest.approx(list(whole.values), rel=1e-5)
    assert sum(piece.tokens for piece in pieces) == whole.tokens
