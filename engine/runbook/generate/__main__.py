"""``python -m runbook.generate``."""

import sys

from runbook import generate

sys.exit(generate.main(sys.argv[1:]))
