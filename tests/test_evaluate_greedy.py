"""The own decoder makes the tokens of transformers' `generate`, for any architecture and however rows are batched."""

import gc
import weakref

import pytest
import torch

from hubmerge.evaluate import greedy
from hubmerge.evaluate.generation import generate_batch
from hubmerge.evaluate.greedy import Decoder, can_decode

VOCABULARY = 40
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,  # or a random model says its last token again and again
}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128}
MODELS = {
    "llama": SMALL,
    "qwen2": SMALL,
    "qwen3": SMALL,
    "mistral": SMALL | {"sliding_window": 6},
    "gemma3_text": SMALL
    | {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    "gemma2": SMALL | {"sliding_window": 6, "query_pre_attn_scalar": 8},
    "mixtral": SMALL | {"num_local_experts": 2},
    "phi": SMALL | {"num_key_value_heads": 4},
    "gpt_neox": SMALL,
    "gpt2": GPT2 | {"initializer_range": 0.4, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False},
}
NEW = 14


def build(kind: str, settings: dict):
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()


def prompts(shared: int, count: int = 9) -> list[list[int]]:
    """Prompts of 1 to 20 tokens after `shared` common ones, the longest first."""
    generator = torch.Generator().manual_seed(5)
    common = torch.randint(3, VOCABULARY, (shared,), generator=generator).tolist()
    lengths = sorted(torch.randint(1, 21, (count,), generator=generator).tolist(), reverse=True)
    return [common + torch.randint(3, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


def ends_of(made: list[list[int]]) -> list[int]:
    """The end token that cuts these answers short at the most different places."""

    def places(token: int) -> set[int]:
        return {answer.index(token) if token in answer else NEW for answer in made}

    return [max(range(VOCABULARY), key=lambda token: len(places(token)))]


@pytest.mark.parametrize(
    ("kind", "shared"),
    [
        pytest.param(kind, shared, marks=() if shared or kind in ("llama", "gpt2") else pytest.mark.thorough)
        for kind in MODELS
        for shared in (0, 12)
    ],
)
def test_the_tokens_are_those_of_generate(kind: str, shared: int, monkeypatch: pytest.MonkeyPatch, thorough) -> None:
    model, rows = build(kind, MODELS[kind]), prompts(shared)
    assert can_decode(model)
    free = generate_batch(model, rows, NEW, ends=[VOCABULARY], pad=0)
    ends = ends_of(free)
    expected = generate_batch(model, rows, NEW, ends=ends, pad=0)
    lengths = {len(answer) for answer in expected}
    assert len(lengths) > 2  # answers end, and not together
    for tokens_at_a_time in (1024, 25):  # all prompts at once; or a few
        monkeypatch.setitem(greedy._RUN, "cpu", tokens_at_a_time)
        decode = Decoder(model, rows, ends)
        assert decode.shared == shared
        assert decode(rows, NEW) == expected
        assert [decode([row], NEW) for row in rows[::5]] == [[answer] for answer in expected[::5]]
        assert decode(rows[2:7], NEW) == expected[2:7]
        for places in (1, 3) if thorough else (3,):
            made = decode.made
            assert dict(decode.stream(rows, NEW, places)) == dict(enumerate(expected))
            assert decode.made - made == sum(map(len, expected))


def test_a_row_leaves_when_its_answer_ends() -> None:
    model, rows = build("llama", SMALL), prompts(0)
    ends = ends_of(generate_batch(model, rows, NEW, ends=[VOCABULARY], pad=0))
    forward, asked = model.forward, []

    def counting(input_ids: torch.Tensor, **arguments):
        asked.append(input_ids.numel())
        return forward(input_ids=input_ids, **arguments)

    counting.__wrapped__ = forward  # its signature is the model's
    model.forward = counting
    made = Decoder(model, rows, ends)(rows, NEW)
    steps = asked[-(max(map(len, made)) - 1) :]
    assert len(set(steps)) > 2
    assert steps == [sum(len(answer) > step for answer in made) for step in range(1, len(steps) + 1)]


def test_rows_that_wait_take_free_places_and_a_broken_one_leaves_no_trace() -> None:
    model, rows = build("llama", SMALL), prompts(0, count=40)
    ends = ends_of(generate_batch(model, rows, NEW, ends=[VOCABULARY], pad=0))
    expected = generate_batch(model, rows, NEW, ends=ends, pad=0)
    forward, steps = model.forward, []

    def counting(input_ids: torch.Tensor, attention_mask: torch.Tensor, **arguments):
        if input_ids.shape[1] == 1:
            steps.append(len(input_ids))
            assert attention_mask.shape[1] <= max(map(len, rows)) + NEW
        return forward(input_ids=input_ids, attention_mask=attention_mask, **arguments)

    counting.__wrapped__ = forward
    model.forward = counting
    decode = Decoder(model, rows, ends)
    assert dict(decode.stream(rows, NEW, 8)) == dict(enumerate(expected))
    assert max(steps) == 8 and sum(steps) == sum(map(len, expected)) - len(rows)
    batches = [expected[start : start + 8] for start in range(0, len(rows), 8)]
    assert len(steps) < 0.9 * sum(max(map(len, batch)) - 1 for batch in batches)
    # Keys and values that are not numbers stay in the row that they are of.
    model.forward = forward
    with torch.no_grad():
        model.get_input_embeddings().weight[3] = float("nan")
    whole = [number for number, row in enumerate(rows) if 3 not in row + expected[number]]
    assert 0 < len(whole) < len(rows)
    made = dict(Decoder(model, rows, ends).stream(rows, NEW, 8))
    assert [made[number] for number in whole] == [expected[number] for number in whole]


def test_what_is_common_is_read_once() -> None:
    model, rows = build("llama", SMALL), prompts(40)
    forward, asked = model.forward, []

    def counting(input_ids: torch.Tensor, **arguments):
        asked.append(input_ids.numel())
        return forward(input_ids=input_ids, **arguments)

    counting.__wrapped__ = forward
    model.forward = counting
    decode = Decoder(model, rows, [2])
    assert asked == [40]
    decode(rows, 1)
    decode(rows[:2], 1)
    assert max(asked[1:]) <= 20 * len(rows)


def test_a_batch_leaves_nothing_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows, made = build("llama", SMALL), prompts(12), []
    take = greedy._Layer._take

    def taking(layer: greedy._Layer, *tensors: torch.Tensor) -> None:
        take(layer, *tensors)
        made.append(weakref.ref(layer.all_keys))

    monkeypatch.setattr(greedy._Layer, "_take", taking)
    decode = Decoder(model, rows, [2])
    standing = sum(one() is not None for one in made)
    gc.disable()
    try:
        decode(rows, 3)
        assert len(made) > standing == sum(one() is not None for one in made)
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["llama", "gemma3_text"])
def test_keys_and_values_are_given_back_in_one_piece(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows, pieces = build(name, MODELS[name]), prompts(12), []
    decode = Decoder(model, rows, [2])
    take = greedy._Layer._take

    def taking(layer: greedy._Layer, *tensors: torch.Tensor) -> None:
        take(layer, *tensors)
        pieces.extend([layer.all_keys, layer.all_values])

    monkeypatch.setattr(greedy._Layer, "_take", taking)
    decode(rows, 3)
    assert len({piece.data_ptr() for piece in pieces}) == 2 * model.config.num_hidden_layers
    assert len({piece.untyped_storage().data_ptr() for piece in pieces}) == 1


def test_equal_prompts_keep_a_token_of_their_own() -> None:
    model, row = build("qwen3", MODELS["qwen3"]), prompts(12)[0]
    decode = Decoder(model, [row] * 3, [2])
    assert decode.shared == len(row) - 1
    assert decode([row] * 3, NEW) == generate_batch(model, [row] * 3, NEW, ends=[2], pad=0)
    assert decode([], NEW) == [] and decode([row], 0) == [[]]


def test_other_kinds_of_models_are_left_to_generate() -> None:
    bloom = {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4}
    assert not can_decode(build("bloom", bloom))  # it has no positions
    hybrid = SMALL | {"num_hidden_layers": 2, "layer_types": ["linear_attention", "full_attention"]}
    assert not can_decode(build("qwen3_next", hybrid | {"num_experts": 2, "num_experts_per_tok": 1}))
