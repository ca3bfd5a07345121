#!/usr/bin/env python3
"""Stands in for a daemon of labeller: lives until it is stopped or its checkout is removed."""

import sys
import time
from pathlib import Path

me = Path(__file__).absolute()
sys.stdout.write("started\n")
sys.stdout.flush()
while me.exists():
    time.sleep(1)
