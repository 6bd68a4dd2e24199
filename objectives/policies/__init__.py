"""How a base model becomes a LoRA policy for one trial, and a base model again after it."""
