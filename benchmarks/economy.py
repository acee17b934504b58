"""Tokens of a search with and without its economy, and what its winner is worth on the validation split.

    python benchmarks/economy.py                     # the demo's search, 5 seeds with and without: about 20 minutes
    python benchmarks/economy.py --first-seed 11     # others: the economy's settings were chosen on seeds 1 to 5
    python benchmarks/economy.py --seeds 1 --evaluations 48      # a first look
    python benchmarks/economy.py --out FOLDER        # keeps the runs; what is finished there is only read

Both searches have the same models, examples, searcher, seeds and number of candidates; only `economy:` differs. Tokens
are all that were generated to search: to choose examples and to ask finalists those left out too. Winners are compared
on the validation split, which chose them; no test split is read. CPU s is all that a search took, from its file to the
merged winner, in a process of its own; a run that was only read has none. The mean difference's interval over examples
and seeds comes from a two-way bootstrap, that over seeds alone from Student's t.
"""

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import yaml

from hubmerge.evaluate.statistics import Marks, gain_interval, interval, paired_interval
from hubmerge.zoo.publish import model_folder
from hubmerge.zoo.word_problems import dataset_folder

MODELS = ("base", "math", "japanese")
DEMO = Path(__file__).parent.parent / "hubmerge" / "zoo" / "demo.yaml"
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Student's t, 97.5%, by degrees of freedom."""


@dataclass(frozen=True)
class Run:
    """What one search gave: the winner's marks on the validation split, tokens, CPU seconds (None where the run was
    there), candidates stopped early."""

    marks: Marks
    tokens: int
    cpu: float | None
    stopped: int

    @property
    def score(self) -> float:
        return statistics.fmean(self.marks.values())


def document(folder: Path, evaluations: int, seed: int) -> dict:
    """The demo's search with models and examples in `folder`, and nothing to compare or test."""
    search = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    for name in MODELS:
        if not (folder / f"zoo-{name}").exists():
            model_folder(name, folder / f"zoo-{name}")
    if not (folder / "ja").exists():
        dataset_folder("ja", folder / "ja")
    search["base_model"] = str(folder / "zoo-base")
    search["models"] = [str(folder / f"zoo-{name}") for name in MODELS[1:]]
    files = {split: f"{split}.jsonl" for split in ("search", "validation")}
    search["task"]["examples"] = {"folder": str(folder / "ja"), **files}
    search["splits"] = {split: search["splits"][split] for split in files}
    search["searcher"] |= {"evaluations": evaluations, "seed": seed}
    return search | {"baselines": []}


def run(search: dict, out: Path) -> Run:
    """Makes the search in `out`, or reads it there, and asks its winner the validation split."""
    from hubmerge.evaluate.task import load_task
    from hubmerge.evolve.examples.asked import Asked
    from hubmerge.evolve.records.folder import RESULTS_FILE
    from hubmerge.evolve.run import evolve
    from hubmerge.evolve.search import Search
    from hubmerge.evolve.workers.judge import make_judge

    spec = Search.from_dict(search)
    fresh, began = not (out / RESULTS_FILE).exists(), time.process_time()
    result = evolve(spec, out, resume=True)
    cpu = time.process_time() - began if fresh else None
    task = load_task(spec.task, counts=spec.splits, seed=spec.searcher.seed)
    measured = make_judge(spec, task).measure(result.recipe, Asked("validation"))
    stopped = result.facts.get("cost", {}).get("evaluations_raced", 0)
    return Run(measured.marks, result.facts["tokens"], cpu, stopped)


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def between(low: float, high: float) -> str:
    return f"{percent(low)} to {percent(high)}"


def seconds(*runs: Run) -> float | None:
    """The CPU seconds of all of them, where they are known."""
    known = [run.cpu for run in runs if run.cpu is not None]
    return sum(known) if len(known) == len(runs) else None


def report(pairs: list[tuple[Run, Run]], first_seed: int) -> None:
    print("| seed | everything | 95% | economy | 95% | difference, 95% | tokens | tokens | ratio | stopped ", end="")
    print("| CPU s | CPU s |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for seed, (plain, saving) in enumerate(pairs, start=first_seed):
        cells = [
            *(str(seed), percent(plain.score), between(*interval(list(plain.marks.values())))),
            *(percent(saving.score), between(*interval(list(saving.marks.values())))),
            between(*paired_interval(saving.marks, plain.marks)),
            *(f"{plain.tokens:,}", f"{saving.tokens:,}", f"{saving.tokens / plain.tokens:.3f}"),
            str(saving.stopped),
            *("-" if run.cpu is None else f"{run.cpu:.0f}" for run in (plain, saving)),
        ]
        print(f"| {' | '.join(cells)} |")
    plain_runs, saving_runs = zip(*pairs, strict=True)
    differences = [saving.score - plain.score for plain, saving in pairs]
    mean = statistics.fmean(differences)
    means = [statistics.fmean(run.score for run in runs) for runs in (plain_runs, saving_runs)]
    print(f"\nMean: everything {percent(means[0])}, economy {percent(means[1])}; difference {percent(mean)}", end="")
    both = gain_interval([run.marks for run in saving_runs], [run.marks for run in plain_runs])
    print(f", over examples and seeds {between(*both)}", end="")
    if len(pairs) > 1:
        half = T95[min(len(pairs) - 1, max(T95))] * statistics.stdev(differences) / len(pairs) ** 0.5
        print(f", over seeds {between(mean - half, mean + half)}", end="")
    ratio = sum(saving.tokens for _, saving in pairs) / sum(plain.tokens for plain, _ in pairs)
    print(f".\nTokens: {ratio:.3f} of those of asking everything", end="")
    plain_cpu, saving_cpu = seconds(*(plain for plain, _ in pairs)), seconds(*(saving for _, saving in pairs))
    print(f", CPU seconds: {saving_cpu / plain_cpu:.3f}." if plain_cpu and saving_cpu else ".")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--evaluations", type=int, default=160)
    parser.add_argument("--examples", type=int, default=35)
    parser.add_argument("--no-racing", action="store_true")
    parser.add_argument("--jobs", type=int, default=2, help="searches at a time, each on one core (default: 2)")
    parser.add_argument("--out", type=Path, help="folder of the runs (default: a temporary one)")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    economy = {"examples": options.examples, "racing": not options.no_racing}
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.out or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(options.jobs, get_context("spawn")) as workers:
            pairs = []
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                search = document(folder, options.evaluations, seed)
                pairs.append(
                    (
                        workers.submit(run, search, folder / f"plain-{seed}"),
                        workers.submit(run, search | {"economy": economy}, folder / f"eco-{seed}"),
                    )
                )
            report([(plain.result(), saving.result()) for plain, saving in pairs], options.first_seed)


if __name__ == "__main__":
    main()
