"""The callback plugin of a run."""
