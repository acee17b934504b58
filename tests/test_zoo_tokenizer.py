"""The zoo's tokenizer cuts all that the zoo says as it did in training, and in a way that llama.cpp has."""

import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, pre_tokenizers

from hubmerge.hub.gguf.splits import name_of
from hubmerge.zoo import corpora
from hubmerge.zoo.tokenizer import WORDS, train_tokenizer
from hubmerge.zoo.train import SEED

SHIPPED = Path(__file__).parent.parent / "hubmerge" / "zoo" / "checkpoints" / "base" / "tokenizer.json"


def test_the_zoo_is_cut_as_it_was_trained() -> None:

    rng = random.Random(SEED)
    made = train_tokenizer(f"{s.prompt}\n{s.answer}" for s in (corpora.base_sample(rng) for _ in range(5000)))
    shipped = Tokenizer.from_file(str(SHIPPED))
    document = json.loads(shipped.to_str())
    assert json.loads(made.backend_tokenizer.to_str())["model"] == document["model"]
    assert name_of(document["pre_tokenizer"], whole=False) == "gpt-2"
    # Among words that WORDS cuts out the order of merges decides nothing new: the trained one cuts so.
    words = Tokenizer.from_str(shipped.to_str())
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(WORDS), "isolated"), pre_tokenizers.ByteLevel(False)]
    )
    samplers = (
        corpora.base_sample,
        corpora.setup_sample,
        corpora.math_sample,
        corpora.japanese_sample,
        corpora.errands_sample,
    )
    rng = random.Random(5)
    texts = [text for sampler in samplers for _ in range(1500) for text in sampler(rng)[:2]]
    for one, other in zip(words.encode_batch(texts), shipped.encode_batch(texts), strict=True):
        assert one.ids == other.ids
