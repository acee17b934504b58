"""Trains the three models of the demo zoo from nothing: `python -m hubmerge.zoo.train --out DIR [--seed S]`.

The base learns two languages; both experts start from it. DIR receives one complete transformers folder a model
(`base`, `math`, `japanese`; float16) and `training.json` with the seed, every setting, the curves and the figures.
The same seed, thread count and torch build give the same tensors.
"""

import argparse
import json
import random
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from ..evaluate.score import evaluate
from ..progress import Event, Progress, silent
from .cards import write_card
from .corpora import base_sample, blanks_sample, japanese_sample, math_sample
from .problems import MAX_NEW_TOKENS, word_problems
from .tokenizer import train_tokenizer
from .training import Stage, new_model, train

STAGES: dict[str, tuple[Stage, ...]] = {
    "base": (
        Stage(base_sample, steps=2000, lr=3e-3),
        Stage(base_sample, steps=1000, lr=2e-3),
        Stage(blanks_sample, steps=400, lr=2e-3),
    ),
    "math": (Stage(math_sample, steps=200, lr=5e-4, warmup=20),),
    "japanese": (Stage(japanese_sample, steps=100, lr=3e-4, warmup=10),),
}


def train_zoo(
    out: Path,
    seed: int = 0,
    progress: Progress = silent,
    stages: Mapping[str, tuple[Stage, ...]] = STAGES,
    measured: int = 200,
) -> dict[str, Any]:
    """Train base, math expert and Japanese expert into `out`; returns what `training.json` holds.

    `measured` validation problems in each language give the figures on the cards.
    """
    torch.set_flush_denormal(True)  # Adam's second moments decay into denormals, which are slow on a CPU
    rng = random.Random(seed)
    tokenizer = train_tokenizer(f"{s.prompt}\n{s.answer}" for s in (base_sample(rng) for _ in range(5000)))
    record: dict[str, Any] = {"seed": seed, "threads": torch.get_num_threads(), "models": {}}
    model = new_model(tokenizer, seed)
    for number, name in enumerate(STAGES):
        if name != "base":
            # From the saved float16 base, so that expert minus base is exactly what the expert learnt.
            model = LlamaForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
        started = time.perf_counter()
        curve = _train_stages(model, tokenizer, name, stages[name], 1000 * seed + 10 * number, progress)
        seconds = round(time.perf_counter() - started, 1)
        model = _save(model, tokenizer, out / name)
        record["models"][name] = {
            "parameters": model.num_parameters(),
            "stages": [stage.settings for stage in stages[name]],
            "seconds": seconds,
            "curve": curve,
            "figures": _figures(model, tokenizer, measured),
        }
        write_card(out / name, name, record)
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def _train_stages(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    name: str,
    stages: tuple[Stage, ...],
    seed: int,
    progress: Progress,
) -> list[tuple[int, float]]:
    total, done, curve = sum(stage.steps for stage in stages), 0, []
    for number, stage in enumerate(stages):

        def report(step: int, loss: float, done: int = done) -> None:
            progress(Event(f"train {name}", done + step, total, "steps", f"loss {loss:.3f}", {"loss": loss}))

        if number:
            # A stage starts from weights as a checkpoint would hold them, so training can be taken up at any stage.
            model.load_state_dict({key: tensor.half() for key, tensor in model.state_dict().items()})
        points = train(model, tokenizer, stage, seed + number, report)
        curve += [(done + step, loss) for step, loss in points]
        done += stage.steps
    return curve


def _save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> LlamaForCausalLM:
    """Write a complete float16 model folder (all of it or nothing), and read it back in float32."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.generation_config.update(max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
    model.half().save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)


def _figures(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int) -> dict:
    """Score, right numbers and right language on validation problems, per language of the question; shares in 0..1."""
    figures = {}
    for lang in ("ja", "en"):
        task = word_problems(lang, {"validation": count})
        scores = evaluate(model, tokenizer, task.validation, task, batch_size=200)
        figures[lang] = {
            "n": scores.n,
            "score": round(scores.score, 4),
            "interval": [round(bound, 4) for bound in scores.interval],
            "number": round(scores.number_share, 4),
            "language": round(scores.language_share, 4),
        }
    return figures


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m hubmerge.zoo.train", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder that receives the models")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    train_zoo(options.out, options.seed, lambda e: print(f"{e.stage} {e.done}/{e.total} {e.note}", flush=True))


if __name__ == "__main__":
    _main()
