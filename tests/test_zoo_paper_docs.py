"""The published table: made again from the values behind it, and its intervals against a bootstrap of our own."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from hubmerge.zoo.paper_page import markdown
from hubmerge.zoo.paper_table import OURS, Table

ROOT = Path(__file__).parent.parent
DRAWS = 4000


@pytest.fixture(scope="module")
def documents() -> list[dict]:
    """What docs/paper-table.json holds, read without the package: a table each, its problems and rows of digits."""
    found = json.loads((ROOT / "docs" / "paper-table.json").read_text())
    return found if isinstance(found, list) else [found]


@pytest.fixture(scope="module")
def written(documents: list[dict]) -> list[str]:
    """The page of each table, made again."""
    return [markdown(Table.from_dict(document)) for document in documents]


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs" / "paper-table.md").read_text(encoding="utf-8")


def digits(line: dict) -> np.ndarray:
    """The values of a line, shape (seeds, problems)."""
    return np.array([[float(value) for value in run] for run in line["runs"]])


def two_way(values: np.ndarray) -> tuple[float, float]:
    """95% of the means of `values`, in points, with seeds (rows) and problems (columns) drawn anew."""
    generator, (seeds, problems) = np.random.default_rng(11), values.shape
    rows, columns = (generator.multinomial(n, [1 / n] * n, DRAWS) / n for n in (seeds, problems))
    means = (rows @ values * columns).sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return 100 * low, 100 * high


def rows_of(section: str) -> dict[str, list[str]]:
    cells = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
    return {row[0]: row for row in cells[2:]}


def test_the_published_table_is_what_the_values_behind_it_give(written: list[str], page: str) -> None:
    assert all(text in page for text in written)


def test_every_published_interval_of_a_score_is_that_of_a_bootstrap_written_apart(
    documents: list[dict], written: list[str]
) -> None:
    for document, text in zip(documents, written, strict=True):
        printed = rows_of(text.partition("\n- ")[0])
        for line in document["lines"]:
            values = digits(line).mean(axis=0, keepdims=True)  # over problems, of the mean over seeds
            score, low, high = (float(part) for part in re.findall(r"[\d.]+", " ".join(printed[line["name"]][1:3])))
            assert score == pytest.approx(100 * values.mean(), abs=0.051)
            lowest, highest = two_way(values)
            if score < 5:  # Wilson's interval has a width at 0 too, and the bootstrap's none
                assert low <= lowest + 0.3 and highest <= high <= lowest + 2 * (highest - lowest) + 1
            else:
                assert (low, high) == pytest.approx((lowest, highest), abs=0.5)


def test_every_published_gain_is_that_of_a_bootstrap_written_apart(documents: list[dict], written: list[str]) -> None:
    for document, text in zip(documents, written, strict=True):
        lines = {line["name"]: digits(line) for line in document["lines"]}
        found = re.findall(rf"- {re.escape(OURS)} - (.+): (\S+) points \((\S+) to (\S+)\);", text)
        assert len(found) >= 2
        for rival, *figures in found:
            gains = lines[OURS] - lines[rival]  # a row without a seed stands beside every seed
            expected = (100 * gains.mean(), *two_way(gains))
            assert [float(figure) for figure in figures] == pytest.approx(expected, abs=0.6)


def test_seen_and_unseen_are_of_the_problems_that_they_say(documents: list[dict], written: list[str]) -> None:
    for document, text in zip(documents, written, strict=True):
        seen = np.array([kind == "1" for kind in document["seen"]])
        printed = rows_of(text.partition("\n- ")[0])
        for line in document["lines"]:
            values = digits(line).mean(axis=0)
            parts = [float(part.rstrip("%")) for part in printed[line["name"]][5:7]]
            assert parts == pytest.approx([100 * values[seen].mean(), 100 * values[~seen].mean()], abs=0.051)


def wilson(values: np.ndarray) -> str:
    """The 95% interval of a share (Wilson 1927), as tables print it."""
    n, share, z = len(values), values.mean(), 1.959964
    middle, half = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (100 * (middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return f"{low:.1f}% - {high:.1f}%"


def test_the_readme_says_the_same_of_the_shipped_zoo(documents: list[dict], written: list[str]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shipped, text = next(pair for pair in zip(documents, written, strict=True) if "shipped" in pair[0]["zoo"])
    printed = rows_of(text.partition("\n- ")[0])
    names = {"average": "average of the experts", "zoo-base (base)": "base", "zoo-math": "math expert (English)"}
    names |= {"zoo-japanese": "Japanese expert (no math)", OURS: "evolved"}
    rows = {row[0]: row[1:3] for row in rows_of(readme[readme.index("| Japanese word problems, held out") :]).values()}
    compared = [line["name"] for line in shipped["lines"] if names.get(line["name"], line["name"]) in rows]
    assert len(compared) == 9
    lines = {line["name"]: digits(line) for line in shipped["lines"]}
    for name in compared:
        score, interval, seeds = printed[name][1:4]
        if seeds:  # the README tells of the first
            score, interval = seeds.split(", ")[0], wilson(lines[name][0])
        assert rows[names.get(name, name)] == [score, interval.replace("% - ", " - ")]
