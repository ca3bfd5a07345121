"""Whether the vaults of a run can be opened, known before anything is contacted.

Only the check sum of a vault is looked at, as ansible-vault's payload format (1.1 and 1.2) defines
it; ansible, which runs in another process, decrypts. Scripts that print a password are run here
and by ansible.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import subprocess
from binascii import unhexlify
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runbook.errors import InvalidInputError
from runbook.home import expanded, is_pipe

#: What a password is given by, for errors.
OPTIONS = "-J, which asks for it, or --vault-password-file FILE"

#: The option that asks for the password of vaults without an id.
ASKED = "-J"

_ITERATIONS = 10_000
_KEY = 32


@dataclass(frozen=True)
class Passwords:
    """The passwords of vaults, and the options that gave them."""

    values: tuple[bytes, ...] = ()
    given_by: tuple[str, ...] = field(default=())

    def problem(self, text: str) -> str:
        """Why the vault ``text`` cannot be opened; empty when it can be."""
        header, _, body = text.strip().partition("\n")
        try:
            salt, checksum, content = map(unhexlify, unhexlify(body.replace("\n", "")).split(b"\n"))
        except ValueError:
            return "this is not a vault as ansible-vault writes it"
        identity = header.split(";")[3:]
        named = f" (its vault id is {identity[0].strip()})" if identity else ""
        if not self.values:
            return f"encrypted{named}, and no password is given: add {OPTIONS}"
        for password in self.values:
            key = hashlib.pbkdf2_hmac("sha256", password, salt, _ITERATIONS, 2 * _KEY + 16)
            if hmac.digest(key[_KEY : 2 * _KEY], content, "sha256") == checksum:
                return ""
        wrong = ", ".join(self.given_by)
        return f"encrypted{named}, and not with the password given by {wrong}"


def prompts(identities: Iterable[str]) -> list[str]:
    """The ids of ``--vault-id`` options whose password is to be asked for."""
    parts = [identity.rpartition("@") for identity in identities]
    return [name or "default" for name, _, source in parts if source == "prompt"]


def passwords(
    asked: Mapping[str, str], files: Iterable[str] = (), identities: Iterable[str] = ()
) -> Passwords:
    """Every password: those ``asked`` for by option, of files and of ``--vault-id`` options.

    Ansible's own settings in the environment count too. InvalidInputError names the option and
    the file that gives none.
    """
    named = [("--vault-password-file", "", file) for file in files]
    if "ANSIBLE_VAULT_PASSWORD_FILE" in os.environ:
        setting = "ANSIBLE_VAULT_PASSWORD_FILE"
        named.append((setting, "", os.environ[setting]))
    listed = os.environ.get("ANSIBLE_VAULT_IDENTITY_LIST", "").split(",")
    for option, entries in {
        "--vault-id": identities,
        "ANSIBLE_VAULT_IDENTITY_LIST": listed,
    }.items():
        for entry in filter(None, map(str.strip, entries)):
            name, _, source = entry.rpartition("@")
            named.append((option, name, source))
    found = {option: value.encode() for option, value in asked.items()}
    for option, name, source in named:
        if source != "prompt":
            found[f"{option} {source}"] = _read(option, name, expanded(source).absolute())
    return Passwords(tuple(found.values()), tuple(found))


def _read(option: str, identity: str, path: Path) -> bytes:
    if is_pipe(path):
        raise InvalidInputError(
            f"{option} {path}: a pipe, which can be read once, and each run reads it again; give a "
            f"script that prints the password (chmod +x), or {ASKED}, which asks for it"
        )
    try:
        if path.is_file() and path.stat().st_mode & 0o111:
            content = _printed(option, identity, path)
        else:
            content = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{option} {path}: cannot be read: {error.strerror}") from error
    if not content.strip():
        raise InvalidInputError(f"{option} {path}: it holds no password")
    return content.strip()


def _printed(option: str, identity: str, path: Path) -> bytes:
    """The output of a script; one whose name ends in -client gets the vault's id as an argument."""
    client = path.stem.endswith("-client")
    arguments = ["--vault-id", identity] if client and identity else []
    done = subprocess.run([path, *arguments], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise InvalidInputError(f"{option} {path}: the script ended with code {done.returncode}")
    return done.stdout
