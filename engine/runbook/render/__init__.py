"""Renderers: each subscribes to the events of a run, and none knows another."""
