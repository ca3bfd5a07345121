"""Root folders of Debian, made by debootstrap, kept between runs, and commands that run in them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: A machine's network settings, in files and variables: DNS, package indexes, certificates.
FILES = ("/etc/resolv.conf", "/etc/pip.conf", "/etc/npmrc", "/etc/ssl/certs/ca-certificates.crt")
VARIABLES = re.compile(
    r"PIP_(INDEX_URL|CERT|DEFAULT_TIMEOUT)|SSL_CERT_FILE|NODE_EXTRA_CA_CERTS|\w+_proxy",
    re.IGNORECASE,
)
HOME = "/root"

#: What was downloaded once: the packages of Debian (by release) and of pip, and the root folders.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "labeller-runbook"


def missing() -> str:
    """The programs or rights that this machine lacks for a root folder; empty if none."""
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        return "root and debootstrap"
    # In a root folder of chroot there is none: it is no mount.
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True)
    return f"a mount namespace: {done.stderr.strip()}" if done.returncode else ""


@dataclass(frozen=True)
class Root:
    """A root folder of a Debian release."""

    folder: Path
    release: str

    def run(self, command: str, layers: Sequence[Path] = ()) -> str:
        """The output of a shell command in it; fails the test when it fails.

        It has namespaces of its own: its end takes with it all processes and mounts. With
        ``layers``, an overlay's lower folders, the root is mounted, and ``folder`` keeps what is
        written in ``upper``.
        """
        root = self.folder / "root" if layers else self.folder
        bound = {f"/{name}": name for name in ("dev", "dev/pts", "dev/shm")}
        bound[f"{CACHE}/{self.release}"] = "var/cache/apt/archives"
        bound[f"{CACHE}/pip"] = f"{HOME[1:]}/.cache/pip"
        mounts = [overlay(self.folder, layers)] if layers else []
        mounts += [f"mount --bind {source} {root}/{to}" for source, to in bound.items()]
        script = " && ".join(
            [*mounts, f"mount -t proc proc {root}/proc", f'exec chroot {root} "$@"']
        )
        given = {name: value for name, value in os.environ.items() if VARIABLES.fullmatch(name)}
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
             "sh", "-c", script, "sh", "sh", "-c", f"cd {HOME} && {command}"],
            env={**given, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": HOME, "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-8000:]
        return done.stdout


def overlay(folder: Path, layers: Sequence[Path]) -> str:
    """The command that mounts ``layers``, the uppermost first, on ``folder``/root."""
    for name in ("root", "upper", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    lower = ":".join(map(str, layers))
    kept = f"upperdir={folder}/upper,workdir={folder}/work"
    return f"mount -t overlay overlay -o lowerdir={lower},{kept} {folder}/root"


def bare(release: str, folder: Path) -> Root:
    """A new root with Python, git and make; the first time it is made by debootstrap."""
    made = Root(folder, release)
    for kept in (CACHE / "pip", CACHE / release / "partial", folder.parent):
        kept.mkdir(parents=True, exist_ok=True)
    archive = CACHE / f"{release}.tar"
    if archive.exists():
        _unpack(archive, folder)
    else:
        packages = "--include=python3,git,make,ca-certificates"
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", packages, release, folder, _mirror()],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]
        _keep(folder, archive)
    know_the_network(folder)
    return made


def with_packages(release: str, packages: Sequence[str]) -> Root:
    """The kept root with Debian's ``packages`` besides; made the first time, and never written to."""
    digest = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:8]
    kept = CACHE / f"{release}-{digest}"
    if kept.exists():
        return Root(kept, release)
    made = bare(release, kept.with_name(f"{kept.name}.{os.getpid()}"))
    try:
        _install(made, packages)
        made.folder.rename(kept)
    except BaseException:
        shutil.rmtree(made.folder, ignore_errors=True)
        raise
    return Root(kept, release)


def _install(root: Root, packages: Sequence[str]) -> None:
    # No service is to start because of a package.
    policy = root.folder / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    root.run(
        "export DEBIAN_FRONTEND=noninteractive && apt-get update -qq && "
        "apt-get install -qq -y --no-install-recommends -o Dpkg::Options::=--force-unsafe-io "
        f"{' '.join(packages)} && rm -rf /var/lib/apt/lists/*"
    )
    policy.unlink()


def _mirror() -> str:
    """Where this machine's Debian packages come from."""
    targets = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]
    return subprocess.run(targets, check=True, capture_output=True, text=True).stdout.split()[0]


def know_the_network(folder: Path) -> None:
    """Copy this machine's network settings."""
    for file in FILES:
        if Path(file).exists():
            Path(f"{folder}{file}").parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, f"{folder}{file}")
    (folder / HOME[1:] / ".cache" / "pip").mkdir(parents=True, exist_ok=True)


def _unpack(archive: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-xpf", archive, "-C", folder, "--numeric-owner"], check=True)


def _keep(folder: Path, archive: Path) -> None:
    written = archive.with_suffix(f".{os.getpid()}")
    subprocess.run(["tar", "--one-file-system", "-cf", written, "-C", folder, "."], check=True)
    written.rename(archive)
