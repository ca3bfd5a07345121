"""``python -m benchmarks [NAME...]``: every benchmark, or those named; each prints a table."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks


def main() -> None:
    known = sorted(
        module.name
        for module in pkgutil.iter_modules(benchmarks.__path__)
        if not module.name.startswith("_")
    )
    chosen = sys.argv[1:] or known
    if unknown := set(chosen) - set(known):
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    for name in chosen:
        importlib.import_module(f"benchmarks.{name}").main()


main()
