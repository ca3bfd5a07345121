# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The files of the operator that the loop's call from cron reads on the target."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping

from ansible_collections.labeller.runbook.plugins.module_utils.errors import InvalidInput

#: In the inventory on the target the host is the machine itself.
_LOCAL = (
    "---\n# The call from cron runs on the host itself.\n"
    'ansible_connection: local\nansible_python_interpreter: "{{ ansible_playbook_python }}"\n'
)


def of(params: Mapping[str, Any], host: str, hosts: int) -> List[Dict[str, Any]]:
    """The files by their paths on the target, for the inventory's host called ``host``.

    ``hosts``: how many the inventory has. Raises InvalidInput for sources that cannot be read.
    """
    found = []
    inventory, source = params["inventory"], params["inventory_source"]
    if source:
        _require_absolute("learner_inventory", inventory, "learner_inventory_source")
        found += list(_inventory(Path(source).expanduser(), inventory, host, hosts))
    password, source = params["vault_password_file"], params["vault_password_source"]
    if source:
        _require_absolute("learner_vault_password_file", password, "learner_vault_password_source")
        path = Path(source).expanduser()
        if path.is_file() and os.access(path, os.X_OK):
            raise InvalidInput(
                "learner_vault_password_source is {}, which is a program; give a file that holds "
                "the password (chmod 600)".format(source)
            )
        found.append(_file(password, _read(path, "learner_vault_password_source")))
    return found


def _require_absolute(name: str, value: str, source: str) -> None:
    if not value.startswith("/"):
        raise InvalidInput(
            "{} is {!r}, and {} is given; expected the absolute path on the target where it "
            "is put".format(name, value, source)
        )


def _inventory(path: Path, inventory: str, host: str, hosts: int) -> Iterator[Dict[str, Any]]:
    """A file as it is; of a folder all files, and one that makes the host's connection local."""
    if not path.is_dir():
        yield _file(inventory, _read(path, "learner_inventory_source"))
        return
    if hosts > 1:
        raise InvalidInput(
            "learner_inventory_source is {}, with {} hosts, and the call from cron on {} would "
            "reach for all of them; give a folder with this host alone".format(path, hosts, host)
        )
    for each in sorted(path.rglob("*")):
        name = each.relative_to(path).as_posix()
        if each.is_file() and not any(part.startswith(".") for part in name.split("/")):
            # Of host_vars/HOST and host_vars/HOST.yml Ansible reads only the folder.
            own = re.fullmatch(r"host_vars/{}\.(ya?ml|json)".format(re.escape(host)), name)
            name = "host_vars/{}/{}".format(host, each.name) if own else name
            content = _read(each, "learner_inventory_source")
            mode = "0700" if os.access(each, os.X_OK) else "0600"
            yield _file("{}/{}".format(inventory, name), content, mode)
    last = "{}/host_vars/{}/zz-on-the-host.yml".format(inventory, host)
    yield _file(last, _LOCAL.encode())


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput("{} is {}: {}".format(name, path, error.strerror)) from error


def _file(path: str, content: bytes, mode: str = "0600") -> Dict[str, Any]:
    return {
        "path": os.path.normpath(path),
        "mode": mode,
        "sha256": hashlib.sha256(content).hexdigest(),
        "content": base64.b64encode(content).decode(),
    }
