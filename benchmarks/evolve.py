"""Candidates a second of a search: hubmerge's model in memory beside what is done today for each candidate.

    python benchmarks/evolve.py                                       # the demo zoo: 0.9M parameters, 150 problems
    python benchmarks/evolve.py --siblings-of FOLDER --language en    # siblings of any model: itself plus small noise
    python benchmarks/evolve.py --siblings-of FOLDER --gguf FILE      # the same, made first from a GGUF file
    python benchmarks/evolve.py --quick                               # a first look

Today's way: mergekit writes the candidate to disk, `from_pretrained` loads it, `generate` answers, in batches of the
same size. mergekit takes part where HUBMERGE_MERGEKIT names `mergekit-yaml`, or it lies beside this Python or on the
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
from hubmerge.zoo.problems import problems
from hubmerge.zoo.publish import model_folder

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

LEGEND = """
build: merging, for mergekit until the files are written. load: from_pretrained. generate: from prompts to texts. CPU:
of all threads and child processes, without the grading, which other work on the machine disturbs least.
same answers: as hubmerge gives for the same candidates; dare_ties draws other random masks in every program, and half
precision rounds differently in every batch. RSS: resident memory at its peak, mapped files included; anonymous: what no
file backs, in samples 20 ms apart, child processes included; before: that, after imports and a toy model; model: when
the first candidate stood in memory and was not asked yet; stated: what `footprint` says that it takes. The sources'
files are mapped, and generation takes keys, values and activations, which grow with the batch."""


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


def run_once(program: str, job: dict, task: Task, work: Path) -> Run:
    """Runs one program on all candidates of a job. Ends this program where it fails."""
    results, path = work / "results.json", work / "job.json"
    here = Path(__file__).parent
    path.write_text(json.dumps(job | {"results": str(results), "out": str(work / "out")}))
    if program == "hubmerge":
        command: list = [sys.executable, here / "evolve_hubmerge.py", path]
    else:
        mergekit = Path(find_mergekit() or "")
        command = [mergekit.with_name("python"), here / "evolve_mergekit.py", path]
        command += [mergekit] if program == "mergekit-yaml" else []
    try:
        usage = measured(command, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    except CommandFailed as exc:
        sys.exit(f"{program} failed:\n{exc}")
    made = json.loads(results.read_text())
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
        **timed,
    )


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
    del model.config.quantization_config
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
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="one candidate, one method, few examples")
    options = parser.parse_args()
    if options.quick:
        options.methods, options.candidates, options.examples = options.methods[:1], 1, 20
    programs = ["hubmerge", *(["mergekit, in process", "mergekit-yaml"] if find_mergekit() else [])]
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
        memory = []
        for method in options.methods:
            weights = [0.5 + 0.1 * number for number in range(options.candidates + 1)]
            job = {
                "recipes": [recipe(method, folders, weight, stored_dtype(folders[0])) for weight in weights],
                "prompts": [example.prompt for example in asked],
                "max_new_tokens": options.max_new_tokens,
                "batch_size": options.batch_size,
            }
            runs: dict[str, Run] = {}
            for program in programs:
                runs[program] = run_once(program, job, task, work)
                print(f"{method}: {program} {runs[program].seconds:.2f} s", file=sys.stderr, flush=True)
            ours = runs["hubmerge"]
            print(*(speed_row(method, program, run, ours) for program, run in runs.items()), sep="\n", flush=True)
            memory += [memory_row(method, program, run) for program, run in runs.items()]
        print("", table_row(*MEMORY), table_row(*["---"] * len(MEMORY)), *memory, sep="\n")
    print(LEGEND)


if __name__ == "__main__":
    main()
