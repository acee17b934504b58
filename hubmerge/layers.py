"""What a tensor's name says: its layer and its part of the transformer.

>>> name = parse("model.layers.3.self_attn.q_proj.weight")
>>> name.layer, name.group, name.at_layer(7)
(3, 'attention', 'model.layers.7.self_attn.q_proj.weight')
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Group = Literal["embedding", "attention", "mlp", "norm", "head", "other"]

# At most five digits, as a number of thousands could not even be converted.
# Llama and most others: model.layers.N; GPT-2, Falcon, BLOOM: h.N; MPT, OLMo: blocks.N; T5, BERT: block.N, layer.N.
_LAYER = re.compile(r"^(?P<prefix>(?:.*?\.)?(?:layers|h|blocks|block|layer)\.)(?P<layer>\d{1,5})\.(?P<suffix>.+)$")

# Numbered, but no layers of the transformer: convolutions that give data2vec its positions, heads of YOLOS and DETR.
_NO_LAYER = re.compile(r"(?:^|\.)(?:pos_conv_embed|class_labels_classifier|bbox_predictor)\.layers\.\d")

# Outside the stack, what comes before its first layer. All the rest comes after the last one: norms, poolers, what
# classifies or predicts. DeBERTa's layers share encoder.LayerNorm, which belongs to encoder.rel_embeddings.
_OPENS = re.compile(
    r"embed(?!_out)|(?:^|[._])w[tp]e\b|patch|stem|project_in|feature_(?:extractor|projection)|pre_laye?rnorm|pre_norm"
    r"|pos_conv|(?:^|\.)conv\d?\.|(?:^|\.)(?:cls|mask|class)_token|position|encoder\.LayerNorm\."
)

# What names may begin with, one after another, without saying which tensor it is.
_WORDS = ("model", "transformer", "language_model", "text_model")

# What gives each token a score. Masked language models transform in layers of lm_head before their decoder.
_HEAD = re.compile(r"(?:^|[._])(?:lm_head|decoder|embed_out|output)\.weight$")

# What is added to the scores of a head, a number a token.
_HEAD_BIAS = re.compile(r"(?:^|[._])(?:lm_head|decoder|predictions|embed_out|output)\.bias$")

# Embeddings whose rows are something else than tokens.
_NOT_TOKENS = re.compile(r"position|wpe|type|per_layer|patch|vision|visual|image|rel_|project")

# Tried in order: a norm inside attention ("q_norm") is a norm; "lm_head" is not attention.
_GROUPS: tuple[tuple[Group, re.Pattern[str]], ...] = (
    ("norm", re.compile(r"norm|(?:^|\.)ln_|layernorm", re.I)),
    ("head", re.compile(r"(?:^|\.)(?:lm_head|embed_out|output)\b")),
    ("embedding", re.compile(r"embed|(?:^|\.)w[tp]e\b|word_embeddings|position_embeddings")),
    # What UNets call attentions holds feed-forwards and projections as well.
    ("attention", re.compile(r"attn|attention(?!s\.\d+\.(?:transformer_blocks|proj_))|(?:^|\.)[qkvo]_proj\b", re.I)),
    ("mlp", re.compile(r"mlp|ffn|feed_forward|experts?\b|dense_h_to_4h|dense_4h_to_h|(?:^|\.)ff(?:_context)?\.", re.I)),
)


@dataclass(frozen=True)
class TensorName:
    """A parsed tensor name. `layer` is None outside the stack of layers."""

    name: str
    layer: int | None
    group: Group
    prefix: str
    suffix: str

    def at_layer(self, layer: int) -> str:
        """The same tensor's name in another layer; unchanged outside the stack."""
        return self.name if self.layer is None else f"{self.prefix}{layer}.{self.suffix}"

    @property
    def opens(self) -> bool:
        """Whether it comes before the stack: an embedding, with its norms and projections."""
        return self.layer is None and _OPENS.search(self.name) is not None

    @property
    def is_final(self) -> bool:
        """Whether it comes after the stack: the final norm, the head, a pooler, a classifier."""
        return self.layer is None and not self.opens


@lru_cache(maxsize=1 << 16)
def parse(name: str) -> TensorName:
    """Splits a tensor name; never fails (an unknown name has group "other")."""
    match = None if _NO_LAYER.search(name) else _LAYER.match(name)
    prefix, layer, suffix = (match["prefix"], int(match["layer"]), match["suffix"]) if match else ("", None, name)
    group: Group = next((group for group, pattern in _GROUPS if pattern.search(suffix)), "other")
    return TensorName(name, layer, group, prefix, suffix)


def core(name: str) -> str:
    """A name without what classes and generations of transformers put before it.

    >>> core("model.language_model.layers.0.mlp.up_proj.weight"), core("language_model.lm_head.weight")
    ('layers.0.mlp.up_proj.weight', 'lm_head.weight')
    """
    word, dot, rest = name.partition(".")
    return core(rest) if dot and word in _WORDS else name


def depth(names: Iterable[str]) -> int:
    """How many layers tensors of these names are of; of several stacks, the longest one's."""
    return 1 + max((layer for name in names if (layer := parse(name).layer) is not None), default=-1)


def is_head(name: str) -> bool:
    """Whether a tensor may give each token its score."""
    return _HEAD.search(name) is not None


def is_vocabulary(name: str) -> bool:
    """Whether a tensor has one row a token: the token embedding or the head."""
    parsed = parse(name)
    token = parsed.group == "embedding" and not _NOT_TOKENS.search(name)
    return parsed.layer is None and name.endswith(".weight") and (token or is_head(name))


def is_by_token(name: str) -> bool:
    """Whether a tensor has one row, or one number, a token: the token embedding, the head, or a bias of the head."""
    return is_vocabulary(name) or (parse(name).layer is None and _HEAD_BIAS.search(name) is not None)
