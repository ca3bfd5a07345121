"""Options → checked input: every file read once, every problem reported at once."""
