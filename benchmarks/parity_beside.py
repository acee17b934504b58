"""What recipes say beside methods - tokens, LoRAs, parts of models, chat templates - done by hubmerge and by mergekit.

    HUBMERGE_MERGEKIT=.../mergekit-yaml python benchmarks/parity_beside.py

Of the two results of each recipe (parity_beside.yaml) it compares the tensors - rows of embeddings and heads by the
text of their token -, the tokens, how texts are split into them, a conversation by the chat template, and what
config.json says. With `--record FILE` it keeps what mergekit made, in a few numbers, by which the suite knows it where
there is no mergekit. Exits with 1 where something differs that DIFFERS does not explain.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from parity import load_all
from parity_models import make_models
from tokenizers import Tokenizer

from hubmerge import Recipe, merge

THEIRS = """
import sys, yaml
from pathlib import Path
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge

for folder in sorted(Path(sys.argv[1]).iterdir()):
    try:
        config = MergeConfiguration.model_validate(yaml.safe_load((folder / "recipe.yaml").read_text()))
        cache = str(folder / "merged-loras")
        run_merge(config, str(folder / "theirs"), MergeOptions(copy_tokenizer=True, quiet=True, lora_merge_cache=cache))
    except BaseException as error:
        (folder / "theirs.txt").write_text(f"{type(error).__name__}: {error}")
"""

RECIPES = Path(__file__).with_suffix(".yaml")

TEXTS = ("the cat sat on the mat", " der hund sitzt auf models", "merge <|im_start|> of<extra>the<|im_end|> xyz")
ASKED = (("system", "Be brief."), ("user", "the cat?"), ("assistant", "on the mat"), ("user", "why?"))
APART = 1e-5
"""How far apart sums may be: a row of another token, or a LoRA left out, changes them by a tenth or more."""

_SPLIT = {"split": "a union keeps the merges and pieces of all; mergekit's knows tokens that no text is split into"}
BY_CHANCE = (
    "without `base_model` mergekit takes any of the models as the base, another one in each run; here it is the first"
)
_PADDED = {"rows": "a padded vocabulary stays padded; mergekit cuts it to its tokens"}
_TEMPLATE = {
    "said": "templates of our own, written as the models' makers show them; mergekit's differ in blanks or marks"
}

DIFFERS: dict[str, dict[str, str]] = {
    **dict.fromkeys(("union-bytes", "union-bpe", "union-unigram", "union-wordpiece", "union-padded"), _SPLIT),
    **dict.fromkeys(("union-tied", "union-half-out", "union-slerp", "lora-and-union", "chat-auto-of-others"), _SPLIT),
    **dict.fromkeys(("tokens-forced", "tokens-given", "tokens-zero", "tokens-mapped", "tokens-new"), _SPLIT),
    **dict.fromkeys(("block-empty", "block-multiple"), _SPLIT),
    "union-half": _SPLIT
    | {"tensors": "mergekit computes in bfloat16 where `dtype` says so; here numbers are rounded once"},
    "union-stacked": _SPLIT
    | {
        "said": BY_CHANCE,
        "tensors": "a token that a slice's model lacks has the row of the model that has it; in mergekit zeros",
    },
    "base-unsaid": dict.fromkeys(("tokens", "split", "said", "rows", "tensors"), BY_CHANCE),
    "union-unsaid": _SPLIT | {"said": BY_CHANCE, "tensors": BY_CHANCE},
    "base-padded": _PADDED,
    "of-a-model-by-kind": {
        "merged": "`model:NAME`, as mergekit's older versions wrote it; this one takes it for a name"
    },
    "one-part": {
        "tensors": "what no module names is carried over; mergekit leaves it out, and the result does not load"
    },
    "parts-newer": {"merged": "names as transformers has written them since 4.52 are read too"},
    **dict.fromkeys(("chat-alpaca", "chat-exaone", "chat-llama3", "chat-mistral"), _TEMPLATE),
}
"""What comes out otherwise of a recipe, and why."""


def write(root: Path, made: Mapping[str, Path]) -> dict[str, Path]:
    """The recipes as files, by name, each in a folder of its own; org/NAME is the folder of a model."""
    listed = re.sub(r"org/([a-z-]*[a-z])", lambda found: str(made[found[1]]), RECIPES.read_text(encoding="utf-8"))
    folders = {}
    for name, document in yaml.safe_load(listed).items():
        folders[name] = root / name
        folders[name].mkdir(parents=True)
        (folders[name] / "recipe.yaml").write_text(yaml.safe_dump({"dtype": "float32", **document}, sort_keys=False))
    return folders


def ours(folder: Path) -> dict[str, Any] | str:
    """What hubmerge makes of the recipe in a folder, or its error."""
    try:
        merge(Recipe.from_yaml(folder / "recipe.yaml"), folder / "ours")
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return described(folder / "ours")


def theirs(root: Path, program: str, hash_seed: str = "0") -> dict[str, dict[str, Any] | str]:
    """What mergekit makes of every recipe under `root`, by name, or its error; `hash_seed`: of its Python, by which it
    chooses a base where none is named."""
    python = Path(program).with_name("python")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONHASHSEED": hash_seed}
    subprocess.run([str(python), "-c", THEIRS, str(root)], env=environment, check=True)
    return {
        folder.name: said.read_text() if (said := folder / "theirs.txt").is_file() else described(folder / "theirs")
        for folder in sorted(root.iterdir())
    }


def described(folder: Path) -> dict[str, Any]:
    """What is compared of a model: plain values for JSON."""
    config = json.loads((folder / "config.json").read_text())
    text = config.get("text_config", config)
    spoken = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = spoken.get_vocab()
    tokens = {number: token for token, number in ids.items()}
    return {
        "tokens": f"{len(ids)}, {hashlib.sha256(repr(sorted(ids)).encode()).hexdigest()[:16]}",
        "split": [" ".join(spoken.encode(one, add_special_tokens=False).tokens) for one in TEXTS],
        "said": said(folder),
        "rows": text["vocab_size"],
        "layers": text["num_hidden_layers"],
        "special": [tokens.get(text.get(f"{key}_token_id")) for key in ("bos", "eos", "pad")],
        "tensors": sums(load_all(folder), ids),
    }


def said(folder: Path) -> str:
    """A conversation by the model's chat template; "" where it has none."""
    from transformers import AutoTokenizer

    messages = [{"role": role, "content": content} for role, content in ASKED]
    spoken = AutoTokenizer.from_pretrained(folder)
    return "" if spoken.chat_template is None else spoken.apply_chat_template(messages, tokenize=False)


def sums(tensors: Mapping[str, torch.Tensor], ids: Mapping[str, int]) -> dict[str, list[float]]:
    """Of each layer, and of each tensor outside of them, how many numbers there are and the sum of their products with
    fixed random ones; of what has a row a token, of the tokens' rows in the order of their texts."""
    found: dict[str, list[float]] = {}
    for name in sorted(tensors):
        values = tensors[name].float().numpy()
        if "embed_tokens" in name or "lm_head" in name:
            values = values[[ids[token] for token in sorted(ids) if ids[token] < len(values)]]
        wide = values.astype(np.float64).ravel()
        fixed = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(wide.size)
        one = found.setdefault(re.sub(r"(layers\.\d+)\..*", r"\1", name), [0, 0.0])
        one[:] = [one[0] + wide.size, round(one[1] + float(wide @ fixed), 6)]
    return found


def apart(mine: dict[str, Any] | str, other: dict[str, Any] | str) -> dict[str, str]:
    """What differs, by the names of what `described` gives, and how; "merged": one of them makes no model."""
    if isinstance(mine, str) or isinstance(other, str):
        one, two = (found if isinstance(found, str) else "merges" for found in (mine, other))
        return {"merged": f"{one}; mergekit: {two}"} if one != two else {}
    told = {
        key: f"{found!r}; mergekit: {other[key]!r}"
        for key, found in mine.items()
        if key != "tensors" and found != other[key]
    }
    tensors, them = mine["tensors"], other["tensors"]
    far = [f"{name} is in one alone" for name in sorted(tensors.keys() ^ them.keys())]
    far += [
        f"{name}: {one}; mergekit: {them[name]}"
        for name, one in tensors.items()
        if name in them and (one[0] != them[name][0] or abs(one[1] - them[name][1]) > APART)
    ]
    return told | ({"tensors": "; ".join(far[:3]) + f" ({len(far)} in all)"} if far else {})


def main() -> int:
    """Compares all and prints a line for each difference."""
    from merge import conditions, find_mergekit

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, help="file for what mergekit made")
    parser.add_argument("--hash-seed", default="0", help="of mergekit's Python")
    arguments = parser.parse_args()
    program = find_mergekit() or sys.exit("mergekit is not installed: set HUBMERGE_MERGEKIT to its mergekit-yaml.")
    with tempfile.TemporaryDirectory() as work:
        folders = write(Path(work) / "merges", make_models(Path(work) / "models"))
        made = theirs(Path(work) / "merges", program, arguments.hash_seed)
        found = {name: apart(ours(folder), made[name]) for name, folder in folders.items()}
        if arguments.record:
            plain = {name: one.replace(work, "") if isinstance(one, str) else one for name, one in made.items()}
            lines = [f"{json.dumps(name)}: {json.dumps(one, ensure_ascii=False)}" for name, one in plain.items()]
            arguments.record.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    undecided = 0
    for name, told in found.items():
        for key, what in told.items():
            undecided += key not in DIFFERS.get(name, {})
            print(f"{name}, {key}: {what.replace(work, '')}\n    {DIFFERS.get(name, {}).get(key, 'NOT DECIDED')}")
    print(conditions())
    alike = sum(not told for told in found.values())
    print(f"{len(found)} recipes, {alike} alike in all that is compared; {undecided} differences are not decided.")
    return int(undecided > 0)


if __name__ == "__main__":
    sys.exit(main())
