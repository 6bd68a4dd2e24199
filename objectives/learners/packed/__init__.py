"""GRPO for several trials at once: a stack of adapters on one frozen base."""
