"""What a search is said to hold in memory is what it holds: candidate after candidate, none of it adds up."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc"),
]

SCRIPT = """
import json, sys, threading, time
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from hubmerge.evaluate.demand import Demand
from hubmerge.evaluate.generation import generate
from hubmerge.evaluate.greedy import Decoder
from hubmerge.evolve.workers.footprint import footprint
from hubmerge.evolve.workers.resident import ResidentModel
from hubmerge.recipe import Recipe
from hubmerge.stream.plan import make_plan

def anonymous():
    with open("/proc/self/status") as status:
        return 1024 * int(status.read().partition("RssAnon:")[2].split()[0])

def watch():
    while True:
        peaks[-1] = max(peaks[-1], anonymous())
        time.sleep(0.002)

torch.set_num_threads(1)
sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
Decoder(LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes)).eval(), [[1, 2]], [])([[1, 2]], 2)
base, other, prompts, new = json.loads(sys.argv[1])
def recipe(weight):
    models = [{"model": other, "parameters": {"weight": weight}}]
    return Recipe.from_dict({"merge_method": "task_arithmetic", "base_model": base, "models": models})
peaks = [bare := anonymous()]
threading.Thread(target=watch, daemon=True).start()
plan = make_plan(recipe(0.5))
resident = ResidentModel(plan)
longest = max(map(len, resident.tokenizer(prompts)["input_ids"]))
stated = footprint(plan, demand=Demand(64, longest, new))
for number in range(3):
    peaks.append(0)
    resident.load(recipe(0.5 + 0.1 * number))
    generate(resident.model, resident.tokenizer, prompts, max_new_tokens=new, batch_size=64)
print(json.dumps({"stated": stated.anonymous, "took": [peak - bare for peak in peaks]}))
"""


def test_a_search_takes_what_is_stated(tiny_llama, tmp_path: Path) -> None:
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 3, "max_position_embeddings": 512}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4}
    base = tiny_llama(tmp_path / "base", **sizes, **heads)
    other = tiny_llama(tmp_path / "other", seed=1, sibling_of=base)
    prompts = [f"Mary has {n} apples and gives {n // 2} of them to each of her {n % 7} friends." for n in range(66)]
    job = json.dumps([str(base), str(other), prompts, 12])
    done = subprocess.run([sys.executable, "-c", SCRIPT, job], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    most = max(found["took"])
    assert most <= found["stated"], found
    assert most > found["stated"] / 4, found
    # What one candidate leaves behind serves the next.
    assert found["took"][-1] < 1.25 * found["took"][1], found
