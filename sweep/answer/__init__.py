"""What a study answers: configurations, costs, and the calls to paste."""
