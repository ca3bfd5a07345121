"""Faults of a host and of the way to it: exit code, message, and the run after it."""

from __future__ import annotations

import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import interpreters
import pytest
from command_line import playbook
from host import HOME, LABELLER
from host_faults import OPEN, variables
from instances import IMPATIENT, WAITING, Instance
from waiting import until

from runbook.execute.unreachable import LOST

pytestmark = [pytest.mark.xdist_group("host"), pytest.mark.campaign]


def finished(instance: Instance) -> None:
    """The next run does the rest, and one after it finds nothing to do."""
    instance.expire_lease()
    instance.apply("regular.yml")
    assert "changed=0" in instance.apply("regular.yml")
    assert instance.host.query(OPEN) == [(0, 100)]


@pytest.mark.usefixtures("fast")
def test_a_cable_that_is_pulled_out_in_a_transaction(instance: Instance) -> None:
    host = instance.host
    with variables(instance, **IMPATIENT):
        said = instance.interrupted(lambda: host.connect(up=False))
    assert LOST in " ".join(said.split())
    host.connect(up=True)
    until(lambda: not host.query(WAITING))
    finished(instance)


def test_a_host_that_restarts_in_a_transaction(instance: Instance) -> None:
    host = instance.host
    with variables(instance, **IMPATIENT):
        said = instance.interrupted(host.reboot)
    assert LOST in " ".join(said.split())
    assert host.query("SELECT count(*) FROM incoming_names WHERE run = 0") == [(0,)]
    assert "regular.yml  stopped" in instance.run("history").stdout
    finished(instance)


@pytest.mark.usefixtures("fast")
def test_a_shell_that_talks_and_a_tmp_without_programs(instance: Instance) -> None:
    host = instance.host
    greeting = "echo 'Welcome to labeller!'; echo 'Be careful.' >&2\n"
    for file in (".bashrc", ".profile", ".bash_profile"):
        host.run("sh", "-c", f"cat - ~/{file} >~/.new; mv ~/.new ~/{file}", input=greeting)
    host.outside("mount", "-t", "tmpfs", "-o", "noexec,mode=1777", "tmpfs", host.outer("/tmp"))
    said = instance.apply("regular.yml", "--check")
    assert "Welcome" not in said
    assert "warning" not in said.lower()


def test_sudo_that_refuses(instance: Instance) -> None:
    """The check says so already, and nothing is changed."""
    host = instance.host
    host.run("rm", "/etc/sudoers.d/mapper", user="root")
    before = host.run("crontab", "-l"), host.query("SELECT count(*) FROM kml_data")
    said = " ".join(instance.apply("regular.yml", exit_code=1).split())
    assert "Missing sudo password" in said
    assert "mapper ALL=(root) NOPASSWD: /usr/sbin/service httpd restart" in said
    assert (host.run("crontab", "-l"), host.query("SELECT count(*) FROM kml_data")) == before
    assert "NOPASSWD: /usr/sbin/service httpd restart" in instance.run("doctor").stdout


@pytest.mark.usefixtures("fast")
def test_a_python_that_is_missing_or_too_old(shared_instance: Instance) -> None:
    instance, host = shared_instance, shared_instance.host
    pythons = ["/opt/none/bin/python"]
    for version in ("2.7", "3.7"):
        if own := interpreters.found(version):
            folder = f"/opt/python{version}"
            host.bind(own.resolve().parents[1], folder)
            program = f'LD_LIBRARY_PATH={folder}/lib exec {folder}/bin/python{version} "$@"'
            pythons.append(f"/opt/old{version}")
            script = (
                f"printf '#!/bin/sh\\n%s\\n' '{program}' >{pythons[-1]} && chmod 755 {pythons[-1]}"
            )
            host.run("sh", "-c", script, user="root")
    for python in pythons:
        with variables(instance, ansible_python_interpreter=python):
            said = instance.apply("regular.yml", "--check", exit_code=4)
        assert "ansible_python_interpreter" in said
        assert "Traceback" not in said
        assert "warning" not in said


def test_another_host_key(shared_instance: Instance, tmp_path: Path) -> None:
    instance, host = shared_instance, shared_instance.host
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    known = host.known_hosts.read_text()
    host.knows(other.with_suffix(".pub").read_text())
    try:
        # Not over a connection that an earlier test has left open.
        with variables(instance, ansible_ssh_args="-o ControlMaster=no -o ControlPath=none"):
            for fast in ("1", "0"):
                done = instance.run(
                    "apply", "regular.yml", "--check", exit_code=4, RUNBOOK_FAST=fast
                )
                said = " ".join((done.stdout + done.stderr).split())
                # ssh may be gone before Ansible has written to it: then its words are lost.
                assert f"ssh-keygen -R {host.address}" in said or "the command below says" in said
    finally:
        host.known_hosts.write_text(known)


def test_a_disk_that_is_full(instance: Instance) -> None:
    """That of the checkout: the check says so, before labeller is taken out of service."""
    host = instance.host
    common = f"{LABELLER}/common"
    host.run("cp", "-a", common, f"{HOME}/kept", user="root")
    host.outside("mount", "-t", "tmpfs", "-o", "size=1m,mode=770", "tmpfs", host.outer(common))
    host.run("chown", "mapper:", common, user="root")
    host.run("sh", "-c", f"cp -a {HOME}/kept/. {common}; cat /dev/zero >{common}/full", check=False)
    before = host.run("crontab", "-l"), host.run("cat", f"{common}/config.yaml")
    said = " ".join(instance.apply("regular.yml", exit_code=1).split())
    assert f"cannot write {common}/config.yaml: No space left on device" in said
    assert "Nothing was changed: this was a check." in said
    assert (host.run("crontab", "-l"), host.run("cat", f"{common}/config.yaml")) == before
    host.run("rm", f"{common}/full")
    instance.apply("regular.yml", "--check")


class _Skewed(BaseHTTPRequestHandler):
    """S3 of which no request comes at the right time."""

    def _refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = (
            b"<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request"
            b" time and the current time is too large.</Message></Error>"
        )
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _refuse

    def log_message(self, *_arguments: object) -> None:
        pass


def test_a_clock_that_is_an_hour_off(instance: Instance) -> None:
    """Of every process of the host, by libfaketime; the kernel's own clock is this machine's."""
    host = instance.host
    library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
    preload = f"cd /etc; umask 022; echo +1h >faketimerc; echo {library} >ld.so.preload"
    host.run("sh", "-c", preload, user="root")
    host.reboot()
    ahead = int(host.run("date", "+%s")) - time.time()
    assert 3500 < ahead < 3700
    said = instance.run("doctor", exit_code=1).stdout
    assert "s from S3's" in said
    assert "chronyd" in said
    server = ThreadingHTTPServer((host.controller, 0), _Skewed)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        url = f"http://{host.controller}:{server.server_port}"
        with variables(instance, aws_endpoint_url=url):
            said = " ".join(instance.apply("regular.yml", exit_code=1).split())
        assert "the clock of this host is wrong" in said
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    host.run("rm", "/etc/ld.so.preload", user="root")
    host.reboot()
    instance.apply("regular.yml", "--check")


def test_a_line_that_is_slow_and_loses_packets(instance: Instance, tmp_path: Path) -> None:
    """Half a second there and back, and one packet in fifty lost, each way."""
    host = instance.host
    remove = playbook(
        tmp_path / "own.yml",
        "Remove the crontab",
        **{"labeller.runbook.crontab_profile": {"state": "absent", "home": str(LABELLER)}},
    )
    host.slow = (0.25, 0.02)
    try:
        host.reboot()
        assert "daemonNanny" in host.run("crontab", "-l")
        assert "Done, as planned" in instance.apply(str(remove))
        assert "daemonNanny" not in host.run("crontab", "-l")
        assert "changed=0" in instance.apply(str(remove), "--check")
    finally:
        host.slow = None
        host.reboot()
