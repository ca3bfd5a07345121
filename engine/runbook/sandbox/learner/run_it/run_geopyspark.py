"""Stands in for learner's step of the same name, with its arguments."""

import argparse
import json
import os
import sys

from runbook.sandbox.landscape import Landscape
from runbook.sandbox.learner import iteration
from runbook.sandbox.learner.storage import Storage, fault


def main() -> None:
    """Carry out one iteration; the metrics go to standard output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config-filename", required=True)
    parser.add_argument("--probability-images", type=int, default=0)
    parser.add_argument("--random-seed", type=int, default=42)
    parser.add_argument("bucket")
    parser.add_argument("run", type=int)
    parser.add_argument("aoi", type=int)
    options = parser.parse_args()
    if fault() == "step":
        raise MemoryError("Java heap space")
    storage = Storage(options.bucket, options.config_filename)
    landscape = Landscape(int(os.environ["RUNBOOK_SANDBOX_SEED"]))
    metrics = iteration.run(
        storage, landscape, options.run, options.probability_images, options.random_seed
    )
    sys.stdout.write(json.dumps(metrics) + "\n")


if __name__ == "__main__":
    main()
