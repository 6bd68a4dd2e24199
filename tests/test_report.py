"""The report page: what it says of studies of every kind, what it holds to repeat them, its size and its speed."""

import html
import re
import sqlite3
import subprocess
import sys
import tomllib

import optuna
import pytest

from sweep.confirmation.naming import confirmation_name
from sweep.confirmation.outcome import freeze, store_frozen
from sweep.confirmation.schedule import ConfirmSchedule
from sweep.errors import MissingExtraError
from sweep.html_report.contents import open_report, read_report
from sweep.html_report.images import on_white, write_images
from sweep.html_report.page import report_html
from sweep.html_report.study_toml import study_toml
from sweep.storage import attributes
from sweep.storage.attributes import LOOKS
from sweep.storage.database import CONFIG, create_or_match_study, match_study, open_storage
from sweep.storage.summary import summarize
from sweep.study.reading import load_study, parse_study
from tests.support.command import sweep
from tests.support.large_study import FACTS, large_study
from tests.test_confirm import OVERRIDES, noisy, run
from tests.test_confirm import POINTS as TUNED_POINTS
from tests.test_plots import stored_study

WITHOUT_CONFIRMATION = {
    "by-rank", "by-learning-rate", "by-alpha", "collapse", "curves-by-step", "curves-by-tokens",
    "pareto-memory-bytes", "pareto-adapter-parameters", "pareto-seconds-per-step", "best-rate",
}  # fmt: skip


def confirm_study(folder, *, seeds=10, score=noisy):
    """Confirms the study in a folder that was stored with `TUNED_POINTS`; a score of 0 is a collapse."""
    storage = open_storage(f"sqlite:///{folder}/rank-sweep.db", create=False)
    config = load_study("tiny", OVERRIDES)
    searched = optuna.load_study(study_name="tiny", storage=storage)
    study = create_or_match_study(storage, config, optuna.samplers.RandomSampler(), name=confirmation_name("tiny"))
    frozen = store_frozen(study, freeze(summarize(searched), config)).frozen
    run(study, config, ConfirmSchedule(config, frozen, seeds=seeds), score)
    study.set_user_attr(LOOKS, [seeds])
    return study


def drawn(page):
    """Names of the figures that a page draws."""
    return set(re.findall(r'Plotly\.newPlot\(\s*"([^"]+)"', page))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return report_html(read_report(stored_study(tmp_path_factory.mktemp("report"))))


def test_a_page_needs_no_network_and_embeds_plotly_once(page):
    assert page.count("plotly.js v") == 1
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", page)
    assert drawn(page) == WITHOUT_CONFIRMATION


def test_a_page_without_a_confirmation_says_so_and_claims_nothing(page):
    assert "No verdict yet" in page
    assert "what they come to" not in page
    assert "This is what <code>sweep confirm</code> would freeze." in page
    assert "Over every trial: no importance, as 5 trials are too few to tell; from 10 on." in page
    assert "None of 4 trials collapsed with alpha x learning rate up to 0.064" in page
    assert '<td>1</td><td class="text">exact</td><td>0.450</td><td>0.100</td>' in page


def test_a_page_with_a_confirmation_compares_the_search_with_it(tmp_path):
    study = stored_study(tmp_path, points=TUNED_POINTS)
    confirm_study(tmp_path)
    page = report_html(read_report(study))
    assert drawn(page) >= {"confirmed", "winners-curse", "pareto-memory-bytes"}
    assert "the maximum lies 0.015 above it" in page.replace("\n", " ")
    assert "Rewards are\nmeans on fresh seeds" in page
    assert "1000000 to 1000009" in page
    assert "2 declared; taken at 10 seeds" in page
    assert "sweep confirm study.toml --seeds 10" in page


def test_what_users_wrote_is_escaped_everywhere(tmp_path):
    study = stored_study(tmp_path)
    config = study.user_attrs[CONFIG]
    hostile = "</code></script><script>alert(1)</script>"
    config["study"]["description"] = hostile
    study.set_user_attr(CONFIG, config)
    study.set_user_attr(attributes.FACTS, {**FACTS, "cpu": hostile, "versions": {hostile: hostile}})
    with sqlite3.connect(tmp_path / "rank-sweep.db") as db:
        change = "update trial_user_attributes set value_json = replace(value_json, ?, ?)"
        db.execute(change, ("reward:exact", f"reward:{hostile}"))
        db.execute(change, ("reward_std:exact", f"reward_std:{hostile}"))
        db.execute(change, ("collapsed at step 6", hostile))
    page = report_html(open_report(f"sqlite:///{tmp_path}/rank-sweep.db", "tiny"))
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 5


@pytest.mark.parametrize(
    ("points", "said", "figures"),
    [
        ([], "No trial has a held-out reward yet", set()),
        (
            [(1, 16, 1e-3, 0.4), (1, 32, 2e-3, 0.5)],
            "None of the 2 trials collapsed.",
            WITHOUT_CONFIRMATION - {"best-rate"},
        ),
        (
            [(1, 64, 4e-3, 0.01), (16, 64, 4e-3, 0.02)],
            "No rank has a trial that did not collapse.",
            {name for name in WITHOUT_CONFIRMATION if not name.startswith(("pareto", "best-rate"))},
        ),
    ],
    ids=["no trials", "one rank", "all collapsed"],
)
def test_a_study_with_little_in_it_has_a_page_too(points, said, figures, tmp_path):
    page = report_html(read_report(stored_study(tmp_path, points=points)))
    assert said in page
    assert drawn(page) == figures


def test_a_confirmation_in_which_every_trial_collapsed_has_a_page_too(tmp_path):
    study = stored_study(tmp_path, points=TUNED_POINTS)
    confirm_study(tmp_path, seeds=2, score=lambda r, k: 0)
    report = open_report(f"sqlite:///{tmp_path}/rank-sweep.db", "tiny")
    page = report_html(report)
    assert "tiny: undecided" in page
    assert "winners-curse" not in drawn(page)
    assert report.evidence.summary.study == study.study_name


def test_the_study_file_on_the_page_runs_the_same_study_again(page, tmp_path):
    [text] = re.findall(r'<code id="study-toml">(.*?)</code>', page, re.DOTALL)
    (tmp_path / "study.toml").write_text(html.unescape(text))
    match_study(stored_study(tmp_path), load_study(str(tmp_path / "study.toml")))
    planned = sweep("plan", "study.toml", "--json", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr


def test_any_setting_survives_the_way_through_toml():
    settings = load_study("tiny").model_dump(mode="json")
    settings["study"]["description"] = '"quoted" back\\slash\nline \x7f\x01 \U0001f600 </script>'
    options = {"a b": [1, 2.5, True], "nested": {"min-terms": 2, "": "empty"}}
    settings["task"] = {"name": "reasoning_gym", "dataset": "chain_sum", "options": options}
    settings["space"]["learning_rate"] = [1e-05, 2.5e-4]
    study = parse_study(settings, source="test")
    written = tomllib.loads(study_toml(study.model_dump(mode="json")))
    assert parse_study(written, source="test") == study
    assert written["task"]["options"] == options


def test_the_page_names_hardware_versions_rule_and_own_code(tmp_path):
    study = stored_study(tmp_path)
    config = study.user_attrs[CONFIG]
    config["task"] = {"name": "dataset", "data": "rows.jsonl", "reward": ["mine:score"]}
    config["learner"]["name"] = "packed"
    study.set_user_attr(CONFIG, config)
    study.set_user_attr(attributes.FACTS, FACTS)
    page = report_html(read_report(study))
    for text in (
        "Example 9000",
        "2.13.0+cpu",
        "0.85 of the best rank&#39;s gain over the base policy",
        "packed (learner.name = packed)",
    ):
        assert text in page
    assert "<code>study.toml</code>, beside mine.py, rows.jsonl." in page
    assert "Seconds per step are left out" in page
    assert "pareto-seconds-per-step" not in drawn(page)


@pytest.fixture(scope="session")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    large_study(folder)
    return folder


def test_two_thousand_trials_make_a_small_page(large):
    done = sweep("report", "large", cwd=large)
    assert done.returncode == 0, done.stderr
    page = (large / "report.html").read_text()
    assert len(page.encode()) < 8e6
    assert drawn(page) >= WITHOUT_CONFIRMATION | {"confirmed", "winners-curse", "importance"}


def browser():
    """The browser that kaleido would draw with."""
    from choreographer.browsers.chromium import Chromium

    return Chromium.find_browser(skip_local=False)


@pytest.mark.skipif("not __import__('tests.test_report', fromlist=['browser']).browser()")
def test_every_figure_is_written_as_a_png(tmp_path):
    stored_study(tmp_path)
    done = sweep("report", "tiny", "--png", "figures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    images = {path.stem: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert images.keys() == WITHOUT_CONFIRMATION
    for image in images.values():
        assert image.startswith(b"\x89PNG")
        assert int.from_bytes(image[16:20], "big") == 1800


def test_without_a_browser_the_page_is_written_and_one_line_says_what_is_missing(tmp_path):
    stored_study(tmp_path)
    done = sweep("report", "tiny", "--png", "figures", cwd=tmp_path, env={"BROWSER_PATH": "/no/such/browser"})
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "--png needs Chrome or Chromium, and none is found: install one" in done.stderr
    assert (tmp_path / "report.html").stat().st_size > 10**6


def test_without_kaleido_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rank-sweep\[png\]'"):
        write_images({}, tmp_path)


def test_an_image_is_dark_on_white(page, tmp_path):
    figure = next(iter(read_report(stored_study(tmp_path)).figures().values()))
    image = on_white(figure)
    assert (image.layout.paper_bgcolor, image.layout.font.color) == ("white", "#1f2328")
    assert figure.layout.paper_bgcolor != "white"


def test_reading_a_report_loads_no_torch():
    program = "import sys, sweep.html_report.page, sweep.html_report.images; print('torch' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "False"
