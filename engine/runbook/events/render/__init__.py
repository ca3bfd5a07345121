"""Renderers of events; none knows another."""
