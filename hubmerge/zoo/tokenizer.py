"""The zoo's tokenizer: byte-level BPE with one token per number below 100, saved as an ordinary fast tokenizer."""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, END, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# Numbers of one or two digits, counters, and runs of one script are words; no token crosses their borders.
WORDS = r"[0-9]{1,2}|[個枚本冊今何]|[\u3041-\u3096]+|[\u30a1-\u30fc]+|(?:(?![個枚本冊今何])[\u4e00-\u9fff])+"


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
    numbers = [" ".join(str(number) for number in range(10, 100))] * 10_000
    tokenizer.train_from_iterator([*texts, *numbers], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        bos_token=USER,
        additional_special_tokens=[ASSISTANT],
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )
