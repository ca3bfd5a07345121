# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reading the target's journal (``journal``): runs, newest first, as rows and as reports.

A line that does not parse, as a killed writer leaves one, is counted and skipped. Images hold
secrets: nothing here returns them but ``images``, for undo.
"""

from __future__ import annotations

import difflib
import itertools
import json
import os
import re
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence

from .errors import InvalidInput, ModuleFailure

RUN_ID = r"\d{8}T\d{6}-[0-9a-f]{6}"
SUFFIX = ".jsonl"
#: What an intent says of the run and the step.
ABOUT = ("run", "operator", "playbook", "task", "host", "module")

_NAME = re.compile(RUN_ID + re.escape(SUFFIX))
#: How the lines begin that a row does not need, and that are most of the bytes.
_LONG = (b'{"image":', b'{"changes":')
_INTENT = b'{"intent":'
_SINCE = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?Z?)?")


class Lines(NamedTuple):
    """The records of a file, and how many lines were torn."""

    records: Sequence[Mapping[str, Any]]
    torn: int


def runs(folder: str) -> List[str]:
    """The ids of the runs, those that were started last first; none where there is no folder.

    Raises ModuleFailure for a folder that cannot be read.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(folder, error) from error
    return sorted((n[: -len(SUFFIX)] for n in names if _NAME.fullmatch(n)), reverse=True)


def others(folder: str) -> bool:
    """Whether a folder holds something else than runs."""
    return not all(map(_NAME.fullmatch, os.listdir(folder)))


def in_order(folder: str, since: str = "") -> List[str]:
    """The ids of the runs, newest first: by when they began to change this host, on its clock.

    An id has the time at which the operator's machine began its check. Its clock may be wrong, and
    another run may have come while the operator was asked. ``since``: only those that began then or
    later, in the form of ``began``. Raises what ``runs`` does.
    """
    found = sorted(((began(folder, run), run) for run in runs(folder)), reverse=True)
    return [run for when, run in found if when >= since]


def began(folder: str, run: str) -> str:
    """When a run's first step began, in the form that ids have; by the id where no step says so."""
    path = os.path.join(folder, run + SUFFIX)
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.startswith(_INTENT):
                    with suppress(ValueError, KeyError):
                        return str(json.loads(line)["at"]).replace("-", "").replace(":", "")
    except OSError as error:
        raise _unreadable(path, error) from error
    return run


def lines(path: str, *, short: bool = False) -> Lines:
    """The records of a run's file; ``short`` leaves out what a row does not need."""
    found = [
        line.decode("ascii", "replace")
        for line in _read(path).split(b"\n")
        if line and not (short and line.startswith(_LONG))
    ]
    try:
        return Lines(json.loads("[" + ",".join(found) + "]"), 0)  # thrice as fast as each alone
    except ValueError:
        return _whole(found)


def _whole(found: Sequence[str]) -> Lines:
    """The lines that can be read."""
    records: List[Mapping[str, Any]] = []
    for line in found:
        with suppress(ValueError):
            records.append(json.loads(line))
    return Lines(records, len(found) - len(records))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> ModuleFailure:
    return ModuleFailure("cannot read the journal {}: {}".format(path, error.strerror))


class Run(NamedTuple):
    """A run's steps, by entry, each its intent with ``outcome``; when it ended, if it says so."""

    run: str
    steps: Sequence[Mapping[str, Any]]
    ended: bool
    torn: int

    @property
    def outcome(self) -> str:
        """How the run ended.

        ``done``, ``failed``; ``unfinished``: of a step it is not known how it ended; ``stopped``:
        all its steps are done, and it has not given its lease back.
        """
        found = {str(step["outcome"]) for step in self.steps}
        if found & {"unfinished", "unknown"}:
            return "unfinished"
        if "failed" in found:
            return "failed"
        leased = any("lease" in step for step in self.steps)
        return "stopped" if leased and not self.ended else "done"


def parsed(run: str, found: Lines) -> Run:
    """A run from its records."""
    steps: Dict[str, Dict[str, Any]] = {}
    ended = False
    for record in found.records:
        if "intent" in record:
            step = dict(record, outcome="unfinished")
            step["resources"] = step.pop("intent")
            steps[record["entry"]] = step
            ended = False
        elif record.get("outcome") and record.get("entry") in steps:
            step = steps[record["entry"]]
            step.update({k: v for k, v in record.items() if k not in ("entry", "at")})
            step["until"] = record["at"]
        ended = ended or "end" in record
    return Run(run, list(steps.values()), ended, found.torn)


def unfinished(path: str) -> bool:
    """Whether a run has a step of which it is not known how it ended."""
    return parsed("", lines(path, short=True)).outcome == "unfinished"


def row(run: Run) -> Dict[str, Any]:
    """A run as a list of runs has it."""
    first, last = run.steps[0], run.steps[-1]
    return {
        "run": run.run,
        "at": first["at"],
        "until": last.get("until", last["at"]),
        **{name: first[name] for name in ("operator", "playbook", "plan") if name in first},
        "hosts": sorted({step["host"] for step in run.steps}),
        "outcome": run.outcome,
        "steps": [
            {
                name: step[name]
                for name in ("task", "module", "host", "outcome", "kind", "message", "resources")
                if name in step
            }
            for step in run.steps
        ],
        "torn_lines": run.torn,
    }


def history(
    folder: str,
    *,
    ids: Sequence[str] = (),
    since: str = "",
    operator: str = "",
    playbook: str = "",
    limit: int = 0,
) -> List[Dict[str, Any]]:
    """The rows of the runs that the filters leave, newest first; ``limit`` 0 is no limit.

    ``ids`` are whole; ``since`` is a date or a time in UTC, on this host's clock; ``operator`` a
    part of the operator, ``playbook`` a name.
    """
    wanted = (run for run in in_order(folder, _oldest(since)) if not ids or run in ids)
    found = (
        row(each)
        for each in (stored(folder, run) for run in wanted)
        if each.steps and _matches(each.steps[0], operator, playbook)
    )
    return list(itertools.islice(found, limit or None))


def stored(folder: str, run: str) -> Run:
    """A run, without its images and the texts of its changes."""
    return parsed(run, lines(os.path.join(folder, run + SUFFIX), short=True))


def _matches(step: Mapping[str, Any], operator: str, playbook: str) -> bool:
    names = (step["playbook"], os.path.splitext(step["playbook"])[0])
    return operator in step["operator"] and (not playbook or playbook in names)


def _oldest(since: str) -> str:
    """A date or time in the form of ``began``."""
    if not since:
        return ""
    match = _SINCE.fullmatch(since)
    parts = [int(part or 0) for part in match.groups()] if match else [0, 0, 0]
    try:
        when = datetime(*parts, tzinfo=timezone.utc)  # type: ignore[arg-type,misc]
    except ValueError:
        raise InvalidInput(
            "since is {!r}; expected a date, 2026-01-14, or a time in UTC, 2026-01-14T09:30".format(
                since
            )
        ) from None
    return "{:%Y%m%dT%H%M%S}".format(when)


def report(folder: str, run: str) -> Dict[str, Any]:
    """A run with the changes of each step, before and after. Raises InvalidInput for none such."""
    run = named(folder, run)
    found = lines(os.path.join(folder, run + SUFFIX))
    changes = {each["entry"]: each["changes"] for each in found.records if "changes" in each}
    whole = parsed(run, found)
    told = row(whole)
    told["steps"] = [dict(step, changes=changes.get(step["entry"], [])) for step in whole.steps]
    return told


def named(folder: str, run: str) -> str:
    """The one run whose id begins with ``run``, or ``newest``. InvalidInput for none or several."""
    known = in_order(folder) if run == "newest" else runs(folder)
    found = known[:1] if run == "newest" else [each for each in known if each.startswith(run)]
    if len(found) != 1:
        alike = [] if found else difflib.get_close_matches(run, known, 1)
        raise InvalidInput(
            "{} of the target's journal {} {!r}; `runbook history` lists them{}".format(
                "{} runs".format(len(found)) if found else "no run",
                "begin with" if found else "is" if run == "newest" else "begins with",
                run,
                " (did you mean {}?)".format(*alike) if alike else "",
            )
        )
    return found[0]


def images(folder: str, run: str) -> Iterator[Mapping[str, Any]]:
    """The steps of a run, the last first, each with its ``changes`` and its ``image``."""
    found = lines(os.path.join(folder, named(folder, run) + SUFFIX))
    more: Dict[str, Dict[str, Any]] = {}
    for record in found.records:
        for name in ("image", "changes"):
            if name in record:
                more.setdefault(record["entry"], {})[name] = record[name]
    for step in reversed(parsed(run, found).steps):
        yield {**step, **more.get(step["entry"], {})}
