"""Families of transformers' own language models, with the settings that make them tiny."""

from collections.abc import Iterator
from typing import Any

from architecturetools import OTHER, TIED, UNTIED, Architecture

TEXT = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
PLAIN = {**TEXT, "max_position_embeddings": 64}
GROUPED = {**PLAIN, "num_key_value_heads": 1}
WIDE = {**GROUPED, "head_dim": 8}
FEW = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
# The first layer is dense, as in DeepSeek.
ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 1}
LATENT = {
    **PLAIN,
    "num_key_value_heads": 2,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
}
STATES = {
    "mamba_d_state": 4,
    "mamba_d_conv": 2,
    "mamba_n_heads": 4,
    "mamba_d_head": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 4,
}
DELTA = {
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
SLIDING = {"sliding_window": 8}
# Their first layer has other tensors than the rest.
FIRST: dict[str, Any] = {"above": (1, 3), "unlike": "other tensors"}
BY_DEPTH: dict[str, Any] = {"above": None, "unlike": "has a part for each of"}

ALL = (TIED, UNTIED, OTHER)
BOTH = (TIED, UNTIED)


def decoders() -> Iterator[Architecture]:
    for name, settings in (
        ("Llama", GROUPED),
        ("Mistral", WIDE),
        ("Qwen2", GROUPED),
        ("Qwen3", WIDE),
        ("Gemma", WIDE),
        ("Gemma2", WIDE),
        ("Olmo2", GROUPED),
        ("Cohere", GROUPED),
        ("SmolLM3", GROUPED),
    ):
        yield Architecture(name.lower(), f"{name}ForCausalLM", settings, heads=ALL)
    for name, settings in (("Phi", GROUPED), ("Phi3", GROUPED), ("StableLm", GROUPED), ("Granite", GROUPED)):
        yield Architecture(name.lower(), f"{name}ForCausalLM", settings, heads=BOTH)
    yield Architecture("starcoder2", "Starcoder2ForCausalLM", GROUPED, heads=BOTH)
    yield Architecture("gemma3", "Gemma3ForCausalLM", {**WIDE, "sliding_window": 8}, heads=ALL)
    gpt2 = {"vocab_size": 64, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 64}
    yield Architecture("gpt2", "GPT2LMHeadModel", gpt2, heads=ALL)
    yield Architecture("gptj", "GPTJForCausalLM", {**gpt2, "rotary_dim": 4}, heads=BOTH)
    neo = {**TEXT, "num_layers": 4, "num_heads": 2, "attention_types": [[["global", "local"], 2]]}
    neo = {k: v for k, v in neo.items() if k not in ("num_hidden_layers", "num_attention_heads")}
    yield Architecture("gpt_neo", "GPTNeoForCausalLM", {**neo, "max_position_embeddings": 64}, heads=BOTH)
    yield Architecture("gpt_neox", "GPTNeoXForCausalLM", PLAIN, heads=BOTH, head="embed_out.weight")
    yield Architecture("falcon", "FalconForCausalLM", {**TEXT, "num_kv_heads": 2}, heads=BOTH)
    bloom = {"vocab_size": 64, "hidden_size": 16, "n_layer": 3, "n_head": 2}
    yield Architecture("bloom", "BloomForCausalLM", bloom, heads=BOTH)
    opt = {**PLAIN, "ffn_dim": 32, "word_embed_proj_dim": 16}
    yield Architecture("opt", "OPTForCausalLM", opt, heads=ALL)
    mamba = {"vocab_size": 64, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 3, "intermediate_size": 32}
    yield Architecture("mamba", "MambaForCausalLM", mamba, heads=BOTH)
    for name, model, settings in (
        ("apertus", "Apertus", WIDE),
        ("arcee", "Arcee", WIDE),
        ("bitnet", "BitNet", WIDE),
        ("biogpt", "BioGpt", PLAIN),
        ("cohere2", "Cohere2", {**GROUPED, **SLIDING}),
        ("diffllama", "DiffLlama", {**WIDE, "num_key_value_heads": 2}),
        ("doge", "Doge", WIDE),
        ("ernie4_5", "Ernie4_5", WIDE),
        ("exaone4", "Exaone4", {**WIDE, **SLIDING, "sliding_window_pattern": 2}),
        ("glm", "Glm", WIDE),
        ("glm4", "Glm4", WIDE),
        ("helium", "Helium", WIDE),
        ("hunyuan_v1_dense", "HunYuanDenseV1", WIDE),
        ("minicpm3", "MiniCPM3", LATENT),
        ("ministral", "Ministral", {**WIDE, **SLIDING}),
        ("ministral3", "Ministral3", WIDE),
        ("nanochat", "NanoChat", WIDE),
        ("nemotron", "Nemotron", WIDE),
        ("olmo", "Olmo", GROUPED),
        ("olmo3", "Olmo3", {**GROUPED, **SLIDING}),
        ("persimmon", "Persimmon", PLAIN),
        ("seed_oss", "SeedOss", WIDE),
        ("vaultgemma", "VaultGemma", WIDE),
    ):
        yield Architecture(name, f"{model}ForCausalLM", settings)
    yield Architecture("modernbert_decoder", "ModernBertDecoderForCausalLM", PLAIN, **FIRST)
    each = {**WIDE, **SLIDING, "vocab_size_per_layer_input": 64, "hidden_size_per_layer_input": 8}
    kinds = {"layer_types": ["sliding_attention", "full_attention", "full_attention"]}
    yield Architecture("gemma4", "Gemma4ForCausalLM", {**each, **kinds, "global_head_dim": 8}, **BY_DEPTH)
    wide = {**each, **kinds, "num_kv_shared_layers": 1, "laurel_rank": 4, "altup_num_inputs": 2}
    yield Architecture("gemma3n", "Gemma3nForCausalLM", {**wide, "activation_sparsity_pattern": [0.0] * 3}, **BY_DEPTH)
    yield Architecture("gpt_bigcode", "GPTBigCodeForCausalLM", gpt2)
    yield Architecture("openai-gpt", "OpenAIGPTLMHeadModel", gpt2)
    yield Architecture("codegen", "CodeGenForCausalLM", {**gpt2, "n_head": 4, "rotary_dim": 4})
    mpt = {"vocab_size": 64, "d_model": 16, "n_layers": 3, "n_heads": 2, "max_seq_len": 64, "expansion_ratio": 2}
    yield Architecture("mpt", "MptForCausalLM", mpt)
    xglm = {"vocab_size": 64, "d_model": 16, "num_layers": 3, "attention_heads": 2, "ffn_dim": 32}
    yield Architecture("xglm", "XGLMForCausalLM", {**xglm, "max_position_embeddings": 64})


def experts() -> Iterator[Architecture]:
    yield Architecture("mixtral", "MixtralForCausalLM", {**WIDE, "num_local_experts": 4}, heads=ALL)
    shared = {**FEW, "shared_expert_intermediate_size": 16}
    yield Architecture("qwen3_moe", "Qwen3MoeForCausalLM", {**WIDE, **FEW}, heads=BOTH)
    yield Architecture("qwen2_moe", "Qwen2MoeForCausalLM", {**GROUPED, **shared}, heads=BOTH)
    for name, model, settings in (
        ("flex_olmo", "FlexOlmo", {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2}),
        ("gpt_oss", "GptOss", {**WIDE, **LOCAL, **SLIDING}),
        ("granitemoe", "GraniteMoe", {**GROUPED, **LOCAL}),
        ("hunyuan_v1_moe", "HunYuanMoEV1", {**WIDE, "num_experts": 4, "moe_topk": 2}),
        ("llama4", "Llama4", {**WIDE, **LOCAL, "intermediate_size_mlp": 32, "interleave_moe_layer_step": 2}),
        ("minimax_m2", "MiniMaxM2", {**WIDE, **LOCAL}),
        ("olmoe", "Olmoe", {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2}),
        ("phimoe", "Phimoe", {**GROUPED, **LOCAL}),
    ):
        yield Architecture(name, f"{model}ForCausalLM", settings)
    grouped = {**LATENT, **ROUTED, "n_group": 2, "topk_group": 1, "n_shared_experts": 1}
    for name, model, settings in (
        ("deepseek_v2", "DeepseekV2", grouped),
        ("deepseek_v3", "DeepseekV3", grouped),
        ("dots1", "Dots1", {**WIDE, **ROUTED, "n_shared_experts": 1}),
        ("glm4_moe", "Glm4Moe", {**WIDE, **ROUTED}),
        (
            "ernie4_5_moe",
            "Ernie4_5_Moe",
            {**WIDE, "moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16, "moe_layer_start_index": 1},
        ),
    ):
        yield Architecture(name, f"{model}ForCausalLM", settings, **FIRST)


def hybrids() -> Iterator[Architecture]:
    shared = {**FEW, "shared_expert_intermediate_size": 16}
    state, again = "mamba", "recurrent"
    convolving = {"layer_types": ["conv", "full_attention", "conv"]}
    mamba = {"vocab_size": 64, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 3}
    kda = {"head_dim": 8, "num_heads": 2, "short_conv_kernel_size": 2, "kda_layers": [1, 3], "full_attn_layers": [2]}
    every_other = {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "num_hidden_layers": 4,
    }
    for name, model, settings in (
        ("bamba", "Bamba", {**GROUPED, **STATES, "attn_layer_indices": [1]}),
        ("falcon_h1", "FalconH1", {**WIDE, **STATES, "mamba_d_ssm": 32}),
        ("falcon_mamba", "FalconMamba", {**mamba, "intermediate_size": 32}),
        (
            "granitemoehybrid",
            "GraniteMoeHybrid",
            {**GROUPED, **LOCAL, **STATES, "shared_intermediate_size": 16, "layer_types": [state, "attention", state]},
        ),
        (
            "jamba",
            "Jamba",
            {**GROUPED, **every_other, "num_experts": 2, "use_mamba_kernels": False, "mamba_dt_rank": 2},
        ),
        ("kimi_linear", "KimiLinear", {**LATENT, **FEW, **ROUTED, **DELTA, "linear_attn_config": kda}),
        ("lfm2", "Lfm2", {**GROUPED, **convolving, "block_auto_adjust_ff_dim": False}),
        ("mamba2", "Mamba2", {**mamba, "num_heads": 4, "head_dim": 8, "n_groups": 1, "chunk_size": 4}),
        ("minimax", "MiniMax", {**WIDE, **LOCAL, "block_size": 4, "layer_types": DELTA["layer_types"]}),
        (
            "nemotron_h",
            "NemotronH",
            {
                **WIDE,
                "layers_block_type": ["mamba", "attention", "mlp"],
                "mamba_num_heads": 4,
                "mamba_head_dim": 8,
                "ssm_state_size": 4,
                "n_groups": 1,
                "chunk_size": 4,
            },
        ),
        ("olmo_hybrid", "OlmoHybrid", {**WIDE, **DELTA}),
        ("qwen3_5", "Qwen3_5", {**WIDE, **DELTA}),
        ("qwen3_5_moe", "Qwen3_5Moe", {**WIDE, **shared, **DELTA}),
        ("qwen3_next", "Qwen3Next", {**WIDE, **shared, **DELTA}),
        (
            "recurrent_gemma",
            "RecurrentGemma",
            {**WIDE, "lru_width": 16, "attention_window_size": 8, "block_types": [again, "attention", again]},
        ),
    ):
        yield Architecture(name, f"{model}ForCausalLM", settings)
    dense = {**GROUPED, **FEW, **convolving, "num_dense_layers": 1}
    yield Architecture("lfm2_moe", "Lfm2MoeForCausalLM", dense, **FIRST)
    rwkv = {"vocab_size": 64, "hidden_size": 16, "attention_hidden_size": 16, "num_hidden_layers": 3}
    yield Architecture("rwkv", "RwkvForCausalLM", {**rwkv, "context_length": 32}, **FIRST)
    zamba2 = {
        **PLAIN,
        "mamba_d_state": 4,
        "mamba_ngroups": 1,
        "n_mamba_heads": 4,
        "mamba_headdim": 8,
        "chunk_size": 4,
        "layers_block_type": ["mamba", "hybrid", "mamba"],
        "num_mem_blocks": 1,
        "use_mem_rope": False,
        "adapter_rank": 4,
    }
    once: dict[str, Any] = {"above": (0, 1), "unlike": "share; choose layer ranges with one of them"}
    yield Architecture("zamba2", "Zamba2ForCausalLM", zamba2, **once)
