"""The runbook engine: validated, dry-run-exact operations for labeller and learner."""

__version__ = "0.1.0"
