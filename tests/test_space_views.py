"""What the Space shows: jobs, plans, drawings, names."""

from dataclasses import replace
from types import SimpleNamespace

from hubmerge.evaluate.demand import Demand
from hubmerge.evolve.plan import Phase, SearchPlan
from hubmerge.evolve.report.palette import COLOURS
from hubmerge.evolve.workers.footprint import Footprint
from hubmerge.methods import METHODS
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from space.forms.recipe import compose
from space.limits import Limits
from space.theme import HEAD
from space.views.draw import interval, ribbons
from space.views.job import describe_job
from space.views.parts import note
from space.views.plan import describe_search_plan
from space.views.search import axis, results_table, seconds_left, told_apart, waiting
from space.wording import hub_url, short
from space.work.job import Job


def test_what_goes_into_a_template_is_text():
    evil = "<img src=x>\"'&\x1b\u202e"
    shown = note(evil, level=evil)
    assert "<img" not in shown and not set("\x1b\u202e") & set(shown)
    assert shown.count('"') == 2, "no quote of others ends an attribute"
    assert note(note("a"), "quiet") == '<div class="hm-quiet"><div class="hm-problem">a</div></div>'


def test_a_bar_is_full_only_at_the_end_and_what_is_waited_for_is_said():
    def at(kind="evolve", status="running", **event):
        return Job("1", "me", kind, "t", {}, status, event=event)

    for preparing in (at(), at(stage="open"), at(stage="read", done=3, total=7, unit="B")):
        assert "hm-bar unknown" in describe_job(preparing) and "valuenow" not in describe_job(preparing)
        assert "are being read" in waiting(preparing)
    read = at(stage="read", done=7, total=7, unit="B")
    assert "hm-bar unknown" in describe_job(read) and "scoring follows" in describe_job(read)
    assert "first candidate is being scored" in waiting(read) == waiting(at(stage="search", done=0, total=36))
    assert 'aria-valuenow="25"' in describe_job(at(stage="search", done=9, total=36))
    assert 'aria-valuenow="50"' in describe_job(at("merge", stage="merge", done=1, total=2, unit="B"))
    for after in (at(stage="search", done=36, total=36), at(stage="test", done=2, total=9), at("merge", stage="fetch")):
        assert "hm-bar unknown" in describe_job(after)
    assert 'aria-valuenow="100"' in describe_job(at(status="done", stage="test", done=9, total=9))
    assert "worker" in waiting(at(status="queued")) and waiting(at(status="failed")) == ""


def test_a_search_says_about_how_long_it_still_takes():
    assert axis([{}, {}]) == [1, 10] and axis([{}] * 180) == [1, 180]  # no marks between two candidates
    made = [SimpleNamespace(seconds=seconds) for seconds in (4.0, 0.0, 2.0)]  # the second was known already
    job = Job("1", "me", "evolve", "t", {}, "running", event={"stage": "search", "done": 3, "total": 33})
    assert seconds_left(job, made) == 60.0
    assert seconds_left(replace(job, status="cancelled"), made) is None
    assert seconds_left(replace(job, event={"stage": "test"}), made) is seconds_left(job, []) is None


def test_a_model_is_called_without_its_owner_where_that_tells_it_apart():
    names = ["org/base (base)", "org/math", "DARE-TIES, untuned", "n 1/2"]
    assert told_apart(names) == ["base (base)", "math", "DARE-TIES, untuned", "n 1/2"]
    assert told_apart(["org/math", "other/math"]) == ["org/math", "other/math"]
    row = {"model": "org/math", "value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "p_value": None}
    assert '<td title="org/math">math</td>' in results_table([row])


def test_what_has_to_be_said_of_a_winner_stands_before_its_scores():
    row = {"model": "evolved", "value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "p_value": None}
    shown = results_table([row], ["The winner is no better than <b>."])
    assert shown.index("The winner is no better than &lt;b&gt;.") < shown.index("<table")
    assert "no better" not in results_table([row])


def test_a_picture_has_the_colours_of_a_dark_page():
    assert all(f"--{name}:{dark};" in HEAD for name, (_, dark) in COLOURS.items())


def test_the_plan_of_a_search_says_what_it_takes_and_what_stops_it():
    phases = (Phase("ps", "cmaes", (4, 64), 240), Phase("dfs", "cmaes", (96,), 120))
    demand = Demand(64, 100, 32)
    outlook = SearchPlan(phases, (), 7_100_000, 2_400_000, Footprint(5_000_000, 2_000_000), demand, 64)
    shown = describe_search_plan(Limits(disk_gb=1).on_search(outlook))
    for fact in ("240 recipes", "4 then 64 genes each", "120 paths", "7.1 MB", "7 MB", "2.4 MB", "hm-fine"):
        assert fact in shown
    shown = describe_search_plan(Limits(disk_gb=0.001).on_search(outlook))
    assert "HUBMERGE_SPACE_MAX_DISK_GB" in shown and "hm-fine" not in shown


def test_drawings_carry_no_markup_of_others():
    recipe = compose(METHODS["slerp"], ["org/math"], "org/base")
    assert "math" in ribbons(recipe) and ribbons(recipe).count("<path") == 2
    sliced = Recipe.from_dict(
        {"merge_method": "passthrough", "slices": [{"sources": [{"model": "org/a", "layer_range": [0, 2]}]}]}
    )
    assert ribbons(sliced).count("<path") == 1
    hostile = Recipe(merge_method="<script>alert(1)</script>", models=recipe.models)
    assert "<script>" not in ribbons(hostile)
    assert 'width="0.60"' in interval(0.0, 0.0, 0.0, 0.0, "#000")


def test_wording():
    assert short("org/name@main") == "name" and short("./folder/") == "folder"
    assert hub_url(ModelRef("org/name")).endswith("/org/name") and hub_url(ModelRef("/tmp")) is None
