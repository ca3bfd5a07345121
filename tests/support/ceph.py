"""Ceph's Object Gateway: an S3 server that is neither AWS nor moto, on loopback, kept in memory.

One monitor, one OSD, one gateway, as processes of the test. A run mode also wants EC2 and EMR: the
``front`` hands requests for S3 to the gateway and all others to moto, behind TLS as in production.
"""

from __future__ import annotations

import base64
import shutil
import ssl
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import boto3
from botocore.exceptions import ClientError, EndpointConnectionError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from faulty import Proxy
from waiting import until

from runbook.sandbox.postgres import free_port

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
#: Access key and secret key of the gateway's user, which no other name contains: what contains a
#: secret is masked. And the id of a key for encryption by KMS.
USER, KMS_KEY = "user-of-the-gateway", "backups"
#: Seconds that a server may take to start, on a busy machine.
START = 180

CONFIGURATION = """
[global]
fsid = {cluster}
mon host = [v1:127.0.0.1:{monitor}]
mon initial members = a
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
auth cluster required = none
auth service required = none
auth client required = none
keyring = /dev/null
run dir = {folder}
admin socket =
log file = {folder}/$name.log
mon cluster log file = {folder}/cluster.log
mon data = {folder}/mon
mon data avail warn = 1
mon data avail crit = 1
mon allow pool size one = true
mon max pg per osd = 1000
osd data = {folder}/osd
osd objectstore = memstore
osd pool default size = 1
osd pool default pg num = 1
rgw data = {folder}
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw thread pool size = 32
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = {key_name}={key}
"""


def missing() -> str:
    """The programs that this machine lacks for a cluster; empty if none."""
    return ", ".join(program for program in PROGRAMS if not shutil.which(program))


class Ceph:
    """A cluster below ``folder`` with its gateway at ``url``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.monitor, self.gateway = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.gateway}"
        self._servers: dict[str, subprocess.Popen[bytes]] = {}

    def create(self) -> None:
        """Make the cluster, start its servers, add the user."""
        for name in ("mon", "osd"):
            (self.folder / name).mkdir()
        cluster, disk = uuid.uuid4(), str(uuid.uuid4())
        self._configuration.write_text(
            CONFIGURATION.format(
                cluster=cluster, folder=self.folder, monitor=self.monitor, gateway=self.gateway,
                key_name=KMS_KEY, key=base64.b64encode(bytes(range(32))).decode(),
            )
        )  # fmt: skip
        monitors = str(self.folder / "monitors")
        address = f"[v1:127.0.0.1:{self.monitor}]"
        self._run(
            "monmaptool", "--create", "--fsid", str(cluster), "--addv", "a", address, monitors
        )
        self._run("ceph-mon", "--mkfs", "--id", "a", "--monmap", monitors)
        self._start("ceph-mon", "--id", "a")
        self._run("ceph", "osd", "new", disk)
        self._run("ceph-osd", "--mkfs", "--id", "0", "--osd-uuid", disk)
        self._start_disk()
        self.start()
        self._run("radosgw-admin", "user", "create", f"--uid={USER}", f"--display-name={USER}",
                  f"--access-key={USER}", f"--secret-key={USER}")  # fmt: skip

    def _start_disk(self) -> None:
        """Start the OSD, again where it ended: it may ask the monitor too early ('wrong fsid')."""

        def up() -> bool:
            if "ceph-osd" not in self._servers or self._servers["ceph-osd"].poll() is not None:
                self._start("ceph-osd", "--id", "0")
            return " 1 up" in self._run("ceph", "osd", "stat")

        until(up, START)

    def start(self) -> None:
        """Start the gateway; returns when it answers."""
        self._start("radosgw", "--name", "client.rgw.a")
        until(self._answers, START)

    def kill(self) -> None:
        """End the gateway at once, whatever it does."""
        self._servers["radosgw"].kill()
        self._servers["radosgw"].wait()

    def stop(self) -> None:
        """End all servers."""
        for server in self._servers.values():
            server.kill()
            server.wait()

    def s3(self) -> Any:
        """A client of the gateway."""
        return boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1",
            aws_access_key_id=USER, aws_secret_access_key=USER,
        )  # fmt: skip

    @property
    def _configuration(self) -> Path:
        return self.folder / "ceph.conf"

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [program, "--conf", str(self._configuration), *arguments],
            capture_output=True, text=True, timeout=START, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"
        return done.stdout

    def _start(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.out").open("ab") as out:
            self._servers[program] = subprocess.Popen(
                [program, "--conf", str(self._configuration), "--foreground", *arguments],
                stdout=out, stderr=out, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def _answers(self) -> bool:
        assert self._servers["radosgw"].poll() is None, f"see the logs in {self.folder}"
        try:
            self.s3().list_buckets()
        except EndpointConnectionError:
            return False
        except ClientError:  # there is no user yet
            return True
        return True


@contextmanager
def running(folder: Path) -> Iterator[Ceph]:
    """A cluster with its data in memory and the rest in ``folder``."""
    made = Ceph(folder)
    try:
        made.create()
        yield made
    finally:
        made.stop()


class Front(Proxy):
    """One address for the gateway's S3 and the ``others`` services of AWS, with a certificate."""

    def __init__(self, ceph: Ceph, others: str, folder: Path) -> None:
        super().__init__(ceph.url)
        self._others = urlsplit(others)
        self.certificate = folder / "certificate.pem"
        self.certificate.write_bytes(_certificate())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = self.url.replace("http:", "https:")

    def target_of(self, headers: Any) -> SplitResult:
        """By the service that the request is signed for."""
        signed = headers.get("Authorization", "")
        return self.target if "/s3/aws4_request" in signed else self._others


def _certificate() -> bytes:
    """A key and a certificate of 127.0.0.1, signed by itself."""
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
