"""What runs inside the ansible process of a run."""
