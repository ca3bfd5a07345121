"""``runbook status``: where a target's run is: sites, learner, metrics, and what it waits for.

Read only. The modules that iterate.yml decides by are asked on the target (``status.yml``).
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runbook.commands.options import QUERY, SETTINGS, TARGETS, with_options
from runbook.errors import ExitCode, RunbookError
from runbook.events.render import text
from runbook.events.render.report import loop
from runbook.flow import query
from runbook.flow.drift import recorded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import RenderableType

    from runbook.events.render.report.loop import Instance, Loop

#: The length of a whole bar.
WIDTH = 40
#: Seconds between two looks with --watch, and the fewest.
EVERY, FEWEST = 60, 5


#: Of a host that an operator must look at.
COLOURS = {loop.Level.LOOK: "yellow", loop.Level.STOPPED: "red"}


@click.command("status", context_settings=SETTINGS)
@with_options([TARGETS], QUERY)
@click.option("--report", "reports", multiple=True, metavar="FILE", type=click.Path(path_type=Path),
              help="Write it to a file: .html to look at, .md for an issue.")  # fmt: skip
@click.option("--watch", "every", is_flag=False, flag_value=EVERY, metavar="[SECONDS]",
              type=click.IntRange(FEWEST),
              help=f"Look again every {EVERY} or SECONDS s, until Ctrl-C.")  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="Of several hosts all that is known of each.")
def status(*, reports: tuple[Path, ...], every: int | None, **options: Any) -> int:
    """Where the run on a target is, its learner, its metrics, and what it waits for.

    Of several hosts a table, the worst first.

    Changes nothing. A failed learner is reported; the exit code says only whether the status could
    be determined: of several hosts those that cannot be asked are reported too, and it is theirs.
    """
    from runbook.events.render.report import file

    if every and options["as_json"]:
        raise click.UsageError("Give --watch or --json, not both.")
    if every and (options["ask_vault_password"] or "@prompt" in "".join(options["vault_id"])):
        raise click.UsageError("--watch asks for no password: give --vault-password-file.")
    for path in reports:
        file.verify(path)
    if not every:
        return _once(options, reports)
    _watch(options, reports, every)
    return ExitCode.OK


def _once(options: Mapping[str, Any], reports: tuple[Path, ...]) -> int:
    """Ask, show and write; RunbookError when a report cannot be written."""
    answers = _ask(options, reports)
    states = _states(answers)
    content = _content(options, answers, states)
    if options["as_json"]:
        click.echo(json.dumps({"hosts": states, "failed": dict(answers.failed)}))
    else:
        _show(content, whole=options["verbose"])
    if problems := _write(content, reports):
        raise RunbookError("\n".join(problems))
    for path in reports:
        click.echo(f"The report is in {path}.", err=True)
    return answers.exit_code


def _ask(options: Mapping[str, Any], reports: tuple[Path, ...]) -> query.Answers:
    """Ask each target. Of several, one that cannot be asked at all is reported like a host.

    For maps only when they are drawn: each reads the pool from S3.
    """
    drawn = any(path.suffix == ".html" for path in reports)
    names = dict.fromkeys(options["targets"])
    answers = {}
    for name in names:
        try:
            asked = {**options, "target": name}
            found = query.survey("status", asked, {"status": {"map": drawn}})
            known = {
                host: {**each, "drift": recorded(name, host)} for host, each in found.found.items()
            }
            answers[name] = replace(found, found=known)
        except RunbookError as error:
            if len(names) == 1:
                raise
            answers[name] = query.Answers({}, {name: str(error)}, ExitCode(error.exit_code))
    return query.merged(answers)


def _states(answers: query.Answers) -> dict[str, dict[str, Any]]:
    return {host: loop.state(answer) for host, answer in answers.found.items()}


def _content(
    options: Mapping[str, Any],
    answers: query.Answers,
    states: Mapping[str, Any],
    every: int | None = None,
) -> Loop:
    places = {host: answer["geography"] for host, answer in answers.found.items()}
    at = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return loop.content(", ".join(options["targets"]), at, states, answers.failed, every, places)


def _watch(options: Mapping[str, Any], reports: tuple[Path, ...], every: int) -> None:
    """Do the same again and again; what cannot be asked or written now may be the next time.

    At its end by Ctrl-C the pages stop loading themselves again.
    """
    content: Loop | None = None
    try:
        while True:
            try:
                answers = _ask(options, reports)
                content = _content(options, answers, _states(answers), every)
            except RunbookError as error:
                if content is None:
                    raise
                click.echo(str(error), err=True)
            else:
                click.clear()
                _show(content, whole=options["verbose"])
                for problem in _write(content, reports):
                    click.echo(problem, err=True)
            time.sleep(every)
    finally:
        if content:
            _write(loop.ended(content), reports)


def _write(content: Loop, reports: tuple[Path, ...]) -> list[str]:
    """Write the reports; gives the problems of those that cannot be written."""
    from runbook.events.render.report import markdown, page
    from runbook.home import write_whole

    problems = []
    for path in reports:
        rendered = page.loop_page if path.suffix == ".html" else markdown.loop_markdown
        try:
            write_whole(path, rendered(content))
        except OSError as error:
            problems.append(f"the report {path} was not written: {error.strerror}")
    return problems


def _show(content: Loop, *, whole: bool) -> None:
    from runbook.events.render.people import WIDEST, is_terminal

    terminal = is_terminal(sys.stdout)
    if len(content.instances) > 1:
        room = min(shutil.get_terminal_size().columns, WIDEST) if terminal else WIDEST
        for line, colour in table(content, room):
            click.echo(click.style(line, fg=colour or None))
        if not whole:
            return
    if not terminal:
        for instance in content.instances:
            click.echo("\n".join(lines(instance)))
        return
    from rich.console import Console

    for instance in content.instances:
        Console().print(panel(instance))


def table(content: Loop, width: int) -> Iterator[tuple[str, str]]:
    """Lines of at most ``width`` columns and their colours: a head, a row for each host.

    The worst comes first, and why an operator must look at it below its row.
    """
    head = ("host", "state", "run/iteration", "sites", "accuracy", "waits for")
    rows = [head, *map(_row, content.instances)]
    for instance, line in zip([None, *content.instances], text.columns(rows), strict=True):
        colour = COLOURS.get(instance.level, "") if instance else ""
        yield line if len(line) <= width else f"{line[: width - 1]}…", colour
        for reason in instance.reasons if instance and colour else ():
            for part in textwrap.wrap(reason, width - 4):
                yield f"    {part}", colour


def _row(instance: Instance) -> tuple[str, ...]:
    done, total = instance.done or (0, 0)
    run = instance.fact("run").partition(",")[0]
    return (
        instance.host,
        instance.word,
        f"{run}/{instance.fact('iteration')}" if instance.done else run,
        f"{done:,}/{total:,}" if total else "",
        f"{instance.chart[-1][1]:.3f}" if instance.chart else "",
        instance.fact("waits for"),
    )


def _bars(instance: Instance, full: str) -> list[tuple[str, str, str, str]]:
    """The chart's rows: iteration, accuracy, a bar of it from ``full``, TSS."""
    return [
        (
            str(number),
            f"{accuracy:.3f}",
            full * round(min(max(accuracy, 0), 1) * WIDTH),
            "" if tss is None else f"TSS {tss:.3f}",
        )
        for number, accuracy, tss in instance.chart
    ]


def lines(instance: Instance) -> list[str]:
    """A host's state for files and pipes."""
    told = [f"{instance.host}: {instance.word}", *(f"  {each}" for each in instance.reasons)]
    for label, said in instance.facts:
        first, *more = said.splitlines()
        told.append(f"  {label:<10} {first}")
        told += [f"  {'':<10} {line}" for line in more]
    for number, accuracy, bar, tss in _bars(instance, "#"):
        told.append(f"  {number:>10} {accuracy} |{bar:<{WIDTH}}| {tss}".rstrip())
    return told


def panel(instance: Instance) -> RenderableType:
    """A host's state for a terminal; why a person must look at it is last, where it is seen."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    style = COLOURS.get(instance.level, "")
    told = Table.grid(padding=(0, 1))
    told.add_column(style="bold", min_width=12)
    told.add_column()
    for label, said in instance.facts:
        told.add_row(f"  {label}", Text(said))
        if label == "sites" and instance.done:
            done, total = instance.done
            told.add_row("", ProgressBar(total or 1, done, WIDTH))
    for number, accuracy, bar, tss in _bars(instance, "█"):
        chart = Text.assemble((f"{accuracy} "), (f"{bar:<{WIDTH}}", "green"), f" {tss}")
        told.add_row(Text(number, justify="right"), chart)
    head = Text.assemble((instance.host, "bold cyan"), ": ", (instance.word, style))
    reasons = (
        Padding(Text(f"{instance.word}: {each}", style), (0, 0, 0, 2)) for each in instance.reasons
    )
    return Group(head, told, *reasons)
