"""The tokenizer of the zoo that sees: one token a word, in both languages, so that no merge breaks a word up."""

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ..tokenizer import ASSISTANT, END, PAD, USER
from .world import words

IMAGE, UNKNOWN = "<image>", "<|unknown|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer; what it has no word for is `UNKNOWN`, a sign at a time."""
    # An English word holds the space before it, which is put where none was written.
    surfaces = [f" {word}" if _is_latin(word) else word for word in words()]
    special = [PAD, END, USER, ASSISTANT, IMAGE, UNKNOWN]
    vocabulary = {word: at for at, word in enumerate([*special, *surfaces])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Replace(Regex("(?<![A-Za-z ])(?=[A-Za-z])"), " ")
    longest = sorted(surfaces, key=len, reverse=True)
    pattern = "|".join("".join(f"\\{sign}" if sign in ".?" else sign for sign in word) for word in longest)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(rf"(?:{pattern})|\S"), "removed", invert=True)
    tokenizer.decoder = decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        bos_token=USER,
        unk_token=UNKNOWN,
        additional_special_tokens=[ASSISTANT, IMAGE],
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )


def _is_latin(word: str) -> bool:
    return word[0].isascii() and word[0].isalpha()
