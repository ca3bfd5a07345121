# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Start the learner's cluster once for an iteration, follow it, find clusters by their tags.

EMR has no token that would make starting a cluster safe to repeat. So each attempt at an iteration
is claimed first, by an object on S3 that only one caller can create; its cluster carries the
attempt's number as a tag and is found by it when the caller died before it could note the id.
"""

from __future__ import annotations

import gzip
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from .. import aws, config_content, terraform
from ..change import Change, result
from ..errors import InvalidInput, Locked, ModuleFailure, Unreachable
from ..module import Params, Plan, by_state, composed
from . import emr, job_flow
from .claims import Attempt, Claims
from .outcome import ACTIVE, ENDED, LOST_NODES, NO_CLUSTER, Outcome, assess

#: A claim this old without a cluster is abandoned; its owner gives up long before.
CLAIM_SECONDS = 600
_OWN_LIMIT = 120
#: How many lines of a failed step's stderr a message shows.
TAIL = 20


class LearnerFailure(ModuleFailure):
    """A cluster failed. ``reported``: an earlier call has reported the same.

    ``will_retry``: the next call starts another one. ``facts``: as ``finished`` returns them.
    """

    def __init__(
        self, message: str, code: str, *, reported: bool, will_retry: bool, facts: Mapping[str, Any]
    ) -> None:
        super().__init__(message)
        self.code, self.reported, self.cluster_id = code, reported, str(facts["cluster_id"])
        self.details = {"reported": reported, "will_retry": will_retry, **facts}


@dataclass(frozen=True)
class Standing:
    """How an iteration stands: its last attempt, its cluster and what became of that.

    ``failure`` is set when it failed and no other one is started.
    """

    last: Optional[Attempt]
    cluster_id: str = ""
    outcome: Outcome = NO_CLUSTER
    failure: Optional[LearnerFailure] = None


class Learner:
    """Everything about one iteration's learner: its claims on S3, its clusters at EMR."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params
        self.parameters = params["parameters"]
        self.emr = aws.client("emr", params)
        self.s3 = aws.client("s3", params)
        self.bucket = self.parameters["bucket"]
        self.kept = emr.kept_request(self.s3, params)
        self.tags = {
            **job_flow.tags(params["target"], self.parameters),
            "runbook:applied": params["applied"] or "",
            "runbook:iteration": str(params["iteration"]),
        }
        self.name = "learner of {}, run {}, iteration {}".format(
            self.tags["runbook:aoi"], self.parameters["run_id"], params["iteration"]
        )
        prefix = "learner/{}/{}/run_{}_{}/iteration_{}/attempt_".format(
            params["target"],
            self.tags["runbook:aoi"],
            self.parameters["run_id"],
            "".join(c for c in self.tags["runbook:applied"] if c.isalnum()),
            params["iteration"],
        )
        self.now = datetime.now(timezone.utc)
        self.claims = Claims(self.s3, self.bucket, prefix, self.name, self._answer)

    # what there is

    def _answer(self, call: Callable[..., Any], **arguments: Any) -> Dict[str, Any]:
        """EMR's answer; the time of its server is kept, since our clock may be wrong."""
        answer: Dict[str, Any] = call(**arguments)
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if date:
            self.now = parsedate_to_datetime(date).astimezone(timezone.utc)
        return answer

    def find(self, tags: Mapping[str, str], states: Sequence[str], since: datetime) -> List[str]:
        """Ids of the clusters with all of ``tags``, in ``states``, created after ``since``."""
        with aws.translated("list EMR's clusters"):
            pages = self.emr.get_paginator("list_clusters").paginate(
                ClusterStates=list(states), CreatedAfter=since
            )
            ids = [each["Id"] for page in pages for each in page["Clusters"]]
            return [each for each in ids if tags.items() <= self._tags_of(each).items()]

    def _tags_of(self, cluster_id: str) -> Dict[str, str]:
        return {tag["Key"]: tag["Value"] for tag in self.describe(cluster_id).get("Tags", [])}

    def describe(self, cluster_id: str) -> Dict[str, Any]:
        """EMR's description of a cluster."""
        with aws.translated("look up the cluster {}".format(cluster_id)):
            answer = self._answer(self.emr.describe_cluster, ClusterId=cluster_id)
        return dict(answer["Cluster"])

    def steps(self, cluster_id: str) -> List[Dict[str, Any]]:
        """The cluster's steps in their order; EMR lists the newest first."""
        with aws.translated("list the steps of {}".format(cluster_id)):
            pages = self.emr.get_paginator("list_steps").paginate(ClusterId=cluster_id)
            found = [step for page in pages for step in page["Steps"]]
        order = [step["Name"] for step in self.kept.request().get("Steps", [])]
        known = {name: number for number, name in enumerate(order)}
        found.reverse()
        return sorted(found, key=lambda step: known.get(step["Name"], len(known)))

    def outcome(self, cluster: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> Outcome:
        """``assess``, with a look at lost nodes only when a step failed."""
        first = assess(cluster, steps)
        return assess(cluster, steps, self._lost_nodes(cluster["Id"])) if first.step else first

    def _lost_nodes(self, cluster_id: str) -> int:
        with aws.translated("list the nodes of {}".format(cluster_id)):
            pages = self.emr.get_paginator("list_instances").paginate(
                ClusterId=cluster_id, InstanceStates=["TERMINATED"]
            )
            return sum(
                (each["Status"].get("StateChangeReason") or {}).get("Code") == LOST_NODES
                for page in pages
                for each in page["Instances"]
            )

    # starting

    def standing(self) -> Standing:
        """How the iteration stands. Raises Locked while another caller starts its cluster."""
        attempts = self.claims.attempts()
        last = attempts[-1] if attempts else None
        cluster_id = self._cluster_of(last)
        if not cluster_id:
            return Standing(last)
        cluster, steps = self.describe(cluster_id), self.steps(cluster_id)
        outcome = self.outcome(cluster, steps)
        failure = None
        if outcome.state == "failed" and not self.will_retry(last, outcome):
            failure = self._failure(cluster, steps, outcome, last)
        return Standing(last, cluster_id, outcome, failure)

    def note_found(self, last: Optional[Attempt], cluster_id: str) -> None:
        """Have the claim name the cluster that was found by its tags."""
        if last and cluster_id and not last.cluster_id:
            self.claims.note(last, cluster_id=cluster_id)

    def note_failure(self, last: Optional[Attempt], failure: LearnerFailure) -> None:
        """Note that this call reports the failure, so that the next one does not."""
        if last and not failure.reported:
            self.claims.note(last, failure=failure.code, cluster_id=failure.cluster_id)

    def require_own(self, request: Mapping[str, Any]) -> None:
        """Raise InvalidInput unless the request is this run's."""
        kept = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
        wanted = job_flow.tags(self.params["target"], self.parameters)
        wrong = [
            "{} is {}".format(key, kept.get(key)) for key in wanted if kept.get(key) != wanted[key]
        ]
        if wrong:
            raise InvalidInput(
                "{} is the request of another run ({}); apply the run mode of this run".format(
                    self.kept.name, ", ".join(wrong)
                )
            )

    def _cluster_of(self, last: Optional[Attempt]) -> str:
        """The cluster of the last attempt; empty when a new one is due. Raises Locked."""
        if last and last.cluster_id:
            return last.cluster_id
        tags = dict(self.tags)
        if last:
            tags["runbook:attempt"] = str(last.number)
        found = self.find(tags, (*ACTIVE, *ENDED), self._earliest())
        if found:
            return found[0]
        if last and last.modified and self.now - last.modified < timedelta(seconds=CLAIM_SECONDS):
            raise Locked(
                "{}: {} is starting its cluster; if that caller died, the next one takes over in "
                "{} minutes".format(self.name, last.content.get("by"), CLAIM_SECONDS // 60)
            )
        return ""

    def _earliest(self) -> datetime:
        """No cluster of this run is older than the run; a day for clocks that differ."""
        with suppress(ValueError):
            applied = datetime.fromisoformat(self.tags["runbook:applied"])
            if applied.tzinfo:
                return applied - timedelta(days=1)
        return self.now - timedelta(days=60)

    def will_retry(self, last: Optional[Attempt], outcome: Outcome) -> bool:
        """Whether another cluster is started after this outcome."""
        if self.params["retry"]:
            return True
        made = last.number if last else 1
        return outcome.code in self.params["retry_on"] and made < self.params["attempts"]

    def start(self, request: Mapping[str, Any], number: int) -> str:
        """Claim the attempt and start its cluster; gives the cluster's id."""
        begin = time.monotonic()
        attempt = self.claims.claim(number)
        tags = {**self.tags, "runbook:attempt": str(number)}
        whole = {
            **request,
            "Tags": [
                *(tag for tag in request["Tags"] if tag["Key"] not in tags),
                *({"Key": key, "Value": tags[key]} for key in sorted(tags)),
            ],
        }
        if time.monotonic() - begin > _OWN_LIMIT:
            raise Unreachable("{}: S3 took too long; run it again".format(self.name))
        # Never repeated by itself: an answer that got lost may stand for a cluster that runs.
        once = aws.client("emr", self.params, attempts=1)
        try:
            with aws.translated("start the {}".format(self.name)):
                cluster_id = str(once.run_job_flow(**whole)["JobFlowId"])
        except ModuleFailure as error:
            if _refused(error.__cause__):
                self.claims.forget(attempt)
            raise
        self.claims.note(attempt, cluster_id=cluster_id)
        return cluster_id

    # waiting

    def finish(self, check_mode: bool) -> Dict[str, Any]:
        """Follow the cluster for at most ``wait`` seconds, 0 in a check; gives the module's result.

        ``done`` says whether it ended well. Raises LearnerFailure when it failed, Unreachable when
        AWS does not answer for the whole time, ModuleFailure after ``timeout``.
        """
        limit = time.monotonic() + (0 if check_mode else self.params["wait"])
        while True:
            try:
                found = self._look(check_mode)
                if found["done"] or time.monotonic() >= limit:
                    return found
            except Unreachable:
                if time.monotonic() >= limit:
                    raise
            except ModuleFailure as error:
                if not _passing(error.__cause__):
                    raise
                if time.monotonic() >= limit:
                    raise Unreachable(str(error)) from error
            time.sleep(max(0, min(self.params["poll"], limit - time.monotonic())))

    def _look(self, check_mode: bool) -> Dict[str, Any]:
        last, cluster_id = self._followed(check_mode)
        if not cluster_id:
            none: Dict[str, Any] = {"cluster_id": "", "steps": [], "summary": "no cluster yet"}
            return result([], done=False, unchecked=check_mode, msg=none["summary"], **none)
        cluster = self.describe(cluster_id)
        steps = self.steps(cluster_id)
        outcome = self.outcome(cluster, steps)
        if outcome.state == "failed":
            failure = self._failure(cluster, steps, outcome, last)
            if not check_mode:
                self.note_failure(last, failure)
            raise failure
        elapsed = self._elapsed(cluster)
        if outcome.state == "running" and elapsed > self.params["timeout"]:
            raise ModuleFailure(
                "{}: its cluster {} runs for {}, longer than the timeout of {}; it goes on: "
                "look at it, terminate it (state absent), or raise learner_timeout".format(
                    self.name, cluster_id, _duration(elapsed), _duration(self.params["timeout"])
                )
            )
        done, facts = outcome.state == "succeeded", self._facts(cluster, steps)
        facts["msg"] = facts["summary"]
        return result([], done=done, unchecked=check_mode and not done, **facts)

    def _followed(self, check_mode: bool) -> Tuple[Optional[Attempt], str]:
        """The attempt to follow and its cluster's id, which is empty when there is none yet."""
        attempts = self.claims.attempts()
        last = attempts[-1] if attempts else None
        wanted: Optional[str] = self.params["cluster_id"]
        if wanted is None:
            found = self._cluster_of(last)
            if not check_mode:
                self.note_found(last, found)
            return last, found
        return next((each for each in attempts if wanted == each.cluster_id), last), wanted

    def _facts(
        self, cluster: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]
    ) -> Dict[str, Any]:
        """How the cluster stands, and what it can have cost."""
        elapsed = self._elapsed(cluster)
        ceiling = job_flow.hourly_ceiling(self.parameters, self.params["cluster"])
        cost = None if ceiling is None else round(ceiling * elapsed / 3600, 2)
        states = [{"name": s["Name"], "state": s["Status"]["State"]} for s in steps]
        return {
            "cluster_id": cluster["Id"],
            "state": cluster["Status"]["State"],
            "steps": states,
            "elapsed": int(elapsed),
            "cost": cost,
            "hourly_ceiling": ceiling,
            "summary": "{} {} after {}, at most {} dollars so far: {}".format(
                cluster["Id"],
                cluster["Status"]["State"],
                _duration(elapsed),
                _dollars(cost),
                ", ".join("{name} {state}".format(**each) for each in states) or "no steps yet",
            ),
        }

    def _elapsed(self, cluster: Mapping[str, Any]) -> float:
        """Seconds from the cluster's creation to its end or to now, by EMR's own clock."""
        times = cluster["Status"].get("Timeline") or {}
        begin = times.get("CreationDateTime") or self.now
        return max(0.0, ((times.get("EndDateTime") or self.now) - begin).total_seconds())

    def _failure(
        self,
        cluster: Mapping[str, Any],
        steps: Sequence[Mapping[str, Any]],
        outcome: Outcome,
        last: Optional[Attempt],
    ) -> LearnerFailure:
        number = last.number if last else 1
        will_retry = self.will_retry(last, outcome)
        again = (
            "the next call starts attempt {} of {}".format(number + 1, self.params["attempts"])
            if will_retry
            else "it is not repeated by itself; once the cause is fixed, start it again with "
            "learner_retry"
        )
        parts = [
            "{} failed: {}".format(self.name, outcome.text),
            "cluster {}, attempt {}; {}".format(cluster["Id"], number, again),
        ]
        if cluster.get("LogUri"):
            parts.append("logs: {}/{}/".format(cluster["LogUri"].rstrip("/"), cluster["Id"]))
        if outcome.step:
            parts += self._stderr(cluster, outcome.step)
        reported = bool(last and last.content.get("failure"))
        facts = self._facts(cluster, steps)
        return LearnerFailure(
            "\n".join(parts), outcome.code, reported=reported, will_retry=will_retry, facts=facts
        )

    def _stderr(self, cluster: Mapping[str, Any], step_id: str) -> List[str]:
        """The last lines of the step's stderr from S3, without secrets."""
        bucket, path = job_flow.s3_address(cluster.get("LogUri") or "", "log_uri")
        key = "{}/{}/steps/{}/stderr.gz".format(path.rstrip("/"), cluster["Id"], step_id)
        key = key.lstrip("/")
        try:
            with aws.translated("read the log"):
                body = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            text = gzip.decompress(body).decode("utf-8", "replace")
            hidden = self._secrets()
        except (OSError, EOFError, zlib.error, ModuleFailure) as error:
            return ["its stderr, s3://{}/{}, cannot be shown: {}".format(bucket, key, error)]
        for secret in hidden:
            text = text.replace(secret, "(secret)")
        return ["its stderr ends:", *text.rstrip().split("\n")[-TAIL:]]

    def _secrets(self) -> List[str]:
        """The secrets that the step could have printed, of its configuration, longest first."""
        with aws.translated("read the learner's configuration"):
            key = job_flow.config_key(self.parameters)
            content = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        values = config_content.secret_values(config_content.parse(content, "the configuration"))
        return sorted(values, key=len, reverse=True)

    # ending

    def alive(self) -> List[str]:
        """Every cluster of the run that is alive."""
        tags = job_flow.tags(self.params["target"], self.parameters)
        states = [state for state in ACTIVE if state != "TERMINATING"]
        return sorted(self.find(tags, states, self._earliest()))

    def terminate(self, cluster_ids: Sequence[str]) -> None:
        """End these clusters."""
        with aws.translated("terminate {}".format(", ".join(cluster_ids))):
            self.emr.terminate_job_flows(JobFlowIds=cluster_ids)


def _passing(error: Optional[BaseException]) -> bool:
    """Whether an error of EMR or S3 is one that goes away by waiting."""
    code = aws.error_code(error) if isinstance(error, Exception) else ""
    response = getattr(error, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return int(status) >= 500 or "Throttl" in code or code in ("RequestLimitExceeded", "SlowDown")


def _refused(error: Optional[BaseException]) -> bool:
    """Whether EMR said no for certain, so that no cluster can have come of the call."""
    response = getattr(error, "response", None) or {}
    return 400 <= int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) < 500


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    return (
        "{} h {:02d} min".format(minutes // 60, minutes % 60)
        if minutes >= 60
        else "{} min".format(minutes)
    )


def _dollars(amount: Optional[float]) -> str:
    return "an unknown number of" if amount is None else "{:.2f}".format(amount)


@dataclass(frozen=True)
class Submission:
    """The facts that a start is decided on: the state of the iteration, and the stored request."""

    learner: Learner
    standing: Standing
    request: Mapping[str, Any]


def observe_start(params: Params) -> Submission:
    """Read request, claims and cluster. Raises Locked while another caller is at it."""
    learner = Learner(params)
    request = learner.kept.request()
    learner.require_own(request)
    return Submission(learner, learner.standing(), request)


def plan_start(found: Submission, _params: Params) -> Plan:
    """Start the iteration's cluster unless it is there.

    Raises LearnerFailure when the last attempt failed and is not to be repeated. Only the first
    time that is to report: a check says so, and the real run does it.
    """
    learner, standing = found.learner, found.standing
    number = standing.last.number if standing.last else 1
    if standing.failure:
        if standing.failure.reported:
            raise standing.failure
        # Its text has the end of a log, which EMR goes on writing.
        told = Change(
            learner.name,
            "report",
            "",
            str(standing.failure) + "\n",
            fingerprint="{} of attempt {}".format(standing.failure.code, number),
            volatile=True,
        )
        return Plan([told], {"cluster_id": "", "attempt": number}, work=found)
    there = standing.cluster_id != "" and standing.outcome.state != "failed"
    if not there:
        number = standing.last.number + 1 if standing.last else 1
    text = "attempt {}, up to {} dollars an hour\n".format(
        number,
        _dollars(job_flow.hourly_ceiling(learner.parameters, learner.params["cluster"])),
    )
    change = Change(learner.name, "start", text if there else "", text)
    facts = {"cluster_id": standing.cluster_id if there else "", "attempt": number}
    return Plan([change], facts, work=found)


def apply_start(decided: Plan, _params: Params) -> Mapping[str, Any]:
    """Start the cluster, or report the failure of the last one by raising it."""
    learner, standing = decided.work.learner, decided.work.standing
    learner.note_found(standing.last, standing.cluster_id)
    if standing.failure:
        learner.note_failure(standing.last, standing.failure)
        raise standing.failure
    if not decided.changes[0].changed:
        return {}
    return {"cluster_id": learner.start(decided.work.request, decided.facts["attempt"])}


def observe_end(params: Params) -> Tuple[Learner, List[str]]:
    """Find the clusters of the run that are alive."""
    learner = Learner(params)
    return learner, learner.alive()


def plan_end(found: Tuple[Learner, List[str]], params: Params) -> Plan:
    """Terminate every cluster of the run that is alive."""
    learner, alive = found
    before = "".join("cluster {}\n".format(each) for each in alive)
    aoi, run_id = learner.tags["runbook:aoi"], params["parameters"]["run_id"]
    name = "learner of {}, run {}".format(aoi, run_id)
    return Plan([Change(name, "terminate", before, "")], {"clusters": alive}, work=learner)


def apply_end(decided: Plan, _params: Params) -> None:
    """End them."""
    if decided.facts["clusters"]:
        decided.work.terminate(decided.facts["clusters"])


def _finish(params: Params, check_mode: bool) -> Dict[str, Any]:
    """The state ``finished``, which waits; all that it may write is that a failure was reported."""
    return Learner(params).finish(check_mode)


#: The module emr_learner.
run = by_state(
    present=emr.run,
    verified=terraform.run,
    submitted=composed(observe_start, plan_start, apply_start),
    finished=_finish,
    absent=composed(observe_end, plan_end, apply_end),
)
