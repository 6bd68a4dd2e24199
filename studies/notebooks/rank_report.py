# %% [markdown]
"""# Which rank?

`sweep report STUDY --notebook report.ipynb` fills in the parameters below, runs this notebook and writes it with its
outputs. By hand, it runs in any Jupyter that has rank-sweep installed.
"""

# %%
import rich
from IPython.display import display

from sweep.html_report.contents import open_report
from sweep.results import load_results

# %% tags=["parameters"]
STORAGE = "sqlite:///rank-sweep.db"
STUDY = "tiny"

# %%
report = open_report(STORAGE, STUDY)
figures = report.figures()
results = load_results(STORAGE, STUDY)

# %% [markdown]
"""## The verdict and each rank

The verdict is there once `sweep confirm` has run every rank on fresh seeds. The table below it is the search's.
"""

# %%
rich.print(report.tables())

# %%
results.trials[~results.trials.collapsed].groupby(["phase", "r"]).held_out.describe().round(3)

# %%
figures.get("gains")

# %%
figures.get("confirmed")

# %% [markdown]
"""How the verdict came about, where seeds were added one by one: each line is one rank held against another, its t
statistic in units of what it has to exceed after so many seeds.
"""

# %%
figures.get("paths")

# %%
for name, figure in figures.items():
    if name.startswith("guard-"):  # the score against each of `verdict.guards`
        display(figure)

# %%
figures.get("by-rank")

# %% [markdown]
"""## What else the study says

What the search's best trials come to on fresh seeds; means by rank and the other parameters; how the best
learning rate moves with rank; where training collapses; which parameter matters; how many of its ranks an update uses.
"""

# %%
figures.get("winners-curse")

# %%
figures.get("by-learning-rate")

# %%
figures.get("by-alpha")

# %%
figures.get("best-rate")

# %%
figures.get("collapse")

# %%
figures.get("importance")

# %%
figures.get("effective-rank")

# %% [markdown]
"""## What a rank costs

Filled marks are on the Pareto front.
"""

# %%
figures.get("pareto-memory-bytes")

# %%
figures.get("pareto-adapter-parameters")

# %%
figures.get("pareto-seconds-per-step")

# %% [markdown]
"""## Learning curves
"""

# %%
figures.get("curves-by-step")

# %%
figures.get("curves-by-tokens")

# %% [markdown]
"""## How to go on

`results.trials` has one row per trial, `results.steps` one row per step; both are pandas frames, and `study`, `phase`
and `trial` join them. `help(type(results))` lists their columns.
"""

# %%
results.trials.head()

# %%
results.steps.groupby(["r", "step"]).completion_length.median().unstack("r").plot(
    backend="plotly", labels={"value": "completion length in tokens"}
)
