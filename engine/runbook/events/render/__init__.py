"""Renderers of events, independent of each other."""
