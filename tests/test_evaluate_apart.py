"""What a repository brings that computes - chat templates, expressions of tokenizers - cannot hold up the rest."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from waiting import until

from hubmerge.errors import TaskError
from hubmerge.evaluate import apart
from hubmerge.evaluate.generation import generate, prompt_texts, stream_chat
from hubmerge.evaluate.likelihood import loglikelihoods
from hubmerge.evaluate.models import load_model
from hubmerge.evaluate.texts import chat_texts, encode_prompts

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
HI = [{"role": "user", "content": "hi"}]
BOMBS = {
    "loops": (LOOP, "more than 1 second"),
    "doubling": (
        "{% set ns = namespace(a='a') %}{% for i in range(60) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
        "too much memory|more than 1 second",
    ),
    "text": ("{{ 'a' * 10**10 }}", "too much memory"),
    "list": ("{{ [0] * 10**9 }}", "too much memory"),
    "number": ("{{ 7 ** (10 ** 8) }}", "more than 1 second|too much"),
    "long": ("{{ 'a' * 10**6 }}", "writes 1,000,000 characters"),
    "recursion": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    "nested": ("{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}", "recursion|too much memory|nested"),
    "grammar": ("{% for", "TemplateSyntaxError"),
    "types": ("{{ messages + 1 }}", "TypeError"),
    "refusal": ("{{ raise_exception('only the assistant speaks') }}", "only the assistant speaks"),
    "escape": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
}
TEMPLATES = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m['content'] | trim }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "{{ bos_token }}{%- for m in messages -%}{{ m | tojson }}{% if loop.last %}{% break %}{% endif %}{%- endfor -%}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}{{ tools }}",
)


@pytest.fixture(scope="module")
def loaded(siblings):
    return load_model(str(siblings["math"]), dtype="float32")


@pytest.fixture
def templated(loaded):
    """A function that gives the model's tokenizer another template for the time of a test."""
    model, tokenizer = loaded
    before = tokenizer.chat_template

    def use(template):
        tokenizer.chat_template = template
        return model, tokenizer

    yield use
    tokenizer.chat_template = before


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_writes_what_transformers_writes(templated, template: str) -> None:
    _, tokenizer = templated(template)
    talks = [HI, [{"role": "system", "content": "ö\n <é>"}, *HI, {"role": "assistant", "content": "\u3042"}, *HI]]
    expected = [tokenizer.apply_chat_template(t, add_generation_prompt=True, tokenize=False) for t in talks]
    assert chat_texts(tokenizer, talks) == expected


@pytest.mark.parametrize(("template", "said"), BOMBS.values(), ids=BOMBS)
def test_a_template_that_is_a_bomb_is_one_sentence(template: str, said: str) -> None:
    with pytest.raises(TaskError, match=said) as refused:
        apart.render(template, {}, [HI])
    assert len(str(refused.value)) < 500 and "\n" not in str(refused.value)


def test_a_bomb_in_one_of_many_prompts_or_anywhere_a_model_is_asked_is_found(templated) -> None:
    model, tokenizer = templated(
        "{% if messages[-1].content == 'w5' %}" + LOOP + "{% endif %}{{ messages[-1].content }}"
    )
    assert prompt_texts(tokenizer, ["w1", "w2"], None) == ["w1", "w2"]
    for ask in (
        lambda: generate(model, tokenizer, ["w1", "w5", "w2"], max_new_tokens=2),
        lambda: list(stream_chat(model, tokenizer, [{"role": "user", "content": "w5"}], max_new_tokens=2)),
        lambda: loglikelihoods(model, tokenizer, [("w1", "w2"), ("w5", "w2")]),
    ):
        with pytest.raises(TaskError, match="more than 1 second"):
            ask()


def test_nobody_waits_for_the_bombs_of_others() -> None:
    apart.render("", {}, [HI])
    ended: list[str] = []

    def bomb() -> None:
        with pytest.raises(TaskError):
            apart.render(LOOP, {}, [HI])
        ended.append("bomb")

    threads = [threading.Thread(target=bomb) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert apart.render("{{ messages[0].content }}", {}, [HI]) == ["hi"]
    ended.append("mine")
    for thread in threads:
        thread.join()
    assert ended[0] == "mine" and len(ended) == 5


def test_the_process_knows_no_token_and_cannot_write(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    server = apart._Server()
    server.connect().close()
    process = server._process
    assert process is not None
    until(lambda: b"-I" in _read(process.pid, "cmdline"), "it is still a copy of this process")
    assert b"hf_secret" not in _read(process.pid, "environ")
    server.close()
    assert process.returncode is not None


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except FileNotFoundError:
        pytest.skip("no /proc on this system")


def test_a_process_that_was_killed_is_started_again() -> None:
    apart.render("", {}, [HI])
    killed = apart._SERVER._process
    assert killed is not None
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert apart.render("{{ messages[0].content }}!", {}, [HI]) == ["hi!"]
    assert apart._SERVER._process is not killed


def test_the_process_ends_with_the_one_that_started_it() -> None:
    script = (
        "from hubmerge.evaluate import apart; apart.render('', {}, [[{'role': 'user', 'content': ''}]]);"
        "print(apart._SERVER._process.pid, flush=True); import os; os._exit(1)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    # One that ended and waits for the system to be reaped has no command.
    until(lambda: b"apart_server" not in _read_or_nothing(int(done.stdout)), "it is still there")


def _read_or_nothing(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def test_many_prompts_are_rendered_at_once_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    talks = [[{"role": "user", "content": f"question {number}"}] for number in range(200)]
    template, asked = "{{ messages[0].content }} remembered", []
    exchange = apart._exchange
    monkeypatch.setattr(apart, "_exchange", lambda *given: asked.append(1) or exchange(*given))
    first = apart.render(template, {}, talks)
    assert first == [f"question {number} remembered" for number in range(200)]
    assert apart.render(template, {}, talks) == first and len(asked) == 1


@pytest.mark.parametrize(
    ("pattern", "text"),
    [(r"(w+)+$", "w" * 60 + "!"), (r"(w|ww)+$", ("w" * 28 + "!") * 700)],
    ids=["one match", "a little at every place"],
)
def test_an_expression_that_does_not_end_is_one_sentence(loaded, pattern: str, text: str, capfd) -> None:
    from tokenizers import Regex, pre_tokenizers

    _, tokenizer = loaded
    core = tokenizer.backend_tokenizer
    before = core.pre_tokenizer
    core.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    try:
        with pytest.raises(TaskError, match="cannot cut a prompt into words"):
            encode_prompts(tokenizer, [text])
        assert encode_prompts(tokenizer, ["w1"])
    finally:
        core.pre_tokenizer = before
    assert capfd.readouterr().err == ""


def test_half_a_character_is_refused_before_it_is_encoded(loaded) -> None:
    with pytest.raises(TaskError, match="surrogate"):
        generate(*loaded, ["w1 \ud800"], max_new_tokens=2)
