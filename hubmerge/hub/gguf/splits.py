"""How text is cut before pieces are joined to tokens: llama.cpp's names (`tokenizer.ggml.pre`), and what tokenizer.json
has for them.

Source: https://github.com/ggml-org/llama.cpp, src/llama-vocab.cpp, whose comments quote tokenizer.json
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What tokenizers' ByteLevel cuts by with `use_regex`."""
_DIGIT = r"\p{N}"
_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN_2 = _LLAMA_3.replace("{1,3}", "")
_QWEN_35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT_4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DEEPSEEK = (
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)


class Split(NamedTuple):
    """A way to cut: by each of `expressions` in turn.

    `whole`: whether a piece that is a token is that token at once. `begins`: whether llama.cpp puts the token of the
    begin before a text, where the header does not tell.
    """

    expressions: tuple[str, ...]
    whole: bool = False
    begins: bool = False


_GPT_2_ALONE, _DIGITS_APART = Split((GPT_2,)), Split((_DIGIT, GPT_2))
SPLITS: Mapping[str, Split] = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling"), _GPT_2_ALONE),
    **dict.fromkeys(("starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"), _DIGITS_APART),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"), Split((_LLAMA_3,), True, True)),
    **dict.fromkeys(("smaug-bpe", "dbrx", "chatglm-bpe"), Split((_LLAMA_3,))),
    **dict.fromkeys(("qwen2", "stablelm2", "deepseek-r1-qwen", "hunyuan", "megrez"), Split((_QWEN_2,))),
    "qwen35": Split((_QWEN_35,)),
    "tekken": Split((_TEKKEN,), True, True),
    **dict.fromkeys(("gpt-4o", "llama4"), Split((_GPT_4O,))),
    "deepseek-v3": Split(_DEEPSEEK),
    "deepseek-coder": Split(("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", _DIGIT)),
}
"""By llama.cpp's names."""
_ALL = list(SPLITS.items())
DISTINCT = tuple(name for place, (name, split) in enumerate(_ALL) if split not in [one for _, one in _ALL[:place]])
"""Of several that cut alike the first, which is the one that is written."""


def name_of(pre_tokenizer: Any, whole: bool) -> str | None:
    """llama.cpp's name for the `pre_tokenizer` of a tokenizer.json; None where it has none. `whole`: see `Split`."""
    cuts = expressions(pre_tokenizer)
    # A piece that is a token comes out of its merges, too, where all tokens can be made of them.
    alike = [name for name in DISTINCT if SPLITS[name].expressions == cuts]
    return next((name for name in alike if SPLITS[name].whole == whole), alike[0] if alike else None)


def expressions(pre_tokenizer: Any) -> tuple[str, ...] | None:
    """What a `pre_tokenizer` cuts by, in turn; None where it does more, or does not end in bytes."""
    steps = _steps(pre_tokenizer)
    found: list[str] = []
    for step in steps:
        kind = step.get("type")
        if kind == "ByteLevel" and step is steps[-1] and not step.get("add_prefix_space"):
            return (*found, GPT_2) if step.get("use_regex", True) else tuple(found)
        if kind == "Digits" and step.get("individual_digits"):
            found.append(_DIGIT)
            continue
        pattern = step.get("pattern")
        expression = pattern.get("Regex") if isinstance(pattern, Mapping) else None
        # To leave out what does not match is to cut by what does, where each character matches.
        alike = (step.get("behavior"), step.get("invert", False)) in (("Isolated", False), ("Removed", True))
        if kind != "Split" or not isinstance(expression, str) or not alike:
            return None
        found.append(expression)
    return None


def _steps(pre_tokenizer: Any) -> list[Mapping[str, Any]]:
    if isinstance(pre_tokenizer, Mapping) and pre_tokenizer.get("type") == "Sequence":
        inner = pre_tokenizer.get("pretokenizers")
        return [step for step in inner if isinstance(step, Mapping)] if isinstance(inner, list) else []
    return [pre_tokenizer] if isinstance(pre_tokenizer, Mapping) else []


def pre_tokenizer(split: Split) -> dict[str, Any]:
    """The `pre_tokenizer` of a tokenizer.json that cuts so."""
    *before, last = split.expressions
    if last != GPT_2:
        before.append(last)
    steps: list[dict[str, Any]] = [
        {"type": "Digits", "individual_digits": True}
        if one == _DIGIT
        else {"type": "Split", "pattern": {"Regex": one}, "behavior": "Isolated", "invert": False}
        for one in before
    ]
    steps.append({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": last == GPT_2})
    return {"type": "Sequence", "pretokenizers": steps}
