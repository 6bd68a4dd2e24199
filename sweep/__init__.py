"""The harness: search under the adapter ceiling, storage, statistics, reports and the `sweep` command."""
