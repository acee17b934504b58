"""Batched answers equal one-by-one greedy decoding; loading, scoring and the streamed chat."""

import gc
import json
import logging
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from hubmerge.errors import NotFoundError, ResourceError, SourceError, TaskError
from hubmerge.evaluate import apart
from hubmerge.evaluate.generation import answers, generate, prompt_texts, stream_chat
from hubmerge.evaluate.lengths import longest
from hubmerge.evaluate.models import load_model, load_tokenizer
from hubmerge.evaluate.score import evaluate, grade
from hubmerge.evaluate.spool import spool_root
from hubmerge.evaluate.task import Example, Task, load_task
from hubmerge.hub import open_source
from hubmerge.stream.carried import Carried

PROMPTS = ["w1 w2", "w3", "w4 w5 w6 w7 w8 w9 10", "1 2 3", "w20 w21 5", "29"]


@pytest.fixture(scope="module")
def loaded(siblings):
    return load_model(str(siblings["math"]), dtype="float32")


@torch.no_grad()
def naive(model, tokenizer, prompt: str, max_new_tokens: int, end: int) -> list[int]:
    """Greedy decoding as the definition says: no batch, no cache, no padding. The end token is part of it."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    new: list[int] = []
    while len(new) < max_new_tokens and end not in new:
        new.append(int(model(input_ids=torch.tensor([ids + new]), use_cache=False).logits[0, -1].argmax()))
    return new


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_batches_answer_like_one_by_one(loaded, batch_size: int) -> None:
    model, tokenizer = loaded
    made = [naive(model, tokenizer, prompt, 12, tokenizer.eos_token_id) for prompt in PROMPTS]
    expected = [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in made]
    assert len(set(expected)) > 1
    events = []
    made = generate(model, tokenizer, PROMPTS, max_new_tokens=12, batch_size=batch_size, progress=events.append)
    assert made == expected
    assert (events[-1].done, events[-1].total) == (len(PROMPTS), len(PROMPTS))


def test_tokens_are_counted_up_to_each_end(loaded, monkeypatch) -> None:
    model, tokenizer = loaded
    end = tokenizer.convert_tokens_to_ids("w18")
    monkeypatch.setattr(model.generation_config, "eos_token_id", end)
    counts = [len(naive(model, tokenizer, prompt, 12, end)) for prompt in PROMPTS]
    assert min(counts) < max(counts) == 12
    made = sorted(answers(model, tokenizer, PROMPTS, max_new_tokens=12), key=lambda answer: answer.index)
    assert max(answer.tokens for answer in made) == sum(counts)
    assert [answer.text for answer in made] == generate(model, tokenizer, PROMPTS, max_new_tokens=12)


def test_a_repositorys_sampling_settings_change_nothing(loaded) -> None:
    model, tokenizer = loaded
    expected = generate(model, tokenizer, PROMPTS, max_new_tokens=12)
    before = model.generation_config.to_dict()
    try:
        model.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=1.9, num_beams=3)
        assert generate(model, tokenizer, PROMPTS, max_new_tokens=12) == expected
    finally:
        model.generation_config.update(**before)


def test_a_model_without_template_gets_the_plain_prompt(loaded) -> None:
    model, tokenizer = loaded
    template, tokenizer.chat_template = tokenizer.chat_template, None
    try:
        assert len(generate(model, tokenizer, PROMPTS, max_new_tokens=4)) == len(PROMPTS)
    finally:
        tokenizer.chat_template = template


@pytest.mark.parametrize("metric", ["exact_number", "perplexity"])
def test_a_task_can_ask_the_bare_text(loaded, metric: str) -> None:
    model, tokenizer = loaded
    rows = [{"question": prompt, "answer": "3"} for prompt in PROMPTS]
    document = {"examples": {"test": rows}, "metric": metric, "max_new_tokens": 4}
    templated, bare = (load_task(document | {"chat_template": wanted}) for wanted in (True, False))
    assert templated.key == load_task(document).key != bare.key
    asked = evaluate(model, tokenizer, bare.test, bare)
    through = evaluate(model, tokenizer, templated.test, templated)
    lengths = longest(tokenizer, templated).tokens, longest(tokenizer, bare).tokens
    assert tokenizer.chat_template and lengths[0] > lengths[1]
    template, tokenizer.chat_template = tokenizer.chat_template, None
    try:
        assert evaluate(model, tokenizer, templated.test, templated).values == asked.values
        assert evaluate(model, tokenizer, templated.test, templated).outputs == asked.outputs
    finally:
        tokenizer.chat_template = template
    assert (asked.values, asked.outputs) != (through.values, through.outputs)


def test_prompts_that_do_not_fit_are_refused_before_the_work(loaded) -> None:
    model, tokenizer = loaded
    (ids,) = tokenizer([prompt_texts(tokenizer, ["w1 " * 100], None)[0]], add_special_tokens=False)["input_ids"]
    with pytest.raises(TaskError, match=f"reads at most 128; write `max_new_tokens: {128 - len(ids)}` or less"):
        generate(model, tokenizer, ["w1 " * 100], max_new_tokens=32)
    with pytest.raises(TaskError, match="reads at most 128, its answer included; shorten it"):
        generate(model, tokenizer, ["w1 " * 200], max_new_tokens=32)
    with pytest.raises(TaskError, match="reads at most 128, its answer included; shorten it"):
        stream_chat(model, tokenizer, [{"role": "user", "content": "w1 " * 200}])


def test_evaluate_scores_what_the_model_says(loaded) -> None:
    model, tokenizer = loaded
    outputs = generate(model, tokenizer, PROMPTS, max_new_tokens=8)
    answers = [next((word for word in reversed(text.split()) if word.isdigit()), None) for text in outputs]
    examples = tuple(Example(prompt, answer or "99") for prompt, answer in zip(PROMPTS, answers, strict=True))
    task = Task("echo", test=examples, max_new_tokens=8)
    scores = evaluate(model, tokenizer, task.test, task)
    assert scores.outputs == tuple(outputs)
    assert scores.correct == tuple(answer is not None for answer in answers)
    assert scores.seconds > 0
    assert scores.interval[0] <= scores.score <= scores.interval[1]


@pytest.mark.parametrize("metric", ["exact_match", "loglikelihood"])
def test_blocks_change_no_value_and_stop_when_told(loaded, metric: str) -> None:
    model, tokenizer = loaded
    right = generate(model, tokenizer, PROMPTS, max_new_tokens=9)
    rows = [Example(prompt, text or "w2", (text or "w2", "w1")) for prompt, text in zip(PROMPTS, right, strict=True)]
    task = Task("t", test=tuple(rows), metric=metric, max_new_tokens=9)
    whole = evaluate(model, tokenizer, rows, task)
    told: list[list[float]] = []

    def stop(values) -> bool:
        told.append(list(values))
        return len(values) == 4

    blocks = evaluate(model, tokenizer, rows, task, block_ends=(2, 4, 6))
    assert (blocks.values, blocks.outputs, blocks.tokens) == (whole.values, whole.outputs, whole.tokens)
    for _ in range(2):  # the same each time, what was begun in vain included
        part = evaluate(model, tokenizer, rows, task, block_ends=(2, 4, 6), stop=stop)
        assert (part.values, part.outputs) == (whole.values[:4], whole.outputs[:4])
        assert sum(len(values) for values in told) == 2 + 4
        told.clear()
    first = evaluate(model, tokenizer, rows[:4], task).tokens
    assert first <= part.tokens < whole.tokens


def test_correct_needs_the_number_and_the_language() -> None:
    examples = tuple(Example(f"q{i}", "20") for i in range(4))
    task = Task("ja", test=examples, language="ja")
    outputs = [
        "13+7=20. リンゴを20個持っています。",
        "13+7=20. Tom has 20 apples.",
        "リンゴを21個持っています。",
        "20",
    ]
    scores = grade(outputs, examples, task)
    assert scores.correct == (True, False, False, False)
    assert scores.metric == (1.0, 1.0, 0.0, 1.0)
    assert (scores.score, scores.metric_share, scores.language_share) == (0.25, 0.75, 0.5)


def test_chat_streams_the_greedy_answer(loaded) -> None:
    model, tokenizer = loaded
    expected = generate(model, tokenizer, PROMPTS, max_new_tokens=12)
    prompt, answer = next((p, a) for p, a in zip(PROMPTS, expected, strict=True) if len(a.split()) > 3)
    pieces = list(stream_chat(model, tokenizer, [{"role": "user", "content": prompt}], max_new_tokens=12))
    assert len(pieces) > 1
    assert "".join(pieces).split() == answer.split()


def test_chat_stops_when_told_and_when_left(loaded) -> None:
    model, tokenizer = loaded
    messages = [{"role": "user", "content": "w4 w5"}]
    stop = threading.Event()
    stop.set()
    assert len("".join(stream_chat(model, tokenizer, messages, max_new_tokens=50, stop=stop)).split()) <= 1
    before = threading.active_count()
    answer = stream_chat(model, tokenizer, messages, max_new_tokens=100, temperature=0.7)
    next(answer)
    answer.close()
    assert threading.active_count() == before


def test_a_turn_is_taken_for_the_answer_and_not_for_the_prompt(loaded, monkeypatch) -> None:
    model, tokenizer = loaded
    order = []
    render = apart.render
    monkeypatch.setattr(apart, "render", lambda *asked: order.append("prompt") or render(*asked))

    @contextmanager
    def turn() -> Iterator[None]:
        order.append("taken")
        yield
        order.append("given back")

    pieces = stream_chat(model, tokenizer, [{"role": "user", "content": "w4"}], max_new_tokens=4, turn=turn())
    assert order == ["prompt"]
    list(pieces)
    assert order == ["prompt", "taken", "given back"]


def test_chat_raises_what_the_model_raises(loaded, monkeypatch) -> None:
    model, tokenizer = loaded
    monkeypatch.setattr(model, "forward", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(stream_chat(model, tokenizer, [{"role": "user", "content": "w1"}], max_new_tokens=4))


def test_a_model_without_a_tokenizer_is_told_so(siblings, tmp_path: Path) -> None:
    folder = shutil.copytree(siblings["math"], tmp_path / "math")
    for file in folder.glob("*token*"):
        file.unlink()
    for load in (load_model, lambda name: load_tokenizer(Carried(open_source(name)))):
        with pytest.raises(SourceError, match=r"math has no tokenizer \(tokenizer\.json\), .*; put the files of"):
            load(str(folder))


def test_a_text_longer_than_the_model_reads_frightens_nobody(siblings, tmp_path: Path, caplog) -> None:
    folder = shutil.copytree(siblings["math"], tmp_path / "math")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 2}))
    library = logging.getLogger("transformers")
    library.addHandler(caplog.handler)
    try:
        for tokenizer in (load_model(str(folder))[1], load_tokenizer(Carried(open_source(str(folder))))):
            assert len(tokenizer("1 2 3 4")["input_ids"]) > 2
    finally:
        library.removeHandler(caplog.handler)
    assert "Token indices" not in caplog.text


def test_load_model_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        load_model("alice/no-such-model")
    with pytest.raises(SourceError):
        load_model(str(tmp_path))


def test_models_loaded_at_once_keep_their_weights(siblings) -> None:
    names = [*siblings] * 12
    expected = {name: load_model(str(siblings[name]), dtype="float32")[0].state_dict() for name in siblings}
    with ThreadPoolExecutor(6) as pool:
        loaded = pool.map(lambda name: load_model(str(siblings[name]), dtype="float32")[0], names)
        for name, model in zip(names, loaded, strict=True):
            assert model.lm_head.weight is model.model.embed_tokens.weight
            torch.testing.assert_close(model.state_dict(), expected[name], rtol=0, atol=0)


def test_load_model_keeps_the_asked_dtype(siblings) -> None:
    model, tokenizer = load_model(str(siblings["base"]), dtype="bfloat16", device="cpu")
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert tokenizer.chat_template
    with pytest.raises(SourceError, match="bfloat16"):
        load_model(str(siblings["base"]), dtype="int4")


@pytest.mark.parametrize(
    ("stored", "native", "chosen"),
    [("bfloat16", True, "bfloat16"), ("bfloat16", False, "float32"), ("float16", True, "float32")],
)
def test_a_cpu_computes_in_what_it_is_fast_in(
    stored: str, native: bool, chosen: str, tiny_llama, tmp_path: Path, monkeypatch
) -> None:
    from hubmerge.evaluate import models

    monkeypatch.setattr(models, "_has_bfloat16", lambda: native)
    folder = tiny_llama(tmp_path / "model", dtype=stored)
    assert load_model(str(folder), device="cpu")[0].dtype == getattr(torch, chosen)


def test_a_model_that_does_not_fit_is_spread_out_or_refused(siblings, monkeypatch) -> None:
    from hubmerge.evaluate import models

    whole = generate(*load_model(str(siblings["base"]), dtype="float32"), PROMPTS, max_new_tokens=6)
    monkeypatch.setattr(models, "free_memory", lambda device: 1)
    before = set(spool_root().glob("*"))
    model, tokenizer = load_model(str(siblings["base"]), dtype="float32")
    assert len(set(spool_root().glob("*")) - before) == 1
    assert generate(model, tokenizer, PROMPTS, max_new_tokens=6) == whole
    del model
    gc.collect()
    assert set(spool_root().glob("*")) <= before
    with pytest.raises(ResourceError, match="leave the device open"):
        load_model(str(siblings["base"]), device="cpu")
