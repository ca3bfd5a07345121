"""A report as Markdown: a comment on a pull request, as GitHub, GitLab and Bitbucket render it."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runbook.events.render.report.content import Content, Step
    from runbook.events.render.report.loop import Instance, Loop
    from runbook.events.render.report.maps import Map
    from runbook.events.render.summary import Found

#: The longest comment that GitHub takes, in characters.
LIMIT = 65_536
#: The first line: which comment of a pull request a report replaces.
MARKER = re.compile(r"<!-- runbook: .* -->")
#: Characters of one section but for the steps, and for what ends the report.
_SECTION, _END = 9_000, 400

_SPECIAL = re.compile(r"([\\`*_\[\]|~])")
#: Texts that GitHub turns into a mention or a link to an issue.
_REFERENCE = re.compile(r"(?<!\w)([@#])(?=\w)")


def markdown(content: Content) -> str:
    """The report: counts first, then losses; as many steps, folded, as ``LIMIT`` has room for."""
    parts = [
        f"<!-- runbook: {_comment(content.playbook)} on {_comment(content.target)} -->",
        f"## {escaped(content.title)}",
        f"**{escaped(content.verdict)}**",
        *(escaped(line) for line in content.following),
        *([f"Plan file: SHA-256 `{content.plan_sha256}`"] if content.plan_sha256 else []),
        *(f"> {escaped(line)}" for line in content.headlines),
        _counts(content),
        *(_cut(section) for section in _sections(content)),
    ]
    done = _cut("\n\n".join(parts), LIMIT * 3 // 4)
    steps = list(_steps(content))
    for number, step in enumerate(steps):
        if len(done) + len(step) + 2 > LIMIT - _END:
            left = len(steps) - number + content.steps_left
            return f"{done}\n\n{left:,} more steps: see the HTML report or the run's journal.\n"
        done += f"\n\n{step}"
    if content.steps_left:
        done += f"\n\n{content.steps_left:,} more steps: see the run's journal."
    return done + "\n"


def loop_markdown(content: Loop) -> str:
    """The loop on a target's hosts, the worst first, with the plots' numbers as tables."""
    heads = "| state | instance | why, and what it waits for |\n|---|---|---|"
    rows = [
        f"| {each.word} | {escaped(each.host)} "
        f"| {escaped('; '.join([*each.reasons, each.fact('waits for')]).strip('; '))} |"
        for each in content.instances
    ]
    parts = [
        f"## The loop on {escaped(content.target)}",
        f"As of {content.at}.",
        "\n".join([heads, *rows]),
        *(_cut("\n\n".join(_instance(each))) for each in content.instances),
    ]
    return _cut("\n\n".join(parts), LIMIT - _END) + "\n"


def _instance(instance: Instance) -> Iterator[str]:
    yield f"### {escaped(instance.host)}: {instance.word}"
    if instance.reasons:
        yield "\n".join(f"- {escaped(reason)}" for reason in instance.reasons)
    if instance.facts:
        facts = (
            f"| {name} | {'<br>'.join(map(escaped, said.splitlines()))} |"
            for name, said in instance.facts
        )
        yield "\n".join(["| | |", "|---|---|", *facts])
    for plot in instance.plots:
        yield _folded(f"{plot.title}: {escaped(plot.description)}", _table(plot.header, plot.rows))
    if instance.map:
        yield _map(instance.map)


def _map(drawn: Map) -> str:
    """The numbers of a map; Markdown that GitHub renders has no drawings."""
    notes = "".join(f"\n- {escaped(note)}" for note in drawn.notes)
    body = _table(drawn.header, drawn.rows) + ("\n" + notes if notes else "")
    return _folded(f"{escaped(drawn.title)}: {escaped(drawn.description)}", body)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], others: str = "---") -> str:
    lines = [header, ["---", *[others] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(escaped, row))} |" for row in lines)


def _sections(content: Content) -> Iterator[str]:
    if content.by_host:
        head, *rows = content.by_host
        yield f"### What is lost where\n\n{_table(head, rows, '--:')}"
    for found in content.losses:
        yield f"### Deleted, replaced or stopped{_on(found, content)}\n\n{_losses(found)}"
    if content.kept:
        kept = "\n".join(
            f"- backup `{_code(backup)}` ({escaped(task)})" for backup, task in content.kept
        )
        yield f"### Where it is kept\n\n{kept}"
    for found in content.made:
        made = "\n".join(_bullet(line) for line in found.made)
        yield f"### Made or changed{_on(found, content)}\n\n{made}"
    yield from (_map(drawn) for drawn in content.maps)
    if content.warnings:
        lines = "\n".join(f"- {escaped(line)}" for line in content.warnings)
        yield f"### Warnings\n\n{lines}"
    if content.parameters:
        pairs = [f"| `{_code(name)}` | `{_code(value)}` |" for name, value in content.parameters]
        table = "\n".join(["| name | value |", "|---|---|", *pairs])
        yield _folded("Parameters that differ from their defaults", table)


def _on(found: Found, content: Content) -> str:
    return f" on {escaped(found.hosts[0])}" if content.several else ""


def _counts(content: Content) -> str:
    names = " | ".join(content.counts)
    numbers = " | ".join(f"{number:,}" for number in content.counts.values())
    return f"| {names} |\n|{'--:|' * len(content.counts)}\n| {numbers} |"


def _losses(found: Found) -> str:
    rows = [
        f"| `{_code(table)}` | {number:,} | {label} |"
        for label, by_table in found.rows.items()
        for table, number in by_table.items()
    ]
    table = ["| table | rows | what |\n|---|--:|---|\n" + "\n".join(rows)] if rows else []
    others = ["\n".join(f"- {escaped(line)}" for line in found.others)] if found.others else []
    return "\n\n".join(table + others)


def _steps(content: Content) -> Iterator[str]:
    """Each step that did something or failed, what it changed folded below it."""
    for step in content.steps:
        if not (step.diff or step.said or step.failure):
            continue
        where = f" [{step.host}]" if content.several else ""
        title = escaped(f"{step.status}: {step.name}{where}")
        yield _folded(title, _body(step))


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _body(step: Step) -> str:
    said = [escaped(step.said)] if step.said else []
    lines = [*step.failure, *step.diff]
    if step.left_out:
        lines.append(f"… {step.left_out:,} more lines")
    code = ["\n".join(fenced(lines))] if lines else []
    return "\n\n".join(said + code)


def fenced(lines: Sequence[str]) -> list[str]:
    """Lines of a diff as a block of code, whatever backticks they hold."""
    runs = [len(run) for line in lines for run in re.findall("`+", line)]
    fence = "`" * max(3, 1 + max(runs, default=0))
    return [f"{fence}diff", *lines, fence]


def _bullet(line: str) -> str:
    indent = len(line) - len(line.lstrip())
    return f"{' ' * indent}- {escaped(line.strip())}"


def escaped(given: str) -> str:
    """Text without markup and without mentions of people or issues."""
    escaped = html.escape(_SPECIAL.sub(r"\\\1", given), quote=False)
    return _REFERENCE.sub("\\1\N{WORD JOINER}", escaped)


def _code(given: str) -> str:
    """Text between backticks, in a table."""
    return given.replace("`", "'").replace("|", "\\|")


def _comment(given: str) -> str:
    """Text in an HTML comment, which ``--`` would end."""
    return re.sub(r"[^\w./ -]|--", "?", given)[:200]


def _cut(section: str, characters: int = _SECTION) -> str:
    """A section without the lines that are too many."""
    if len(section) <= characters:
        return section
    lines, kept, room = section.split("\n"), [], characters
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    closing = "\n\n</details>" if section.startswith("<details>") else ""
    return "\n".join(kept) + f"\n\n… {len(lines) - len(kept):,} more lines" + closing
