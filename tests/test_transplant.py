"""The tokenizer of another model: shared tokens keep their rows to the byte, new ones are sums of shared ones."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hubmerge.errors import HubmergeError
from hubmerge.publish import merge
from hubmerge.recipe import Recipe
from hubmerge.stream.plan import Plan, make_plan
from hubmerge.stream.pursuit import pursue

SHARED = [f"w{n}" for n in range(30)]
MINE = ["<pad>", "<s>", "</s>", "<unk>", *SHARED, *(f"m{n}" for n in range(20))]
THEIRS = [*(f"t{n}" for n in range(70)), "<pad>", "[BOS]", "[EOS]", "<unk>", *reversed(SHARED)]


def pursued(atoms: np.ndarray, target: np.ndarray, count: int) -> np.ndarray:
    """The coefficients of orthogonal matching pursuit by its definition, all of them fitted anew each round."""
    chosen: list[int] = []
    lengths = np.linalg.norm(atoms, axis=1)
    found, rest = np.zeros(0), target.copy()
    for _ in range(count):
        if np.linalg.norm(rest) <= 1e-6 * np.linalg.norm(target):
            break
        fits = np.abs(atoms @ rest) / np.where(lengths == 0, np.inf, lengths)
        fits[chosen] = -1
        chosen.append(int(fits.argmax()))
        found = np.linalg.lstsq(atoms[chosen].T, target, rcond=None)[0]
        rest = target - atoms[chosen].T @ found
    shares = np.zeros(len(atoms))
    shares[chosen] = found
    return shares


@pytest.fixture(scope="module")
def speaking(tmp_path_factory) -> Callable[..., Path]:
    """A function `(name, words, ids, **config)` that gives a tiny Llama with these words as its tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    root = tmp_path_factory.mktemp("speaking")

    def build(name: str, words: list[str], bos: str, eos: str, dtype: str = "float32", **config: object) -> Path:
        core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=core, pad_token="<pad>", bos_token=bos, eos_token=eos, unk_token="<unk>"
        )
        torch.manual_seed(len(words))
        settings = {
            "vocab_size": len(words),
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "initializer_range": 0.5,
            "bos_token_id": words.index(bos),
            "eos_token_id": words.index(eos),
            "pad_token_id": words.index("<pad>"),
            **config,
        }
        model = LlamaForCausalLM(LlamaConfig(**settings)).to(getattr(torch, dtype))
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        return root / name

    return build


@pytest.fixture(scope="module")
def mine(speaking) -> Path:
    return speaking("mine", MINE, "<s>", "</s>", tie_word_embeddings=False, dtype="bfloat16")


@pytest.fixture(scope="module")
def donor(speaking) -> Path:
    return speaking("donor", THEIRS, "[BOS]", "[EOS]", hidden_size=24, vocab_size=112, tie_word_embeddings=False)


def planned(model: Path, donor: Path, count: int = 64, **how) -> Plan:
    document = {
        "merge_method": "passthrough",
        "models": [{"model": str(model)}],
        "tokenizer": {"source": str(donor), "transplant": count},
    }
    assert Recipe.from_dict(document).to_dict() == document
    return make_plan(Recipe.from_dict(document), **how)


def weights(folder: Path) -> Mapping[str, Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("count", [5, 64])
def test_rows_are_those_of_a_plain_pursuit(count, mine, donor, tmp_path) -> None:
    merge(planned(mine, donor, count), tmp_path / "out")
    found, ours, theirs = weights(tmp_path / "out"), weights(mine), weights(donor)
    # What begins and ends a text is the same to both, by other texts.
    pairs = {THEIRS.index(word): MINE.index(word) for word in ["<pad>", "<unk>", *SHARED]}
    pairs |= {THEIRS.index("[BOS]"): MINE.index("<s>"), THEIRS.index("[EOS]"): MINE.index("</s>")}
    at = sorted(pairs)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        made, own, other = found[name], ours[name], theirs[name].double().numpy()
        assert made.shape == (112, 16) and made.dtype == torch.bfloat16
        assert all(torch.equal(made[row], own[pairs[row]]) for row in at)
        assert not made[len(THEIRS) :].any()
        atoms = own[[pairs[row] for row in at]].double().numpy()
        for row in range(70):
            expected = pursued(other[at], other[row], count) @ atoms
            assert np.allclose(made[row].double().numpy(), expected, rtol=2**-7, atol=2e-3), (name, row)
    assert all(torch.equal(tensor, ours[name]) for name, tensor in found.items() if "layers" in name)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["vocab_size"], config["eos_token_id"]) == (112, THEIRS.index("[EOS]"))


def test_it_is_loaded_and_speaks_the_other_tokens(call, mine, donor, tmp_path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    done = call("transplant", mine, "--tokenizer", donor, "-k", 8, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stdout.split())
    assert "34 of the 104 tokens" in told and "70 new ones" in told
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    before = AutoModelForCausalLM.from_pretrained(mine, dtype=torch.float32).eval()
    text = "w3 w4 w29"
    ids, old = (
        torch.tensor([AutoTokenizer.from_pretrained(one)(text)["input_ids"]]) for one in (tmp_path / "out", mine)
    )
    assert ids.tolist() == [[THEIRS.index(word) for word in text.split()]]
    with torch.no_grad():
        logits, expected = model(ids).logits, before(old).logits
    at = [THEIRS.index(word) for word in SHARED]
    assert torch.allclose(logits[..., at], expected[..., [MINE.index(word) for word in SHARED]], atol=1e-4)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "with the tokenizer of local folder `donor`" in card and "2506.06607" in card
    assert "# local folder mine with another tokenizer" in card and "| tokenizer |" in card


def test_a_model_with_one_tensor_for_both_and_a_donor_of_its_width(speaking, donor, tmp_path) -> None:
    tied = speaking("tied", MINE, "<s>", "</s>", tie_word_embeddings=True, hidden_size=24)
    merge(planned(tied, donor, 4), tmp_path / "out")
    found = weights(tmp_path / "out")
    assert "lm_head.weight" not in found and found["model.embed_tokens.weight"].shape == (112, 24)


def test_threads_and_shards_change_nothing_and_it_streams(hub, mine, donor, tmp_path) -> None:
    from hubmerge.hub.push import push_folder

    for folder, name in ((mine, "alice/mine"), (donor, "alice/donor")):
        push_folder(folder, name, private=False, message="x")
    one = planned(Path("alice/mine"), Path("alice/donor"), 6, threads=1, ranged=True)
    two = planned(mine, donor, 6, threads=3, shard_size=2000)
    merge(one, tmp_path / "one")
    merge(two, tmp_path / "two")
    split = {
        name: tensor for file in (tmp_path / "two").glob("*.safetensors") for name, tensor in load_file(file).items()
    }
    assert len(two.shards) > 1 and all(
        torch.equal(split[name], tensor) for name, tensor in weights(tmp_path / "one").items()
    )


def test_its_own_tokens_change_nothing(mine, speaking, tmp_path) -> None:
    same = speaking("same", MINE, "<s>", "</s>", tie_word_embeddings=False)
    merge(planned(mine, same), tmp_path / "out")
    assert all(torch.equal(tensor, weights(mine)[name]) for name, tensor in weights(tmp_path / "out").items())


def test_what_cannot_be_is_said(mine, speaking) -> None:
    strange = speaking("strange", ["<pad>", "<unk>", *(f"x{n}" for n in range(9))], "x1", "x2")
    with pytest.raises(HubmergeError, match="whole number from 1 to 1,024"):
        planned(mine, strange, 0)
    with pytest.raises(HubmergeError, match="goes with `source: org/model`"):
        Recipe.from_dict(
            {"merge_method": "linear", "models": [{"model": "a/b"}], "tokenizer": {"source": "union", "transplant": 3}}
        )


def test_a_pursuit_ends_where_nothing_is_left_and_in_the_span_of_what_there_is() -> None:
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(40, 12, generator=generator)
    atoms[7] = 0
    targets = torch.stack([3 * atoms[4] - atoms[9], torch.zeros(12), torch.randn(12, generator=generator)])
    chosen, shares = pursue(atoms, targets, 64)
    made = torch.einsum("rk,rkw->rw", shares, atoms[chosen].double())
    assert torch.allclose(made, targets.double(), atol=1e-5) and 7 not in chosen[shares != 0]
    flat = torch.randn(40, 3, generator=generator) @ torch.randn(3, 12, generator=generator)
    chosen, shares = pursue(flat, targets, 64)
    assert (shares != 0).sum(1).max() <= 3 and torch.isfinite(shares).all()


def test_words_are_the_same_however_a_tokenizer_marks_spaces() -> None:
    from types import SimpleNamespace

    from hubmerge.stream.kindred import same_tokens
    from hubmerge.stream.numbering import Numbering

    none = SimpleNamespace(config={})
    bytes_ = Numbering("a", ("a",), {"Ġthe": 0, "Ċ": 1, "cat": 2, "Ġça": 3, "<s>": 4, "Ã©": 5, "Ġdog": 6})
    pieces = Numbering("b", ("b",), {"<0x0A>": 0, "▁the": 1, "cat": 2, "<s>": 3, "é": 4, "▁ça": 5, "▁a": 6})
    assert same_tokens(bytes_, none, pieces, none) == {0: 1, 1: 0, 2: 2, 4: 3, 5: 4}
