"""What is stored: Optuna's database, every key that we put there, and trials read back."""
