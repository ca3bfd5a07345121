"""The folders below the hosts of a test process: labeller's user, rights, services and data."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import roots
from host import DATABASE, HOME, LABELLER, PYTHON, ROLE, USER, Host

from runbook.sandbox import checkout, seed
from runbook.sandbox.lifecycle import BUCKET
from runbook.sandbox.state import Home, State

PROJECT = Path(__file__).resolve().parent.parent.parent
RELEASE = "bookworm"
PACKAGES = (
    "openssh-server", "cron", "sudo", "postgresql-15-postgis-3", "apache2", "python3-venv", "procps",
    "iproute2", "libfaketime",
)  # fmt: skip
LIBRARIES = ("boto3", "psycopg2-binary", "PyYAML", "zstandard")


def _system(folder: Path) -> str:
    """The commands that make the user, the rights and the services (docs/labeller.md 6)."""
    public, private = ((folder / name).read_text() for name in ("user_key.pub", "host_key"))
    return f"""set -e
useradd --create-home --shell /bin/bash {USER} && groupadd labeller
usermod --append --groups labeller {USER}
usermod --append --groups {USER} www-data
chmod 750 {HOME}
printf 'umask 0007\\n' | tee -a {HOME}/.profile >{HOME}/.bashrc.new
cat {HOME}/.bashrc >>{HOME}/.bashrc.new && mv {HOME}/.bashrc.new {HOME}/.bashrc
install -d -m 700 {HOME}/.ssh && echo '{public.strip()}' >{HOME}/.ssh/authorized_keys
rm /etc/ssh/ssh_host_*
(umask 077 && cat >/etc/ssh/ssh_host_ed25519_key <<END
{private}END
)
chown -R {USER}: {HOME}
for service in sshd cron; do
    echo 'session optional pam_umask.so umask=0007' >>/etc/pam.d/$service
done
cat >>/etc/ssh/sshd_config <<END
PasswordAuthentication no
AllowGroups root labeller
END
echo '{USER} ALL=(root) NOPASSWD: /usr/sbin/service httpd restart' >/etc/sudoers.d/{USER}
chmod 440 /etc/sudoers.d/{USER}
ln -s apache2 /etc/init.d/httpd
: >/etc/resolv.conf
cat >/etc/postgresql/15/main/pg_hba.conf <<END
local all postgres peer
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
END
cat >/etc/postgresql/15/main/conf.d/test.conf <<END
listen_addresses = '127.0.0.1'
fsync = off
full_page_writes = off
END
"""


@dataclass(frozen=True)
class Image:
    """The folders below every host, and what is on AWS at first."""

    folder: Path
    base: Path
    """Debian with the packages of every host."""
    state: State
    """Names and secrets; neither AWS nor a port is known yet."""

    def layers(self, *, bare: bool = False) -> list[Path]:
        """The folders of a host, the uppermost first; a bare one has no virtual environment."""
        names = ("data", "system") if bare else ("data", "system", "libraries")
        return [*(self.folder / name / "upper" for name in names), self.base]

    def objects(self) -> dict[str, bytes | Path]:
        """The content of the bucket."""
        return {
            "grid/image_target_aois.geojson": self.folder / "aois.geojson",
            "planet/planet_catalog_ghana_full.csv": self.folder / "catalogue.csv",
            f"planet/{checkout.STATIC_NAMES}": self.folder / "static_names.csv",
            f"config_ghana_{self.state.old_aoi}.yaml": self.folder / "config.yaml",
        }

    @contextlib.contextmanager
    def started(self, folder: Path, *, bare: bool = False) -> Iterator[Host]:
        """A running host; what it writes is in ``folder``, which is removed afterwards."""
        folder.mkdir(parents=True)
        shutil.copy(self.folder / "user_key", folder)
        host = Host(folder, self.layers(bare=bare), self.state.db_pwd, bare)
        try:
            host.start()
            host.knows((self.folder / "host_key.pub").read_text())
            host.cron()
            yield host
        finally:
            host.stop()
            shutil.rmtree(folder)


@contextlib.contextmanager
def image(folder: Path) -> Iterator[Image]:
    """A new image in ``folder``, which is removed afterwards."""
    folder.mkdir()
    geography = seed.Geography()
    base = roots.with_packages(RELEASE, PACKAGES)
    made = Image(folder, base.folder, _state(folder, geography))
    try:
        for key in ("user_key", "host_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True
            )
        _install_libraries(folder / "libraries", base)
        roots.Root(folder / "system", RELEASE).run(_system(folder), [base.folder])
        _fill(made, geography)
        yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _state(folder: Path, geography: seed.Geography) -> State:
    values = {
        name: f"host-{name.replace('_', '-')}-{secrets.token_hex(10)}" for name in checkout.SECRETS
    }
    old = {f"previous_{name}": f"{value}-old" for name, value in values.items()}
    return State(
        bucket=BUCKET, database=DATABASE, db_user=ROLE, db_pwd=values["db_pwd"], postgres_password="",
        db_port=5432, endpoint_url="", ec2_instance="labeller", security_group_id="", subnet_id="",
        secrets={**values, **old}, home=str(folder), labeller_home=str(LABELLER), crontab="", seed=0,
        cells=geography.cells, aois=len(geography.area_runs), old_aoi=geography.old_aoi,
    )  # fmt: skip


def _install_libraries(folder: Path, base: roots.Root) -> None:
    venv = PYTHON.parent.parent
    upper = folder / "upper"
    roots.know_the_network(upper)
    shutil.copy(PROJECT / "constraints.txt", upper / roots.HOME[1:])
    roots.Root(folder, base.release).run(
        f"python3 -m venv {venv} && {venv}/bin/pip install --quiet --disable-pip-version-check "
        f"--constraint {roots.HOME}/constraints.txt {' '.join(LIBRARIES)} && chown -R 1000:1000 {HOME}",
        [base.folder],
    )


def _fill(made: Image, geography: seed.Geography) -> None:
    """Database, checkout and crontab as an old run left them, by a host with PostgreSQL alone."""
    host = Host(made.folder / "data", made.layers()[1:], made.state.db_pwd)
    host.folder.mkdir()
    host.start(["postgresql"])
    try:
        for statement in (
            f"CREATE ROLE {ROLE} LOGIN PASSWORD '{made.state.db_pwd}'",
            f'CREATE DATABASE "{DATABASE}" OWNER {ROLE}',
        ):
            host.run("psql", "-qc", statement, user="postgres")
        host.run("psql", "-qd", DATABASE, "-c", "CREATE EXTENSION postgis", user="postgres")
        (made.folder / "aois.geojson").write_bytes(geography.geojson)
        session = psycopg2.connect(host.database_url)
        with contextlib.closing(session):
            names = seed.fill_database(session, geography, 0, BUCKET, made.folder / "catalogue.csv")
        (made.folder / "static_names.csv").write_text(names)
        home = Home(made.folder / "checkout")
        (made.folder / "config.yaml").write_text(checkout.make(home, made.state))
        shutil.copytree(home.labeller, host.root / str(LABELLER)[1:])
        host.run("chown", "-R", f"{USER}:", str(LABELLER), user="root")
        host.run("chmod", "-R", "g=u,o=", str(LABELLER), user="root")
        host.run("crontab", "-", input=checkout.old_crontab(LABELLER))
        host.run("service", "postgresql", "stop", user="root")
    finally:
        host.stop()
