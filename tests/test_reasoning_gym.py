import pytest

from objectives.errors import TaskError
from objectives.settings.tasks import ReasoningGymSettings
from objectives.tasks.reasoning_gym import reasoning_gym_task


def task(dataset="chain_sum", seed=0, chat=True, **options):
    settings = ReasoningGymSettings(
        name="reasoning_gym", dataset=dataset, options=options, train_prompts=100, held_out_prompts=20
    )
    return reasoning_gym_task(settings, seed=seed, chat=chat)


def test_the_tasks_own_scorer_rewards_a_right_answer():
    import reasoning_gym

    made = task(max_terms=3)
    questions = reasoning_gym.create_dataset("chain_sum", size=144, seed=0, max_terms=3)
    rows = made.train_rows(5)
    [score] = made.reward_functions
    right = [f"Well.\n<answer>{questions[row['entry']]['answer']}</answer>" for row in rows]
    entries = [row["entry"] for row in rows]
    assert score([None] * 5, right, entry=entries) == [1.0] * 5
    assert score([None] * 5, ["<answer>x</answer>"] * 5, entry=entries) == [0.0] * 5
    assert score([None], [[{"role": "assistant", "content": right[0]}]], entry=entries[:1]) == [1.0]
    assert score.__name__ == "chain_sum_score"


def test_the_splits_are_disjoint_and_deterministic():
    made, again = task(), task()
    train, held_out = ({str(r["prompt"]) for r in rows} for rows in (made.train_rows(500), made.held_out_rows(500)))
    assert train.isdisjoint(held_out)
    assert made.train_rows(500) == again.train_rows(500)
    assert made.train_rows(500) != task(seed=1).train_rows(500)


def test_questions_are_text_where_the_model_does_not_chat():
    assert isinstance(task(chat=False).train_rows(1)[0]["prompt"], str)


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ("chain_summ", {}, "no task 'chain_summ'; did you mean 'chain_sum'"),
        ("chain_sum", {"bogus": 1}, "refuses its options.*bogus"),
        ("chain_sum", {"min_terms": -3}, "refuses its options: min_terms must be positive"),
    ],
)
def test_what_the_package_refuses_is_named(dataset, options, message):
    with pytest.raises(TaskError, match=message):
        task(dataset, **options)
