"""How a policy learns from rewards: GRPO."""
