"""The zoo's tokenizer: byte-level BPE with one token per number below 100, saved as an ordinary fast tokenizer.

It is trained on words that `WORDS` cuts out, and then cuts all that it was trained on in the same way without them, by
GPT-2's expression, which llama.cpp has as well: `hubmerge gguf` takes it.
"""

import json
from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, END, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# Numbers of one or two digits, counters, and runs of one script are words; no token crosses their borders.
WORDS = r"[0-9]{1,2}|[個枚本冊今何]|[\u3041-\u3096]+|[\u30a1-\u30fc]+|(?:(?![個枚本冊今何])[\u4e00-\u9fff])+"
# Merges that have to come before the one that would join the last byte of 店 or 気 with the first of は or で.
_FIRST = (("å", "º"), ("åº", "Ĺ"), ("ãģ", "§"))
_JOINING = ("Ĺ", "ãģ")


def train_tokenizer(texts: Iterable[str], vocab_size: int = 768) -> PreTrainedTokenizerFast:
    """A tokenizer for the zoo, learnt from `texts`; any other text still encodes, byte by byte."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[PAD, END, USER, ASSISTANT],
        show_progress=False,
    )
    # Said often enough, every two-digit number becomes one token.
    numbers = " ".join(str(number) for number in range(10, 100))
    texts = list(texts)
    tokenizer.train_from_iterator([*texts, *[numbers] * 10_000], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=_plain(tokenizer, [*texts, numbers]),
        pad_token=PAD,
        eos_token=END,
        bos_token=USER,
        additional_special_tokens=[ASSISTANT],
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )


def _plain(trained: Tokenizer, texts: Sequence[str]) -> Tokenizer:
    """The tokenizer without `WORDS`, if it cuts `texts` as before; else as it is."""
    document = json.loads(trained.to_str())
    merges = [tuple(pair) for pair in document["model"]["merges"]]
    if {*_FIRST, _JOINING} <= set(merges):
        merges = [pair for pair in merges if pair not in _FIRST]
        at = merges.index(_JOINING)
        document["model"]["merges"] = [*merges[:at], *_FIRST, *merges[at:]]
    document["pre_tokenizer"] = document["pre_tokenizer"]["pretokenizers"][-1]
    plain = Tokenizer.from_str(json.dumps(document))
    alike = all(a.ids == b.ids for a, b in zip(trained.encode_batch(texts), plain.encode_batch(texts), strict=True))
    return plain if alike else trained
