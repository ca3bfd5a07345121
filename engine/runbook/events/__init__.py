"""The events of a run, and their subscribers: the journal, the renderers."""
