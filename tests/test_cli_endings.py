"""The program ends well: interrupted, with nobody reading, with nowhere to write, and whatever a name holds."""

import errno
import json
import logging
import os
import platform
import re
import shlex
import struct
import subprocess
import sys
import traceback
import warnings
from io import StringIO
from pathlib import Path

import pytest

import hubmerge

SCRIPT = "import sys; from hubmerge.cli import main; sys.exit(main())"  # as an installed `hubmerge` does
INTERRUPT = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
SWALLOWED = f"try:\n    {INTERRUPT.replace(chr(10), chr(10) + '    ').rstrip()}\nexcept BaseException:\n    pass\n"

COMMANDS = (
    pytest.param(("plan", "RECIPE"), marks=pytest.mark.thorough),  # seconds of torch before the first line
    ("space", "deploy", "org/name", "--dry-run"),
    ("--version",),
    ("merge", "--help"),
)
"""What print through rich and what through typer."""


def start(*arguments: object, path: Path | None = None, module: bool = False, **more) -> subprocess.Popen[str]:
    root = str(Path(__file__).parent.parent)
    folders = [str(path), root] if path else [root]
    how = ["-m", "hubmerge"] if module else ["-c", SCRIPT]
    return subprocess.Popen(
        [sys.executable, *how, *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders), "PYTHONSAFEPATH": "1", "COLUMNS": "300"},
        **{"stdout": subprocess.PIPE, **more},
    )


@pytest.fixture(scope="module")
def recipe(siblings, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("endings") / "recipe.yaml"
    models = [{"model": str(siblings[name]), "parameters": {"weight": 0.5}} for name in ("base", "math")]
    file.write_text(json.dumps({"merge_method": "linear", "models": models}), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("name", "text", "module"),
    [
        ("typer", INTERRUPT, False),
        ("rich", INTERRUPT, True),
        ("yaml", INTERRUPT, False),
        ("typer", SWALLOWED, False),
        ("typer", SWALLOWED, True),
    ],
)
def test_ctrl_c_while_modules_are_imported(tmp_path, recipe, name: str, text: str, module: bool) -> None:
    (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    program = start("plan", recipe, path=tmp_path, module=module)
    said = program.communicate(timeout=120)
    assert program.returncode == 130
    assert said[1].strip() == "hubmerge: Interrupted."


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("eval org/name --task t", "Interrupted."),
        ("plan search.yaml", "Interrupted."),
        ("zoo", "Interrupted."),
        ("merge 'my recipe.yaml' --out out", "Interrupted; go on with: hubmerge merge 'my recipe.yaml' --out out"),
        ("evolve s.yaml --out run", "Interrupted; go on with: hubmerge evolve s.yaml --out run --resume"),
        ("evolve s.yaml --resume --out run", "Interrupted; go on with: hubmerge evolve s.yaml --resume --out run"),
        ("demo --paper --token hf_x", "Interrupted; go on with: hubmerge demo --paper --token TOKEN"),
        ("zoo train --out z --token=hf_x", "Interrupted; go on with: hubmerge zoo train --out z --token=TOKEN"),
    ],
)
def test_ctrl_c_tells_the_command_that_goes_on(words: str, says: str, monkeypatch, capsys) -> None:
    from hubmerge import cli
    from hubmerge.cli import commands

    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["hubmerge", *shlex.split(words)])
    monkeypatch.setattr(commands, "app", interrupted)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 130
    assert capsys.readouterr().err.strip() == f"hubmerge: {says}"


def test_what_was_closed_leads_nowhere(tmp_path: Path) -> None:
    """After `<&- >&- 2>&-` no file takes the number of a stream, and what is read and printed is nothing."""
    script = (
        "import os, sys; sys.stdin = sys.stdout = sys.stderr = None; os.closerange(0, 3)\n"
        "from hubmerge.cli import _open_streams; _open_streams()\n"
        "file = open(sys.argv[1], 'w'); os.write(1, b'x'); os.write(2, b'x'); print('x', flush=True)\n"
        "file.write(repr((file.fileno() > 2, sys.stdin.read(), os.get_inheritable(2))))"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "said"], check=True, cwd=Path(__file__).parent.parent)
    assert (tmp_path / "said").read_text() == "(True, '', True)"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            OSError(errno.EMFILE, "Too many open files", "a.json"),
            "a.json: Too many open files; raise the limit of open ",
        ),
        (OSError(errno.EIO, "Input/output error"), "This machine: Input/output error; make room or check "),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "No usable temporary "),
        (MemoryError(), "There is not enough memory; "),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "There is not enough memory; "),
        (OSError("_raylet.so: failed to map segment from shared object"), "There is not enough memory; "),
    ],
)
def test_what_the_machine_refuses_is_one_sentence(error: Exception, says: str, monkeypatch, capsys) -> None:
    from hubmerge import cli
    from hubmerge.cli import commands

    def refused(**_: object) -> None:
        raise error

    monkeypatch.setattr(commands, "app", refused)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"hubmerge: {says}") and said.count("\n") == 1


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_nobody_reads(recipe, arguments: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    program = start(*(recipe if word == "RECIPE" else word for word in arguments), stdout=write)
    os.close(write)
    said = program.communicate(timeout=120)[1]
    assert (program.returncode, said) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_nowhere_to_write(recipe, arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        program = start(*(recipe if word == "RECIPE" else word for word in arguments), stdout=full)
        said = program.communicate(timeout=120)[1]
    assert program.returncode == 2
    assert said == (
        "hubmerge: Standard output cannot be written (No space left on device); make room or send it elsewhere.\n"
    )


def test_what_a_terminal_cannot_show_is_spelled_out(siblings, tmp_path, monkeypatch) -> None:
    """Escape codes in names, settings and answers, in a table, a problem and a bar; a markup that is none."""
    from hubmerge import terminal
    from hubmerge.progress import Event

    evil = "a\x1b[2J\x1b]0;t\x07b\u202e[/red]\x9b"
    for console in (terminal.out, terminal.err):
        monkeypatch.setattr(console, "_file", StringIO())
        monkeypatch.setattr(console, "_width", 300, raising=False)
    table = terminal.Table(title=evil)
    table.add_column(evil)
    table.add_row(evil)
    terminal.out.print(table)
    terminal.out.print(evil)
    terminal.out.print(terminal.marked("[red]error:[/] {}", evil))
    with terminal.progress_bars() as show:
        show(Event("reading", 1, 2, "B", evil))
    for console in (terminal.out, terminal.err):
        said = console.file.getvalue()
        assert r"\x1b[2J" in said
        assert "\u202e" not in said and "\x9b" not in said and "\x1b[2J" not in said and "\x07" not in said


NAMES = ":v: [bold]x[/] [red :fire: {} a\\\\"


def test_no_text_of_anybody_is_an_emoji_or_markup(monkeypatch) -> None:
    """In lines, tables with their titles, findings, bars and a chat's answers; :v: is a stage named v."""
    from rich.console import Console

    from hubmerge import terminal
    from hubmerge.cli.options import show_warning
    from hubmerge.evaluate.table import Row
    from hubmerge.progress import Event
    from hubmerge.stream.findings import Finding

    for console in (terminal.out, terminal.err):
        monkeypatch.setattr(console, "_file", StringIO())
        monkeypatch.setattr(console, "_width", 300, raising=False)
    terminal._show_findings([Finding("warning", NAMES)])
    terminal.show_results([Row(NAMES, 1.0, 1.0, 1.0, 1, 1.0, 1.0, None, None, [1.0], ("a",), NAMES)], NAMES, True)
    terminal.out.print(NAMES, end="")
    terminal.out.rule(NAMES)
    show_warning(NAMES)
    assert terminal.out.file.getvalue().count(NAMES) == 7  # the model is in its note again
    monkeypatch.setattr(Console, "is_terminal", True)
    monkeypatch.setattr(Console, "is_dumb_terminal", False)
    with terminal.progress_bars() as show:
        show(Event("stage:v:", 1, 2, NAMES, NAMES))
    assert terminal.err.file.getvalue().count(NAMES) >= 3
    assert "stage:v:" in terminal.err.file.getvalue()


def test_styles_are_said_in_templates_alone() -> None:
    """A plain string that is printed is text: markup in it would be seen as it is."""
    markup = re.compile(r"\.(?:print|input|rule)\(\s*f?\"[^\"]*\[(?:/|bold|dim|red|green|yellow|cyan)[^\"]*\]")
    for path in Path(hubmerge.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not markup.search(text), path
        assert "marked(f" not in text, path


def test_progress_where_no_bar_can_be_drawn(monkeypatch) -> None:
    """A line where a stage begins, one every half minute, one for where each came to; no escape codes."""
    from hubmerge import terminal
    from hubmerge.progress import Event

    monkeypatch.setattr(terminal.err, "_file", StringIO())
    now = 100.0
    with terminal._progress_lines(lambda: now) as show:
        show(Event("open", 0, 0, note="models and task"))
        for done in range(121):
            show(Event("evolve", done, 121, "evaluations", f"best {done}"))
            now += 1
        show(Event("merge", 0, 2_000, "B"))
        show(Event("merge", 2_000, 2_000, "B"))
    assert terminal.err.file.getvalue().splitlines() == [
        "open  models and task  0 s",
        "evolve  0/121 evaluations  best 0  0 s",
        "evolve  30/121 evaluations  best 30  about 1 min 31 s left  30 s",
        "evolve  60/121 evaluations  best 60  about 1 min 1 s left  1 min 0 s",
        "evolve  90/121 evaluations  best 90  about 31 s left  1 min 30 s",
        "evolve  120/121 evaluations  best 120  about 1 s left  2 min 0 s",
        "merge  0 B/2 kB  2 min 1 s",
        "merge  2 kB/2 kB  2 min 1 s",
    ]


def test_what_is_left_of_a_stage_is_told_by_what_this_run_did_of_it() -> None:
    """What an earlier run had done took no time of this one; a stage that begins again is as new."""
    from hubmerge.progress import Event
    from hubmerge.terminal import _Pace

    now = 0.0
    pace = _Pace(lambda: now)
    for done in range(31):
        assert pace.left(Event("search", done, 96, kept=done)) == ""
        now += 0.01
    now += 5
    assert pace.left(Event("search", 31, 96, kept=30)) == "about 5 min 26 s left"
    for done in range(97):
        pace.left(Event("search", done, 96, kept=done))
    assert pace.left(Event("search", 0, 81)) == ""
    now += 2
    assert pace.left(Event("search", 1, 81)) == "about 2 min 40 s left"
    now += 8
    assert pace.left(Event("search", 2, 81)) == "about 6 min 35 s left"


def test_a_stage_that_is_done_is_told_before_the_next(monkeypatch) -> None:
    from hubmerge import terminal
    from hubmerge.progress import Event

    monkeypatch.setattr(terminal.err, "_file", StringIO())
    now = 0.0
    with terminal._progress_lines(lambda: now) as show:
        for stage, done, total in (("search", 0, 9), ("read", 0, 2), ("read", 1, 2), ("search", 9, 9), ("test", 0, 3)):
            show(Event(stage, done, total))
            now += 1
        show(Event("read", 2, 2))
        show(Event("test", 1, 3))
    lines = [line.split("  ") for line in terminal.err.file.getvalue().splitlines()]
    assert [(stage, amount) for stage, amount, *_ in lines] == [
        ("search", "0/9"),
        ("read", "0/2"),
        ("search", "9/9"),
        ("test", "0/3"),
        ("read", "2/2"),
        ("test", "1/3"),
    ]


def test_a_bar_begins_again_with_its_stage(monkeypatch) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from hubmerge import terminal
    from hubmerge.progress import Event

    made: list[Progress] = []
    monkeypatch.setattr(terminal, "err", Console(file=StringIO(), force_terminal=True, width=100))
    monkeypatch.setattr(terminal, "Progress", lambda *columns, **how: made.append(Progress(*columns, **how)) or made[0])
    with terminal.progress_bars() as show:
        show(Event("draw", 4, 4, "pictures"))
        assert made[0].tasks[0].finished
        show(Event("draw", 1, 4, "pictures"))
        assert not made[0].tasks[0].finished and made[0].tasks[0].completed == 1


def test_parts_of_a_score_are_shown_where_it_has_parts(monkeypatch) -> None:
    """A mean of what a classifier gives is no share of right answers, and is not called one."""
    from hubmerge import terminal
    from hubmerge.evaluate.measurement import Measurement
    from hubmerge.evaluate.table import Row

    def shown(values: tuple[float, ...], spoken: bool) -> list[str]:
        monkeypatch.setattr(terminal.out, "_file", StringIO())
        measured = Measurement(0.3, 0.5, 0.6, n=2, values=values, problems=("a", "b"))
        terminal.show_results([Row.of("m", measured, None)], "title", spoken)
        return terminal.out.file.getvalue().splitlines()[1].split()

    plain = ["model", "score", "95%", "interval", "n"]
    assert shown((0.2, 0.4), False) == shown((0.0, 1.0), False) == plain
    assert shown((0.2, 0.4), True) == [*plain, "any", "language", "language"]
    assert shown((0.0, 1.0), True) == [*plain, "right", "language"]


def test_escape_codes_of_a_model_never_reach_the_terminal(call, tmp_path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    evil = "\x1b[31m\u202eevil\x07"
    config = {"architectures": [evil, 5], "model_type": evil, "torch_dtype": "float32"}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (model / "README.md").write_text(f"---\nlicense: {json.dumps(evil)}\n---\n", encoding="utf-8")
    header = json.dumps({evil: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    file = tmp_path / "recipe.yaml"
    file.write_text(
        json.dumps({"merge_method": "passthrough", "slices": None, "models": [{"model": str(model)}]}), encoding="utf-8"
    )
    done = call("plan", file)
    said = done.stdout + done.stderr
    assert done.returncode in (0, 2), said
    assert r"\x1b[31m" in said
    assert not {"\x1b", "\x07", "\u202e"} & set(said)


EVIL = f"\x1b[2J of hf_{'aB3' * 12}"


@pytest.fixture
def restored(monkeypatch) -> None:
    """What `clean_output` replaces is as it was, afterwards."""
    monkeypatch.setattr(logging, "_logRecordFactory", logging.LogRecord)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    for name in ("stdout", "stderr", "excepthook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))


def test_what_libraries_log_is_cleaned(restored, caplog, capsys) -> None:
    from hubmerge import terminal

    terminal.clean_logs()
    logging.getLogger("of.a.library").warning("unknown key %s of hf_%s", "\x1b[2J" + "x" * 10_000, "aB3" * 12)
    (said,) = caplog.messages
    assert said.startswith(r"unknown key \x1b[2Jxxx") and "aB3" not in said and len(said) == 500
    told = warnings.formatwarning(EVIL, UserWarning, "library.py", 1)
    assert told == "warning: \\x1b[2J of hf_***\n"
    assert warnings.formatwarning("two\nlines", UserWarning, "library.py", 1) == "warning: two lines\n"
    try:
        raise ValueError(EVIL)
    except ValueError:
        logging.getLogger("of.a.library").exception("it failed")
        sys.excepthook(*sys.exc_info())
    told = caplog.text.partition("it failed")[2]
    assert r"ValueError: \x1b[2J of hf_***" in told and "test_cli_endings.py" in told
    assert "\x1b" not in caplog.text and "aB3" not in caplog.text
    assert capsys.readouterr().err.endswith("ValueError: " + r"\x1b[2J of hf_***" + "\n")


def test_what_a_page_prints_is_cleaned(restored, monkeypatch, capsys) -> None:
    import space.app
    from hubmerge import terminal

    monkeypatch.setattr(space.app, "disable_progress_bars", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        space.app.launch()
    for _ in range(2):
        terminal.clean_output()
    try:
        raise ValueError(EVIL)
    except ValueError:
        traceback.print_exc()
    print(EVIL, "ends", end="\n\n")
    assert sys.stdout.encoding and not sys.stderr.isatty()
    said = capsys.readouterr()
    assert said.out == r"\x1b[2J of hf_*** ends" + "\n\n"
    assert "Traceback (most recent" in said.err and said.err.endswith("ValueError: " + r"\x1b[2J of hf_***" + "\n")


HEAPS = """
import ctypes, threading
from hubmerge.cli import one_heap
{call}
libc, meet, kept = ctypes.CDLL(None), threading.Barrier(4), []
def take():
    meet.wait()
    kept.append(b"x" * 5000 + bytes(threading.get_ident() % 7))
    meet.wait()  # a heap is one thread's as long as that lives
threads = [threading.Thread(target=take) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives each thread a heap")
def test_all_threads_have_one_heap(monkeypatch):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)

    def heaps(call):
        done = subprocess.run([sys.executable, "-c", HEAPS.format(call=call)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.count("<heap nr=")

    assert heaps("one_heap()") == 1 < heaps("")
