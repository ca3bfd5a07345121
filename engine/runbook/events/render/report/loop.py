"""The loop on the hosts of a target: what people see of it, at the terminal and on its page.

``state`` is what ``status --json`` prints (schemas/status.schema.json); ``content`` is what every
renderer for people shows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from runbook.events.render import text
from runbook.events.render.report import maps
from runbook.events.render.report.plots import Line, Plot
from runbook.events.render.report.texts import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runbook.events.render.report.maps import Map

#: Iterations in the terminal's chart, the newest ones.
CHARTED = 12
#: Hours in the plot of sites, up to the newest one that has any: at least, at most.
FEWEST_HOURS, HOURS = 12, 48
#: Characters of the paths of all maps of a page.
MAPS = 340_000
#: Characters of a text that comes from the target.
CHARACTERS = 2_000

_RUN = ("run", "playbook", "operator", "at", "outcome")
_TURN = ("phase", "iteration", "total", "processed", "blocked", "failed_labels", "metrics")
_LEARNER = ("cluster_id", "state", "steps", "elapsed", "cost", "hourly_ceiling", "summary")


class Level(IntEnum):
    """How much an instance needs a person; the highest first on a page."""

    IDLE = 0
    RUNS = 1
    LOOK = 2
    STOPPED = 3


WORDS = {
    Level.IDLE: "no loop runs",
    Level.RUNS: "runs",
    Level.LOOK: "look at it",
    Level.STOPPED: "needs a person",
}


@dataclass(frozen=True)
class Instance:
    """The loop on one host. ``reasons`` say why it is not simply running.

    ``facts``: label and text, which may have several lines. ``done``: sites of the iteration, and
    of how many. ``chart``: iteration, accuracy and TSS of the newest iterations.
    """

    host: str
    level: Level
    reasons: Sequence[str]
    facts: Sequence[tuple[str, str]]
    done: tuple[int, int] | None
    chart: Sequence[tuple[int, float, float | None]]
    plots: Sequence[Plot]
    map: Map | None = None

    @property
    def word(self) -> str:
        """The level in words."""
        return WORDS[self.level]

    def fact(self, label: str) -> str:
        """One of the facts in a line, empty when there is none."""
        return " ".join(dict(self.facts).get(label, "").split())


@dataclass(frozen=True)
class Loop:
    """The content of the page: instances, the worst first. ``every``: seconds between two pages."""

    target: str
    at: str
    instances: Sequence[Instance]
    every: int | None = None

    @property
    def verdict(self) -> Sequence[tuple[Level, str]]:
        """The first lines to read: of one host its state, of several the hosts of each state."""
        if len(self.instances) == 1:
            (only,) = self.instances
            waits = only.fact("waits for")
            return [(only.level, f"{only.word}; waits for {waits}" if waits else only.word)]
        hosts = {
            level: [each.host for each in self.instances if each.level == level] for level in WORDS
        }
        return [
            (level, f"{WORDS[level]}: {', '.join(hosts[level])}")
            for level in sorted(WORDS, reverse=True)
            if hosts[level]
        ]


def content(
    target: str,
    at: str,
    states: Mapping[str, Mapping[str, Any]],
    failed: Mapping[str, str],
    every: int | None = None,
    geographies: Mapping[str, Mapping[str, Any]] | None = None,
) -> Loop:
    """The content of ``states`` (``state``) and of hosts that ``failed`` to answer.

    ``geographies``: by host, what geography_info returned there.
    """
    geographies = geographies or {}
    found = [instance(host, each, geographies.get(host), at) for host, each in states.items()]
    found += [_silent(host, message) for host, message in failed.items()]
    found.sort(key=lambda each: (-each.level, each.host))
    return Loop(visible(target), at, list(_within(found)), every)


def _within(instances: Sequence[Instance]) -> Iterator[Instance]:
    """The instances with as many maps as a page has room for."""
    left = MAPS
    for each in instances:
        left -= each.map.characters if each.map else 0
        if each.map and left < 0:
            more = (
                "map",
                "left out, the page would be too long: ask for this host alone (--limit)",
            )
            yield replace(each, map=None, facts=[*each.facts, more])
        else:
            yield each


def ended(content: Loop) -> Loop:
    """The same, no longer renewed."""
    return replace(content, every=None)


def instance(
    host: str, found: Mapping[str, Any], geography: Mapping[str, Any] | None = None, at: str = ""
) -> Instance:
    """One host's loop as of ``at``; ``geography`` is what geography_info returned."""
    geography = geography or {}
    described = geography.get("map")
    level, reasons = _judged(found)
    metrics = found.get("metrics", [])
    return Instance(
        host=visible(host),
        level=level,
        reasons=[visible(reason, CHARACTERS) for reason in reasons],
        facts=[
            (label, _lines(said)) for label, said in [*_facts(found, at), *_unmapped(geography)]
        ],
        done=(found["processed"], found["total"]) if found["run"] else None,
        chart=[
            (row["iteration"], row["accuracy"], row["tss"])
            for row in metrics
            if row["accuracy"] is not None
        ][-CHARTED:],
        plots=[*_sites_by_hour(found), *_by_iteration(metrics, found.get("criteria"))],
        map=maps.drawn(described, f"Map of {host}") if described else None,
    )


def _unmapped(geography: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Why there is no map, when one was asked for and could not be made."""
    if not geography.get("map") and geography.get("msg"):
        yield "map", f"none: {geography['msg']}"


def _silent(host: str, message: str) -> Instance:
    """A host that gave no answer."""
    reasons = [visible(line, CHARACTERS) for line in message.splitlines()] or ["no answer"]
    return Instance(visible(host), Level.STOPPED, reasons, [], None, [], [])


def _lines(said: str) -> str:
    return "\n".join(visible(line, CHARACTERS) for line in said.splitlines())


def state(answer: Mapping[str, Any]) -> dict[str, Any]:
    """A host's state (schemas/status.schema.json) from what status.yml hands over. Pure."""
    marker, run, turn, learner = (answer[name] for name in ("marker", "run", "turn", "learner"))
    common = {
        "inconsistencies": list(marker["inconsistencies"]),
        "lease": answer["lease"],
        "backup": newest_backup(answer["backup"]),
        "drift": answer.get("drift"),
        "unfinished_run": unfinished_run(answer.get("newest_run"), answer["lease"]),
        "service": answer.get("service"),
    }
    if run is None:
        waits_for = "a run: apply a run mode first"
        if marker["label"]:  # another geography, or restored tables
            waits_for += f" ({marker['label']})"
        return {"run": None, "phase": "none", "learner": None, "waits_for": waits_for, **common}
    found = {
        "run": {name: run[name] for name in ("mode", "aoi_name", "aoi_index", "run_id")},
        **{name: turn[name] for name in (*_TURN, "criteria", "hours")},
        "learner": None,
        "waits_for": turn["waits_for"],
        **common,
    }
    found["run"]["applied_at"] = turn["applied_at"]
    if found["inconsistencies"]:
        found["waits_for"] = "a person: run marker and tables disagree, see docs/backups.md"
        return found
    if learner.get("skipped"):
        return found
    ours = turn["phase"] in ("complete", "returned")
    found["learner"] = {
        "iteration": turn["iteration"] + ours,
        **{name: learner.get(name) for name in _LEARNER},
        "timeout": answer["timeout"],
        "problem": "" if "done" in learner else str(learner.get("msg", "")),
        "will_retry": bool(learner.get("will_retry")),
    }
    if turn["phase"] == "complete":
        found["waits_for"] = _waits_for(found["learner"])
    return found


def unfinished_run(
    newest: Mapping[str, Any] | None, lease: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The newest run of the target's journal if it did not come to its end, and at which step.

    None while a run holds the target, and of a turn of the loop: the next one goes on.
    """
    going_on = lease is not None and lease["state"] != "locked"
    if newest is None or newest["outcome"] == "done" or going_on:
        return None
    if newest["playbook"] == "iterate.yml":
        return None
    steps = newest["steps"]
    bad = next((step for step in steps if step["outcome"] != "done"), steps[-1])
    return {**{name: newest[name] for name in _RUN}, "step": bad["task"]}


def newest_backup(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The newest backup; without one, or when S3 does not answer, only a problem."""
    if not answer.get("backups"):
        return {
            "backup_id": None, "created": None, "rows": None, "intact": None,
            "problems": [str(answer.get("msg") or "there is none")],
        }  # fmt: skip
    (row,) = answer["backups"]
    return {name: row[name] for name in ("backup_id", "created", "rows", "intact", "problems")}


def _waits_for(learner: Mapping[str, Any]) -> str:
    """The next event that a complete iteration of regular production waits for."""
    if learner["cluster_id"] is None:
        return "the learner, of which nothing could be found out"
    if learner["will_retry"]:
        return "the next call of iterate.yml, which starts the learner again"
    if learner["problem"]:
        return "a person: see the learner's failure"
    if not learner["cluster_id"]:
        return "the next call of iterate.yml, which starts the learner"
    if all(step["state"] == "COMPLETED" for step in learner["steps"]):
        return "the next call of iterate.yml, which takes in what the learner brought"
    return "the learner"


def _judged(found: Mapping[str, Any]) -> tuple[Level, list[str]]:
    """How much an instance needs a person, and why, the worst reason first."""
    reasons = sorted(_reasons(found), key=lambda reason: -reason[0])
    usual = Level.IDLE if found["phase"] in ("none", "stopped") else Level.RUNS
    return max([usual, *(level for level, _ in reasons)]), [said for _, said in reasons]


def _reasons(found: Mapping[str, Any]) -> Iterator[tuple[Level, str]]:
    learner, lease, backup = found["learner"], found["lease"], found["backup"]
    for line in found["inconsistencies"]:
        yield Level.STOPPED, f"run marker and tables disagree: {line}"
    if found["unfinished_run"]:
        yield Level.STOPPED, _cut_short(found["unfinished_run"])
    elif _out_of_service(found):
        said = (
            "labeller is out of service: the crontab starts no daemon; runbook apply start.yml does"
        )
        yield Level.LOOK, said
    if learner and learner["problem"]:
        passes = learner["will_retry"] or learner["cluster_id"] is None
        first = learner["problem"].splitlines()[0]
        yield (Level.LOOK if passes else Level.STOPPED), first
    if lease and lease["state"] == "locked":
        yield Level.LOOK, f"no run can change it: {text.holder(lease)}"
    if backup["problems"]:
        damaged = f"the newest backup, {backup['backup_id']}, is damaged: "
        yield Level.LOOK, f"{damaged if backup['backup_id'] else ''}{backup['problems'][0]}"
    if found["drift"] and found["drift"]["differences"]:
        yield Level.LOOK, _differences(found["drift"])
    if found.get("failed_labels"):
        count = found["failed_labels"]
        yield Level.LOOK, f"{text.number(count, 'site')} without a label, see docs/loop.md"


def _out_of_service(found: Mapping[str, Any]) -> bool:
    """Whether mappers wait although a run is in place and not at its end, and no run is at work."""
    serving, lease = found["service"], found["lease"]
    if found["run"] is None or serving is None or serving["crontab"]:
        return False
    # Only regular production goes on once its sites are done.
    last = "complete" if found["run"]["mode"] != "regular" else "stopped"
    going_on = lease is not None and lease["state"] != "locked"
    return not going_on and found["phase"] not in (last, "stopped")


def _cut_short(run: Mapping[str, Any]) -> str:
    """A run that did not come to its end, in a line."""
    how = {"failed": "failed at", "stopped": "stopped after"}.get(run["outcome"], "was cut off in")
    return (
        f"{run['playbook']} of {run['operator']} {how} {run['step']!r}: "
        f"runbook resume finishes it, runbook undo {run['run']} takes it back"
    )


def _facts(found: Mapping[str, Any], at: str) -> Iterator[tuple[str, str]]:
    """Label and text of all but the metrics; a text may have several lines."""
    run = found["run"]
    if run:
        marked = f"{run['run_id']}, {run['mode']}, applied {text.moment(run['applied_at'])}"
        yield "run", "\n".join([marked, *(f"but {line}" for line in found["inconsistencies"])])
        yield "AOI", f"{run['aoi_name']} {run['aoi_index']}"
        yield "iteration", f"{found['iteration']}, {found['phase']}"
        yield "sites", _sites(found)
    else:
        yield "run", "none"
    if found["learner"]:
        yield "learner", _learner(found["learner"])
        yield from _cost(found["learner"])
    if found.get("criteria"):
        yield "loop ends", _ends(found["criteria"])
    if found["service"]:
        yield "daemons", _serving(found["service"])
    yield "backup", proof(found["backup"])
    yield "drift", _drift(found["drift"], at)
    yield "lock", text.holder(found["lease"])
    yield "waits for", found["waits_for"]


def _serving(found: Mapping[str, Any]) -> str:
    """The daemons that run, and whether cron starts them."""
    names = ", ".join(found["daemons"]) or "none runs"
    return names if found["crontab"] else f"{names}; the crontab starts none"


def _drift(drift: Mapping[str, Any] | None, at: str) -> str:
    """The last look for drift in a line, with its time."""
    if drift is None:
        return "not known on this machine: runbook drift PLAYBOOK looks for it"
    said = _differences(drift) if drift["differences"] else f"none from {drift['playbook']}"
    return f"{said}, as of {text.moment(drift['at'])}{text.age(drift['at'], at)}"


def _differences(drift: Mapping[str, Any]) -> str:
    """The first difference, and how many there are."""
    first, *more = drift["differences"]
    others = f" and {len(more)} more" if more else ""
    return f"not as {drift['playbook']} says: {text.one_line(first)}{others}"


def _sites(found: Mapping[str, Any]) -> str:
    said = f"{found['processed']:,} of {found['total']:,} done" if found["total"] else "none open"
    if found["hours"]:
        said += f", the last one mapped in the hour from {text.moment(found['hours'][-1]['hour'])}"
    if found["failed_labels"]:
        said += f"; {found['failed_labels']:,} of the run without a label"
    if found["blocked"]:
        said += f"; {found['blocked']:,} blocked, which the next call of iterate.yml repairs"
    return said


def _learner(learner: Mapping[str, Any]) -> str:
    said = f"iteration {learner['iteration']}: {learner['summary'] or 'unknown'}"
    return f"{said}\n{learner['problem']}".rstrip()


def _cost(learner: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The most that the cluster can cost: its core nodes at the bid; no other price is known."""
    ceiling = learner["hourly_ceiling"]
    if ceiling is None:
        return
    said = f"core nodes at most {ceiling:,.2f} dollars an hour"
    if learner["cost"] is not None:
        said += f", {learner['cost']:,.2f} so far"
    hours = learner["timeout"] / 3600
    yield "cost", f"{said}; {ceiling * hours:,.2f} when learner_timeout, {hours:g} h, is over"


def _ends(criteria: Mapping[str, Any]) -> str:
    said = f"at iteration {criteria['max_iterations']}"
    if criteria["accuracy"] is None or criteria["gain"] is None:
        return f"{said}; the criterion of accuracy is switched off"
    return (
        f"{said}, or when three accuracies in a row are above {criteria['accuracy']:g} and differ "
        f"by less than {criteria['gain']:g}"
    )


def proof(backup: Mapping[str, Any]) -> str:
    """The newest backup, and whether its objects are what its manifest says."""
    if not backup["backup_id"]:
        return str(backup["problems"][0])
    rows = "" if backup["rows"] is None else f", {backup['rows']:,} rows"
    said = f"{backup['backup_id']}{rows}"
    if backup["problems"]:
        return "\n".join([f"{said}: DAMAGED", *backup["problems"]])
    return f"{said}: every object on S3 has the size and checksum of its manifest"


def _sites_by_hour(found: Mapping[str, Any]) -> Iterator[Plot]:
    """Sites by the hour of their last mapping, hours without any included."""
    sites = {datetime.fromisoformat(row["hour"]): row["sites"] for row in found.get("hours", [])}
    if not sites:
        return
    last = max(sites)
    shown = min(max((last - min(sites)) // timedelta(hours=1) + 1, FEWEST_HOURS), HOURS)
    hours = [last - timedelta(hours=n) for n in range(shown - 1, -1, -1)]
    counted = [sites.get(hour, 0) for hour in hours]
    names = [f"{hour:%a %H:%M}" for hour in hours]
    total = text.number(sum(counted), "site")
    yield Plot(
        title="Sites done by hour (UTC)",
        description=f"{total} from {text.moment(str(hours[0]))} on, in {shown} h",
        place="hour",
        lines=[Line("sites done", "bar", list(enumerate(counted)))],
        header=["Hour from", "Sites done"],
        rows=[
            (f"{hour:%Y-%m-%d %H:%M}", f"{count:,}")
            for hour, count in zip(hours, counted, strict=True)
            if count
        ],
        names=[(float(n), name) for n, name in enumerate(names) if n % (shown // 4) == 0],
    )


def _by_iteration(
    metrics: Sequence[Mapping[str, Any]], criteria: Mapping[str, Any] | None
) -> Iterator[Plot]:
    """Accuracy and TSS, and how much the accuracy moved, with the thresholds that end the loop."""
    criteria = criteria or {"max_iterations": None, "accuracy": None, "gain": None}
    rows = [row for row in metrics if row["iteration"] > 0]
    if not rows:
        return
    last = rows[-1]
    yield Plot(
        title="Accuracy and TSS by iteration",
        description=f"iteration {last['iteration']}: accuracy {_said(last['accuracy'])}, "
        f"TSS {_said(last['tss'])}" + _at_most(criteria["max_iterations"]),
        place="iteration",
        lines=[
            Line("accuracy", "dot", [(row["iteration"], row["accuracy"]) for row in rows]),
            Line("TSS", "square", [(row["iteration"], row["tss"]) for row in rows]),
        ],
        header=["Iteration", "Accuracy", "TSS", "AUC"],
        rows=[
            (str(row["iteration"]), *(_said(row[name]) for name in ("accuracy", "tss", "auc")))
            for row in rows
        ],
        limits=_limit("accuracy has to be above", criteria["accuracy"]),
        top=1.0,
    )
    steps = [
        (new["iteration"], abs(new["accuracy"] - old["accuracy"]))
        for old, new in pairwise(rows)
        if None not in (new["accuracy"], old["accuracy"])
    ]
    if steps:
        yield Plot(
            title="Steps of the accuracy by iteration",
            description="how far each accuracy is from the one before"
            + ("" if criteria["gain"] is None else "; the loop ends early after two small ones"),
            place="iteration",
            lines=[Line("step of the accuracy", "dot", steps)],
            header=["Iteration", "Step"],
            rows=[(str(number), _said(step)) for number, step in steps],
            limits=_limit("step has to be below", criteria["gain"]),
        )


def _at_most(iterations: int | None) -> str:
    return "" if iterations is None else f"; the loop ends at iteration {iterations} at the latest"


def _limit(name: str, value: float | None) -> list[tuple[str, float]]:
    return [] if value is None else [(f"{name} {value:g}", value)]


def _said(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f}"
