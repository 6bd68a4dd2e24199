"""The report as a page that people keep: figures at a glance, costs and prices, copying and saving from it."""

import base64
import csv
import gzip
import io
import math
import re
import shutil
import subprocess
import tempfile

import pytest

from sweep.answer.spending import spending
from sweep.errors import UsageError
from sweep.html_report import downloads as packing
from sweep.html_report.contents import open_report, read_report
from sweep.html_report.downloads import downloads
from sweep.html_report.glance import glance
from sweep.html_report.page import report_html, write_page
from sweep.results import load_results
from sweep.storage import attributes
from sweep.text import money
from tests.support.command import sweep
from tests.support.large_study import large_study
from tests.test_plots import curve_trial, stored_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    large_study(folder, trials=60, steps=8, seeds=14)
    return folder


@pytest.fixture(scope="module")
def report(folder):
    return open_report(f"sqlite:///{folder}/rank-sweep.db", "large")


@pytest.fixture(scope="module")
def page(report):
    return report_html(report, price=2.5)


def test_every_link_of_the_contents_leads_to_a_section(page):
    targets = re.findall(r'<li><a href="#([^"]+)">', page)
    assert targets == ["answer", "cost", "search", "effects", "curves", "rewards", "trials", "data", "method"]
    assert all(page.count(f'id="{target}"') == 1 for target in targets)


def test_a_section_that_is_not_there_has_no_link(tmp_path):
    page = report_html(read_report(stored_study(tmp_path, points=[])))
    assert re.findall(r'<li><a href="#([^"]+)">', page) == ["answer", "search", "trials", "method"]


def test_the_answer_and_what_it_costs_stand_first(report):
    answer, kept, memory, spent = glance(report, price=2.5)
    verdict = report.evidence.confirmed.verdict
    [rank] = [rank for rank in verdict.per_rank if rank.r == verdict.r]
    assert (answer.value, kept.value) == (f"r = {verdict.r}", f"{100 * rank.kept:.0f} %")
    assert kept.note == "shown to be more than 85 % with 95 % confidence, 10 seeds"
    assert memory.note.startswith("at max_lora_rank ")
    # 60 + 4 x 14 trials of 14 seconds each.
    assert spent.value == "27 min"
    assert "116 trials (search and confirmation); 1.13 at 2.5 per device hour" in spent.note


def test_before_a_verdict_only_what_was_spent_is_told(tmp_path):
    [spent] = glance(read_report(stored_study(tmp_path)), price=None)
    assert (spent.value, spent.note) == ("5 s", "19,200 tokens, 5 trials (search)")


def cost_trial(r, seconds, *, collapsed=False):
    trial = curve_trial(r, [0.5], collapsed=collapsed)
    cost = {"steps": 1, "tokens": 100 * r, "adapter_parameters": 1, "seconds": {"train": seconds, "build": 1.0}}
    trial.set_user_attr(attributes.COST, cost)
    return trial


def test_a_ranks_cost_is_the_median_of_whole_trials_and_its_total_is_over_all():
    trials = [cost_trial(1, 3.0), cost_trial(1, 5.0), cost_trial(1, 1.0, collapsed=True), cost_trial(4, 9.0)]
    spent = spending([*trials, curve_trial(4, [0.1])])
    one, four = spent.ranks
    assert (one.seconds_per_trial, one.tokens_per_trial, one.trials, one.seconds) == (5.0, 100, 3, 12.0)
    assert four.device_hours_per_trial == 10 / 3600
    assert (spent.seconds, spent.tokens, spent.trials, spent.unknown) == (22.0, 700, 4, 1)
    [collapsed] = spending([cost_trial(1, 1.0, collapsed=True)]).ranks
    assert (collapsed.seconds_per_trial, collapsed.device_hours_per_trial) == (None, None)


def test_money_is_there_only_with_a_price(page, report):
    assert "<th>price per trial</th>" in page and "Prices are at 2.5 per device hour." in page
    without = report_html(report)
    assert "<th>price" not in without and "<code>sweep report --price</code>" in without
    assert [money(amount) for amount in (0.00972, 1.5, 12345.678)] == ["0.0097", "1.50", "12,345.68"]


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf")])
def test_a_price_is_an_amount(price, report, tmp_path):
    with pytest.raises(UsageError, match="must be money per device hour"):
        write_page(report, tmp_path / "report.html", price=price)
    assert not (tmp_path / "report.html").exists()


def test_a_report_goes_over_nothing_but_reports(report, tmp_path):
    (tmp_path / "rank-sweep.db").write_text("trials")
    with pytest.raises(UsageError, match=r"the report is HTML; allowed: a name that ends in \.html"):
        write_page(report, tmp_path / "rank-sweep.db")
    assert (tmp_path / "rank-sweep.db").read_text() == "trials"


def test_the_command_takes_a_price(folder):
    done = sweep("report", "large", "--price", "3", "-o", "priced.html", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Prices are at 3 per device hour." in (folder / "priced.html").read_text()
    wrong = sweep("report", "large", "--price", "0", cwd=folder)
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (2, False)


def test_a_pack_says_that_seconds_are_shares(tmp_path):
    study = stored_study(tmp_path)
    config = study.user_attrs[attributes.CONFIG]
    config["learner"]["name"] = "packed"
    study.set_user_attr(attributes.CONFIG, config)
    page = report_html(read_report(study))
    assert "the seconds of a trial are its share" in page
    # So are those of every trial by itself: it recorded one second, however long it was there.
    assert page.count("<td>1.0</td>") == 5


def embedded(page):
    """Each CSV file of a page, as rows."""
    found = re.findall(r'<script type="text/plain" data-name="([^"]+)">([^<]*)</script>', page)
    unpacked = {name: gzip.decompress(base64.b64decode(packed)).decode() for name, packed in found}
    return {name: list(csv.DictReader(io.StringIO(text))) for name, text in unpacked.items()}


def test_the_page_carries_its_trials_and_steps(page, folder):
    files = embedded(page)
    results = load_results(f"sqlite:///{folder}/rank-sweep.db", "large")
    assert files.keys() == {"large-trials.csv", "large-steps.csv"}
    assert len(files["large-trials.csv"]) == len(results.trials) == 116
    assert len(files["large-steps.csv"]) == len(results.steps)
    assert list(files["large-steps.csv"][0]) == list(results.steps.columns)


@pytest.mark.parametrize("limit", ["MOST_STEPS", "MOST_BYTES"])
def test_steps_that_would_make_a_large_page_are_left_out_and_it_says_so(limit, report, monkeypatch):
    monkeypatch.setattr(packing, limit, 100)
    trials, steps = downloads(report.evidence)
    assert trials.packed and not steps.packed
    page = report_html(report)
    assert embedded(page).keys() == {"large-trials.csv"}
    assert "too many for a page" in page


SAVED = """<script>
URL.createObjectURL = (blob) => {
  blob.text().then((text) =>
    document.body.append("SAVED " + text.split("\\n").length + " lines: " + text.slice(0, 22)));
  return "#";
};
document.querySelectorAll("button").forEach((button) => button.textContent.endsWith(".csv") && button.click());
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium to draw the page")
def test_a_browser_offers_to_copy_calls_and_to_save_data(page, tmp_path):
    (tmp_path / "page.html").write_text(page.replace("</body>", f"{SAVED}</body>"))
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-background-networking --virtual-time-budget=20000 --dump-dom"
    )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [CHROMIUM, *flags.split(), f"--user-data-dir={profile}", (tmp_path / "page.html").as_uri()],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    assert done.stdout.count('<button type="button">copy</button>') == page.count("<pre>")
    assert "SAVED 118 lines: study,phase,trial" in done.stdout
    assert done.stdout.count("SAVED ") - SAVED.count("SAVED ") == 2


def test_a_reward_function_without_a_spread_has_none_on_the_page(tmp_path):
    report = read_report(stored_study(tmp_path))
    for trial in report.evidence.trials:
        curve = trial.user_attrs[attributes.CURVE]
        # As they are stored where one completion a step, or none of the last step's, has a reward of that function.
        if trial.params["r"] == 1:
            del curve["reward_std:exact"]
        else:
            curve["reward_std:exact"][-1] = math.nan if trial.number == 2 else curve["reward_std:exact"][-1]
    page = report_html(report)
    assert '<td>1</td><td class="text">exact</td><td>0.450</td><td></td>' in page
    assert re.search(r'<td>16</td><td class="text">exact</td><td>[\d.]+</td><td>0.100</td>', page)
