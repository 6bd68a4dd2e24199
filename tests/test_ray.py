"""Workers on the machines of a Ray cluster: two fake nodes of this machine, token on. Ray is in a lock of its own."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweep.errors import ClusterError
from sweep.running.ray_host import LEASE_S
from sweep.search.schedule import ended_trials
from sweep.storage import attributes
from sweep.storage.database import open_storage, open_study
from tests.support.command import SMALL, SWEEP, Running, is_alive

pytestmark = pytest.mark.ray

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
ALONE = ["--set", "space.r=[1, 16]", "--set", "learner.pack_size=1"]
TRIALS = [*ALONE, "--trials", "4", "--set", "search.points_per_rank=2", "--set", "budget.steps=300"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """A head and a second node, which ask for a token."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - by default 15: beside other work its workers would stand still
    pytest.importorskip("ray", reason="needs Ray: make test-ray")  # it reads its environment when it is imported
    from ray.cluster_utils import Cluster

    os.chdir(tmp_path_factory.mktemp("cluster"))  # a worker's code must not be found by luck
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    cluster.add_node(**NODE)
    yield cluster
    cluster.shutdown()


def run(cluster, *arguments, cwd, timeout=400, env=None):
    return subprocess.run(
        [SWEEP, "run", *map(str, arguments), "--ray", cluster.address],
        cwd=cwd, timeout=timeout, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})},
    )  # fmt: skip


def stored(folder, name="tiny"):
    return open_study(open_storage(f"sqlite:///{folder}/rank-sweep.db", create=False), name)


def scores(folder):
    return {
        (trial.params["r"], trial.params["learning_rate"], trial.user_attrs[attributes.SEED]): trial.value
        for trial in stored(folder).trials
        if trial.state.name == "COMPLETE" and attributes.DESIGN in trial.user_attrs
    }


def test_a_study_runs_on_both_machines_and_scores_as_it_does_here(cluster, tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    done = run(cluster, "tiny", *SMALL, *TRIALS, cwd=there)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "worker 1 is ready" in done.stdout
    assert "Traceback" not in done.stderr
    study = stored(there)
    workers = {trial.user_attrs[attributes.WORKER] for trial in study.trials}
    assert len(workers) == 2
    assert all(":" in worker for worker in workers)
    assert study.user_attrs[attributes.FACTS]["workers"] == 2
    threads = {**os.environ, "OMP_NUM_THREADS": "1"}  # as many as a worker has there: sums depend on it
    subprocess.run(
        [SWEEP, "run", "tiny", *SMALL, *TRIALS], cwd=here, check=True, capture_output=True, timeout=300, env=threads
    )
    assert scores(there) == scores(here), "alone in its pack, a trial scores the same to the bit"
    assert not any(is_alive(int(worker.rpartition(":")[2])) for worker in workers)


def test_the_users_own_reward_travels(cluster, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "my_rewards.py").write_text(
        "import socket\nfrom pathlib import Path\n\n\ndef short(completions, **columns):\n"
        "    return [1.0 / (1 + len(text)) for text in completions]\n"
    )
    (tmp_path / "mine" / "prompts.jsonl").write_text(
        "\n".join(json.dumps({"prompt": f"{word}:abcd>"}) for word in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" * 4)
    )
    (tmp_path / "mine" / "study.toml").write_text(
        '[study]\nname = "mine"\n[model]\nname = "shipped/tiny"\nmax_lora_rank = 16\nmax_seq_length = 64\n'
        'gpu_memory_utilization = 0.1\ngradient_checkpointing = "off"\n[space]\nr = [1, 16]\nlearning_rate = [0.001]\n'
        'alpha = [16]\n[task]\nname = "dataset"\ndata = "prompts.jsonl"\nreward = ["my_rewards:short"]\n'
        'max_completion_tokens = 8\nheld_out_prompts = 16\n[learner]\nname = "packed"\n[budget]\nsteps = 4\n'
        "prompts_per_step = 4\ngroup_size = 4\n[search]\ntrials = 2\npoints_per_rank = 1\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = run(cluster, tmp_path / "mine" / "study.toml", cwd=elsewhere)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [trial.state.name for trial in stored(elsewhere, "mine").trials] == ["COMPLETE"] * 2


def children_of(pid):
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(each) for each in listed.split()]


def family_of(pid):
    return [pid, *(each for child in children_of(pid) for each in family_of(child))]


def host_pids(study):
    """The Ray processes that hold the workers of running trials."""
    workers = {
        int(trial.user_attrs[attributes.WORKER].rpartition(":")[2])
        for trial in study.trials
        if attributes.WORKER in trial.user_attrs and trial.state.name == "RUNNING"
    }
    parents = {}
    for worker in workers:
        status = Path(f"/proc/{worker}/status").read_text()
        parents[worker] = int(status.partition("PPid:")[2].split()[0])
    return parents


LONG = [
    *ALONE, "--trials", "2", "--set", "search.points_per_rank=1", "--set", "budget.steps=400", "--set",
    "run.checkpoint_s=1",
]  # fmt: skip


@pytest.mark.parametrize("victim", ["worker", "host"])
def test_what_dies_there_is_run_again_from_its_checkpoint(cluster, tmp_path, victim):
    running = Running("run", "tiny", *SMALL, *LONG, "--ray", cluster.address, cwd=tmp_path)
    try:
        running.wait_for("step 100/400", timeout=240)
        time.sleep(2)
        worker, host = next(iter(host_pids(stored(tmp_path)).items()))
        os.kill(worker if victim == "worker" else host, signal.SIGKILL)
        running.wait_for("it will be run again", timeout=120)
        running.wait_for("going on at step", timeout=240)
        assert running.process.wait(300) == 0, running.output.read_text()
    finally:
        running.end()
    output = running.output.read_text()
    assert "Traceback" not in output
    trials = stored(tmp_path).trials
    assert sorted(trial.state.name for trial in trials) == ["COMPLETE", "COMPLETE", "FAIL"]
    assert not is_alive(worker)


def test_ctrl_c_leaves_no_worker_behind_and_the_same_command_goes_on(cluster, tmp_path):
    running = Running("run", "tiny", *SMALL, *LONG, "--ray", cluster.address, cwd=tmp_path)
    try:
        running.wait_for("step 100/400", timeout=240)
        workers = host_pids(stored(tmp_path))
        assert running.interrupt() == 130
    finally:
        running.end()
    assert "Interrupted. Run the same command again to continue." in running.output.read_text()
    assert not any(is_alive(pid) for pid in (*workers, *workers.values()))
    done = run(cluster, "tiny", *SMALL, *LONG, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on at step" in done.stdout


def test_a_driver_that_is_killed_takes_its_hosts_along(cluster, tmp_path):
    running = Running("run", "tiny", *SMALL, *LONG, "--ray", cluster.address, cwd=tmp_path)
    try:
        running.wait_for("step 100/400", timeout=240)
        workers = host_pids(stored(tmp_path))
        running.kill()
        deadline = time.monotonic() + 60
        while any(is_alive(pid) for pid in (*workers, *workers.values())) and time.monotonic() < deadline:
            time.sleep(0.5)
    finally:
        running.end()
    assert not any(is_alive(pid) for pid in (*workers, *workers.values()))


FIVE = [*LONG, "--trials", "5"]


def wait_for_a_trial_on(node, folder, within_s=300):
    """The workers of trials that run on a node, once there are any."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        family = set(family_of(node.all_processes["raylet"][0].process.pid))
        if held := [worker for worker in host_pids(stored(folder)) if worker in family]:
            return held
        time.sleep(0.5)
    raise AssertionError("no trial has begun there")


def test_a_machine_that_dies_is_done_without(cluster, tmp_path):
    """A third machine joins, gets a worker, and is taken away."""
    node = cluster.add_node(**NODE)
    running = Running("run", "tiny", *SMALL, *FIVE, "--ray", cluster.address, cwd=tmp_path)
    try:
        running.wait_for("trial 0", timeout=300)
        wait_for_a_trial_on(node, tmp_path)
        cluster.remove_node(node, allow_graceful=False)
        running.wait_for("it will be run again", timeout=180)
        assert running.process.wait(600) == 0, running.output.read_text()
    finally:
        running.end()
    assert "Traceback" not in running.output.read_text()
    assert len(ended_trials(stored(tmp_path))) == 5


def test_a_machine_that_hangs_is_done_without_and_is_not_heard_when_it_thaws(cluster, tmp_path):
    """All of a third machine's processes are stopped, as a host that is suspended."""
    node = cluster.add_node(**NODE)
    frozen: list[int] = []
    running = Running("run", "tiny", *SMALL, *FIVE, "--ray", cluster.address, cwd=tmp_path)
    try:
        running.wait_for("trial 0", timeout=300)
        held = wait_for_a_trial_on(node, tmp_path)
        frozen = family_of(node.all_processes["raylet"][0].process.pid)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        running.wait_for("it will be run again", timeout=240)
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        assert running.process.wait(600) == 0, running.output.read_text()
        deadline = time.monotonic() + LEASE_S + 30  # calls that it got while it was frozen count from when it thaws
        while any(map(is_alive, held)) and time.monotonic() < deadline:
            time.sleep(0.5)
    finally:
        for pid in filter(is_alive, frozen):
            os.kill(pid, signal.SIGCONT)
        running.end()
        cluster.remove_node(node, allow_graceful=False)
    assert not any(map(is_alive, held))
    assert "Traceback" not in running.output.read_text()
    ended = {trial.number for trial in ended_trials(stored(tmp_path))}
    assert len(ended) == 5, "what the frozen machine said later is in none of them"
    assert [t.state.name for t in stored(tmp_path).trials if t.number not in ended] == ["FAIL"]
    assert all(t.state.name in {"COMPLETE", "PRUNED"} for t in stored(tmp_path).trials if t.number in ended)


def test_a_wrong_token_and_no_cluster_are_told_in_one_line(cluster, tmp_path):
    wrong = run(cluster, "tiny", *SMALL, cwd=tmp_path, env={"RAY_AUTH_TOKEN": "0" * 64})
    assert wrong.returncode == ClusterError.exit_code
    assert len(wrong.stderr.splitlines()) == 1
    assert "Traceback" not in wrong.stderr
    nowhere = subprocess.run(
        [SWEEP, "run", "tiny", "--ray", "127.0.0.1:1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (nowhere.returncode, len(nowhere.stderr.splitlines())) == (ClusterError.exit_code, 1)
    assert "no Ray cluster answers at '127.0.0.1:1'" in nowhere.stderr


def test_a_cluster_that_asks_for_no_token_is_refused_unless_asked_for(tmp_path):
    """In a process of its own: this one has a token, and a cluster."""
    code = (
        "import subprocess, sys\nfrom ray.cluster_utils import Cluster\n"
        "cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 1, 'include_dashboard': False, "
        "'object_store_memory': 80 * 2**20})\n"
        f"done = subprocess.run([{SWEEP!r}, 'run', 'tiny', '--ray', cluster.address], capture_output=True, text=True)\n"
        "print(done.returncode, done.stderr)\ncluster.shutdown()"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env=environment | {"RAY_AUTH_MODE": "disabled"},
    )  # fmt: skip
    assert f"{ClusterError.exit_code} sweep: the Ray cluster at" in done.stdout, done.stdout + done.stderr
    assert "--ray-without-token" in done.stdout
