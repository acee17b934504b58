"""Texts that tokenizers are compared on: what cuts text differently cuts at least one of these differently."""

import random
from collections.abc import Callable, Sequence

TEXTS = (
    "The quick brown fox jumps over the lazy dog. It's what they'd've said: we'll see, I'm sure you're right.",
    "THEY'RE SHOUTING: DON'T! I'Ve 'seen' it, o'clock, rock'n'roll; 'tis the season's end.",
    "1 12 123 1234 12345 123456 1234567 3.14159 1,000,000 0x1F 2024-03-19 12:30 $99.95 50% n=3 x2y3 v1.10.2",
    "121 212 1212 2121 10100 99999 1314151 007 ١٢٣ ４５６ Ⅷ ½ x²",
    "  two leading,   three  inside, trailing   ",
    "line one\nline two\r\n\n\nline five\n \n  \n\t\ttabs\t and spaces \t\n",
    "def f(x: int) -> dict[str, int]:\n    return {'a': x**2, \"b\": not x}  # why\n\n\nif __name__ == '__main__':\n",
    'for (int i = 0; i < n; ++i) { a[i] += b[i] * 2; } /* done */ <tag attr="v">&amp;</tag> https://example.org/a_b?q=1#x',
    "!!! ??? ... --- === *** ::: ;;; ((())) [[[]]] {{{}}} ~~~ @@@ ### $$$ %%% ^^^ &&& ___ +++ ||| \\\\\\ /// <<<>>>",
    "naïve café über Straße Ångström façade œuvre żółć İstanbul ǅ Ⅻ ﬁ e\u0301 n\u0303",
    "こんにちは、世界。トムは店に行きました。りんごを12個買って、3個食べました。何個残っていますか？",
    "東京タワーの高さは333メートルです。「はい」と言った。ＡＢＣ１２３ ｶﾀｶﾅ 々 ー",
    "你好，世界！今天是2024年3月19日，天气很好。我有１００元。",
    "안녕하세요 세계! 오늘은 날씨가 좋아요.",
    "Привет, мир! Съешь же ещё этих мягких французских булок. Ελληνικά και Ἀρχαία.",
    "مرحبا بالعالم ١٢٣. שלום עולם. नमस्ते दुनिया १२३. สวัสดีชาวโลก. ជំរាបសួរ. வணக்கம்",
    "🚀 🙂 👩‍👩‍👧‍👦 🏳️‍🌈 🇯🇵 ✅ ♥️ 👍🏽 ∑∫√∞ ≤≥≠ → ⇒ ¯\\_(ツ)_/¯ \u200b\u00a0\u3000\ufeff x",
    "CamelCase snake_case kebab-case SCREAMING_CASE iPhone15Pro HTML5 3D 2nd mp3 H2O e.g. i.e. U.S.A. Ph.D.",
    "a",
    " ",
    "\n",
    "",
)


def drawn(numbers: Sequence[int], word: Callable[[int], str], count: int = 400, seed: int = 7) -> list[str]:
    """Texts of eight words each, by their `numbers` in a drawn order, joined with spaces and without."""
    rng = random.Random(seed)
    texts = []
    for number in range(count if numbers else 0):
        words = [word(rng.choice(numbers)) for _ in range(8)]
        texts.append((" " if number % 2 else "").join(one for one in words if "\ufffd" not in one))
    return texts


def around(token: str) -> str:
    """A text that has a token at its begin and end, in words, beside spaces and twice."""
    return f"{token}one{token}two {token}three{token} four {token} {token}{token}\n{token}"
