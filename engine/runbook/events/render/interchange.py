"""A run of the target's journal in the formats of other programs: JUnit, ansible-navigator."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from runbook.events.render import text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: ansible-navigator's colours of a status, numbers of the terminal's palette.
_GREEN, _RED = 10, 9
#: Characters that XML 1.0 has no way to write.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """The runs by host as JUnit's XML: a suite a host, a test case a step.

    A step that failed is a failure; one of which it is not known how it ended is an error.
    Source: the schema of the JUnit plugin of Jenkins, which GitHub and GitLab read too.
    """
    root = ET.Element("testsuites")
    for host, run in runs.items():
        steps = run["steps"]
        failed = sum(step["outcome"] == "failed" for step in steps)
        suite = ET.SubElement(root, "testsuite", {
            "name": _xml(f"{run['playbook'] or 'no playbook'} on {host}"), "hostname": _xml(host),
            "timestamp": run["at"], "time": f"{text.seconds(run['at'], run['until']):.3f}",
            "tests": str(len(steps)), "failures": str(failed), "skipped": "0",
            "errors": str(sum(step["outcome"] not in ("done", "failed") for step in steps)),
        })  # fmt: skip
        suite.extend(_case(step) for step in steps)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True)


def _case(step: Mapping[str, Any]) -> ET.Element:
    case = ET.Element("testcase", {"name": _xml(step["task"]), "classname": _xml(step["module"])})
    if step["outcome"] != "done":
        said = _xml(step.get("message") or f"it is not known how it ended: {step['outcome']}")
        kind = "failure" if step["outcome"] == "failed" else "error"
        ET.SubElement(case, kind, {"message": text.one_line(said)}).text = said
    ET.SubElement(case, "system-out").text = _xml("\n".join(_changes(step)))
    return case


def navigator(runs: Mapping[str, Mapping[str, Any]], lines: Sequence[str]) -> str:
    """The runs by host as an artifact that ``ansible-navigator replay`` opens: a play a host.

    ``lines`` is what it shows as the output of the run.
    """
    done = all(run["outcome"] == "done" for run in runs.values())
    artifact = {
        "version": "2.0.0",
        "plays": [_play(host, run) for host, run in runs.items()],
        "stdout": list(lines),
        "status": "successful" if done else "failed",
        "status_color": _GREEN if done else _RED,
    }
    return json.dumps(artifact, indent=1)


def _play(host: str, run: Mapping[str, Any]) -> dict[str, Any]:
    """A play with the columns of ansible-navigator's tables, which begin with ``__``."""
    name = f"{run['playbook'] or 'no playbook'} on {host}"
    tasks = [_task(name, host, *numbered) for numbered in enumerate(run["steps"])]
    ok = sum(task["__result"] == "Ok" for task in tasks)
    return {
        "name": name, "play": name, "playbook": run["playbook"], "tasks": tasks,
        "__play_name": name, "__ok": ok, "__failed": len(tasks) - ok, "__unreachable": 0,
        "__skipped": 0, "__ignored": 0, "__in progress": 0,
        "__changed": sum(task["__changed"] for task in tasks),
        "__task_count": len(tasks), "__progress": "COMPLETE",
    }  # fmt: skip


def _task(play: str, host: str, number: int, step: Mapping[str, Any]) -> dict[str, Any]:
    changed = bool(text.real(step["changes"]))
    found = {"changed": changed, "outcome": step["outcome"], "changes": step["changes"]}
    known = {key: step[key] for key in ("backup_id", "transaction") if key in step}
    return {
        "play": play, "task": step["task"], "task_action": step["module"], "host": host,
        "start": step["at"],
        "res": {**found, **known, "msg": step.get("message", "")},
        "__result": "Ok" if step["outcome"] == "done" else "Failed",
        "__host": host, "__number": number,
        "__changed": changed, "__task": step["task"], "__task_action": step["module"],
        "__duration": "",
    }  # fmt: skip


def _changes(step: Mapping[str, Any]) -> list[str]:
    return [
        line
        for change in text.real(step["changes"])
        for line in (text.item(change), *text.changed_lines(change))
    ]


def _xml(given: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", given)
