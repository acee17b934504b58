"""One person's requests, however many, hold up nobody else; tokens, wherever they were typed, are not kept."""

import threading
from pathlib import Path

import gradio as gr
import pytest
from waiting import until

from hubmerge.errors import AccessError, ResourceError
from space.state import Owner
from space.visitors.guard import shows_errors
from space.work.jobs import PEOPLE_AT_AN_ADDRESS, USER, Jobs
from space.work.turns import Together, Turns

TOKENS = {
    "user": "hf_" + "aB3" * 12,
    "oauth": "hf_oauth_" + "aB3" * 12,
    "organization": "api_org_" + "aB3" * 12,
    "openai": "sk-proj-" + "aB3" * 12,
    "github": "ghp_" + "aB3" * 12,
    "jwt": "eyJ" + "hbGciOi" * 3 + ".eyJ" + "zdWIiOi" * 3 + ".c2lnbmF0dXJl",
}


def owner(name: str, person: str) -> Owner:
    made = Owner(name)
    made.person = person
    return made


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
@pytest.mark.parametrize("around", ["{}", "a line\n{}", '"{}"', "models: [{}]", "org/{}", "\t{}\n"])
def test_no_shape_of_token_is_kept(tmp_path: Path, token: str, around: str) -> None:
    jobs = Jobs(tmp_path, {"work": lambda work: {}})
    text = around.format(token)
    for title, spec in ((text, {}), ("", {"recipe": text}), ("", {"a": [{"b": text}]}), ("", {text: 1})):
        with pytest.raises(AccessError, match="access token"):
            jobs.submit("alice", "work", title, spec)
    jobs.close()
    assert not any(token in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_a_name_that_only_begins_like_a_token_is_taken(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, {"work": lambda work: {}})
    jobs.submit("alice", "work", "hf_bert of sk-learn + ghp_x", {"models": ["org/hf_bert-base", "eyJohn/model"]})
    jobs.close()


def test_invented_keys_and_tokens_do_not_pass_the_limit(tmp_path: Path) -> None:
    gate = threading.Event()
    jobs = Jobs(tmp_path, {"work": lambda work: gate.wait() and {}}, workers=1, active_per_owner=3)
    taken = 0
    for number in range(60):
        try:
            jobs.submit(owner(f"invented {number}", "an address"), "work", "", {})
            taken += 1
        except ResourceError:
            pass
    assert taken == 3 * PEOPLE_AT_AN_ADDRESS
    for key in ("one token", "another token", "a third", "a fourth"):
        if key == "a fourth":
            with pytest.raises(ResourceError):
                jobs.submit(owner(key, USER + "alice"), "work", "", {})
        else:
            jobs.submit(owner(key, USER + "alice"), "work", "", {})
    jobs.submit(owner("bob", USER + "bob"), "work", "", {})
    gate.set()
    jobs.close()


def test_the_first_question_of_another_is_the_next() -> None:
    turns, order, gate = Turns(1, 20), [], threading.Event()
    threads = []

    def ask(person: str) -> None:
        with turns.of(person):
            gate.wait()
            order.append(person)

    def begin(person: str, waiting: int) -> None:
        threads.append(threading.Thread(target=ask, args=(person,)))
        threads[-1].start()
        until(lambda: turns._working and len(turns._waiting) == waiting, "it does not wait")

    for number in range(10):
        begin("alice", number)
    begin("bob", 10)
    gate.set()
    for thread in threads:
        thread.join()
    assert order.index("bob") == 1 and order.count("alice") == 10
    assert turns._free == 1 and not turns._working


def test_more_than_may_wait_are_refused_and_a_wait_can_be_ended() -> None:
    turns, stop = Turns(1, 2), threading.Event()
    with turns.of("alice"):
        stop.set()
        with pytest.raises(ResourceError, match="taken back"), turns.of("alice", stop):
            pass
    with turns.asking("alice"), turns.asking("alice"):
        with pytest.raises(ResourceError, match="2 of your questions wait already"), turns.asking("alice"):
            pass
        with turns.asking("bob"), turns.of("bob"):
            pass
    with turns.asking("alice"):
        pass
    assert not turns._open and not turns._working


def test_one_person_never_has_all_places() -> None:
    turns, order, gate = Turns(2, 4), [], threading.Event()

    def ask() -> None:
        with turns.of("alice"):
            gate.wait()
            order.append("alice")

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: turns._working["alice"] == 1 and len(turns._waiting) == 2, "they do not wait")
    with turns.of("bob"):
        order.append("bob")
    gate.set()
    for thread in threads:
        thread.join()
    assert order == ["bob", *["alice"] * 3]


def test_two_that_speak_in_turns_on_one_thread_hold_one_place() -> None:
    turns = Turns(1, 4)
    both = Together(lambda: turns.of("alice"))
    for _ in range(2):
        with both, both:
            assert turns._working == {"alice": 1}
        assert not turns._working


def test_one_person_never_has_all_workers(tmp_path: Path) -> None:
    gate = threading.Event()
    jobs = Jobs(tmp_path, {"work": lambda work: gate.wait() and {}, "quick": lambda work: {}}, workers=2)
    flood = [jobs.submit(owner(f"key {n}", "an address"), "work", "", {}) for n in range(3)]
    until(lambda: jobs.counts()["running"] == 1, "nothing runs")
    for kind in ("quick", "quick"):  # one after the other, while the flood is at work
        job = jobs.submit(owner("bob", "another address"), kind, "", {})
        until(lambda job=job: jobs.get("bob", job.id).status == "done", lambda: jobs.of("bob"))
        assert jobs.counts() == {"running": 1, "queued": 2}
    gate.set()
    for number, job in enumerate(flood):
        until(lambda n=number, job=job: jobs.get(f"key {n}", job.id).status == "done", "it is never its turn")
    jobs.close()


WRONG = [None, True, 5, 1.5, float("nan"), float("inf"), 10**400, "x", [], [5], {}, {"a": 1}]


def test_arguments_of_other_types_are_one_sentence() -> None:
    def handler(text: str, number: float, count: int, names: list[str] | None, switch: bool) -> str:
        assert type(text) is str and type(count) is int and type(switch) is bool
        return f"{number:g}{names}"

    right = ["text", 0.5, 3, ["a"], False]
    guarded = shows_errors(handler, html=False)
    assert guarded(*right) == "0.5['a']" and shows_errors(guarded) is guarded
    for place in range(len(right)):
        for value in WRONG:
            given = [*right[:place], value, *right[place + 1 :]]
            said = refusal_of(guarded, given)
            assert said is None or ("must be" in said and "inside hubmerge" not in said and len(said) < 200)


def refusal_of(handler, given) -> str | None:
    try:
        handler(*given)
    except gr.Error as error:
        return str(error.message)
    return None
