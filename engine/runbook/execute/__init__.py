"""ansible-runner: the one place that knows it."""
