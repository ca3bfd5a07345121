"""Whole-input validation (``checks``): every problem at once, before any connection is opened."""
