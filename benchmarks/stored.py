"""Large stored studies, made at once: Optuna needs more than a minute to add a thousand trials with their steps."""

# Its statements are made of the names of Optuna's own tables.
# ruff: noqa: S608

import sqlite3


def multiply(path, times):
    """Makes every trial of an SQLite storage that holds one study `times` trials, steps, attributes and all."""
    with sqlite3.connect(path) as connection:
        (trials,) = connection.execute("SELECT max(trial_id) FROM trials").fetchone()
        tables = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if name == "trials" or (name.startswith("trial_") and name != "trial_heartbeats")
        ]
        for table in tables:
            key, *columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            (rows,) = connection.execute(f"SELECT coalesce(max({key}), 0) FROM {table}").fetchone()
            for k in range(1, times):
                moved = [f"{name} + {k * trials}" if name in ("trial_id", "number") else name for name in columns]
                step = trials if key == "trial_id" else rows
                connection.execute(
                    f"INSERT INTO {table} ({key}, {', '.join(columns)}) "
                    f"SELECT {key} + {k * step}, {', '.join(moved)} FROM {table} WHERE {key} <= {rows}"
                )
    connection.close()
