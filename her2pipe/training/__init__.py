"""Training: data, tasks, the loop and its checkpoint."""
