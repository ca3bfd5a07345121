"""The command line. Imports nothing heavy: ``runbook --help`` answers at once."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import io
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from runbook import __version__
from runbook.commands.options import SETTINGS, Group
from runbook.errors import ExitCode, InvalidInputError, RunbookError
from runbook.home import home
from runbook.processes import silence

if TYPE_CHECKING:
    from collections.abc import Callable

#: Commands in the order of ``--help``: where each is, and its help in a line.
COMMANDS = {
    "apply": ("runbook.commands.apply:apply", "Validate, show the plan, confirm, do it."),
    "plan": ("runbook.commands.apply:plan", "Check, and save the plan to be applied once."),
    "resume": ("runbook.commands.resume:resume", "Finish a run that was killed or failed."),
    "validate": ("runbook.commands.validate:validate", "Check playbooks and inventories, offline."),
    "list": ("runbook.commands.show:list_", "The run modes and the targets."),
    "show": ("runbook.commands.show:show", "One run mode: its steps and its parameters."),
    "status": ("runbook.commands.status:status", "Where a target's run and its learner are."),
    "drift": ("runbook.commands.drift:drift", "What on a target is not as a playbook says."),
    "doctor": ("runbook.commands.doctor:doctor", "Whether a target can be operated."),
    "lock": ("runbook.commands.lock:lock", "Hold a target: every apply is refused."),
    "unlock": ("runbook.commands.lock:unlock", "Give a target back, or take it from its holder."),
    "history": ("runbook.commands.history:history", "Which runs changed a target, and how."),
    "report": ("runbook.commands.report:report", "What one run changed, step by step."),
    "undo": ("runbook.commands.undo:undo", "Put back what a run changed."),
    "backups": ("runbook.commands.backups:group", "A target's backups: list, verify, show, prune."),
    "init": ("runbook.commands.init:init", "Make an operations repository."),
    "comment": ("runbook.commands.comment:comment", "Reports as comments of a pull request."),
    "sandbox": ("runbook.commands.sandbox:group", "The embedded target: up, down, status, reset."),
    "docs": ("runbook.commands.docs:docs", "The documentation, by topic."),
}  # fmt: skip


class LazyGroup(Group):
    """Imports a command when it is called; suggests the one that was meant."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table: nothing is imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="runbook")
def cli() -> None:
    """Declarative, checked, repeatable operations for labeller and learner.

    Start with: runbook list; runbook apply regular.yml -i sandbox --check

    Read on with: runbook docs; runbook docs operations
    """


def main() -> NoReturn:
    """The ``runbook`` command: the one place where errors become messages and exit codes."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # no run ends because a terminal lacks a character
    code = run(lambda: _called(sys.argv[1:]))
    gc.freeze()  # or the interpreter looks through everything once more before it ends
    sys.exit(code)


def _open_closed_streams() -> None:
    """Open the standard streams that the caller has closed (``<&-``), on /dev/null.

    Without it Python has None in their place, and the next file that is opened gets their number.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)
            if null != number:
                os.close(null)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))


def _called(arguments: list[str]) -> Any:
    """Call the command; InvalidInputError for a folder or names that it cannot work with."""
    try:
        folder = str(Path.cwd())
    except OSError as error:
        text = f"the working directory cannot be used ({error.strerror}): go to another one (cd)"
        raise InvalidInputError(text) from error
    for word in [folder, *arguments]:
        try:
            word.encode()
        except UnicodeEncodeError as error:  # no journal, report or JSON could hold it
            text = f"{word!a} is not UTF-8; rename that file or folder"
            raise InvalidInputError(text) from error
    return cli.main(arguments, prog_name="runbook", standalone_mode=False)


#: Options of other programs, by the one of ours.
_ELSEWHERE = {"--dry-run": "--check", "--auto-approve": "--yes", "--syntax-check": "--validate"}


def _meant(error: click.UsageError) -> click.UsageError:
    """The error; of another program's option it names the one of ours, if the command has it."""
    if not isinstance(error, click.NoSuchOption) or not error.ctx or error.possibilities:
        return error
    meant = _ELSEWHERE.get(error.option_name)
    known = [name for param in error.ctx.command.params for name in param.opts]
    hint = f"{error.message} Did you mean {meant}?" if meant in known else error.message
    return click.NoSuchOption(error.option_name, hint, ctx=error.ctx)


#: Environment errors, not bugs.
_FULL = (errno.ENOSPC, errno.EDQUOT)
_OF_THE_MACHINE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ELOOP, errno.ENAMETOOLONG,
    errno.ENOTDIR, errno.EMFILE, errno.ENFILE,
)  # fmt: skip
#: Bytes; with fewer left, a disk is taken to be full.
_LITTLE = 1 << 20


def run(command: Callable[[], Any]) -> int:
    """Call ``command``; gives the exit code, with the error's message on stderr."""
    try:
        code = command()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.UsageError as error:
        _meant(error).show()
        return ExitCode.USAGE
    except click.ClickException as error:
        error.show()
        return ExitCode.INVALID
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        silence()  # the reader has gone (`| head`), which is no failure
        return ExitCode.OK
    except RunbookError as error:
        click.echo(str(error), err=True)
        return error.exit_code
    except OSError as error:
        return _refused(error)
    except Exception as error:  # noqa: BLE001 - the last resort; said to be a bug, kept in a file
        return _bug(error)
    return int(code or ExitCode.OK)


def _refused(error: OSError) -> int:
    """Say what the system refused; what it only refuses to faulty code is a bug."""
    if error.errno in _FULL:
        silence()
        what = f"Cannot write {error.filename or _full_place()}"
    elif error.errno in _OF_THE_MACHINE and error.filename:
        what = f"Cannot use {error.filename}"
    else:
        return _bug(error)
    click.echo(f"{what}: {error.strerror}.", err=True)
    return ExitCode.FAILED


def _full_place() -> str:
    """The location that cannot be written: the state folder, if its disk is full."""
    with contextlib.suppress(OSError, RunbookError):
        found = os.statvfs(home())
        if found.f_bavail * found.f_frsize < _LITTLE:
            return f"below {home()}"
    return "the output"


def _bug(error: Exception) -> int:
    """Say that it is our fault and where the traceback is."""
    from runbook.events import journal
    from runbook.events.redaction import without_secrets

    text = without_secrets("".join(traceback.format_exception(error)))
    shown = bool(os.environ.get("RUNBOOK_DEBUG"))
    try:
        report = f"the file {journal.keep_crash(text)} (RUNBOOK_DEBUG=1 shows it here)"
    except (OSError, RunbookError) as trouble:
        shown, report = True, f"the lines above, which could not be kept: {trouble}"
    if shown:
        click.echo(text, err=True)
    click.echo(
        f"This is a bug in runbook, not in your input: {type(error).__name__}.\n"
        f"Please report it with {report}.",
        err=True,
    )
    return ExitCode.FAILED
