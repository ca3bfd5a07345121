# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The EC2 instance that this process runs on.

An instance that is stopped and started keeps its id; one that is made of its image has another,
and the same ``/etc/machine-id``, crontab and database. Elsewhere nothing tells copy and original.
"""

from __future__ import annotations

import re
from contextlib import closing
from http.client import HTTPConnection, HTTPException

from .errors import Refused

#: The instance's id on the Nitro system, for every user to read.
TAG = "/sys/devices/virtual/dmi/id/board_asset_tag"
#: Begins with ``ec2`` on instances of the older kind (Xen).
HYPERVISOR = "/sys/hypervisor/uuid"
#: The instance metadata service, which is asked there.
METADATA = "169.254.169.254"
#: Seconds that an answer of it may take.
PATIENCE = 2

_ID = re.compile(r"i-[0-9a-f]{8,17}")


def instance() -> str:
    """The id of the EC2 instance; empty on other machines, and where it cannot be known."""
    found = _content(TAG)
    if not _ID.fullmatch(found) and _content(HYPERVISOR).lower().startswith("ec2"):
        found = _asked()
    return found if _ID.fullmatch(found) else ""


def require(wanted: str) -> None:
    """Raise Refused on another instance than ``wanted``; not where either is not known."""
    found = instance() if wanted else ""
    if found and found != wanted:
        raise Refused(
            "this machine is the EC2 instance {}, and the crontab's call of the loop was installed "
            "on {}: a copy of it would start clusters and write objects in the place of the "
            "original; nothing was changed. If the loop is to go on here, apply the run's playbook "
            "again, which installs the crontab for this instance; if not, apply shutdown.yml, "
            "which removes it".format(found, wanted)
        )


def _content(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""


def _asked() -> str:
    """The metadata service's answer (version 2 of its protocol); empty without one."""
    try:
        with closing(HTTPConnection(METADATA, timeout=PATIENCE)) as service:
            lasting = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
            service.request("PUT", "/latest/api/token", headers=lasting)
            token = service.getresponse().read().decode("ascii")
            named = {"X-aws-ec2-metadata-token": token}
            service.request("GET", "/latest/meta-data/instance-id", headers=named)
            return service.getresponse().read().decode("ascii")
    except (OSError, HTTPException, ValueError):
        return ""
