"""What one trial is: tasks, rewards, policies, engines and learners."""
