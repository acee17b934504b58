"""A long journal: what opening it parses, and that a seal beside it never hides what is in it."""

import json
from pathlib import Path

import pytest

from hubmerge.errors import SearchError
from hubmerge.evolve.records import seal
from hubmerge.evolve.records.evaluation import Evaluation
from hubmerge.evolve.records.journal import Journal, read_evaluations

SEAL = ".hubmerge/seal.json"


def evaluation(number: int, **changes) -> Evaluation:
    shares = dict.fromkeys(("score", "metric", "language", "seconds"), 0.5)
    counts = {"stage": 0, "generation": 0, "n": 2, "tokens": 1, "seed": 0}
    own = {"genome": (number / 7,), "candidate_key": str(number), "fitness": (0.5,), "values": (0.0, 1.0)}
    return Evaluation(number=number, **{**shares, **counts, **own, "solution": {"weights": [number]}, **changes})


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the evaluations that are parsed from now on."""
    found: list[int] = []
    plain = Evaluation.from_dict

    def noted(document) -> Evaluation:
        found.append(document["number"])
        return plain(document)

    monkeypatch.setattr(Evaluation, "from_dict", noted)
    return found


def written(folder: Path, numbers: range, **changes) -> Path:
    with Journal(folder / "journal.jsonl", "key", {}, resume=True) as journal:
        for number in numbers:
            journal.append(evaluation(number, **changes))
    return folder / "journal.jsonl"


def opened(path: Path) -> dict[int, Evaluation]:
    with Journal(path, "key", {}, resume=True) as journal:
        return dict(journal)


def test_what_was_written_is_parsed_when_it_is_asked_for(tmp_path: Path, parsed: list[int]) -> None:
    path = written(tmp_path, range(30))
    before = path.read_bytes()
    with Journal(path, "key", {}, resume=True) as journal:
        assert parsed == [0]  # that there is a score
        assert len(journal) == 30 and 29 in journal and 30 not in journal
        assert journal[7] == journal[7] == evaluation(7)
        assert parsed == [0, 7]
        journal.append(evaluation(30))
    assert opened(path) == {number: evaluation(number) for number in range(31)}
    assert read_evaluations(path) == [*map(evaluation, range(31))]
    assert path.read_bytes().startswith(before)


def test_of_a_killed_search_only_what_came_after_its_last_seal_is_parsed(
    tmp_path: Path, parsed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal, "EVERY", 10)
    journal = Journal(tmp_path / "journal.jsonl", "key", {}, resume=True)
    for number in range(25):
        journal.append(evaluation(number))
    journal._file.close()  # as a kill leaves it: the last seal has the header and 19 evaluations
    with journal.path.open("ab") as file:
        file.write(b'{"number": 25, "sta')
    with Journal(journal.path, "key", {}, resume=True) as again:
        assert parsed == [*range(19, 25), 0]
        assert sorted(again) == [*range(25)]
    parsed.clear()
    assert opened(journal.path) == {number: evaluation(number) for number in range(25)}
    assert journal.path.read_bytes().count(b"\n") == 26


@pytest.mark.parametrize("line", [b"nonsense", b'{"number": 2}', b"", b'{"number": 2, "stage": NaN}'])
def test_a_seal_hides_no_damage(tmp_path: Path, line: bytes) -> None:
    path = written(tmp_path, range(9))
    lines = path.read_bytes().split(b"\n")
    lines[3] = line
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(SearchError, match=r"[Ll]ine 4"):
        opened(path)


def test_a_changed_score_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, range(9))
    path.write_bytes(path.read_bytes().replace(b'"score": 0.5', b'"score": 0.7'))
    assert {one.score for one in opened(path).values()} == {0.7}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"nonsense",
        b'{"bytes": "x"}',
        b'{"bytes": 99999999, "sha256": 5}',
        b'{"bytes": 1e999}',
        b"\xff",
        None,
    ],
)
def test_whatever_becomes_of_the_seal_nothing_is_lost(tmp_path: Path, content: bytes | None) -> None:
    path = written(tmp_path, range(9))
    sealed = (tmp_path / SEAL).read_bytes()
    if content is None:
        (tmp_path / SEAL).unlink()
    else:
        (tmp_path / SEAL).write_bytes(content)
    assert opened(path) == {number: evaluation(number) for number in range(9)}
    assert (tmp_path / SEAL).read_bytes() == sealed  # made anew from the journal


def test_a_seal_of_more_than_there_is_counts_for_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, range(9))
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))  # an older copy of the run
    assert sorted(opened(path)) == [0, 1, 2, 3]
    assert sorted(opened(written(tmp_path, range(4, 6)))) == [0, 1, 2, 3, 4, 5]


def test_no_seal_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".hubmerge").symlink_to(tmp_path / "mine")
    path = written(tmp_path / "run", range(3))
    assert sorted(opened(path)) == [0, 1, 2] and not [*(tmp_path / "mine").iterdir()]


def test_a_line_as_others_would_write_it_is_read_too(tmp_path: Path) -> None:
    path = written(tmp_path, range(3))
    header, *lines = path.read_text().splitlines()
    turned = [json.dumps(dict(reversed(json.loads(line).items())), separators=(",", ":")) for line in lines]
    path.write_text("\r\n".join([header, *turned, ""]))
    for _ in range(2):  # without a seal, and with one
        assert opened(path) == {number: evaluation(number) for number in range(3)}


def test_an_evaluation_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, range(3))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, lines[2]]))
    for _ in range(2):
        with pytest.raises(SearchError, match="line 5: evaluation 1 is there twice"):
            opened(path)


def test_a_journal_in_which_all_failed_begins_anew(tmp_path: Path) -> None:
    path = written(tmp_path, range(3), error="no")
    with Journal(path, "other", {}, resume=True) as journal:
        assert not journal
        journal.append(evaluation(0))
    with Journal(path, "other", {}, resume=True) as journal:
        assert dict(journal) == {0: evaluation(0)}
