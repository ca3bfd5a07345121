"""The sandbox's EMR: clusters that carry out their steps, in the process of moto's server.

moto keeps clusters and their steps, but nothing happens to them: here each gets a thread that takes
it through its states and runs its steps as processes, with the small learner of this package in
place of agroimpacts/learner. Logs go to the cluster's log location on S3, as EMR's do.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runbook.errors import InvalidInputError
from runbook.home import write_whole
from runbook.sandbox import cloud
from runbook.sandbox.state import Home, State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Faults that ``runbook sandbox fault`` can give the next clusters.
FAULTS = {
    "bootstrap": "the bootstrap script fails",
    "spot": "the core nodes are lost while the learner runs",
    "step": "the learner's Python ends with an error",
    "cancelled": "an operator cancels the learner's step",
    "db": "the learner cannot reach the database, and ends well",
    "no-metrics": "it writes no metrics",
    "no-names": "it writes no names, so that older ones stay",
    "other-run": "its names are of another run",
    "names-twice": "it brings each name twice",
    "unknown-names": "its names are not in the grid",
    "empty-file": "its file of names is empty",
}

#: Environment variable of the sandbox's start: ``off`` leaves spark-submit aside.
SPARK = "RUNBOOK_SANDBOX_SPARK"

LEARNER = "/home/hadoop/learner"
BRANCHES = ("master", "devel")
POLL = 0.05

_RUN_IT = Path(__file__).parent / "learner" / "run_it"
_FINISHED = ("COMPLETED", "CANCELLED", "FAILED", "INTERRUPTED")


class ClusterEnded(Exception):  # noqa: N818
    """The cluster goes down: state, code and message of EMR's."""

    def __init__(self, state: str, code: str, message: str) -> None:
        super().__init__(message)
        self.state, self.code, self.message = state, code, message


def install(home: Home, endpoint_url: str) -> None:
    """Make moto's clusters live; once, before the first is made."""
    from moto.emr.models import Cluster, Step

    def begin(cluster: Any) -> None:
        runner = Runner(home, endpoint_url, cluster)
        threading.Thread(target=runner.run, name=cluster.id, daemon=True).start()

    def end(cluster: Any) -> None:
        if cluster.end_datetime is None:
            cluster.asked_to_end = True
            cluster.state = "TERMINATING"

    # moto's own versions jump to the final state; and neither returns code and details.
    Cluster.run_bootstrap_actions = begin
    Cluster.terminate = end
    Cluster.status = property(_cluster_status)
    Step.status = property(_step_status)


def _cluster_status(cluster: Any) -> dict[str, Any]:
    return {
        "State": cluster.state,
        "StateChangeReason": getattr(cluster, "reason", {}),
        "Timeline": {
            "CreationDateTime": cluster.creation_datetime,
            "ReadyDateTime": cluster.ready_datetime,
            "EndDateTime": cluster.end_datetime,
        },
    }


def _step_status(step: Any) -> dict[str, Any]:
    status = {
        "State": step.state,
        "StateChangeReason": {},
        "Timeline": {
            "CreationDateTime": step.creation_date_time,
            "StartDateTime": step.start_date_time,
            "EndDateTime": step.end_date_time,
        },
    }
    details = getattr(step, "failure", None)
    return {**status, "FailureDetails": details} if details else status


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def next_fault(home: Home) -> str:
    """Take the first of the faults that were asked for; empty when there is none."""
    asked = home.faults
    with _faults_lock:
        lines = asked.read_text().split() if asked.exists() else []
        if lines:
            asked.write_text("\n".join(lines[1:]))
    return lines[0] if lines else ""


def ask_for_faults(home: Home, names: Sequence[str]) -> None:
    """The next clusters meet these, one each, in place of any asked for before.

    Raises InvalidInputError for an unknown one.
    """
    for name in names:
        if name not in FAULTS:
            raise InvalidInputError(f"there is no fault {name}; there are {', '.join(FAULTS)}")
    write_whole(home.faults, "\n".join(names), 0o600)


_faults_lock = threading.Lock()


class Runner:
    """The life of one cluster."""

    def __init__(self, home: Home, endpoint_url: str, cluster: Any) -> None:
        self.home = home
        self.endpoint_url = endpoint_url
        self.cluster = cluster
        self.folder = home.run / "emr" / cluster.id
        self.fault = ""
        for step in cluster.steps:
            step.state = "PENDING"
        cluster.state = "STARTING"

    def run(self) -> None:
        """From STARTING to the end; a bug of the sandbox also ends the cluster, and is logged."""
        try:
            self._live()
        except ClusterEnded as end:
            self._end(end.state, end.code, end.message)
        except Exception as error:
            self._end("TERMINATED_WITH_ERRORS", "INTERNAL_ERROR", f"An internal error: {error}")
            raise

    def _live(self) -> None:
        self._pause()  # moto still adds tags and groups
        self.fault = next_fault(self.home)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.cluster.state = "BOOTSTRAPPING"
        self._bootstrap()
        self.cluster.ready_datetime = _now()
        while True:
            self._watch()
            step = next((each for each in self.cluster.steps if each.state == "PENDING"), None)
            if step is not None:
                self.cluster.state = "RUNNING"
                self._carry_out(step)
            elif self.cluster.keep_job_flow_alive_when_no_steps:
                self.cluster.state = "WAITING"
                self._pause()
            else:
                raise ClusterEnded("TERMINATED", "ALL_STEPS_COMPLETED", "Steps completed")

    def _bootstrap(self) -> None:
        s3 = cloud.client("s3", self.endpoint_url)
        for action in self.cluster.bootstrap_actions:
            bucket, key = _address(action.script_path or "")
            try:
                s3.head_object(Bucket=bucket, Key=key)
                missing = False
            except s3.exceptions.ClientError:
                missing = True
            if missing or self.fault == "bootstrap":
                raise ClusterEnded(
                    "TERMINATED_WITH_ERRORS",
                    "BOOTSTRAP_FAILURE",
                    "On the master instance (i-0c0ffee0c0ffee001), bootstrap action 1 "
                    + ("could not be downloaded" if missing else "returned a non-zero return code"),
                )

    def _watch(self) -> None:
        """Raises ClusterEnded when the cluster was terminated, or all of AWS was emptied."""
        if self.cluster.emr_backend.clusters.get(self.cluster.id) is not self.cluster:
            raise ClusterEnded("TERMINATED", "USER_REQUEST", "Forgotten")
        if getattr(self.cluster, "asked_to_end", False):
            raise ClusterEnded("TERMINATED", "USER_REQUEST", "Terminated by user request")

    def _pause(self) -> None:
        self._watch()
        time.sleep(POLL)

    def _end(self, state: str, code: str, message: str) -> None:
        self.cluster.state = "TERMINATING"
        for step in self.cluster.steps:
            if step.state not in _FINISHED:
                step.state = "CANCELLED"
                step.end_date_time = _now() if step.start_date_time else None
        self.cluster.reason = {"Code": code, "Message": message}
        self.cluster.end_datetime = _now()
        self.cluster.state = state

    def _carry_out(self, step: Any) -> None:
        step.state = "RUNNING"
        step.start()
        log = self.folder / step.id
        log.mkdir()
        try:
            code = self._execute(step, log)
        finally:
            step.end_date_time = _now()
            self._upload(step, log)
        if step.state == "CANCELLED" or code == 0:
            step.state = "CANCELLED" if step.state == "CANCELLED" else "COMPLETED"
            return
        self._failed(step, code, log)

    def _failed(self, step: Any, code: int, log: Path) -> None:
        lines = (log / "stderr").read_text(errors="replace").strip().splitlines()
        step.state = "FAILED"
        step.failure = {
            "Reason": "Unknown Error.",
            "Message": lines[-1] if lines else f"exit code {code}",
            "LogFile": f"{self._log_uri(step)}/stderr.gz",
        }
        if step.action_on_failure in ("TERMINATE_CLUSTER", "TERMINATE_JOB_FLOW"):
            raise ClusterEnded("TERMINATED_WITH_ERRORS", "STEP_FAILURE", "Shut down as step failed")
        if step.action_on_failure == "CANCEL_AND_WAIT":
            for other in self.cluster.steps:
                other.state = "CANCELLED" if other.state == "PENDING" else other.state

    def _execute(self, step: Any, log: Path) -> int:
        """The step's exit code; raises ClusterEnded when the cluster goes down meanwhile."""
        arguments = [str(argument) for argument in step.args]
        command, is_learner = _command(arguments), arguments[:1] == ["spark-submit"]
        with (log / "stdout").open("wb") as out, (log / "stderr").open("wb") as err:
            if isinstance(command, str):
                err.write(command.encode())
                return 127
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=log,
                env=self._environment(log), start_new_session=True,
            )  # fmt: skip
            try:
                while process.poll() is None:
                    self._pause()
                    if is_learner:
                        self._interfere(step)
                    if step.state == "CANCELLED":
                        return 1
                return process.returncode
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def _interfere(self, step: Any) -> None:
        if self.fault == "spot":
            raise ClusterEnded(
                "TERMINATED_WITH_ERRORS",
                "INSTANCE_FAILURE",
                "All slaves in the job flow were terminated due to Spot",
            )
        if self.fault == "cancelled":
            step.state = "CANCELLED"

    def _environment(self, log: Path) -> dict[str, str]:
        from runbook.sandbox.learner.storage import FAULT

        state = State.load(self.home)
        if state is None:
            raise ClusterEnded("TERMINATED", "USER_REQUEST", "The sandbox is being recreated")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "MALLOC_"))}
        return {
            **kept,
            "HOME": str(log),
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "sandbox",
            "AWS_SECRET_ACCESS_KEY": "sandbox",
            "AWS_DEFAULT_REGION": cloud.REGION,
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_LOCAL_IP": "127.0.0.1",
            "OPENBLAS_NUM_THREADS": "1",
            "RUNBOOK_SANDBOX_SEED": str(state.seed),
            "RUNBOOK_SANDBOX_BUCKET": state.bucket,
            "RUNBOOK_SANDBOX_NETWORK": json.dumps({cloud.ADDRESS: ["127.0.0.1", state.db_port]}),
            FAULT: self.fault,
        }

    def _log_uri(self, step: Any) -> str:
        return f"{self.cluster.log_uri.rstrip('/')}/{self.cluster.id}/steps/{step.id}"

    def _upload(self, step: Any, log: Path) -> None:
        if not self.cluster.log_uri:
            return
        s3 = cloud.client("s3", self.endpoint_url)
        bucket, key = _address(self._log_uri(step))
        try:
            for name in ("stdout", "stderr"):
                content = gzip.compress((log / name).read_bytes())
                s3.put_object(Bucket=bucket, Key=f"{key}/{name}.gz", Body=content)
        except s3.exceptions.ClientError as error:
            sys.stderr.write(f"{self.cluster.id}: no logs in {bucket}: {error}\n")


def _address(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri)
    return parts.netloc, parts.path.lstrip("/")


def _command(arguments: Sequence[str]) -> list[str] | str:
    """The process that carries out a step's arguments; text for standard error when none can."""
    known: dict[str, Callable[[Sequence[str]], list[str] | str]] = {
        "git": _clone, "spark-submit": _submit, "python3": _python,
    }  # fmt: skip
    program = arguments[0] if arguments else ""
    if program not in known:
        return f"{program or 'command'}: the sandbox's clusters only carry out the learner's steps"
    return known[program](arguments[1:])


def _clone(arguments: Sequence[str]) -> list[str] | str:
    """The learner's code is here already; only the branch must be one of its."""
    branch = arguments[arguments.index("-b") + 1] if "-b" in arguments[:-1] else BRANCHES[0]
    if branch not in BRANCHES:
        return f"fatal: Remote branch {branch} not found in upstream origin"
    return [sys.executable, "-c", "import sys; sys.stderr.write('Cloning into learner\\n')"]


def _submit(arguments: Sequence[str]) -> list[str] | str:
    """By pyspark's spark-submit on this machine where there is one that works."""
    rest = list(arguments)
    while rest and rest[0].startswith("--"):
        del rest[:2]  # every option in use takes a value, and is about a cluster's size or network
    command, submit = _python(rest), spark_submit()
    if os.environ.get(SPARK) == "off" or not submit or isinstance(command, str):
        return command
    settings = ["--master", "local[*]", "--conf", "spark.ui.enabled=false"]
    return [submit, *settings, *command[1:]]


def spark_submit() -> str:
    """pyspark's spark-submit; empty without the extra ``spark``, or without a Java."""
    found = importlib.util.find_spec("pyspark")
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(f"{home}/bin/java" if home else "java")
    return (
        str(Path(found.origin).parent / "bin" / "spark-submit")
        if java and found and found.origin
        else ""
    )


def _python(arguments: Sequence[str]) -> list[str] | str:
    script = arguments[0] if arguments else ""
    place = _RUN_IT / Path(script).name
    if not script.startswith(f"{LEARNER}/run_it/") or not place.is_file():
        return f"python3: can't open file '{script}': [Errno 2] No such file or directory"
    return [sys.executable, str(place), *arguments[1:]]
