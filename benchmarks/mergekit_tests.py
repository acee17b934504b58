"""mergekit's own tests, asked of hubmerge: how much of what mergekit's users rely on is the same here.

    pip download --no-deps --no-binary :all: mergekit==0.1.5
    python benchmarks/mergekit_tests.py mergekit-0.1.5.tar.gz

Its tests are read from its source archive, into a folder that is removed again, and run with a package in mergekit's
place that merges with hubmerge (mergekit_shim.py). What asks for mergekit's insides - its task graph, its tables of
architectures, gradients through a merge, methods of one's own - cannot be asked of another program and is left out.
Exits with 1 where a test fails that DECIDED does not explain.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).parent

DECIDED: dict[str, str] = {
    "test_truncation_preserves_donor_config": "config.json says how many rows there are, so that the result loads",
    "test_truncation_copies_out_of_range_metadata": "a tokenizer with tokens that the embedding lacks is refused",
    "test_embedding_and_head_are_truncated_independently": "an embedding of 8 rows with a head of 7 loads nowhere",
    "test_karcher_below_tolerance": "asks for gradients; tensors shorter than `tol` keep their values, not zeros",
}
"""Tests that are meant to fail, by a part of their names, and why."""


def unpack(archive: Path, folder: Path) -> None:
    """Puts the tests of the source archive into `folder`/tests, beside a `common` of our own (mergekit_shim.py)."""
    tests = folder / "tests"
    tests.mkdir()
    (tests / "__init__.py").touch()
    with tarfile.open(archive) as tar:
        for member in tar:
            path = Path(member.name)
            if (
                member.isfile()
                and path.parent.name == "tests"
                and path.suffix == ".py"
                and (file := tar.extractfile(member))
            ):
                (tests / path.name).write_bytes(file.read())


def run(archive: Path) -> dict[str, dict[str, str]]:
    """What came of each test: passed, failed, error or skipped, and the reason."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        unpack(archive, folder)
        report = folder / "report.json"
        paths = os.pathsep.join([str(HERE), str(HERE.parent), str(folder), os.environ.get("PYTHONPATH", "")])
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "mergekit_shim",
                "-p",
                "no:cacheprovider",
                "--continue-on-collection-errors",
                "tests",
            ],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "MERGEKIT_TESTS_REPORT": str(report)},
            stdout=sys.stderr,
        )
        return json.loads(report.read_text())


def main() -> int:
    """Runs them and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, help="mergekit's source archive")
    parser.add_argument("--out", type=Path, help="a JSON file for the outcome of each test")
    arguments = parser.parse_args()
    outcomes = run(arguments.archive)
    if arguments.out:
        arguments.out.write_text(json.dumps(outcomes, indent=1))
    asked = {name: one for name, one in outcomes.items() if one["outcome"] != "skipped"}
    passed = [name for name, one in asked.items() if one["outcome"] == "passed"]
    print(f"{len(outcomes)} tests, {len(asked)} can be asked, {len(passed)} pass")
    print("\nnot asked:")
    for reason, count in collections.Counter(
        o["reason"] for o in outcomes.values() if o["outcome"] == "skipped"
    ).most_common():
        print(f"{count:5} {reason}")
    print("\nfailed:")
    unexplained = 0
    for name, one in asked.items():
        if one["outcome"] != "passed":
            why = next((why for part, why in DECIDED.items() if part in name), None)
            unexplained += why is None
            print(f"      {name}\n          {'decided: ' + why if why else 'NOT DECIDED: ' + one['reason']}")
    return 1 if unexplained or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
