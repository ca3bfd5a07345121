"""The strategy plugin of a check on several hosts of this machine."""
