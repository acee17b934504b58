"""The part of evolve.py that makes candidates as a search with `economy:` does: a whole one, with all that it costs."""

import json
import sys
import tempfile
import time
from pathlib import Path

from evolve_hubmerge import anonymous, warm_up

from hubmerge.evolve.run import evolve
from hubmerge.evolve.search import Search


def main(path: str) -> None:
    """Makes the search of a job and writes down what it took: choosing examples, candidates, asking the best the rest.

    `seconds` and `cpu` are all of it, from models in files to the merged winner; `beside` is the share of the
    evaluations' time that went into choosing examples and into asking the best those left out.
    """
    warm_up()
    job = json.loads(Path(path).read_text())
    bare, began, cpu = anonymous(), time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as out:
        result = evolve(Search.from_dict(job["search"]), Path(out))
        lines = result.journal.read_text().splitlines()[1:]
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    candidates = sum(json.loads(line)["seconds"] for line in lines)
    results = {
        "bare": bare,
        "seconds": seconds,
        "cpu": cpu,
        "evaluations": result.facts["evaluations"],
        "stopped": result.facts["cost"]["evaluations_raced"],
        "beside": 1 - candidates / result.seconds,
    }
    Path(job["results"]).write_text(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
