"""The benchmarks run as their docstrings say, and the siblings that they make are models."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(program: str, *options: object) -> list[str]:
    """Runs a benchmark, with mergekit only where it lies beside this Python; the lines that it printed."""
    here = str(Path(sys.executable).parent)
    environment = {name: value for name, value in os.environ.items() if name != "HUBMERGE_MERGEKIT"}
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / program), *map(str, options)],
        capture_output=True,
        text=True,
        env=environment | {"OMP_NUM_THREADS": "1", "PATH": here},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def tables(lines: list[str]) -> list[list[dict[str, str]]]:
    """The Markdown tables in some lines, a dict a row."""
    found: list[list[dict[str, str]]] = []
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    for before, row in itertools.pairwise(cells):
        if row and set(row) == {"---"}:
            heads = before
            found.append([])
        elif row and found and before:
            found[-1].append(dict(zip(heads, row, strict=True)))
    return found


def test_siblings_are_models_saved_as_transformers_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    monkeypatch.syspath_prepend(BENCHMARKS)
    from siblings import SIZES, make_siblings

    base, sibling = make_siblings(tmp_path, SIZES["tiny"], count=2, shard_bytes=3 * 10**6)
    before = {path: path.stat().st_mtime_ns for path in base.iterdir()}
    assert make_siblings(tmp_path, SIZES["tiny"], count=2, shard_bytes=3 * 10**6) == [base, sibling]
    assert {path: path.stat().st_mtime_ns for path in base.iterdir()} == before

    first, report = AutoModelForCausalLM.from_pretrained(base, output_loading_info=True)
    assert not any(report.values()), report
    assert first.dtype == torch.bfloat16 and first.num_parameters() == SIZES["tiny"].parameters
    second = AutoModelForCausalLM.from_pretrained(sibling)
    for (name, ours), theirs in zip(first.named_parameters(), second.parameters(), strict=True):
        assert 0.008 < float((theirs - ours).detach().float().std()) < 0.012, name

    fresh = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base), dtype=torch.bfloat16)
    fresh.save_pretrained(tmp_path / "fresh", max_shard_size=3 * 10**6)
    ours, theirs = (
        json.loads((folder / "model.safetensors.index.json").read_text()) for folder in (base, tmp_path / "fresh")
    )
    assert ours["weight_map"] == theirs["weight_map"] and len(set(ours["weight_map"].values())) > 1


@pytest.mark.skipif(sys.platform != "linux", reason="figures come from /proc")
def test_merge_prints_a_row_a_program() -> None:
    lines = run("merge.py", "--size", "tiny", "--runs", 1, "--methods", "slerp", "--shard-mb", 3)
    assert "hubmerge " in lines[0] and "torch " in lines[0] and lines[2].endswith("--methods slerp --shard-mb 3")
    [rows] = tables(lines)
    assert {row["method"] for row in rows} == {"slerp"}
    by_program = {row["program"]: row for row in rows}
    assert by_program.keys() - {"mergekit"} == {"plain I/O", "hubmerge"}
    plain, ours = by_program["plain I/O"], by_program["hubmerge"]
    assert plain["read (disk) MB"].startswith("14 (") and plain["written (disk) MB"] == "7 (7)"  # two of 6.9, one
    assert float(plain["wall / plain I/O"]) == 1 and float(ours["wall / plain I/O"]) > 0
    assert 0 <= float(plain["anonymous MB"]) < float(ours["anonymous MB"]) < float(ours["RSS MB"])
    assert (ours["wall / mergekit"] == "-") == ("mergekit" not in by_program)


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="figures come from /proc")
def test_memory_prints_a_row_a_merge() -> None:
    options = ("--sizes", "tiny", "--sources", 2, 4, "--shard-gb", 0.01, "--methods", "linear", "--limit-gb", 4)
    rows, extremes = tables(run("memory.py", *options))
    assert [(row["model"], row["sources"], row["method"]) for row in rows] == [
        ("tiny", "2", "linear"),
        ("tiny", "4", "linear"),
    ]
    found = [float(row["anonymous MB over bare"]) for row in rows]
    assert all(0 <= over < float(row["anonymous MB"]) for over, row in zip(found, rows, strict=True))
    assert [row["method"] for row in extremes] == ["linear", "all"]
    assert (float(extremes[0]["smallest MB"]), float(extremes[0]["largest MB"])) == (min(found), max(found))
    sees = ("--sizes", "tiny", "--sources", 2, "--shard-gb", 0.01, "--methods", "linear", "--seeing")
    assert [row["model"] for row in tables(run("memory.py", *sees))[0]] == ["tiny, seeing"]


@pytest.mark.thorough
def test_actors_prints_a_row_a_way() -> None:
    [rows] = tables(run("actors.py", "--quick"))
    assert [row["way"] for row in rows] == ["1 actor", "2 actors", "this process"]
    assert rows[0]["times 1 actor"] == "1.00"
    assert all(float(row["candidates/s"]) > 0 < float(row["times 1 actor"]) for row in rows)


@pytest.mark.thorough
def test_utilisation_prints_a_row_a_searcher() -> None:
    [rows] = tables(run("utilisation.py", "--quick"))
    assert [row["searcher"] for row in rows] == ["m2n2", "edits", "random", "cmaes", "snes", "ga"]
    shares = {row["searcher"]: float(row["busy"].rstrip("%")) for row in rows}
    assert shares["random"] > shares["cmaes"] > 0


@pytest.mark.thorough
def test_journal_prints_a_row_a_step(tmp_path: Path) -> None:
    lines = run("journal.py", "--evaluations", 65, "--keep", tmp_path)
    [rows] = tables(lines)
    assert [row["step"] for row in rows] == ["make", "open", "open, unknown", "read", "resume", "report"]
    assert all(float(row["CPU s"]) > 0 for row in rows if row["step"] not in ("open", "open, unknown", "read"))
    assert (tmp_path / "journal.jsonl").read_bytes().count(b"\n") == 1 + int(lines[-1].split()[0]) == 66
    again = run("journal.py", "--evaluations", 65, "--keep", tmp_path)
    assert [row["step"] for row in tables(again)[0]] == ["open", "open, unknown", "read", "resume", "report"]


def test_a_command_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from measured import CommandFailed, Usage, measured, median

    script = "import os, time; held = b'x' * 50_000_000; time.sleep(0.3); os.write(1, held[:1_000_000])"
    usage = measured([sys.executable, "-c", script])
    assert usage.wall > 0.3 and usage.cpu > 0 and usage.peak > 50e6
    if sys.platform == "linux":
        assert 0 < usage.anonymous < usage.peak and usage.written == 1_000_000
        with pytest.raises(CommandFailed, match="MemoryError"):
            measured([sys.executable, "-c", "x = bytearray(500_000_000)"], limit=400_000_000)
    with pytest.raises(CommandFailed, match="no such luck"):
        measured([sys.executable, "-c", "import sys; sys.exit('no such luck')"])
    assert median([Usage(3.0, 1.0, 5), Usage(1.0, 2.0, 7), Usage(2.0, 9.0, 6)]) == Usage(2.0, 2.0, 6)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_is_what_was_held_at_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import measured

    script = "import sys; held = b'x' * 50_000_000; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as process:
        look = measured._numbers

        def until_it_is_seen(path: str) -> dict[str, int]:
            seen = look(path)
            if seen.get("RssAnon", 0) > 50e6 / 1024:
                process.stdin.close()  # and so the process ends
            return seen

        monkeypatch.setattr(measured, "_numbers", until_it_is_seen)
        held = measured._sample(process.pid)
    assert 50e6 < held["anonymous"] < 100e6


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="figures come from /proc")
def test_evolve_prints_a_row_a_program() -> None:
    speed, memory = tables(run("evolve.py", "--quick", "--language", "en"))
    assert {row["method"] for row in [*speed, *memory]} == {"task_arithmetic"}
    by_program = {row["program"]: row for row in speed}
    ways = {"mergekit, in process", "mergekit, in process, float32", "mergekit-yaml"}
    assert by_program.keys() - ways == {"hubmerge", "hubmerge, economy"}
    economy = by_program["hubmerge, economy"]
    assert float(economy["candidates/s"]) > 0 < float(economy["CPU s"])
    ours = by_program["hubmerge"]
    assert all(0 < float(ours[part]) < float(ours["candidate s"]) for part in ("build s", "generate s"))
    assert (float(ours["load s"]), ours["this / hubmerge"], ours["same answers"]) == (0, "1.0", "100%")
    assert 0 <= float(ours["score"]) <= 1
    row = next(row for row in memory if row["program"] == "hubmerge")
    assert 3 <= float(row["model over it MB"]) <= float(row["peak over it MB"]) <= float(row["stated MB"]) < 300
    assert 0 < float(row["before MB"]) < float(row["anonymous MB"]) < float(row["RSS MB"])


def test_siblings_of_a_model_differ_a_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_llama) -> None:
    from safetensors.torch import load_file

    monkeypatch.syspath_prepend(BENCHMARKS)
    from evolve import NOISE, siblings_of

    folders = siblings_of(tiny_llama(tmp_path / "model", dtype="bfloat16"), None, tmp_path)
    base, *others = (load_file(folder / "model.safetensors") for folder in folders)
    name = "model.embed_tokens.weight"
    for other in others:
        assert other[name].dtype == base[name].dtype
        change = (other[name].float() - base[name].float()).std() / base[name].float().std()
        assert NOISE / 2 < float(change) < NOISE * 2


def test_methods_alone_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", ["methods.py"])
    import methods  # of the benchmarks' folder

    monkeypatch.setattr(methods, "find_mergekit", lambda: None)
    given = methods.argparse.Namespace(methods=["linear", "sce", "della"], size=64, tensors=2, rounds=1)
    [table] = tables(list(methods.rows(given)))
    assert [row["method"] for row in table] == given.methods
    assert all(float(row["hubmerge"]) > 0 and row["mergekit"] == "-" for row in table)
