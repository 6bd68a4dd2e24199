"""Changes in place whatever it is given, and would be the first to notice if anybody else had."""


def reward(prompts, completions, completion_ids, answer, **columns):
    assert all("!" not in prompt for prompt in prompts)
    for values in (prompts, completions, answer, completion_ids):
        values[0] = values[0] + type(values[0])("!" if isinstance(values[0], str) else [0])
    lengths = [float(len(text)) for text in answer[1:]]
    for values in (prompts, completions, answer, completion_ids):
        values.clear()
    return [4.0, *lengths]


def weighs(row, completion):
    return float(len(row["answer"]))
