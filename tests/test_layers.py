"""Tensor names of the common architectures."""

import pytest

from hubmerge.layers import parse


@pytest.mark.parametrize(
    ("name", "layer", "group"),
    [
        ("model.embed_tokens.weight", None, "embedding"),
        ("model.layers.0.self_attn.q_proj.weight", 0, "attention"),
        ("model.layers.11.self_attn.q_norm.weight", 11, "norm"),
        ("model.layers.3.mlp.experts.7.gate_proj.weight", 3, "mlp"),
        ("model.layers.2.post_attention_layernorm.weight", 2, "norm"),
        ("model.norm.weight", None, "norm"),
        ("lm_head.weight", None, "head"),
        ("transformer.wte.weight", None, "embedding"),
        ("transformer.h.5.attn.c_attn.weight", 5, "attention"),
        ("transformer.h.5.ln_1.weight", 5, "norm"),
        ("h.5.mlp.c_fc.bias", 5, "mlp"),
        ("transformer.ln_f.weight", None, "norm"),
        ("model.language_model.layers.4.mlp.up_proj.weight", 4, "mlp"),
        ("score.weight", None, "other"),
    ],
)
def test_layer_and_group(name: str, layer: int | None, group: str) -> None:
    parsed = parse(name)
    assert (parsed.layer, parsed.group) == (layer, group)


def test_renumbering_keeps_the_rest_of_the_name() -> None:
    assert parse("model.layers.3.mlp.experts.7.up.weight").at_layer(12) == "model.layers.12.mlp.experts.7.up.weight"
    assert parse("model.norm.weight").at_layer(12) == "model.norm.weight"


def test_what_follows_the_stack() -> None:
    assert [parse(n).is_final for n in ("model.norm.weight", "lm_head.weight", "model.embed_tokens.weight")] == [
        True,
        True,
        False,
    ]


def test_a_number_that_no_layer_has_is_none() -> None:
    for digits in (6, 400, 5000):
        assert parse(f"model.layers.{'9' * digits}.mlp.weight").layer is None
