"""Families of transformers' own classes that are no plain language models, with the settings that make them tiny."""

from collections.abc import Iterator
from typing import Any

from architecturetools import Architecture
from families_of_text import ALL, BOTH, BY_DEPTH, FIRST, GROUPED, PLAIN, SLIDING, TEXT, WIDE

T5 = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_heads": 2}
BART = {
    "vocab_size": 64,
    "d_model": 16,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
}
IMAGE = {**TEXT, "image_size": 16, "patch_size": 8}
del IMAGE["vocab_size"]
SPEECH = {
    **TEXT,
    "conv_dim": (16, 16),
    "conv_stride": (5, 2),
    "conv_kernel": (10, 3),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "mask_time_prob": 0.0,
}
MOONSHINE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    **{f"{side}_num_{what}": 2 for side in ("encoder", "decoder") for what in ("hidden_layers", "attention_heads")},
}
SPEECH_TO_TEXT = {
    **BART,
    "input_feat_per_channel": 8,
    "num_conv_layers": 1,
    "conv_kernel_sizes": [3],
    "conv_channels": 16,
    "max_source_positions": 64,
    "max_target_positions": 64,
    "decoder_start_token_id": 2,
}


def encoders() -> Iterator[Architecture]:
    decoder = "lm_head.decoder.weight"
    for name in ("Roberta", "XLMRoberta", "Camembert"):
        yield Architecture(name.lower(), f"{name}ForMaskedLM", PLAIN, heads=ALL, head=decoder)
    yield Architecture("esm", "EsmForMaskedLM", {**PLAIN, "mask_token_id": 3}, heads=BOTH, head=decoder, **BY_DEPTH)
    yield Architecture("mpnet", "MPNetForMaskedLM", PLAIN, heads=BOTH, head=decoder)
    window = {**PLAIN, "attention_window": [4, 4, 4], "max_position_embeddings": 64}
    yield Architecture("longformer", "LongformerForMaskedLM", window, heads=BOTH, head=decoder)
    yield Architecture("bert", "BertForMaskedLM", PLAIN, heads=ALL, head="cls.predictions.decoder.weight")
    labels = {**PLAIN, "num_labels": 3}
    for name in ("Bert", "Roberta", "Electra"):
        yield Architecture(f"{name.lower()}-labels", f"{name}ForSequenceClassification", labels)
    yield Architecture("modernbert-labels", "ModernBertForSequenceClassification", labels, **FIRST)
    rembert = {**PLAIN, "input_embedding_size": 32, "output_embedding_size": 32, "hidden_size": 32}
    small = {**PLAIN, "embedding_size": 16}
    groups = ("q_groups", "k_groups", "v_groups", "intermediate_groups", "output_groups", "post_attention_groups")
    for name, model, settings in (
        ("big_bird", "BigBird", {**PLAIN, "attention_type": "original_full"}),
        ("convbert", "ConvBert", {**small, "head_ratio": 1, "conv_kernel_size": 3}),
        ("deberta", "Deberta", {**PLAIN, "relative_attention": True, "pos_att_type": ["c2p"]}),
        ("ernie", "Ernie", PLAIN),
        ("eurobert", "EuroBert", GROUPED),
        ("fnet", "FNet", PLAIN),
        ("megatron-bert", "MegatronBert", PLAIN),
        (
            "mobilebert",
            "MobileBert",
            {**small, "true_hidden_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 1},
        ),
        ("roformer", "RoFormer", small),
        ("squeezebert", "SqueezeBert", {**small, **dict.fromkeys(groups, 1)}),
        ("xlm-roberta-xl", "XLMRobertaXL", PLAIN),
        ("xmod", "Xmod", {**PLAIN, "default_language": "en_XX"}),
    ):
        yield Architecture(name, f"{model}ForMaskedLM", settings)
    vectors = (("dpr", "DPRQuestionEncoder"), ("jina_embeddings_v3", "JinaEmbeddingsV3Model"))
    for name, model in (*vectors, ("nomic_bert", "NomicBertModel")):
        yield Architecture(name, model, PLAIN)
    yield Architecture("albert", "AlbertForMaskedLM", small, stacks=False)
    funnel = {"block_sizes": [1, 1, 1], "d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 32}
    yield Architecture("funnel", "FunnelForMaskedLM", {"vocab_size": 64, **funnel}, stacks=False)
    xlnet = {"vocab_size": 64, "d_model": 16, "n_layer": 3, "n_head": 2, "d_inner": 32}
    yield Architecture("xlnet", "XLNetLMHeadModel", xlnet)
    yield Architecture("rembert", "RemBertForMaskedLM", {**rembert, "bos_token_id": 1, "eos_token_id": 2})
    yield Architecture("electra", "ElectraForMaskedLM", {**PLAIN, "embedding_size": 16}, heads=BOTH)
    distil = {"vocab_size": 64, "dim": 16, "hidden_dim": 32, "n_layers": 3, "n_heads": 2, "max_position_embeddings": 64}
    yield Architecture("distilbert", "DistilBertForMaskedLM", distil, heads=BOTH)
    yield Architecture("deberta-v2", "DebertaV2ForMaskedLM", {**PLAIN, "relative_attention": True}, heads=BOTH)
    yield Architecture("modernbert", "ModernBertForMaskedLM", PLAIN, heads=BOTH, head="decoder.weight", **FIRST)
    yield Architecture("llama-labels", "LlamaForSequenceClassification", {**GROUPED, "num_labels": 3})
    yield Architecture("qwen3-labels", "Qwen3ForTokenClassification", {**WIDE, "num_labels": 3})


def both_ends() -> Iterator[Architecture]:
    for name in ("T5", "MT5"):
        yield Architecture(name.lower(), f"{name}ForConditionalGeneration", T5, "both", BOTH, stacks=False)
    for name in ("Bart", "MBart", "Marian"):
        model = f"{name}MTModel" if name == "Marian" else f"{name}ForConditionalGeneration"
        settings = {**BART, "decoder_start_token_id": 2, "forced_eos_token_id": 2}
        yield Architecture(name.lower(), model, settings, "both", stacks=False)
    pegasus = {**BART, "decoder_start_token_id": 0}
    yield Architecture("pegasus", "PegasusForConditionalGeneration", pegasus, "both", stacks=False)
    from_two = {**BART, "decoder_start_token_id": 2}
    windows = {"max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64}
    sides = {side: {**WIDE, **SLIDING} for side in ("encoder", "decoder")}
    sides["decoder"]["cross_attention_hidden_size"] = 16
    prophet = {
        **{f"num_{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")},
        "vocab_size": 64,
        "hidden_size": 16,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "ngram": 2,
        "num_buckets": 8,
    }
    for name, model, settings in (
        ("bigbird_pegasus", "BigBirdPegasus", {**from_two, "attention_type": "original_full"}),
        ("blenderbot", "Blenderbot", from_two),
        ("led", "LED", {**from_two, **windows, "attention_window": [4, 4, 4]}),
        ("longt5", "LongT5", T5),
        ("m2m_100", "M2M100", from_two),
        ("plbart", "PLBart", from_two),
        ("prophetnet", "ProphetNet", prophet),
        (
            "switch_transformers",
            "SwitchTransformers",
            {**T5, "num_experts": 2, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1},
        ),
        ("t5gemma", "T5Gemma", {**sides, "vocab_size": 64}),
        ("umt5", "UMT5", T5),
    ):
        yield Architecture(name, f"{model}ForConditionalGeneration", settings, "both", stacks=False)


def sights() -> Iterator[Architecture]:
    image = {**IMAGE, "num_labels": 3}
    for name, model in (
        ("beit", "Beit"),
        ("deit", "DeiT"),
        ("dinov2", "Dinov2"),
        ("dinov2_with_registers", "Dinov2WithRegisters"),
        ("ijepa", "IJepa"),
        ("vit", "ViT"),
        ("vit_msn", "ViTMSN"),
    ):
        yield Architecture(name, f"{model}ForImageClassification", image, "image")
    clip = {**IMAGE, "projection_dim": 8}
    yield Architecture("clip_vision", "CLIPVisionModelWithProjection", clip, "image", configuration="CLIPVisionConfig")
    yield Architecture("dinov3_vit", "DINOv3ViTModel", {**IMAGE, "num_register_tokens": 2}, "image")
    yield Architecture("pixio", "PixioModel", IMAGE, "image")
    yield Architecture("siglip", "SiglipVisionModel", IMAGE, "image", configuration="SiglipVisionConfig")
    two = {"image_size": 16, "depths": [1, 1], "hidden_sizes": [8, 16], "num_labels": 3}
    twice = {"sr_ratios": [1, 1], "patch_sizes": [3, 3], "strides": [2, 2], "mlp_ratios": [2, 2]}
    windows = {"patch_size": 2, "embed_dim": 8, "num_heads": [2, 2], "window_size": 2}
    masked = {
        "image_size": [16, 16],
        "patch_size": [3, 3],
        "patch_stride": [2, 2],
        "patch_padding": [1, 1],
        "embed_dim_multiplier": 2.0,
        "num_query_pool": 1,
        "query_stride": [2, 2],
        "masked_unit_size": [4, 4],
        "masked_unit_attention": [True, False],
    }
    for name, model, settings in (
        ("convnext", "ConvNext", {**two, "patch_size": 2, "num_stages": 2}),
        ("convnextv2", "ConvNextV2", {**two, "patch_size": 2, "num_stages": 2}),
        ("hiera", "Hiera", {**masked, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "num_labels": 3}),
        ("resnet", "ResNet", {**two, "embedding_size": 8, "layer_type": "basic"}),
    ):
        yield Architecture(name, f"{model}ForImageClassification", settings, "image", stacks=False)
    narrowing: dict[str, Any] = {"above": None, "unlike": "other tensors"}
    for name, model, settings in (
        ("segformer", "Segformer", {**two, **twice, "num_encoder_blocks": 2, "num_attention_heads": [1, 2]}),
        ("swin", "Swin", {**two, **windows, "depths": [2, 2]}),
    ):
        yield Architecture(name, f"{model}ForImageClassification", settings, "image", **narrowing)
    yolos = {**image, "image_size": [16, 16], "num_detection_tokens": 2}
    yield Architecture("yolos", "YolosForObjectDetection", yolos, "image", **BY_DEPTH)


def sounds() -> Iterator[Architecture]:
    narrow = {**SPEECH, "conv_depthwise_kernel_size": 3}
    for name, model, settings in (
        ("hubert", "Hubert", SPEECH),
        ("sew", "SEW", {**SPEECH, "squeeze_factor": 1}),
        ("unispeech", "UniSpeech", {**SPEECH, "num_ctc_classes": 64}),
        ("wav2vec2", "Wav2Vec2", SPEECH),
        ("wav2vec2-conformer", "Wav2Vec2Conformer", narrow),
    ):
        yield Architecture(name, f"{model}ForCTC", settings, "wave")
    yield Architecture("wavlm", "WavLMForCTC", SPEECH, "wave", **FIRST)
    bert = {**TEXT, "feature_projection_input_dim": 8, "position_embeddings_type": "relative"}
    yield Architecture("wav2vec2-bert", "Wav2Vec2BertForCTC", {**bert, "conv_depthwise_kernel_size": 3}, "features")
    data2vec = {**SPEECH, "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 3}
    yield Architecture("data2vec-audio", "Data2VecAudioForCTC", data2vec, "wave")
    spectrum = {"num_mel_bins": 8, "max_length": 32, "patch_size": 4, "frequency_stride": 4, "time_stride": 4}
    ast = {**PLAIN, **spectrum, "num_labels": 3}
    yield Architecture("audio-spectrogram-transformer", "ASTForAudioClassification", ast, "spectrum")
    spoken = {k: v for k, v in BART.items() if k != "max_position_embeddings"}
    whisper = {**spoken, "num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 32}
    for name, model, settings, asked in (
        ("whisper", "Whisper", {**whisper, "decoder_start_token_id": 1}, "whisper"),
        ("moonshine", "Moonshine", MOONSHINE, "long wave"),
        ("speech_to_text", "Speech2Text", SPEECH_TO_TEXT, "speech"),
    ):
        yield Architecture(name, f"{model}ForConditionalGeneration", settings, asked, stacks=False)
