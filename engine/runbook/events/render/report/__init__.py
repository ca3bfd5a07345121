"""The report of a run, as one file: HTML to look at, Markdown for a pull request."""
