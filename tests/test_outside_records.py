"""Examples, what a search left in its folder and answers of the Hub are values or one sentence."""

import json

import pytest
from readertools import NOT_JSON, refused

from hubmerge.documents import parse_json
from hubmerge.errors import HubmergeError, SearchError, SourceError
from hubmerge.evaluate.task import load_task
from hubmerge.evolve.export import candidate_recipe
from hubmerge.evolve.records.folder import JOURNAL_FILE, RESULTS_FILE
from hubmerge.evolve.records.journal import Journal, read_evaluations
from hubmerge.evolve.records.results import Results, is_finished
from hubmerge.evolve.records.resume import resumed
from hubmerge.evolve.report.data import Run
from hubmerge.evolve.workers.pool import describe


class TestExamples:
    @pytest.mark.parametrize("suffix", [".json", ".jsonl"])
    @pytest.mark.parametrize("text", NOT_JSON.values(), ids=NOT_JSON)
    def test_a_file_of_them_that_is_none_is_refused(self, tmp_path, suffix: str, text: bytes) -> None:
        (tmp_path / f"rows{suffix}").write_bytes(text)
        task = {"examples": {"folder": str(tmp_path), "test": f"rows{suffix}"}, "prompt": "{q}", "answer": "{a}"}
        refused(lambda: load_task(task))

    def test_the_line_is_named_and_not_quoted(self, tmp_path) -> None:
        (tmp_path / "rows.jsonl").write_text('{"q": 1, "a": 2}\n{"q": secret}\n')
        task = {"examples": {"folder": str(tmp_path), "test": "rows.jsonl"}, "prompt": "{q}", "answer": "{a}"}
        said = r"Line 2 of the example file rows\.jsonl cannot be read: not valid JSON"
        with pytest.raises(HubmergeError, match=said) as caught:
            load_task(task)
        assert "secret" not in str(caught.value)


EVALUATION = {
    **dict.fromkeys(("number", "stage", "generation", "n", "tokens", "seed"), 0),
    **dict.fromkeys(("score", "metric", "language", "seconds"), 0.5),
    "genome": [0.5],
    "candidate_key": "a",
    "fitness": [0.5],
    "values": "",
    "error": None,
    "solution": {},
}
RECORDS = {
    **NOT_JSON,
    "nothing of it": b"{}",
    "values": json.dumps(EVALUATION | {"values": 5}).encode(),
    "text for numbers": json.dumps(EVALUATION | {"fitness": ["x"]}).encode(),
    "no fitness": json.dumps(EVALUATION | {"fitness": []}).encode(),
    "text for a count": json.dumps(EVALUATION | {"number": "0"}).encode(),
    "a solution": json.dumps(EVALUATION | {"solution": 5}).encode(),
    "another field": json.dumps(EVALUATION | {"x": 5}).encode(),
}


class TestRecords:
    """What a search left in its folder, and anybody may have changed since."""

    @pytest.mark.parametrize("text", RECORDS.values(), ids=RECORDS)
    def test_a_journal_with_a_line_that_is_none_is_refused(self, tmp_path, text: bytes) -> None:
        path = tmp_path / JOURNAL_FILE
        path.write_bytes(b'{"key": "k"}\n' + json.dumps(EVALUATION).encode() + b"\n" + text + b"\n")
        refused(lambda: read_evaluations(path), said=JOURNAL_FILE)
        refused(lambda: Journal(path, "k", {}, resume=True), said=JOURNAL_FILE)
        refused(lambda: Run.read(tmp_path))
        refused(lambda: candidate_recipe(tmp_path, 0))

    def test_a_journal_of_another_version_is_read_but_not_gone_on_with(self, tmp_path) -> None:
        path = tmp_path / JOURNAL_FILE
        path.write_text(f'{{"hubmerge_journal": 3, "key": "k"}}\n{json.dumps(EVALUATION)}\n')
        (tmp_path / "search.yaml").write_text("economy: {items: 35}\n")  # as that version had it
        assert len(read_evaluations(path)) == 1
        for goes_on in (lambda: Journal(path, "k", {}, resume=True), lambda: resumed(None, tmp_path)):
            refused(goes_on, said="another version of hubmerge wrote this journal")

    @pytest.mark.parametrize("text", NOT_JSON.values(), ids=NOT_JSON)
    def test_a_first_line_that_is_none(self, tmp_path, text: bytes) -> None:
        path = tmp_path / JOURNAL_FILE
        path.write_bytes(text + b"\n" + json.dumps(EVALUATION).encode() + b"\n")
        refused(lambda: Run.read(tmp_path), said=JOURNAL_FILE)
        refused(lambda: Journal(path, "k", {}, resume=True), said=JOURNAL_FILE)

    @pytest.mark.parametrize("text", [*NOT_JSON.values(), b'{"rows": 5, "problems": 5}'])
    def test_results_that_are_none_are_refused(self, tmp_path, text: bytes) -> None:
        (tmp_path / RESULTS_FILE).write_bytes(text)
        refused(lambda: Results.read(tmp_path / RESULTS_FILE))
        refused(lambda: is_finished(tmp_path, "k"))

    def test_a_result_of_other_types_is_refused(self, tmp_path) -> None:
        row = {"model": "m", "low": 0.0, "high": 1.0, "n": 1, "metric": 1.0, "language": 1.0, "values": "1"}
        whole = {"key": "k", "search": {}, "winner": {}, "problems": ["p"]}
        for value in ("x", None, [1], True, 10**90):
            wrong = whole | {"rows": [row | {"p_value": None, "gain": None, "value": value}]}
            (tmp_path / RESULTS_FILE).write_text(json.dumps(wrong))
            if value != 10**90:
                refused(lambda: Results.read(tmp_path / RESULTS_FILE), error=SearchError)

    def test_an_error_that_quotes_half_of_a_character_goes_into_the_journal(self) -> None:
        assert describe(ValueError("\ud800" * 1_000)).isprintable()


class TestAnswersOfTheHub:
    def test_half_of_a_character_in_one_card_does_not_spoil_the_answer(self) -> None:
        text = rb'{"card": "\ud83d\ude00 \ud800 \\\\ud800 \udc00", "\ud800": 1}'
        found = parse_json(text, "It", SourceError, mend=True)
        assert found == {"card": "\U0001f600 ? " + "\\" * 2 + "ud800 ?", "?": 1}
