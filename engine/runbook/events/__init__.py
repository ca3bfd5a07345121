"""What a run consists of, and who listens: the journal, the renderers."""
