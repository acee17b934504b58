"""Candidates a second of a search: hubmerge's model in memory beside what is done today for each candidate.

    python benchmarks/evolve.py                                       # the demo zoo: 0.9M parameters, 150 problems
    python benchmarks/evolve.py --siblings-of FOLDER --language en    # siblings of any model: itself plus small noise
    python benchmarks/evolve.py --siblings-of FOLDER --gguf FILE      # the same, made first from a GGUF file
    python benchmarks/evolve.py --quick                               # a first look

Today's way: mergekit writes the candidate to disk, `from_pretrained` loads it, `generate` answers, in batches of the
same size. That loads half precision as it is stored, for which many CPUs are slow; there a second run loads the dtype
that hubmerge computes in. Two ways of hubmerge: each candidate is asked all problems, as today; and as a search with
`economy:` goes, whole, from choosing problems to asking the best those left out.

mergekit takes part where HUBMERGE_MERGEKIT names `mergekit-yaml`, or it lies beside this Python or on the
PATH; it is run once by that program and once inside a process that stays, whose imports count for nothing. Each
program is a process of its own that makes all candidates of a method, the first of which does not count. The Markdown
tables hold medians. Answers are graded by one and the same function. Needs Linux: memory is read from /proc.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from measured import CommandFailed, Usage, measured
from merge import conditions, find_mergekit, megabytes, table_row

from hubmerge.evaluate.score import grade
from hubmerge.evaluate.task import Example, Task
from hubmerge.zoo.publish import model_folder
from hubmerge.zoo.word_problems import problems

IN_PROCESS = "mergekit, in process"
METHODS: dict[str, dict] = {
    "task_arithmetic": {},
    "ties": {"density": 0.5},
    "dare_ties": {"density": 0.5},
}
NOISE = 0.02  # of a weight tensor's standard deviation, which makes a sibling

SPEED = (
    *("method", "program", "build s", "load s", "generate s", "grade s", "candidate s", "candidates/s"),
    *("this / hubmerge", "CPU s", "this / hubmerge", "score", "same answers"),
)
MEMORY = (
    "method",
    "program",
    "RSS MB",
    "anonymous MB",
    "before MB",
    "peak over it MB",
    "model over it MB",
    "stated MB",
)

ECONOMY = {"examples": 35, "racing": True}

LEGEND = """
hubmerge, economy: a whole search, divided by its candidates; all others: every problem asked of every candidate.
build: merging, for mergekit until the files are written. load: from_pretrained. generate: from prompts to texts. CPU:
of all threads and child processes, without the grading, which other work on the machine disturbs least.
same answers: as hubmerge gives for the same candidates; dare_ties draws other random masks in every program, and half
precision rounds differently in every batch. RSS: resident memory at its peak, mapped files included; anonymous: what no
file backs, in samples 20 ms apart, child processes included; before: that, after imports and a toy model; model: when
the first candidate stood in memory and was not asked yet; stated: what `footprint` says of all that comes over it,
the model, making candidates, and keys, values and activations of the prompts in work. The sources' files are mapped."""


@dataclass(frozen=True)
class Economy:
    """What one search with `economy:` took: all in all, and the share of it that did not go into its candidates."""

    usage: Usage
    seconds: float
    cpu: float
    evaluations: int
    stopped: int
    beside: float


@dataclass(frozen=True)
class Run:
    """What one program did on one method: medians in seconds over its candidates, but the first."""

    usage: Usage
    build: float
    load: float
    generate: float
    cpu: float
    grade: float
    score: float
    texts: list[list[str]]
    bare: int
    built: int
    stated: int | None
    dtype: str

    @property
    def seconds(self) -> float:
        return self.build + self.load + self.generate + self.grade


def recipe(method: str, folders: Sequence[Path], weight: float, dtype: str) -> dict:
    """A candidate: the first folder is the base."""
    base, *others = map(str, folders)
    parameters = {"weight": weight, **METHODS[method]}
    return {
        "merge_method": method,
        "base_model": base,
        "models": [{"model": other, "parameters": parameters} for other in others],
        "dtype": dtype,
    }


def start(command: Sequence[object], job: dict, work: Path) -> tuple[Usage, dict]:
    """Runs a part of this benchmark on a job; what it used and what it wrote down. Ends this program where it fails."""
    results, path = work / "results.json", work / "job.json"
    path.write_text(json.dumps(job | {"results": str(results), "out": str(work / "out")}))
    program, script, *more = command
    try:
        usage = measured(
            [program, Path(__file__).with_name(str(script)), path, *more],
            HF_HUB_OFFLINE="1",
            TOKENIZERS_PARALLELISM="false",
        )
    except CommandFailed as exc:
        sys.exit(f"{script} failed:\n{exc}")
    return usage, json.loads(results.read_text())


def run_once(program: str, job: dict, task: Task, work: Path) -> Run:
    """Runs one program on all candidates of a job."""
    if program == "hubmerge":
        command: list = [sys.executable, "evolve_hubmerge.py"]
    else:
        mergekit = Path(find_mergekit() or "")
        command = [mergekit.with_name("python"), "evolve_mergekit.py"]
        command += [mergekit] if program == "mergekit-yaml" else []
    usage, made = start(command, job, work)
    counted = made["candidates"][1:]
    seconds, scores = [], []
    for candidate in counted:
        began = time.perf_counter()
        scores.append(grade(candidate["texts"], task.test, task).score)
        seconds.append(time.perf_counter() - began)
    timed = {key: statistics.median(one[key] for one in counted) for key in ("build", "load", "generate", "cpu")}
    return Run(
        usage=usage,
        grade=statistics.median(seconds),
        score=statistics.mean(scores),
        texts=[one["texts"] for one in counted],
        bare=made["bare"],
        built=made["built"],
        stated=made.get("stated"),
        dtype=made["dtype"],
        **timed,
    )


def search(method: str, folders: Sequence[Path], options: argparse.Namespace, problems: Sequence[Example]) -> dict:
    """A search over the weight of each model in each layer, with `economy:` and no other split."""
    base, *others = map(str, folders)
    genome = {"granularity": "layer", "genes": {"weight": [0, 2]}, "start": {"weight": 0.6}}
    rows = [{"question": problem.prompt, "answer": problem.answer} for problem in problems]
    task = {"name": "word-problems", "examples": {"search": rows}, "metric": "exact_number"}
    return {
        "base_model": base,
        "models": others,
        "merge_method": method,
        "parameters": METHODS[method],
        "genome": genome,
        "task": task | {"language": options.language, "max_new_tokens": options.max_new_tokens},
        "searcher": {"name": "cmaes", "popsize": 12, "evaluations": options.evaluations, "seed": 1},
        "batch_size": options.batch_size,
        "dtype": stored_dtype(folders[0]),
        "baselines": [],
        "economy": ECONOMY | {"examples": options.examples},
    }


def agreement(run: Run, other: Run) -> float:
    """The share of answers that two programs agree on."""
    pairs = [pair for texts in zip(run.texts, other.texts, strict=True) for pair in zip(*texts, strict=True)]
    return sum(one == two for one, two in pairs) / len(pairs)


def speed_row(method: str, program: str, run: Run, ours: Run) -> str:
    """The table's line about time."""
    return table_row(
        method,
        program,
        *(f"{part:.3f}" for part in (run.build, run.load, run.generate, run.grade, run.seconds)),
        f"{1 / run.seconds:.3g}",
        f"{run.seconds / ours.seconds:.1f}",
        f"{run.cpu:.2f}",
        f"{run.cpu / ours.cpu:.1f}",
        f"{run.score:.3f}",
        f"{agreement(run, ours):.0%}",
    )


def economy_row(method: str, economy: Economy, ours: Run) -> str:
    """The same line for a search with `economy:`."""
    seconds, cpu = economy.seconds / economy.evaluations, economy.cpu / economy.evaluations
    return table_row(
        *(method, "hubmerge, economy", "-", "-", "-", "-", f"{seconds:.3f}", f"{1 / seconds:.3g}"),
        *(f"{seconds / ours.seconds:.2f}", f"{cpu:.2f}", f"{cpu / ours.cpu:.2f}", "-", "-"),
    )


def memory_row(method: str, program: str, run: Run) -> str:
    """The table's line about memory."""
    anonymous = run.usage.anonymous or 0
    return table_row(
        method,
        program,
        *map(megabytes, (run.usage.peak, anonymous, run.bare, anonymous - run.bare, run.built - run.bare, run.stated)),
    )


def zoo(root: Path) -> list[Path]:
    """The three models of the demo."""
    return [model_folder(name, root / name) for name in ("base", "math", "japanese")]


def siblings_of(model: Path, gguf: Path | None, root: Path) -> list[Path]:
    """A model and two more that differ from it by a little noise, in folders under `root` but for the model itself."""
    import torch
    from safetensors.torch import load_file, save_file

    if gguf is not None and not model.exists():
        _from_gguf(gguf, model)
    folders = [model.resolve()]
    for number in (1, 2):
        folder = root / f"sibling{number}"
        shutil.copytree(model, folder)
        generator = torch.Generator().manual_seed(number)
        for path in folder.glob("*.safetensors"):
            weights = load_file(path)
            for name, weight in weights.items():
                noise = torch.randn(weight.shape, generator=generator) * weight.float().std(correction=0) * NOISE
                weights[name] = (weight.float() + noise).to(weight.dtype)
            path.unlink()  # the weights are mapped from it
            save_file(weights, path, metadata={"format": "pt"})
        folders.append(folder)
    return folders


def _from_gguf(file: Path, folder: Path) -> None:
    """Saves a GGUF file's model as it lies on the Hub, in bfloat16; needs the package `gguf`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    model.hf_quantizer = None
    vars(model.config).pop("quantization_config", None)  # some releases of transformers leave it there
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)


def stored_dtype(folder: Path) -> str:
    """The dtype that a checkpoint's config.json names."""
    config = json.loads((folder / "config.json").read_text())
    return config.get("dtype") or config.get("torch_dtype") or "float32"


def examples(count: int, language: str, shots: int) -> tuple[Example, ...]:
    """Word problems; `shots` others with their answers stand before each."""
    solved = problems("validation", shots, language) if shots else []
    before = "".join(f"{one.question}\n{one.answer}\n\n" for one in solved)
    return tuple(Example(before + one.question, str(one.answer)) for one in problems("search", count, language))


def main() -> None:
    """Makes the models, runs everything, prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--siblings-of", type=Path, metavar="FOLDER", help="not the zoo but siblings of this model")
    parser.add_argument("--gguf", type=Path, metavar="FILE", help="make that folder from this file, if it is not there")
    parser.add_argument("--methods", nargs="+", choices=sorted(METHODS), default=list(METHODS))
    parser.add_argument("--candidates", type=int, choices=range(1, 100), metavar="1-99", default=3)
    parser.add_argument("--examples", type=int, default=150)
    parser.add_argument("--shots", type=int, default=0, help="solved problems before each, the same for all")
    parser.add_argument("--language", choices=["ja", "en"], default="ja")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--evaluations", type=int, default=156, help="of the search with `economy:`; 0 for none")
    parser.add_argument("--examples", type=int, default=ECONOMY["examples"], help="its problems a candidate")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="one candidate, one method, few examples")
    options = parser.parse_args()
    if options.quick:
        options.methods, options.candidates, options.examples = options.methods[:1], 1, 20
        options.evaluations, options.examples = 12, 8
    asked = examples(options.examples, options.language, options.shots)
    task = Task("word-problems", test=asked, metric="exact_number", language=options.language)

    print(conditions(), flush=True)
    with tempfile.TemporaryDirectory(prefix="evolve-") as scratch:
        work = Path(scratch).resolve()
        folders = siblings_of(options.siblings_of, options.gguf, work) if options.siblings_of else zoo(work)
        threads = os.environ.get("OMP_NUM_THREADS", "all")
        print(
            f"{folders[0].name}: {options.examples} problems, {options.max_new_tokens} new tokens, {threads} threads\n"
        )
        print(table_row(*SPEED), table_row(*["---"] * len(SPEED)), sep="\n", flush=True)
        memory, told = [], []
        for method in options.methods:
            weights = [0.5 + 0.1 * number for number in range(options.candidates + 1)]
            job = {
                "recipes": [recipe(method, folders, weight, stored_dtype(folders[0])) for weight in weights],
                "prompts": [example.prompt for example in asked],
                "max_new_tokens": options.max_new_tokens,
                "batch_size": options.batch_size,
            }
            runs = {"hubmerge": run_once("hubmerge", job, task, work)}
            ours = runs["hubmerge"]
            if options.evaluations:
                asked_less = {"search": search(method, folders, options, asked)}
                usage, made = start([sys.executable, "evolve_economy.py"], asked_less, work)
                economy = Economy(usage, **{name: made[name] for name in made if name != "bare"})
            if find_mergekit():
                runs[IN_PROCESS] = run_once(IN_PROCESS, job, task, work)
                if ours.dtype != runs[IN_PROCESS].dtype:
                    in_dtype = job | {"dtype": ours.dtype}
                    runs[f"{IN_PROCESS}, {ours.dtype}"] = run_once(IN_PROCESS, in_dtype, task, work)
                runs["mergekit-yaml"] = run_once("mergekit-yaml", job, task, work)
            print(*(speed_row(method, program, run, ours) for program, run in runs.items()), sep="\n", flush=True)
            if options.evaluations:
                print(economy_row(method, economy, ours), flush=True)
                told.append(
                    f"{method}, economy: {economy.stopped} of {economy.evaluations} candidates were stopped; "
                    f"{economy.beside:.0%} of the time went into choosing problems and asking the best those left out."
                )
            memory += [memory_row(method, program, run) for program, run in runs.items()]
        print("", table_row(*MEMORY), table_row(*["---"] * len(MEMORY)), *memory, "", *told, sep="\n")
    print(LEGEND)


if __name__ == "__main__":
    main()
