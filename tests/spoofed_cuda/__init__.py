"""Unsloth's branch for GPUs, for real, without a GPU: in child processes that believe in a card."""
