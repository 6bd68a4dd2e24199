"""The real dashboard over a stored study, asked as a browser asks it, and by a browser."""

import json
import re
import shutil
import sqlite3
import subprocess
import tempfile
import urllib.error
import urllib.request
from contextlib import closing
from wsgiref.util import setup_testing_defaults

import optuna
import pytest

from sweep.confirmation.naming import confirmation_name
from sweep.confirmation.outcome import freeze, read_confirmation, store_frozen, stored_frozen
from sweep.confirmation.schedule import ConfirmSchedule
from sweep.dashboard.artifacts import artifact_folder
from sweep.dashboard.figures import search_figures
from sweep.dashboard.note import escaped, fenced, study_note
from sweep.dashboard.publish import END_OF_NOTE, publish_study
from sweep.errors import StorageError
from sweep.storage import attributes
from sweep.storage.database import create_or_match_study, open_storage, open_study
from sweep.storage.summary import summarize
from sweep.study.reading import load_study
from tests.support.command import Running, sweep
from tests.test_confirm import OVERRIDES, POINTS, noisy, run
from tests.test_plots import stored_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MARKUP = "<img src=x onerror=alert(1)> [link](javascript:alert(1)) `code` | *b* _i_ & &lt; ~~s~~ ![i](http://x/y)"


def url_of(folder):
    return f"sqlite:///{folder}/rank-sweep.db"


def opened_study(folder, name="tiny"):
    return open_study(open_storage(url_of(folder), create=False), name)


def publish(folder, name="tiny"):
    publish_study(opened_study(folder, name), url=url_of(folder), confirm_with=f"sweep confirm {name}")


def give_files(folder, study):
    """Gives every trial a log, and trial 1 an adapter, under the names that they had before the storage was moved."""
    logs = folder / "rank-sweep.logs" / study.study_name
    logs.mkdir(parents=True)
    with closing(sqlite3.connect(folder / "rank-sweep.db")) as connection, connection:
        for trial in study.get_trials(deepcopy=False):
            named = {attributes.LOG: f"trial-{trial.number:04d}.log"}
            (logs / named[attributes.LOG]).write_text(f"trial {trial.number} says é <script>alert(1)</script>\n")
            if trial.number == 1:
                named[attributes.ADAPTER] = "trial-0001-adapter"
                (logs / named[attributes.ADAPTER]).mkdir()
                (logs / named[attributes.ADAPTER] / "adapter_config.json").write_text('{"r": 1}')
                (logs / named[attributes.ADAPTER] / "adapter_model.safetensors").write_bytes(bytes(range(256)))
            for key, name in named.items():
                connection.execute(
                    "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)",
                    (trial._trial_id, key, json.dumps(f"/before/it/was/moved/{name}")),
                )


def confirm(folder, search, seeds=10):
    config = load_study("tiny", OVERRIDES)
    storage = open_storage(url_of(folder), create=False)
    study = create_or_match_study(storage, config, optuna.samplers.RandomSampler(), name=confirmation_name("tiny"))
    store_frozen(study, freeze(summarize(search), config))
    run(study, config, ConfirmSchedule(config, stored_frozen(study).frozen, seeds=seeds), noisy)
    return study


@pytest.fixture
def folder(tmp_path):
    give_files(tmp_path, stored_study(tmp_path, points=POINTS))
    return tmp_path


class Site:
    """A running dashboard."""

    def __init__(self, folder):
        self.folder = folder
        self.command = Running("dashboard", "tiny", "--port", "0", cwd=folder)
        self.command.wait_for("Ctrl-C stops it")
        self.page = re.search(r"plots: +(\S+)", self.command.output.read_text())[1]
        self.root = self.page.partition("/dashboard")[0]

    def ask(self, path, method="GET", **headers):
        """Status, headers and body."""
        asked = urllib.request.Request(self.root + path, method=method, headers=headers)
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.headers, answer.read()

    def study(self, name="tiny"):
        """The study as the page gets it."""
        listed = json.loads(self.ask("/api/studies")[2])["study_summaries"]
        (study_id,) = [each["study_id"] for each in listed if each["study_name"] == name]
        return study_id, json.loads(self.ask(f"/api/studies/{study_id}")[2])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dashboard")
    search = stored_study(folder, points=POINTS)
    give_files(folder, search)
    give_files(folder, confirm(folder, search))
    site = Site(folder)
    yield site
    site.command.end()


def stored(folder):
    """All that a storage holds and its artifacts, to compare."""
    with closing(sqlite3.connect(folder / "rank-sweep.db")) as connection:
        rows = list(connection.iterdump())
    return rows, {path.name: path.stat().st_mtime_ns for path in artifact_folder(url_of(folder)).glob("*")}


@pytest.mark.parametrize("name", ["tiny", "tiny.confirm"])
def test_the_note_is_the_verdict_with_the_calls_to_paste(site, name):
    note = site.study(name)[1]["note"]["body"]
    assert note.startswith("# tiny: r = 4\n")
    assert "r=4 is the smallest to keep 85 % of the best gain (95 % confidence, 10 seeds)" in note
    assert "max_lora_rank=8,\n" in note and "lora_alpha=" in note
    assert re.search(r"^ +16 +\d+ +0\.00\d +10 +0 +0\.60\d +0\.\d+ to 0\.\d+", note, re.MULTILINE)
    assert "Learning rate 0.002" in note


def test_the_plots_are_there_with_titles(site):
    figures = {name: site.study(name)[1]["plotly_graph_objects"] for name in ("tiny", "tiny.confirm")}
    ids = {name: {each["id"] for each in each_of} for name, each_of in figures.items()}
    assert ids["tiny.confirm"] == {"gains", "confirmed", "confirmed-curves"}
    assert ids["tiny"] == {"by-rank", "by-learning-rate", "by-alpha", "curves"} | ids["tiny.confirm"]
    for figure in figures["tiny"]:
        drawn = json.loads(figure["graph_object"])
        assert drawn["layout"]["title"]["text"].startswith(("Search: ", "Confirmation: "))
        assert drawn["data"] or figure["id"] == "confirmed-curves"


def test_each_trials_files_can_be_downloaded_and_are_no_page(site):
    study_id, study = site.study()
    names = [sorted(file["filename"] for file in trial["artifacts"]) for trial in study["trials"]]
    assert names[0] == ["trial-0000.csv", "trial-0000.log"]
    assert names[1] == ["adapter_config.json", "adapter_model.safetensors", "trial-0001.csv", "trial-0001.log"]
    trial = study["trials"][1]
    found = {}
    for file in trial["artifacts"]:
        answer = site.ask(f"/artifacts/{study_id}/{trial['trial_id']}/{file['artifact_id']}")
        assert answer[0] == 200
        assert "sandbox" in answer[1]["Content-Security-Policy"]
        assert answer[1]["Access-Control-Allow-Origin"] is None
        found[file["filename"]] = answer[1]["Content-Type"], answer[2]
    assert found["adapter_model.safetensors"] == ("application/octet-stream", bytes(range(256)))
    assert found["adapter_config.json"] == ("application/json", b'{"r": 1}')
    assert found["trial-0001.log"][0] == "text/plain; charset=utf-8"
    assert found["trial-0001.log"][1].decode() == "trial 1 says é <script>alert(1)</script>\n"
    kind, curve = found["trial-0001.csv"]
    header, *steps = curve.decode().splitlines()
    assert kind == "text/csv; charset=utf-8"
    assert header.startswith("step,reward,") and len(steps) == 6
    confirmed = site.study("tiny.confirm")[1]["trials"]
    assert {len(trial["artifacts"]) for trial in confirmed} == {1, 3}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_changed(site, method):
    before = stored(site.folder)
    study_id, _ = site.study()
    for path in ("/api/studies", f"/api/studies/{study_id}", f"/api/studies/{study_id}/note", "/api/trials/1/tell"):
        status, headers, body = site.ask(path, method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
        assert "read-only" in json.loads(body)["reason"]
    assert stored(site.folder) == before


def test_a_page_elsewhere_whose_name_was_pointed_here_reads_nothing(site):
    status, _, body = site.ask("/api/studies", Host="evil.example")
    assert (status, b"tiny" in body) == (403, False)
    assert site.ask("/api/studies", "HEAD", Host="localhost:1")[0] == 200


def test_no_read_that_the_dashboard_knows_changes_the_storage(folder):
    import optuna_dashboard

    publish(folder)
    study = opened_study(folder)
    files = optuna.artifacts.FileSystemArtifactStore(artifact_folder(url_of(folder)))
    app = optuna_dashboard.wsgi(study._storage, files)
    before = stored(folder)
    trial_id = study.trials[0]._trial_id
    key = next(key for key in study._storage.get_study_system_attrs(study._study_id) if f"artifacts:{trial_id}:" in key)
    values = {
        "study_id": study._study_id, "trial_id": trial_id, "artifact_id": key.rpartition(":")[2],
        "plot_type": "slice", "filename": "bundle.js",
    }  # fmt: skip
    statuses = {}
    for route in (route for route in app.routes if route.method == "GET"):
        environ = {
            "PATH_INFO": re.sub(r"<(\w*)(:[^<>]*)?>", lambda found: str(values.get(found[1], "")), route.rule),
            "HTTP_ACCEPT_ENCODING": "",
        }
        setup_testing_defaults(environ)
        b"".join(app(environ, lambda status, *_, rule=route.rule: statuses.update({rule: status[:3]})))
    assert len(statuses) == 13
    # The one that is not there: a file of the study's own.
    assert sorted(statuses.values()) == ["200"] * 10 + ["302"] * 2 + ["404"], statuses
    assert stored(folder) == before


def test_a_second_start_adds_nothing(folder):
    publish(folder)
    before = stored(folder)
    assert len(before[1]) == 2 * len(POINTS) + 2
    publish(folder)
    assert stored(folder) == before


def test_what_a_person_wrote_into_the_note_is_kept(folder):
    from optuna_dashboard import get_note, save_note

    study = opened_study(folder)
    save_note(study, "mine, from before")
    publish(folder)
    assert get_note(study).endswith(f"{END_OF_NOTE}\n\nmine, from before")
    save_note(study, get_note(study).replace("no verdict", "anything") + "\n\nand after")
    publish(folder)
    assert get_note(study).endswith(f"{END_OF_NOTE}\n\nmine, from before\n\nand after")
    assert "anything" not in get_note(study)
    assert get_note(study).count(END_OF_NOTE) == 1


def test_files_that_are_gone_are_left_out_and_come_when_they_are_back(folder):
    logs = folder / "rank-sweep.logs" / "tiny"
    (logs / "trial-0002.log").rename(folder / "aside")
    shutil.rmtree(logs / "trial-0001-adapter")
    publish(folder)
    assert len(stored(folder)[1]) == 2 * len(POINTS) - 1
    (folder / "aside").rename(logs / "trial-0002.log")
    shutil.rmtree(artifact_folder(url_of(folder)))
    publish(folder)
    assert len(stored(folder)[1]) == 2 * len(POINTS)


def test_files_outside_the_log_folder_are_never_published(folder):
    secret = folder / "secret.txt"
    secret.write_text("secret")
    with closing(sqlite3.connect(folder / "rank-sweep.db")) as connection, connection:
        for name in (str(secret), "../../secret.txt", "..", "/"):
            connection.execute("UPDATE trial_user_attributes SET value_json = ? WHERE key = 'log'", (json.dumps(name),))
            connection.commit()
            publish(folder)
    names = [path.read_bytes() for path in artifact_folder(url_of(folder)).glob("*")]
    assert len(names) == len(POINTS) + 2
    assert b"secret" not in names


def test_an_artifact_that_is_written_anew_leaves_the_trials_own_file_alone(folder):
    publish(folder)
    with closing(sqlite3.connect(folder / "rank-sweep.db")) as connection, connection:
        connection.execute("DELETE FROM study_system_attributes")
    publish(folder)
    assert (folder / "rank-sweep.logs/tiny/trial-0001.log").read_text().startswith("trial 1 says")


def test_before_confirmation_the_note_says_how_to_get_a_verdict(folder):
    note = study_note(summarize(opened_study(folder)), None, confirm_with="sweep confirm my ```study.toml")
    assert note.startswith("# tiny: no verdict yet")
    assert "````bash\nsweep confirm my ```study.toml\n````" in note


def test_a_study_without_trials_has_a_note_and_no_plots(tmp_path):
    study = stored_study(tmp_path, points=[])
    assert search_figures(study, summarize(study)) == {}
    publish(tmp_path)
    assert stored(tmp_path)[1] == {}


def test_a_confirmation_is_shown_with_its_search(folder):
    confirm(folder, opened_study(folder))
    with pytest.raises(StorageError, match=r"'tiny.confirm' in storage is a confirmation: name the study"):
        publish(folder, "tiny.confirm")


def test_markup_in_names_is_shown_and_not_obeyed(folder):
    assert not re.search(r"(?<!\\)[<>\[\]`*_|&!~]", escaped(MARKUP))
    assert escaped("a\n# b") == "a \\# b"
    assert fenced("x\n````\ny", "text").splitlines()[::4] == ["`````text", "`````"]


def test_a_verdict_that_is_open_is_said_to_be(folder):
    search = opened_study(folder)
    confirmed = read_confirmation(confirm(folder, search, seeds=2), load_study("tiny", OVERRIDES))
    note = study_note(summarize(search), confirmed, confirm_with="tiny")
    assert note.startswith("# tiny: undecided")
    assert "get_peft_model" not in note


def test_ctrl_c_stops_it_with_nothing_amiss(folder):
    site = Site(folder)
    try:
        assert site.ask("/")[0] == 200
        taken = sweep("dashboard", "tiny", "--port", site.root.rpartition(":")[2], cwd=folder)
        assert taken.returncode == 2
        assert "Address already in use; --port 0 takes any free port" in taken.stderr
        assert site.command.interrupt() == 0
    finally:
        site.command.end()
    said = site.command.output.read_text()
    assert said.splitlines()[-1] == "read-only; Ctrl-C stops it"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["tiny"], 4, "no storage at rank-sweep.db"),
        (["tiny", "--port", "70000"], 2, "--port"),
        (["tiny", "--storage", "postgresql://me:secret@127.0.0.1:9/x"], 4, "cannot open postgresql://me:***@"),
    ],
)
def test_a_mistake_is_one_line(arguments, code, message, tmp_path):
    done = sweep("dashboard", *arguments, cwd=tmp_path, env={"COLUMNS": "200"})
    assert (done.returncode, "Traceback" in done.stderr, "secret" in done.stderr) == (code, False, False)
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_it_says_what_to_install(folder):
    blocked = folder / "blocked"
    blocked.mkdir()
    (blocked / "optuna_dashboard.py").write_text("raise ModuleNotFoundError('no optuna_dashboard')")
    done = sweep("dashboard", "tiny", cwd=folder, env={"PYTHONPATH": str(blocked)})
    assert done.returncode == 2
    assert done.stderr == "sweep: optuna-dashboard is not installed: pip install 'rank-sweep[dashboard]'\n"


def rendered(address):
    """A page as headless Chromium leaves it."""
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --virtual-time-budget=15000 --window-size=1300,2600 --dump-dom"
    )
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [CHROMIUM, *flags.split(), f"--user-data-dir={profile}", address],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium to draw the page")
def test_a_browser_shows_the_plots_the_note_and_each_trials_files(site):
    plots = rendered(site.page)
    for title in ("held-out reward by rank", "mean reward by rank and alpha", "learning curves by rank"):
        assert f"Search: {title}</text>" in plots
    assert "Confirmation: held-out reward by rank</text>" in plots
    note = rendered(f"{site.page}/note")
    assert "<h1>tiny: r = 4</h1>" in note
    assert "is the smallest to keep" in re.sub(r"<[^>]+>", "", note)
    trial = rendered(f"{site.page}/trials?numbers=1")
    for name in ("trial-0001.log", "trial-0001.csv", "adapter_model.safetensors"):
        assert name in trial
