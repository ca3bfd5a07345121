"""The output of ``runbook status``, compared with files (RENEW=1 writes them) and its schema."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from rich.console import Console

from runbook.cli import cli
from runbook.commands import status
from runbook.errors import ExitCode
from runbook.events.render.report import loop
from runbook.flow import query
from runbook.load import schemas

CASES = Path(__file__).resolve().parent.parent / "cases" / "status"

RUN = {
    "mode": "regular", "aoi_name": "ghana", "aoi_index": 3, "run_id": 1, "applied_by": "postgis",
    "applied_at": "2026-01-02T03:04:05+00:00", "backup_id": None, "uploads_pending": False,
}  # fmt: skip
SKIPPED = {"skipped": True, "changed": False}


def metrics(*accuracies: float | None) -> list[dict[str, Any]]:
    return [
        {"iteration": n, "accuracy": a, "tss": a and a - 0.3, "auc": a}
        for n, a in enumerate(accuracies)
    ]


def turn(phase: str, iteration: int, processed: int, **more: Any) -> dict[str, Any]:
    return {
        "phase": phase, "mode": "regular", "iteration": iteration, "applied_at": RUN["applied_at"],
        "total": 1200, "processed": processed, "blocked": 0, "failed_labels": 0,
        "metrics": metrics(None), "waits_for": "the learner", "changed": False, "plan": [],
        "criteria": {"max_iterations": 30, "accuracy": 0.85, "gain": 0.01}, "hours": [], **more,
    }  # fmt: skip


def cluster(state: str, *steps: str, **more: Any) -> dict[str, Any]:
    states = [{"name": f"step {n}", "state": each} for n, each in enumerate(steps, 1)]
    return {
        "cluster_id": "j-ABC", "state": state, "steps": states, "elapsed": 5400, "cost": 16.77,
        "hourly_ceiling": 11.18, "summary": f"j-ABC {state} after 1 h 30 min, at most 16.77 dollars so far",
        "changed": False, **more,
    }  # fmt: skip


BACKUP = {
    "backups": [
        {
            "backup_id": "20260102T030400Z-1a2b", "created": "2026-01-02T03:04:00Z", "rows": 18_023,
            "intact": True, "problems": [], "finished": True, "tables": 19, "bytes": 12, "database": "Africa",
        }
    ]
}  # fmt: skip
MARKED: dict[str, Any] = {"label": "", "inconsistencies": []}
ANSWERS: dict[str, dict[str, Any]] = {
    "none": {"run": None, "turn": SKIPPED, "learner": SKIPPED},
    "restored": {
        "marker": {**MARKED, "label": "restored tables of an unknown run"},
        "run": None, "turn": SKIPPED, "learner": SKIPPED,
    },
    "inconsistencies": {
        "marker": {**MARKED, "inconsistencies": ["incoming_names has no names of run 1"]},
        "run": RUN,
        "turn": turn("complete", 14, 1200),
        "learner": {"done": False, **cluster("RUNNING", "COMPLETED", "RUNNING", "PENDING")},
    },
    "mapping": {
        "run": RUN,
        "turn": turn("mapping", 0, 34, blocked=2, failed_labels=1,
                     waits_for="mappers: 1,166 sites of iteration 0 are open"),
        "learner": SKIPPED,
    },
    "locked": {
        "lease": {
            "number": 7, "holder": "olli@laptop", "since": "2026-01-02T03:04:05+00:00",
            "state": "locked", "reason": "moving the grid", "until": "2026-01-02T11:04:05+00:00",
        },
        "run": RUN, "turn": turn("mapping", 0, 34), "learner": SKIPPED,
    },
    "held": {
        "lease": {
            "number": 8, "holder": "olli@laptop, process 12", "reason": None, "until": None,
            "since": "2026-01-02T03:04:05+00:00", "state": "working",
        },
        "run": None, "turn": SKIPPED, "learner": SKIPPED,
    },
    "serving": {
        "service": {"daemons": ["create_hit_daemon"], "crontab": True},
        "run": RUN, "turn": turn("mapping", 0, 34), "learner": SKIPPED,
    },
    "out_of_service": {
        "service": {"daemons": [], "crontab": False},
        "run": RUN, "turn": turn("mapping", 0, 34), "learner": SKIPPED,
    },
    "cut_short": {
        "newest_run": {
            "run": "20260102T030405-37eb60", "at": "2026-01-02T03:04:05Z", "operator": "olli@laptop",
            "playbook": "reset.yml", "outcome": "stopped",
            "steps": [{"task": "Remove the crontab", "outcome": "done"},
                      {"task": "Stop the daemons", "outcome": "done"}],
        },
        "run": RUN, "turn": turn("mapping", 0, 34), "learner": SKIPPED,
    },
    "due": {
        "run": RUN,
        "turn": turn("complete", 0, 1200),
        "learner": {"done": False, "cluster_id": "", "steps": [], "summary": "no cluster yet"},
    },
    "running": {
        "run": RUN,
        "turn": turn("complete", 14, 1200,
                     metrics=metrics(None, *(0.6 + n / 50 for n in range(14)))),
        "learner": {"done": False, **cluster("RUNNING", "COMPLETED", "RUNNING", "PENDING")},
    },
    "done": {
        "run": RUN,
        "turn": turn("complete", 1, 1200, metrics=metrics(None, 0.7123)),
        "learner": {"done": True, **cluster("TERMINATED", "COMPLETED", "COMPLETED")},
    },
    "failed": {
        "run": RUN,
        "turn": turn("complete", 1, 1200, metrics=metrics(None, 0.7123)),
        "learner": cluster(
            "TERMINATED_WITH_ERRORS", "COMPLETED", "FAILED", error_kind="failed", reported=True,
            will_retry=False, msg="learner failed: step 2 failed\nlogs: s3://b/logs/j-ABC/",
        ),
    },
    "lost": {
        "run": RUN,
        "turn": turn("complete", 1, 1200, metrics=metrics(None, 0.7123)),
        "learner": cluster(
            "TERMINATED_WITH_ERRORS", "CANCELLED", error_kind="failed", reported=True, will_retry=True,
            msg="learner failed: nodes were lost",
        ),
    },
    "unreachable": {
        "run": RUN,
        "turn": turn("complete", 1, 1200, metrics=metrics(None, 0.7123)),
        "learner": {"error_kind": "unreachable", "msg": "EMR does not answer", "changed": False},
    },
    "stopped": {
        "run": RUN,
        "turn": turn("stopped", 2, 0, total=0, metrics=metrics(None, 0.7123, 0.99),
                     waits_for="nothing: the loop has ended"),
        "learner": {"done": True, **cluster("TERMINATED", "COMPLETED", "COMPLETED")},
    },
}  # fmt: skip


def answer(name: str) -> dict[str, Any]:
    return {
        "marker": MARKED,
        "lease": None,
        "backup": BACKUP,
        "timeout": 21_600,
        "geography": {},
        **ANSWERS[name],
    }


@pytest.mark.parametrize(
    ("mode", "phase", "said"),
    [("regular", "complete", True), ("regular", "stopped", False), ("initial", "complete", False)],
)
def test_at_the_end_of_a_run_no_daemon_needs_to_run(mode: str, phase: str, said: bool) -> None:
    found = loop.state(answer("out_of_service"))
    found = {**found, "phase": phase, "run": {**found["run"], "mode": mode}}
    reasons = loop.instance("labeller3", found).reasons
    assert any("out of service" in each for each in reasons) is said


def held(name: str, shown: str) -> None:
    path = CASES / name
    if os.environ.get("RENEW"):
        path.write_text(shown)
    assert shown == path.read_text()


@pytest.mark.parametrize("name", ANSWERS)
def test_text(name: str) -> None:
    held(
        f"{name}.txt",
        "\n".join(status.lines(loop.instance("labeller3", loop.state(answer(name))))) + "\n",
    )


@pytest.mark.parametrize("name", ["none", "running", "failed"])
def test_terminal(name: str) -> None:
    shown = io.StringIO()
    console = Console(
        file=shown, force_terminal=True, width=100, color_system="standard", legacy_windows=False
    )
    console.print(status.panel(loop.instance("labeller3", loop.state(answer(name)))))
    held(f"{name}.ansi", shown.getvalue())


@pytest.mark.parametrize("name", ANSWERS)
def test_json_is_as_its_schema_says(name: str) -> None:
    schemas.validator("status").validate(
        {"hosts": {"labeller3": loop.state(answer(name))}, "failed": {}}
    )


def test_the_schema_refuses_a_run_without_its_sites() -> None:
    found = loop.state(answer("mapping"))
    del found["total"]
    with pytest.raises(jsonschema.ValidationError):
        schemas.validator("status").validate({"hosts": {"labeller3": found}, "failed": {}})


@pytest.mark.parametrize(
    ("name", "waits_for"),
    [
        ("due", "the next call of iterate.yml, which starts the learner"),
        ("running", "the learner"),
        ("done", "the next call of iterate.yml, which takes in what the learner brought"),
        ("failed", "a person: see the learner's failure"),
        ("lost", "the next call of iterate.yml, which starts the learner again"),
        ("unreachable", "the learner, of which nothing could be found out"),
    ],
)
def test_what_a_complete_iteration_waits_for(name: str, waits_for: str) -> None:
    assert loop.state(answer(name))["waits_for"] == waits_for


def test_it_says_where_the_report_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On the standard error: the output may be for a program."""
    found = query.Answers({"labeller3": answer("mapping")}, {}, ExitCode.OK)
    monkeypatch.setattr(query, "survey", lambda *_: found)
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path))
    file = tmp_path / "page.html"
    asked = ["status", "-i", "labeller3", "--report", str(file), "--json"]
    done = CliRunner().invoke(cli, asked, catch_exceptions=False)
    assert done.stderr == f"The report is in {file}.\n"
    assert json.loads(done.stdout)["failed"] == {}
    assert file.exists()
