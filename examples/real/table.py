"""Models on the test split of task.yaml: how often right, in the form, and both.

    python examples/real/table.py HuggingFaceTB/SmolLM2-135M-Instruct runs/real/model

A model is what `hubmerge eval` takes.
"""

import sys
from pathlib import Path

from score import parts

from hubmerge.evaluate.models import load_model
from hubmerge.evaluate.score import evaluate
from hubmerge.evaluate.statistics import interval
from hubmerge.evaluate.task import load_task
from hubmerge.hub.source import open_source
from hubmerge.reference import ModelRef


def main() -> None:
    """Prints a Markdown table."""
    task = load_task(Path(__file__).parent / "task.yaml")
    print("| model | both | 95% interval | right | in the form | n |\n|---|---:|---|---:|---:|---:|")
    for name in sys.argv[1:]:
        scores = evaluate(*load_model(open_source(ModelRef.parse(name))), task.test, task)
        found = [parts(output, one.answer) for output, one in zip(scores.outputs, task.test, strict=True)]
        both = [float(right and formed) for right, formed in found]
        low, high = interval(both)
        shares = (sum(one[0] for one in found), sum(one[1] for one in found))
        right, formed = (f"{share / len(found):.1%}" for share in shares)
        share = sum(both) / len(both)
        print(f"| {name} | {share:.1%} | {low:.1%} - {high:.1%} | {right} | {formed} | {len(both)} |", flush=True)


if __name__ == "__main__":
    main()
