"""How many roots are found on a made-up Hub of 1,000 models, 20% of which name no parent and 5% a wrong one.

    python benchmarks/lineage.py                        # 1,000 models of 20 beginnings
    python benchmarks/lineage.py --models 200 --roots 8

It prints the share of right roots, those of silent and wrong cards alone, what was asked of the Hub, and the time.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--roots", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    from hubmerge.localhub import LocalHub

    with tempfile.TemporaryDirectory() as folder:
        hub = LocalHub(Path(folder) / "hub", users={"alice": "hf_alice"})
        hub.start()
        os.environ.update(hub.environment("alice"), HF_HOME=f"{folder}/hf")
        try:
            measure(hub, asked.models, asked.roots, asked.seed)
        finally:
            hub.stop()


def measure(hub: object, count: int, roots: int, seed: int) -> None:
    from lineagetools import population, publish_all

    from hubmerge.lineage.tree import Tracer

    began = time.monotonic()
    made = publish_all(population(count, "alice", roots, seed=seed))
    print(f"{len(made):,} models made in {time.monotonic() - began:.1f} s")
    hub.clear_log()  # type: ignore[attr-defined]
    began, spent = time.monotonic(), time.process_time()
    tree = Tracer().trace([one.repo_id for one in made])
    took, spent = time.monotonic() - began, time.process_time() - spent
    right = {one.repo_id for one in made if tree.roots(one.repo_id) == (one.root,)}
    kinds = {
        "all": made,
        "silent cards": [one for one in made if one.truth and not one.said],
        "wrong cards": [one for one in made if one.said and not set(one.said) <= set(one.truth)],
    }
    for name, of in kinds.items():
        found = sum(one.repo_id in right for one in of)
        print(f"{name}: {found:,} of {len(of):,} roots right ({found / max(len(of), 1):.1%})")
    log = hub.log  # type: ignore[attr-defined]
    weights = [one for one in log if one.path.endswith(".safetensors")]
    statuses = Counter(one.status for one in weights)
    print(
        f"{len(log):,} requests, {len(weights):,} of weights by range {dict(statuses)}, {took:.1f} s, CPU {spent:.1f} s"
    )


if __name__ == "__main__":
    main()
