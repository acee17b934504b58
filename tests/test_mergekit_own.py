"""mergekit's own tests, asked of hubmerge where their archive is there; see benchmarks/mergekit_tests.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ARCHIVE = os.environ.get("HUBMERGE_MERGEKIT_ARCHIVE")
PROGRAM = Path(__file__).parent.parent / "benchmarks" / "mergekit_tests.py"


@pytest.mark.slow
@pytest.mark.skipif(ARCHIVE is None, reason="HUBMERGE_MERGEKIT_ARCHIVE names no source archive of mergekit")
def test_mergekits_own_tests_pass_but_for_what_is_decided() -> None:
    done = subprocess.run([sys.executable, str(PROGRAM), str(ARCHIVE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "asks for mergekit's insides" in done.stdout
