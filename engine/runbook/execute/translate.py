"""Translate ansible-runner's event dictionaries into events: pure, no state."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from runbook.events.model import (
    Event,
    HostCounts,
    Notice,
    PlayStarted,
    Recap,
    Status,
    TaskResult,
    TaskStarted,
)
from runbook.execute import unreachable

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

_LEVELS = {
    "debug": "verbose",
    "deprecated": "warning",
    "error": "error",
    "system_warning": "warning",
    "verbose": "verbose",
    "warning": "warning",
}

#: In the place of what Ansible says, which names neither the file nor what to do.
_NO_INVENTORY = (
    "what -i names is no inventory that Ansible can read: ansible-inventory -vvv --list -i FILE "
    "says why"
)

Raw = Mapping[str, Any]


def events(raw: Raw, reached: Mapping[str, Raw] | None = None) -> list[Event]:
    """The events that one event of ansible-runner means; often none.

    ``reached``: by host, how those that are unreachable were to be reached (``unreachable``).
    """
    kind = raw.get("event", "")
    if kind in _LEVELS:
        text = _ANSI.sub("", raw.get("stdout", "")).replace("\r\n", "\n").strip()
        # What ansible says before its callbacks are there has no kind of its own.
        level = "error" if text.startswith("[ERROR]") else _LEVELS[kind]
        text = re.sub(r"^\[?(ERROR|WARNING|DEPRECATION WARNING)\]?(:|!)\s*", "", text)
        if text.startswith("No inventory was parsed"):
            text = _NO_INVENTORY
        return [Notice(level, text)] if text else []
    data: Raw = raw.get("event_data") or {}
    if kind == "runner_on_unreachable":
        data = {**data, "reached": (reached or {}).get(data.get("host", ""), {})}
    translator = _TRANSLATORS.get(kind)
    return [translator(data)] if translator else []


def planned(raw: Raw) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """The steps that ended, and the changes that their modules returned: ``plan`` and ``diff``.

    With the names of task and module, for people. None for a step that its condition left out. A
    step is named by host, place in the playbook and item of a loop, as the action plugin names it
    in the next run (plugins/plugin_utils/planned.py); ids of tasks are new in each run.
    """
    if raw.get("event") not in ("runner_on_ok", "runner_on_skipped"):
        return
    data: Raw = raw.get("event_data") or {}
    place = os.path.realpath(str(data.get("task_path", "")))
    for result in _items(data.get("res") or {}):
        variable = result.get("ansible_loop_var")
        item = [result.get(variable)] if variable else []
        step = json.dumps([data.get("host"), place, *item], sort_keys=True, default=str)
        if "plan" in result:
            named: dict[str, Any] = {"task": _task(data), "module": _module(data)}
            if not result.get("changed", True):
                named["unchanging"] = True
            yield step, {**named, "plan": result["plan"], "diff": result.get("diff")}
        elif result.get("skipped"):
            yield step, None


def _play_started(data: Raw) -> Event:
    return PlayStarted(str(data.get("name") or data.get("play") or ""))


def _task_started(data: Raw) -> Event:
    return TaskStarted(_task(data), _module(data))


def _task(data: Raw) -> str:
    return str(data.get("task") or data.get("name") or "")


def _module(data: Raw) -> str:
    return str(data.get("resolved_action") or data.get("task_action") or "")


def _finished(status: Status) -> Callable[[Raw], Event]:
    def translate(data: Raw) -> Event:
        result: Raw = data.get("res") or {}
        message, output, kind = _message(result), _output(result), _error_kind(result)
        if status == Status.UNREACHABLE:
            message = unreachable.message(str(data.get("host", "")), message, data["reached"])
        elif status == Status.FAILED and (found := unreachable.cause(f"{message}\n{output}")):
            (message, kind), output = found, ""
        changed = result.get("changed") is True
        ended = _status(status, data, changed=changed)
        return TaskResult(
            host=str(data.get("host", "")),
            task=_task(data),
            module=_module(data),
            status=ended,
            changed=changed and ended in (Status.CHANGED, Status.IGNORED),
            diff=_gathered(result, "diff"),
            plan=_gathered(result, "plan"),
            message=message,
            error_kind=kind,
            output=output if status == Status.FAILED else "",
            seconds=round(float(data.get("duration") or 0), 3),
            warnings=_warnings(result),
            backup_id=next((str(i["backup_id"]) for i in _items(result) if "backup_id" in i), ""),
            headline=_text(result.get("headline")),
            map=next((dict(i["map"]) for i in _items(result) if i.get("map")), {}),
        )

    return translate


def _status(status: Status, data: Raw, *, changed: bool) -> Status:
    if status == Status.OK and changed:
        return Status.CHANGED
    if status in (Status.FAILED, Status.UNREACHABLE) and data.get("ignore_errors"):
        return Status.IGNORED
    return status


def _items(result: Raw) -> list[Raw]:
    """The results of a loop's items, or the result itself."""
    results = result.get("results")
    if isinstance(results, list) and results and all(isinstance(item, Mapping) for item in results):
        return list(results)
    return [result]


def _gathered(result: Raw, key: str) -> list[dict[str, Any]]:
    """The diffs, or plans, of a result and of its loop's items."""
    found = []
    for item in _items(result):
        value = item.get(key) or []
        entries = value if isinstance(value, list) else [value]
        found += [dict(entry) for entry in entries if isinstance(entry, Mapping) and entry]
    return found


def _message(result: Raw) -> str:
    items = _items(result)
    failed = [item for item in items if item.get("failed")] if items != [result] else []
    if failed:
        return "\n".join(f"{_label(item)}: {_text(item.get('msg'))}" for item in failed)
    if "msg" not in result and result.get("_ansible_verbose_always"):
        shown = {k: v for k, v in result.items() if not k.startswith("_") and k != "changed"}
        return json.dumps(shown, ensure_ascii=False, default=str)
    return _text(result.get("msg")) or _text(result.get("censored"))


def _label(item: Raw) -> str:
    return _text(item.get("_ansible_item_label", item.get("item")))


def _text(value: object) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, default=str)


def _error_kind(result: Raw) -> str:
    return next((str(item["error_kind"]) for item in _items(result) if "error_kind" in item), "")


def _output(result: Raw) -> str:
    """The output of a failed command, or of a module that crashed."""
    names = ("module_stderr", "module_stdout", "stderr", "stdout")
    texts = [_text(item.get(name)) for item in _items(result) for name in names]
    return "\n".join(dict.fromkeys(text for text in texts if text))


def _warnings(result: Raw) -> list[str]:
    """The texts of a result's warnings."""
    entries = result.get("warnings") or []
    return [str(each.get("msg", each) if isinstance(each, Mapping) else each) for each in entries]


def _recap(data: Raw) -> Event:
    """Ansible's counts per host, its own names for them."""
    keys = {"dark": "unreachable", "failures": "failed"}
    names = ("ok", "changed", "dark", "failures", "skipped", "rescued", "ignored")
    hosts = sorted(data.get("processed") or {})
    return Recap(
        {
            host: HostCounts(
                **{keys.get(name, name): int((data.get(name) or {}).get(host, 0)) for name in names}
            )
            for host in hosts
        }
    )


def _no_hosts(_data: Raw) -> Event:
    return Notice("warning", "no host matches the play and --limit: nothing was done")


def _retry(data: Raw) -> Event:
    result: Raw = data.get("res") or {}
    tried, tries = result.get("attempts", "?"), result.get("retries", "?")
    return Notice("warning", f"{_task(data)}: tried {tried} of {tries} times; trying again")


_TRANSLATORS: dict[str, Callable[[Raw], Event]] = {
    "playbook_on_play_start": _play_started,
    "playbook_on_task_start": _task_started,
    "playbook_on_handler_task_start": _task_started,
    "playbook_on_no_hosts_matched": _no_hosts,
    "playbook_on_stats": _recap,
    "runner_on_ok": _finished(Status.OK),
    "runner_on_failed": _finished(Status.FAILED),
    "runner_on_async_failed": _finished(Status.FAILED),
    "runner_on_async_ok": _finished(Status.OK),
    "runner_on_skipped": _finished(Status.SKIPPED),
    "runner_on_unreachable": _finished(Status.UNREACHABLE),
    "runner_retry": _retry,
}
