"""Plugins of the engine for the ansible process; ansible finds them by path."""
