# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a target can be operated: what is there, what is not, and how to put it right.

Each check gives findings; one that cannot be made is a finding itself. Nothing is changed but one
object on S3, below a prefix of its own, that is written and removed again.
"""

from __future__ import annotations

import glob
import importlib
import os
import platform
import pwd
import shutil
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Mapping, NamedTuple, Sequence

from . import (
    aws,
    crontab,
    daemons,
    ec2,
    files,
    guard,
    httpd,
    journal,
    lease,
    lock,
    loop_call,
    marker,
    postgres,
    privileges,
    terraform,
)
from .backup import store
from .errors import ModuleFailure, Refused
from .s3 import Bucket

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

ARGUMENTS: dict[str, Any] = {
    "home": {"type": "path", "required": True},
    "crontab_file": {"type": "path"},
    "journal_folder": {"type": "str", "default": ""},
    "httpd_service": {"type": "str", "default": ""},
    "learner_loop": {"type": "bool", "default": True},
    "learner_command": {"type": "str", "default": ""},
    "learner_inventory": {"type": "str", "default": ""},
    "learner_vault_password_file": {"type": "str", "default": "", "no_log": False},
    "bucket": {"type": "str", "required": True},
    "prefix": {"type": "str", "required": True},
    "ec2_instance": {"type": "str", "required": True},
    "tables": {"type": "list", "elements": "str", "required": True},
    **aws.ENCRYPTION,
    "sse_kms_key_id": {"type": "str", "no_log": False},
    **postgres.POSTGRES_ARGUMENTS,
    **aws.AWS_ARGUMENTS,
}

OK, WARNING, FAILED = "ok", "warning", "failed"

#: Libraries that modules need on a target, by the name that pip knows.
LIBRARIES = {
    "boto3": "boto3",
    "psycopg2-binary": "psycopg2",
    "PyYAML": "yaml",
    "zstandard": "zstandard",
}
#: Free bytes of a disk below which a run is in danger.
SCARCE = 1024**3
#: Seconds between this clock and S3's: S3 refuses requests from 900 on (its error
#: RequestTimeTooSkewed); logs and leases suffer before.
SKEWED, REFUSED = 60, 900
#: Sessions of the database that a run and its progress need at a time.
SESSIONS = 5


class Finding(NamedTuple):
    """A finding: its check, ``status`` (ok, warning, failed), what was found, how to put it right.

    ``fix`` is a command or a sentence; empty with ok.
    """

    check: str
    status: str
    found: str
    fix: str = ""


Findings = Iterator[Finding]
Params = Mapping[str, Any]


def examine(params: Params) -> List[Finding]:
    """The findings of every check, in the order in which they depend on each other."""
    return [finding for name, check in CHECKS.items() for finding in _made(name, check, params)]


def _made(name: str, check: Callable[[Params], Findings], params: Params) -> Findings:
    """The findings of a check; why it could not go on is the last."""
    try:
        yield from check(params)
    except (ModuleFailure, OSError) as error:
        yield Finding(name, FAILED, str(error))


def _python(_params: Params) -> Findings:
    versions, missing = [], []
    for name, module in LIBRARIES.items():
        try:
            found = importlib.import_module(module)
        except ImportError:
            missing.append(name)
        else:
            versions.append("{} {}".format(name, found.__version__.split()[0]))
    yield Finding(
        "python",
        OK,
        ", ".join(["{} ({})".format(platform.python_version(), sys.executable), *versions]),
    )
    if missing:
        yield Finding(
            "python",
            FAILED,
            "{} missing".format(", ".join(missing)),
            "runbook apply bootstrap.yml; or {} -m pip install {}".format(
                sys.executable, " ".join(missing)
            ),
        )


def _disk(params: Params) -> Findings:
    folders = [params["home"], journal.location(params["journal_folder"])]
    folders.append(files.temporary_folder())
    for folder in folders:
        there = files.existing_folder(folder)
        usage = shutil.disk_usage(there)
        found = "{}: {:.1f} GB free".format(folder, usage.free / 1e9)
        if not os.access(there, os.W_OK | os.X_OK):
            user = pwd.getpwuid(os.geteuid()).pw_name
            yield Finding(
                "disk", FAILED, "{} cannot write {}".format(user, there),
                "sudo chown {} {}".format(user, there),
            )  # fmt: skip
        elif usage.free < SCARCE:
            status = FAILED if usage.free < files.ROOM else WARNING
            yield Finding(
                "disk", status, found, "free some of it: du -xh {} | sort -h".format(there)
            )
        else:
            yield Finding("disk", OK, found)


def _leftovers(_params: Params) -> Findings:
    """Files of modules that were killed, as by a power failure, a day ago or earlier."""
    arguments = os.path.join(pwd.getpwuid(os.geteuid()).pw_dir, ".ansible/tmp")
    code = files.temporary_folder()
    for folder, name, inside, said in (
        (arguments, "ansible-tmp-*", "/AnsiballZ_*", "with their arguments, which may be secret"),
        (code, "ansible_labeller.runbook.*_payload_*", "", "without their arguments"),
    ):
        number = sum(map(_is_dead, glob.glob(os.path.join(folder, name) + inside)))
        if number:
            yield Finding(
                "leftovers", WARNING,
                "{}: {} left by killed modules, {}".format(folder, number, said),
                "find {} -maxdepth 1 -user $(id -u) -name '{}' -mtime +0 -exec rm -r {{}} +".format(
                    folder, name),
            )  # fmt: skip


def _is_dead(path: str) -> bool:
    """Whether a file or folder of this user is older than a day."""
    try:
        found = os.stat(path)
    except OSError:  # a module that ended meanwhile
        return False
    return found.st_uid == os.geteuid() and time.time() - found.st_mtime > files.STALE


def _labeller(params: Params) -> Findings:
    home = params["home"]
    common = os.path.join(home, "common")
    if not os.path.isdir(common):
        yield Finding(
            "labeller", FAILED, "there is no folder {}".format(common),
            "set labeller_home to labeller's checkout on this host",
        )  # fmt: skip
        return
    missing = [
        name for name in ("daemonNanny.sh", "config_template.yaml")
        if not os.path.exists(os.path.join(common, name))
    ]  # fmt: skip
    if missing:
        yield Finding(
            "labeller", WARNING, "{} has no {}".format(common, ", ".join(missing)),
            "git -C {} status".format(home),
        )  # fmt: skip
    running = daemons.find(home, daemons.NAMES)
    names = sorted({process.name for process in running})
    yield Finding("labeller", OK, "{}; running: {}".format(home, ", ".join(names) or "no daemon"))


def _cron(params: Params) -> Findings:
    tab = crontab.tab_of({**params, "user": None})
    lines = tab.read().decode("utf-8", "replace").splitlines()
    ours = sum(crontab.managed(lines, crontab.plain_home(params["home"])))
    yield Finding(
        "crontab",
        OK,
        "{}: {} lines, of which runbook manages {}".format(tab.name, len(lines), ours),
    )
    if not params["crontab_file"] and not _runs("cron", "crond"):
        yield Finding(
            "crontab",
            WARNING,
            "no cron daemon runs",
            "sudo systemctl enable --now crond || sudo service cron start",
        )


def _loop(params: Params) -> Findings:
    """The needs of cron's call of iterate.yml; the run mode that installs it tries it."""
    if not params["learner_loop"] or params["learner_command"]:
        return
    if not params["learner_inventory"]:
        yield Finding(
            "loop", FAILED, "learner_loop is on, and learner_inventory is not set: cron's call of "
            "iterate.yml would know no target", "set learner_inventory and "
            "learner_inventory_source, runbook apply bootstrap.yml; or set learner_loop to false",
        )  # fmt: skip
        return
    program = os.path.expandvars(loop_call.RUNBOOK)
    files_there = [program, params["learner_inventory"], params["learner_vault_password_file"]]
    missing = [path for path in files_there if path and not os.path.exists(path)]
    if missing:
        yield Finding(
            "loop", FAILED, "{} missing".format(", ".join(missing)),
            "runbook apply bootstrap.yml puts it there",
        )  # fmt: skip
    else:
        yield Finding("loop", OK, "{} with {}".format(program, params["learner_inventory"]))


def _runs(*names: str) -> bool:
    """Whether a process of this host has one of these names."""
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/{}/comm".format(process)) as file:
                if file.read().strip() in names:
                    return True
        except OSError:  # it has ended
            continue
    return False


def _httpd(params: Params) -> Findings:
    service = params["httpd_service"]
    if not service:
        return
    if not httpd.allowed(service):
        yield Finding("httpd", WARNING, *httpd.advice(service))
    systemd = shutil.which("systemctl")
    program = httpd.found("service") or "service"
    asked = ("systemctl", "is-active", service) if systemd else (program, service, "status")
    if _run(*asked) is not None:
        yield Finding("httpd", OK, "{} is active".format(service))
        return
    fix = "sudo {}".format(" ".join(httpd.restart(service)))
    yield Finding("httpd", WARNING, "{} is not active".format(service), fix)


def _run(*command: str) -> Any:
    """The output of a command; None when it fails or is not there."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _terraform(params: Params) -> Findings:
    folder = os.path.join(params["home"], "terraform")
    if params["learner_loop"]:
        return
    problems = terraform.missing(folder)
    if problems:
        yield Finding(
            "terraform", FAILED, "; ".join(problems), "put it in order, or set learner_loop to true"
        )
    else:
        yield Finding("terraform", OK, folder)


def _database(params: Params) -> Findings:
    where = postgres.database_name(params)
    with postgres.connect(params) as session, session.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('server_version'), current_user, "
            "(SELECT string_agg(extname || ' ' || extversion, ', ' ORDER BY extname)"
            " FROM pg_extension WHERE extname <> 'plpgsql'), pg_database_size(current_database())"
        )
        version, user, extensions, size = cursor.fetchone() or ("", "", "", 0)
        yield Finding(
            "database", OK, "{}: PostgreSQL {}, as {}, {:,.0f} MB; extensions: {}".format(
                where, version, user, size / 1e6, extensions or "none"),
        )  # fmt: skip
        yield from _tables(cursor, where, params)
        yield from _sessions(cursor, where)
        held = lock.described(lease.holder(cursor))
        if held:
            yield Finding(
                "lock", WARNING, "held by {}: {}".format(held["holder"], held["reason"] or "a run"),
                "wait, or ask them; runbook unlock --force takes it",
            )  # fmt: skip
        run = marker.current(cursor) if marker.exists(cursor) else None
        yield Finding("run", OK, marker.text(run))


def _tables(cursor: Cursor, where: str, params: Params) -> Findings:
    tables: Sequence[str] = params["tables"]
    missing = sorted(
        postgres.column(
            cursor,
            "SELECT name FROM unnest(%s::text[]) AS name WHERE NOT EXISTS"
            " (SELECT 1 FROM pg_tables t WHERE t.schemaname = 'public' AND t.tablename = name)",
            (list(tables),),
        )
    )
    if missing:
        yield Finding(
            "tables", FAILED, "{} has no {}".format(where, ", ".join(missing)),
            "create them with labeller's own schema, or correct backup_tables",
        )  # fmt: skip
    with _refusals() as refused:
        postgres.require_writable(cursor, params)
        guard.require_access(
            cursor, where, [t for t in tables if t not in missing], ["master_grid"], {}
        )
        privileges.require_schema(cursor, where)
        guard.require_unfiltered(cursor, where, [*tables, "master_grid"])
    if refused:
        yield Finding("tables", FAILED, *refused)
    elif not missing:
        yield Finding(
            "tables", OK, "{} tables, with every privilege that a run needs".format(len(tables))
        )


@contextmanager
def _refusals() -> Iterator[List[str]]:
    """Why the block was refused, as what was found and what to do; empty when it was not."""
    refused: List[str] = []
    try:
        yield refused
    except ModuleFailure as error:
        found, _, fix = str(error).partition("; nothing was changed. ")
        refused += [found, fix]


def _sessions(cursor: Cursor, where: str) -> Findings:
    cursor.execute(
        "SELECT current_setting('max_connections')::int"
        " - current_setting('superuser_reserved_connections')::int"
        " - (SELECT count(*) FROM pg_stat_activity), current_setting('max_connections')"
    )
    free, most = cursor.fetchone() or (0, 0)
    found = "{} of {} are free".format(free, most)
    if free < SESSIONS:
        yield Finding(
            "connections", WARNING, "{}: {}".format(where, found),
            "end idle sessions (pg_stat_activity), or raise max_connections",
        )  # fmt: skip
    else:
        yield Finding("connections", OK, found)


def _storage(params: Params) -> Findings:
    bucket = Bucket(params["bucket"], params)
    headers = bucket.check()["ResponseMetadata"]["HTTPHeaders"]
    yield clock(headers.get("date", ""), datetime.now(timezone.utc))
    key = "{}/doctor-{}".format(params["prefix"].rstrip("/"), uuid.uuid4().hex)
    denied = list(_denied(bucket, key, _encryption(params)))
    actions = " ".join(sorted({action for action, _ in denied if action}))
    if denied:
        yield Finding(
            "s3", FAILED, "; ".join(said for _, said in denied),
            "allow this user or role {} on arn:aws:s3:::{} and arn:aws:s3:::{}/*".format(
                actions, bucket.name, bucket.name)
            if actions else "docs/operations.md has what an S3 server other than AWS's must do",
        )  # fmt: skip
    else:
        yield Finding(
            "s3",
            OK,
            "s3://{}: write, only if new, read, list, multipart, delete".format(bucket.name),
        )


def clock(date: str, now: datetime) -> Finding:
    """How far this clock is from an HTTP ``Date``."""
    seconds = aws.skew(date, now)
    if seconds < SKEWED:
        return Finding("clock", OK, "as S3's")
    return Finding(
        "clock", FAILED if seconds >= REFUSED else WARNING, "{:.0f} s from S3's".format(seconds),
        "sudo systemctl enable --now chronyd || sudo ntpdate pool.ntp.org",
    )  # fmt: skip


def _encryption(params: Params) -> Mapping[str, str]:
    """The options of a write, as a backup's."""
    asked = None if params["sse_kms_key_id"] else params["server_side_encryption"]
    return store.write_options({**params, "storage_class": None, "server_side_encryption": asked})


def _denied(bucket: Bucket, key: str, encryption: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The IAM actions of S3 that did not work on an object of its own, with what was said.

    The action is empty where no right is missing: the server does not do what was asked.
    """
    client = bucket.client

    def only_new() -> None:
        if not bucket.create(key, b"1", encryption) or bucket.create(key, b"2", encryption):
            raise Refused(
                "{} does not refuse to overwrite (If-None-Match): two runs could".format(
                    bucket.url(key)
                )
            )

    def multipart() -> None:
        started = client.create_multipart_upload(Bucket=bucket.name, Key=key)
        client.abort_multipart_upload(Bucket=bucket.name, Key=key, UploadId=started["UploadId"])

    tried: List[tuple[str, Callable[[], Any]]] = [
        ("s3:PutObject", only_new),
        ("s3:GetObject", lambda: bucket.read(key)),
        ("s3:ListBucket", lambda: bucket.keys(key)),
        ("s3:AbortMultipartUpload", multipart),
        ("s3:ListBucketMultipartUploads", lambda: bucket.uploads(key)),
        ("s3:DeleteObject", lambda: bucket.delete([key])),
    ]
    for action, attempt in tried:
        try:
            with aws.translated("use {} on {}".format(action, bucket.url(key))):
                attempt()
        except Refused as error:
            yield "", str(error)
        except ModuleFailure as error:
            yield action, str(error)


def _learner(params: Params) -> Findings:
    instance = ec2.running_instance(params, params["ec2_instance"])
    yield Finding(
        "ec2", OK, "{} is {}, {}".format(params["ec2_instance"], instance.id, instance.private_ip)
    )
    emr = aws.client("emr", params)
    with aws.translated("list clusters (elasticmapreduce:ListClusters)"):
        found = emr.list_clusters(ClusterStates=["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"])
    yield Finding(
        "emr", OK, "{} clusters run; whether one may be started is known only when it is".format(
            len(found["Clusters"])),
    )  # fmt: skip


#: By name; a check that needs what an earlier one looks at comes after it.
CHECKS: Mapping[str, Callable[[Params], Findings]] = {
    "python": _python,
    "disk": _disk,
    "leftovers": _leftovers,
    "labeller": _labeller,
    "crontab": _cron,
    "loop": _loop,
    "httpd": _httpd,
    "terraform": _terraform,
    "database": _database,
    "s3": _storage,
    "ec2": _learner,
}
