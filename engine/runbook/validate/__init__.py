"""Whole-input validation: every problem at once, before any connection is opened."""

from __future__ import annotations

from .checks import check, check_paths

__all__ = ["check", "check_paths"]
