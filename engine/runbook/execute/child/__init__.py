"""Code that runs inside the ansible process of a run."""
