"""Hosts of tests that are machines of their own: root folder, processes, network, services.

A host has its own mount, process, network, host name and IPC namespaces, which end with the process
that started them: it leaves no process, mount or interface behind, however the test ends. What it
writes is a folder over the image's, which all hosts of a test process share.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import roots
from waiting import until

from runbook.sandbox import cron

USER = "mapper"
HOME = Path("/home") / USER
UMASK = "0007"
LABELLER = HOME / "labeller"
PYTHON = HOME / "runbook" / "bin" / "python"
SERVICES = ("ssh", "cron", "postgresql", "httpd")
DATABASE, ROLE = "Africa", "postgis"
#: Of the network of a host, before the number of the host.
NETWORK, LINK = "198.18", "rb-host"
#: Bytes of a small disk.
DISK = 256 << 20

#: The first process of a host: it starts the services, and then reaps what loses its parent.
INIT = """
read -r pid rest </proc/self/stat
echo "$pid"
read -r host network services
{disk}
{overlay}
mount -t proc proc {root}/proc
mount -t tmpfs -o mode=755 tmpfs {root}/run
mount -t tmpfs -o mode=755 tmpfs {root}/dev
mkdir {root}/dev/pts {root}/dev/shm {root}/run/lock
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts {root}/dev/pts
mount -t tmpfs -o mode=1777 tmpfs {root}/dev/shm
ln -s pts/ptmx {root}/dev/ptmx
ln -s /proc/self/fd {root}/dev/fd
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 {root}/dev/${device%:*} c 1 ${device#*:}
done
mknod -m 666 {root}/dev/tty c 5 0
hostname "$host"
echo "$host" >{root}/etc/hostname
printf '127.0.0.1 localhost\\n127.0.1.1 %s\\n' "$host" >{root}/etc/hosts
ip link set lo up
ip address add "$network.2/24" dev eth0
ip link set eth0 up
ip route add default via "$network.1"
exec chroot {root} /bin/sh -c '
for service in "$@"; do service "$service" start; done >>/var/log/boot.log 2>&1
echo up
exec >/dev/null
while :; do sleep 3600 & wait $!; done
' init $services
"""


def missing() -> str:
    """The programs or rights that this machine lacks for a host; empty if none."""
    if lacking := roots.missing():
        return lacking
    programs = ("ip", "nsenter", "setpriv", "ssh-keygen", "unshare")
    return ", ".join(program for program in programs if not shutil.which(program))


@dataclass
class Host:
    """A running host."""

    folder: Path
    """Of what it writes, and of its keys."""
    layers: Sequence[Path]
    password: str
    """Of labeller's role in the database."""
    bare: bool = False
    """Whether it has no virtual environment for modules."""
    slow: tuple[float, float] | None = None
    """Seconds that a packet takes, and the fraction of packets that are lost, when it boots again."""
    small: bool = False
    """Whether all that it writes is on a small disk of its own, when it boots again."""
    number: int = 0
    """The third byte of its address; the first that is free when it starts, and then its own."""
    claim: socket.socket | None = field(init=False, default=None)
    process: subprocess.Popen[str] | None = field(init=False, default=None)
    pid: int = field(init=False, default=0)
    carrier: subprocess.Popen[str] | None = field(init=False, default=None)

    @property
    def name(self) -> str:
        return f"labeller{self.number}"

    @property
    def network(self) -> str:
        return f"{NETWORK}.{self.number}"

    @property
    def address(self) -> str:
        return f"{self.network}.2"

    @property
    def controller(self) -> str:
        """The address of this machine on the host's network."""
        return f"{self.network}.1"

    @property
    def link(self) -> str:
        """The interface of this machine on the host's network."""
        return f"{LINK}{self.number}"

    @property
    def root(self) -> Path:
        """The host's root folder, as this machine sees it while the host runs."""
        return Path(f"/proc/{self.pid}/root")

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def database_url(self) -> str:
        """libpq URL of labeller's database, for this machine: by the socket in the host's root."""
        socket = str(self.root / "run" / "postgresql").replace("/", "%2F")
        return f"postgresql://{ROLE}:{self.password}@{socket}/{DATABASE}"

    def start(self, services: Sequence[str] = SERVICES) -> None:
        """Boot it, and wait until its services are up."""
        if not self.number:
            self._claim_number()
        init = INIT.replace("{overlay}", roots.overlay(self.folder, self.layers))
        init = init.replace("{disk}", self._small_disk() if self.small else "")
        self.process = process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--net", "--uts", "--ipc",
             "--fork", "--kill-child", "sh", "-euc", init.replace("{root}", f"{self.folder}/root")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        )  # fmt: skip
        assert process.stdin
        assert process.stdout
        self.pid = int(process.stdout.readline())
        self._make_link()
        process.stdin.write(f"{self.name} {self.network} {' '.join(services)}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "up\n", f"{self.name} did not boot"

    def _claim_number(self) -> None:
        """Take the first number that no host of any test process has, also while it is down.

        The claim is a socket's name, which the kernel frees with the process, and the link a little
        later.
        """
        self.claim = socket.socket(socket.AF_UNIX)
        for self.number in range(1, 255):
            with contextlib.suppress(OSError):
                if not Path("/sys/class/net", self.link).exists():
                    self.claim.bind(f"\0{self.link}")
                    return
        raise AssertionError("no number is free for a host")

    def _small_disk(self) -> str:
        folders = " ".join(f"{self.folder}/{name}" for name in ("root", "upper", "work"))
        return f"mount -t tmpfs -o size={DISK} tmpfs {self.folder}; mkdir {folders}"

    def fill_disk(self, left: int = 0) -> None:
        """Leave ``left`` bytes free on the small disk."""
        until(lambda: self._resize_disk(self._used() + left))  # refused when more is used by then

    def free_disk(self) -> None:
        """Make room on the small disk again."""
        assert self._resize_disk(DISK)

    def _used(self) -> int:
        disk = os.statvfs(self.root)
        return (disk.f_blocks - disk.f_bfree) * disk.f_frsize

    def _resize_disk(self, size: int) -> bool:
        resize = ("mount", "-o", f"remount,size={size}", str(self.folder))
        return self.outside(*resize, check=False)

    def _make_link(self) -> None:
        """Make the link to the host."""
        if self.slow:
            self._make_slow_link(*self.slow)
        else:
            peer = ("type", "veth", "peer", "name", "eth0", "netns", str(self.pid))
            _ip("link", "add", self.link, *peer)
        _ip("address", "add", f"{self.controller}/24", "dev", self.link)
        _ip("link", "set", self.link, "up")

    def _make_slow_link(self, seconds: float, loss: float) -> None:
        program = Path(__file__).with_name("slow_link.py")
        self.carrier = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, program, self.link, str(self.pid),
             str(seconds), str(loss)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.carrier.stdout
        assert self.carrier.stdout.readline() == "up\n"

    def stop(self) -> None:
        """Pull the plug: every process dies at once. Does nothing when it does not run."""
        if self.process is None:
            return
        for process in (self.carrier, self.process):
            if process:
                process.kill()
                process.communicate()
        self.carrier = None
        # The kernel removes the link with the network, but somewhat later.
        _ip("link", "delete", self.link, check=False)
        until(lambda: not Path(f"/proc/{self.pid}").exists())
        self.process = None

    def reboot(self) -> None:
        """Pull the plug and boot again."""
        self.stop()
        self.start()

    def reset(self) -> None:
        """Forget all that was written, and boot."""
        self.stop()
        for name in ("root", "upper", "work"):
            shutil.rmtree(self.folder / name)
        self.start()

    def outside(self, *command: str, check: bool = True) -> bool:
        """Whether a program of this machine worked in the host's mounts and network; it must.

        ``outer`` names the host's files there.
        """
        spaces = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--uts"]
        done = subprocess.run([*spaces, *command], capture_output=True, text=True)
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.returncode == 0

    def outer(self, path: str) -> str:
        """A path of the host, as ``outside`` needs it."""
        return f"{self.folder}/root{path}"

    def bind(self, source: Path, to: str) -> None:
        """Show a folder of this machine there, until the host ends."""
        self.run("mkdir", "-p", to, user="root")
        self.outside("mount", "--bind", str(source), self.outer(to))

    def connect(self, *, up: bool) -> None:
        """Plug the network cable in or out: nothing tells either end of a connection."""
        if up:
            self.outside("ip", "link", "set", "eth0", "up")
            self.outside("ip", "route", "add", "default", "via", self.controller)
        else:
            self.outside("ip", "link", "set", "eth0", "down")

    def run(self, *command: str, user: str = USER, input: str = "", check: bool = True) -> str:  # noqa: A002
        """The output of a command that a user runs there, not over ssh."""
        home = "/root" if user == "root" else str(HOME)
        done = subprocess.run(
            ["nsenter", f"--target={self.pid}", "--all", "--root", "--wd",
             "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", f"HOME={home}",
             f"USER={user}", f"LOGNAME={user}", "runuser", "-u", user, "--",
             "sh", "-c", f'umask {UMASK}; exec "$@"', "sh", *command],
            capture_output=True, text=True, input=input,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def knows(self, key: str) -> None:
        """Make ``key`` the host key that the operator's known_hosts has."""
        self.known_hosts.write_text(f"{self.address} {' '.join(key.split()[:2])}\n")

    def lose_python(self) -> None:
        """Remove Debian's Python."""
        self.run("sh", "-c", "rm /usr/bin/python3*", user="root")

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a query on labeller's database; none for a statement that gives none."""
        session = psycopg2.connect(self.database_url)
        try:
            with session, session.cursor() as cursor:
                cursor.execute(sql, parameters or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            session.close()

    def cron(self) -> None:
        """Run every entry of mapper's crontab as cron does when it is due; daemons are started so."""
        for entry in cron.parse(self.run("crontab", "-l")):
            command, given = cron.command_line(entry)
            self.run(*command, input=given, check=False)

    def daemons(self) -> list[str]:
        """The names of labeller's running daemons."""
        lines = self.run("ps", "-u", USER, "-o", "args=", check=False).splitlines()
        return sorted({Path(word).stem for line in lines for word in line.split()
                       if word.startswith(f"{LABELLER}/common/") and word.endswith(".py")})  # fmt: skip

    def variables(self) -> dict[str, object]:
        """The connection variables of an inventory host."""
        interpreter = {} if self.bare else {"ansible_python_interpreter": str(PYTHON)}
        return {
            **interpreter,
            "ansible_host": self.address,
            "ansible_user": USER,
            "ansible_ssh_private_key_file": str(self.folder / "user_key"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.known_hosts} -o IdentitiesOnly=yes",
        }


def _ip(*arguments: str, check: bool = True) -> bool:
    """Whether ``ip ARGUMENTS`` worked; with ``check`` it must."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert not check or done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.returncode == 0
