"""Small models whose tokenizers are of every kind, and copies of them with their tokens in another order."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from streamtools import weights
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hubmerge.recipe import Recipe

KINDS = ("bytes", "bpe", "unigram", "wordpiece")
"""BPE over bytes as of GPT-2 and Llama 3, BPE of SentencePiece with bytes to fall back on as of Llama 2, Unigram as of
T5, WordPiece as of BERT."""

FIRST = ["the cat sat on the mat and the rat sat on the cat", "one two three four five six seven", "a merge of models"]
SECOND = ["der Hund und die Katze sitzen auf dem Dach", "eins zwei drei vier", "the cat and der Hund, ein Modell"]

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

SPECIAL = ["<s>", "</s>", "<unk>", "<pad>"]


def tokenizer(kind: str, texts: Sequence[str], more: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer trained on `texts`, with `more` added tokens behind all others."""
    settings: dict = {"special_tokens": SPECIAL, "show_progress": False}
    if kind == "bytes":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **settings)
    elif kind == "bpe":
        made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        trainer = trainers.BpeTrainer(
            vocab_size=360, **settings | {"special_tokens": [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]}
        )
    elif kind == "unigram":
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        made.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=80, unk_token="<unk>", **settings)
    else:
        made = Tokenizer(models.WordPiece(unk_token="<unk>"))
        made.normalizer = normalizers.BertNormalizer(lowercase=True)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        made.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=90, **settings)
    made.train_from_iterator(texts, trainer)
    made.add_tokens([AddedToken(text, special=text.startswith("<|"), normalized=False) for text in more])
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **named)


def model(
    folder: Path,
    spoken: PreTrainedTokenizerFast,
    seed: int,
    rows: int | None = None,
    tied: bool = False,
    **config: object,
) -> Path:
    """A tiny Llama that speaks it, with `rows` of its vocabulary (default: one a token)."""
    torch.manual_seed(seed)
    settings: dict = {
        "vocab_size": rows or len(spoken),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": tied,
        "bos_token_id": spoken.bos_token_id,
        "eos_token_id": spoken.eos_token_id,
        "pad_token_id": spoken.pad_token_id,
    }
    LlamaForCausalLM(LlamaConfig(**settings | config)).save_pretrained(folder)
    spoken.save_pretrained(folder)
    return folder


def permuted(source: Path, out: Path, seed: int = 0) -> Path:
    """A copy whose tokens have other numbers, with their rows: the same model in another order."""
    shutil.copytree(source, out)
    document = json.loads((source / "tokenizer.json").read_text())
    ids = numbers(source)
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed)).tolist()
    moved = dict(zip(sorted(ids.values()), order, strict=True))
    renumber(document, {text: moved[number] for text, number in ids.items()})
    (out / "tokenizer.json").write_text(json.dumps(document))
    settings = json.loads((out / "tokenizer_config.json").read_text())
    if "added_tokens_decoder" in settings:
        settings["added_tokens_decoder"] = {
            str(moved[int(n)]): one for n, one in settings["added_tokens_decoder"].items()
        }
        (out / "tokenizer_config.json").write_text(json.dumps(settings))
    state = weights(source)
    for name in [name for name in state if "embed" in name or "lm_head" in name]:
        rows = state[name].clone()
        rows[list(moved.values())] = state[name][list(moved)]
        state[name] = rows
    save_file(state, out / "model.safetensors", {"format": "pt"})
    for file in ("config.json", "generation_config.json"):
        config = json.loads((out / file).read_text())
        config |= {
            key: moved[value] for key, value in config.items() if key.endswith("_token_id") and value is not None
        }
        (out / file).write_text(json.dumps(config))
    return out


def renumber(document: dict, ids: Mapping[str, int]) -> None:
    """Gives the tokens of a tokenizer.json other numbers."""
    inner = document["model"]
    if isinstance(inner["vocab"], list):
        scores = dict(map(tuple, inner["vocab"]))
        listed = sorted(ids, key=lambda text: ids[text])
        inner["vocab"] = [[text, scores.get(text, -20.0)] for text in listed]
        inner["unk_id"] = ids["<unk>"]
    else:
        inner["vocab"] = dict(ids)
    for token in document["added_tokens"]:
        token["id"] = ids[token["content"]]
    document["added_tokens"].sort(key=lambda token: token["id"])


def numbers(folder: Path) -> dict[str, int]:
    """The number of each token, as the library that reads tokenizer.json has it."""
    return Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()


def by_text(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """The rows of a tensor, by the text of their tokens."""
    rows = weights(folder)[name]
    return {text: rows[number] for text, number in numbers(folder).items() if number < len(rows)}


def linear(*models: Path, weight: float | None = None, **more: object) -> Recipe:
    """The mean of models, or each with a weight."""
    entries = [{"model": str(one), "parameters": {"weight": weight or 1 / len(models)}} for one in models]
    return Recipe.from_dict({"merge_method": "linear", "models": entries, **more})


WIDTH = 24


def words(folder: Path, listed: list[str], seed: int) -> Path:
    """A model of nothing but an embedding and a head, of a few blocks each, and a tokenizer of whole words."""
    generator = torch.Generator().manual_seed(seed)
    state = {name: torch.randn(len(listed), WIDTH, generator=generator) for name in (EMBEDDING, HEAD)}
    folder.mkdir(parents=True)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    config = {"model_type": "llama", "vocab_size": len(listed), "hidden_size": WIDTH, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    core = {"type": "WordLevel", "vocab": {word: at for at, word in enumerate(listed)}, "unk_token": listed[0]}
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": [], "model": core}))
    return folder
