"""Whatever comes from outside, hubmerge works with it or says one sentence: no traceback, no hang.

Some documents of each kind, a few seconds of one core in all; with `--documents 10000` as many of each,
and none may take longer than `LONGEST`. The documents are the same in every run.
"""

import time

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from outside import judge
from outside_hub import HUB_KINDS
from outside_kinds import MODEL_KINDS, Bench
from outside_search import SEARCH_KINDS

KINDS = {**MODEL_KINDS, **SEARCH_KINDS, **HUB_KINDS}

LONGEST = 5.0
"""Seconds."""


@pytest.fixture(scope="module")
def bench(siblings, tmp_path_factory) -> Bench:
    return Bench(tmp_path_factory.mktemp("documents"), siblings)


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of a document that fails, which is to be seen
@pytest.mark.parametrize("kind", KINDS)
def test_success_or_a_sentence(kind: str, bench: Bench, request: pytest.FixtureRequest) -> None:
    asked = request.config.getoption("documents")
    tried = KINDS[kind](bench)
    times: list[float] = []
    succeeded = 0

    def timed(document: object) -> tuple[bool, float]:
        began = time.monotonic()
        return judge(lambda: tried.read(document)), time.monotonic() - began

    @seed(16)
    @settings(
        max_examples=asked or tried.few,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if not asked else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(tried.documents)
    def one(document: object) -> None:
        nonlocal succeeded
        right, seconds = timed(document)
        if seconds >= LONGEST:  # the first import of a library, or a busy machine, is not the document's fault
            right, seconds = timed(document)
        succeeded += right
        times.append(seconds)
        if asked:
            assert seconds < LONGEST

    one()
    print(
        f"\n{kind}: {len(times):,} documents, {succeeded:,} of them fit, longest {max(times):.2f} s, {sum(times):.0f} s"
    )
    assert succeeded, "nothing was ever right: this tests no more than the first sentence"
