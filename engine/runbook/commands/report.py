"""``runbook report``: what one run changed on a target, from the target's own journal."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runbook.commands.history import ask, totals
from runbook.commands.options import QUERY, SETTINGS, inventory, with_options
from runbook.errors import ExitCode, RunbookError
from runbook.events.render import interchange, text
from runbook.events.render.people import is_terminal
from runbook.events.render.report.markdown import escaped, fenced

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runbook.events.model import Event

#: A run of the journal (schemas/history.schema.json).
Run = Mapping[str, Any]

#: Lines of one difference.
SHOWN = 60


@click.command("report", context_settings=SETTINGS)
@click.argument("run", metavar="RUN|PLAN")
@click.option("-o", "--out", metavar="FILE", type=click.Path(path_type=Path),
              help="Write the report that --report of apply writes: .html or .md.")  # fmt: skip
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json", "junit", "navigator"]),
    default="text",
    show_default=True,
    help="For people; for programs, CI or ansible-navigator replay.",
)
@with_options([inventory(required=False)], QUERY)
@click.pass_context
def report(
    context: click.Context, /, run: str, *, out: Path | None, form: str, **options: Any
) -> int:
    """The changes of RUN on a target, step by step; `runbook history` lists the runs.

    RUN may be the beginning of its id, or newest. With -o its report is a file, for which PLAN may
    be a plan file; without -i RUN is one of this machine's journal then, a check run too.
    """
    if out:
        _write(out, run, options, given=form != "text" or options["as_json"])
        return ExitCode.OK
    if options["target"] is None:
        raise click.UsageError("Give -i TARGET, or -o FILE for a report as a file.", context)
    runs, code = _asked(options, run)
    _show(_WRITTEN["json" if options["as_json"] else form](runs))
    return code


def _show(said: str) -> None:
    """Print it; at a terminal that it does not fit on, its beginning first, by the pager."""
    fits = said.count("\n") + 1 < shutil.get_terminal_size().lines
    if fits or not is_terminal(sys.stdout):
        click.echo(said)
    else:
        click.echo_via_pager(f"{said}\n")


def _asked(options: Mapping[str, Any], run: str) -> tuple[dict[str, Run], ExitCode]:
    """A run as the journals of a target's hosts have it; the exit code of those that do not."""
    answers, code = ask(options, run=run)
    return {host: answer["runs"][0] for host, answer in answers.items()}, code


def _write(out: Path, run: str, options: Mapping[str, Any], *, given: bool) -> None:
    """Write the report; RunbookError when it cannot be written."""
    from runbook.events.render.report.file import ReportFile

    if given:
        raise click.UsageError("The name of -o FILE says its format: give no other.")

    def fail(message: str) -> None:
        raise RunbookError(message)

    write = ReportFile(out, fail)
    for event in _events(run, options):
        write(event)
    click.echo(f"The report is in {out}.")


def _events(run: str, options: Mapping[str, Any]) -> Sequence[Event]:
    """The events of a plan file or a run; of one that this machine has started, as it kept them."""
    from runbook.events import journal
    from runbook.flow import report as reported
    from runbook.load import plan_file

    if plan_file.is_plan(run):
        if options["target"]:
            raise click.UsageError("A plan file names its target: give no -i.")
        return reported.of_plan(plan_file.read(run))
    if options["target"] is None:
        return reported.of_kept(journal.named(run))
    runs, _ = _asked(options, run)
    ids = {each["run"] for each in runs.values()}
    kept = [each for each in journal.runs() if {each.run_id} == ids]
    return reported.of_kept(kept[0]) if kept else reported.of_history(options["target"], runs)


def _each(written: Callable[[str, Run], list[str]], runs: Mapping[str, Run]) -> str:
    return "\n".join(line for host, run in runs.items() for line in written(host, run))


def plain(host: str, run: Mapping[str, Any]) -> list[str]:
    """A run for the terminal and for files."""
    told = [f"{run['run']} on {host}: {run['outcome']}", *(f"  {line}" for line in _about(run))]
    for step in run["steps"]:
        told.append(f"{_headline(step)}: {step['outcome']}")
        told += [f"  {line}" for line in _notes(step)]
        for change in text.real(step["changes"]):
            told.append(f"  {text.item(change)}")
            told += [f"    {line}" for line in _difference(change)]
    return told


def markdown(host: str, run: Mapping[str, Any]) -> list[str]:
    """A run for an issue or a pull request."""
    told = [f"## Run {run['run']} on {host}: {run['outcome']}", ""]
    told += [f"- {escaped(line)}" for line in _about(run)]
    for step in run["steps"]:
        told += ["", f"### {escaped(_headline(step))}: {step['outcome']}", ""]
        told += [f"- {escaped(line)}" for line in _notes(step)]
        for change in text.real(step["changes"]):
            told.append(f"- {escaped(text.item(change))}")
            difference = _difference(change)
            if difference:
                told += ["", *(f"  {line}" for line in fenced(difference)), ""]
    return told


#: By format, the text of the runs by host.
_WRITTEN: Mapping[str, Callable[[Mapping[str, Run]], str]] = {
    "text": lambda runs: _each(plain, runs),
    "markdown": lambda runs: _each(markdown, runs),
    "json": lambda runs: json.dumps({"hosts": runs}),
    "junit": interchange.junit,
    "navigator": lambda runs: interchange.navigator(runs, _each(plain, runs).splitlines()),
}


def _about(run: Mapping[str, Any]) -> Iterator[str]:
    yield f"{run['playbook'] or 'no playbook'}, by {run['operator']}"
    yield f"{text.minute(run['at'])} to {text.moment(run['until'])}"
    if rows := text.counts(totals(run["steps"])):
        yield rows
    if run.get("plan"):
        yield f"applied the plan file with SHA-256 {run['plan']}"
    if run["outcome"] == "stopped":
        yield "it has not given its lease back: it was cut off after its last step"
    if run["torn_lines"]:
        lines = text.number(run["torn_lines"], "line")
        yield f"{lines} of its journal cannot be read: a process was killed while it wrote"


def _headline(step: Mapping[str, Any]) -> str:
    return f"{step['task']} ({step['module']} on {step['host']}, {step['at'][11:19]})"


def _notes(step: Mapping[str, Any]) -> Iterator[str]:
    if step.get("message"):
        yield text.one_line(step["message"], 2000)
    if step["outcome"] in ("unfinished", "unknown"):
        yield text.UNKNOWN_END
    if step.get("backup_id"):
        yield f"backup {step['backup_id']}"
    if step.get("transaction"):
        yield f"transaction {step['transaction']} of the database"


def _difference(change: Mapping[str, Any]) -> list[str]:
    """Before and after, as lines of a unified diff without its headers."""
    lines = text.changed_lines(change)
    more = len(lines) - SHOWN
    return lines if more <= 0 else [*lines[:SHOWN], f"... and {text.number(more, 'line')} more"]
