"""The part of evolve.py that makes candidates with hubmerge: one model in memory becomes each of them."""

import json
import sys
import time
from pathlib import Path

from measured import _numbers

from hubmerge.evaluate.demand import Demand
from hubmerge.evaluate.generation import generate, prompt_texts
from hubmerge.evaluate.greedy import Decoder
from hubmerge.evolve.workers.footprint import footprint
from hubmerge.evolve.workers.resident import ResidentModel
from hubmerge.recipe import Recipe
from hubmerge.stream.plan import make_plan


def warm_up() -> None:
    """Lets transformers load what any model needs, which is not the search's memory."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes)).eval()
    Decoder(model, [[1, 2]], [])([[1, 2]], 2)


def anonymous() -> int:
    """Bytes of this process's memory that no file backs."""
    return 1024 * _numbers("/proc/self/status").get("RssAnon", 0)


def main(path: str) -> None:
    """Makes the candidates of a job, asks them, and writes down the texts and the seconds."""
    warm_up()
    job = json.loads(Path(path).read_text())
    bare = anonymous()
    recipes = [Recipe.from_dict(recipe) for recipe in job["recipes"]]
    plan = make_plan(recipes[0])
    resident = ResidentModel(plan)
    texts = prompt_texts(resident.tokenizer, job["prompts"], None)
    longest = max(map(len, resident.tokenizer(texts)["input_ids"]))
    demand = Demand(min(job["batch_size"], len(texts)), longest, job["max_new_tokens"])
    standing = anonymous()
    made = []
    for recipe in recipes:
        began, cpu = time.perf_counter(), time.process_time()
        resident.load(recipe)
        built = time.perf_counter()
        texts = generate(
            resident.model,
            resident.tokenizer,
            job["prompts"],
            max_new_tokens=job["max_new_tokens"],
            batch_size=job["batch_size"],
        )
        seconds = {"build": built - began, "load": 0.0, "generate": time.perf_counter() - built}
        made.append({**seconds, "cpu": time.process_time() - cpu, "texts": texts})
    dtype = str(resident.model.dtype).removeprefix("torch.")
    results = {"dtype": dtype, "bare": bare, "built": standing, "candidates": made}
    results["stated"] = footprint(plan, demand=demand).anonymous
    Path(job["results"]).write_text(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
