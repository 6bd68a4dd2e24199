import io
import os
import re
import tempfile

# As in a worker: before torch is loaded, and so that nothing asks a hub.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from hypothesis import settings
from rich.console import Console

from objectives.settings.sections import ModelSettings

# How long an example takes is the machine's affair.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


def pytest_collection_modifyitems(items):
    """Puts what closes engines of its own last: with one, vLLM takes down what the session's engine needs too."""
    items.sort(key=lambda item: item.path.name == "test_prefix_cache.py")


@pytest.fixture(scope="session")
def tiny() -> ModelSettings:
    """The shipped policy, as the shipped studies load it."""
    return ModelSettings(
        name="shipped/tiny",
        max_lora_rank=64,
        dtype="float32",
        max_seq_length=64,
        gpu_memory_utilization=0.1,
        gradient_checkpointing="off",
    )


@pytest.fixture(scope="session")
def unsloth_policy(tiny, tmp_path_factory):
    """One base model through Unsloth, for every test that asks. It is imported before TRL and PEFT, as it wants."""
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(tmp_path_factory.mktemp("unsloth")))
    from objectives.policies.unsloth import UnslothPolicy

    return UnslothPolicy(tiny, max_lora_rank=64, fast_inference=False)


@pytest.fixture(scope="session")
def vllm_engine(tiny, unsloth_policy):
    """One real vLLM engine, for every test that asks."""
    from objectives.engines.vllm import VllmEngine

    engine = VllmEngine.start(tiny, max_lora_rank=64, max_loras=4, max_num_seqs=128)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def transformers_engine(tiny, unsloth_policy):
    """The engine behind the same protocol that needs no vLLM."""
    from objectives.engines.transformers import TransformersEngine

    return TransformersEngine(tiny, max_lora_rank=64)


@pytest.fixture(scope="session")
def peft_policy(tiny, unsloth_policy):
    """One base model through plain Transformers and PEFT."""
    from objectives.policies.peft import PeftPolicy

    return PeftPolicy(tiny)


@pytest.fixture(scope="session")
def server():
    """A PostgreSQL server; a test that stops it starts it again. Skips where none is installed."""
    pytest.importorskip("psycopg", reason="no psycopg here (the extra `postgres`)")
    from tests.support.postgres import Server

    with tempfile.TemporaryDirectory() as folder:
        server = Server(folder)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def database(server, request):
    """The URL of an empty database of its own."""
    return server.database(re.sub(r"\W+", "_", request.node.name)[:60])


@pytest.fixture
def console():
    """Somewhere to print."""
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def supervise(tmp_path):
    """Runs a study to its end on scripted workers."""
    from sweep.early_stopping.pruner import make_pruner
    from sweep.live_display.display import LineProgress
    from sweep.running.open_study import OpenStudy
    from sweep.search.schedule import SearchSchedule, make_sampler
    from sweep.storage.database import create_or_match_study, open_storage

    def supervise(config, workers, *, study=None, schedule=None, after_trial=lambda: None):
        if study is None:
            storage = open_storage(f"sqlite:///{tmp_path}/rank-sweep.db", create=True)
            sampler = make_sampler(design_size=6, seed=0)
            study = create_or_match_study(storage, config, sampler, pruner=make_pruner(config))
        progress = LineProgress(Console(file=io.StringIO()))
        schedule = schedule or SearchSchedule(config)
        OpenStudy(study=study, config=config, logs=tmp_path / "logs").supervise(
            schedule, progress=progress, workers=workers, after_trial=after_trial
        )
        return study

    return supervise
