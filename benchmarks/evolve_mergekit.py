"""The part of evolve.py that makes candidates as it is done today; it runs under mergekit's Python, without hubmerge.

The second argument, if any, is the `mergekit-yaml` to run for each candidate; else mergekit merges in this process.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM


def merge(recipe: dict, out: str, program: str | None) -> None:
    """Writes the merged model to disk, with mergekit's default options."""
    if program is not None:
        path = Path(out).with_suffix(".yaml")
        path.write_text(json.dumps(recipe))  # JSON is YAML
        subprocess.run([program, str(path), out], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    run_merge(MergeConfiguration.model_validate(recipe), out_path=out, options=MergeOptions(quiet=True))


def ask(model: torch.nn.Module, tokenizer, prompts: list[str], max_new_tokens: int, batch_size: int) -> list[str]:
    """The greedy answers by plain `generate`."""
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    template = tokenizer.chat_template is not None
    texts = prompts
    if template:
        chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
        texts = tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
    answers = []
    for start in range(0, len(texts), batch_size):
        batch = tokenizer(
            texts[start : start + batch_size], padding=True, return_tensors="pt", add_special_tokens=not template
        )
        batch = {name: batch[name] for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            made = model.generate(**batch, max_new_tokens=max_new_tokens, do_sample=False)
        new = made[:, batch["input_ids"].shape[1] :]
        answers += [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
    return answers


def warm_up() -> None:
    """Lets transformers load what any model needs, as evolve_hubmerge.py does."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes)).eval()
    model.generate(torch.tensor([[1, 2]]), max_new_tokens=2, do_sample=False, eos_token_id=None)


def cpu_seconds() -> float:
    """Of this process and of the children that ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def anonymous() -> int:
    """Bytes of this process's memory that no file backs."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


def main(path: str, program: str | None = None) -> None:
    """Makes the candidates of a job, asks them, and writes down the texts and the seconds."""
    warm_up()
    job = json.loads(Path(path).read_text())
    bare, standing, made = anonymous(), 0, []
    for recipe in job["recipes"]:
        shutil.rmtree(job["out"], ignore_errors=True)
        began, cpu = time.perf_counter(), cpu_seconds()
        merge(recipe, job["out"], program)
        built = time.perf_counter()
        model = AutoModelForCausalLM.from_pretrained(job["out"], dtype=job.get("dtype", "auto"))
        tokenizer = AutoTokenizer.from_pretrained(job["out"])
        loaded = time.perf_counter()
        standing, dtype = standing or anonymous(), str(model.dtype).removeprefix("torch.")
        texts = ask(model, tokenizer, job["prompts"], job["max_new_tokens"], job["batch_size"])
        seconds = {"build": built - began, "load": loaded - built, "generate": time.perf_counter() - loaded}
        made.append({**seconds, "cpu": cpu_seconds() - cpu, "texts": texts})
    Path(job["results"]).write_text(json.dumps({"bare": bare, "built": standing, "dtype": dtype, "candidates": made}))


if __name__ == "__main__":
    main(*sys.argv[1:])
