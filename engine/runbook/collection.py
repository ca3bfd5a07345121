"""Where the collection ``labeller.runbook`` is, and how ansible-core gets to see it.

Installed from a wheel, it lies in site-packages as ``ansible_collections/labeller/runbook``. In a
checkout the repository's root is the collection, and its parts are linked into a folder that is
given to ansible as ``ANSIBLE_COLLECTIONS_PATH`` (the root itself cannot be linked: it holds the
link, and ansible would recurse).
"""

from __future__ import annotations

from pathlib import Path

NAMESPACE = "labeller"
NAME = "runbook"
PARTS = ("galaxy.yml", "meta", "playbooks", "plugins", "roles", "schemas", "inventories")


def root() -> Path:
    """The folder that holds ``galaxy.yml``, ``plugins``, ``playbooks``, ``schemas``, ..."""
    package = Path(__file__).resolve().parent
    checkout = package.parent.parent
    if (checkout / "galaxy.yml").is_file():
        return checkout
    return package.parent / "ansible_collections" / NAMESPACE / NAME


def link(into: Path) -> Path:
    """Link the collection's parts below ``into``; gives the ``ANSIBLE_COLLECTIONS_PATH`` entry.

    Safe to repeat and to run side by side: an existing right link is left, a wrong one replaced.
    """
    home = into / "ansible_collections" / NAMESPACE / NAME
    home.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        target, place = root() / part, home / part
        if not target.exists() or (place.is_symlink() and place.readlink() == target):
            continue
        temporary = home / f".{part}.{id(place):x}"
        temporary.symlink_to(target)
        temporary.replace(place)
    return into
