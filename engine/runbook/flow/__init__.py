"""The order of the stages of a run, top to bottom."""
