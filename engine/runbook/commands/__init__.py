"""The commands, one module each, imported when called (``runbook.cli.COMMANDS``)."""
