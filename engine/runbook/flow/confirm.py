"""Questions at the terminal: whether to go on, and passwords."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runbook.errors import RefusedError
from runbook.events.render import text
from runbook.events.render.summary import Summary, destructive
from runbook.load import vault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


_NO = "Not confirmed: nothing was changed."


def confirm(
    plan: Sequence[Mapping[str, Any]], target: str, summary: Summary | None, hosts: str = ""
) -> None:
    """Ask whether to go on; RefusedError unless the answer is the right one.

    What takes something away needs the target's name typed; the rest needs ``y``. ``summary``: said
    first, where the check's own does not stand on the same terminal. ``hosts``: of a target that
    has several, those that are changed.
    """
    if summary:
        say("\n".join(line.text for line in summary.lines()))
    if any(map(destructive, text.real(plan))):
        require_name(target, hosts)
        return
    where = f"{target}, {hosts}" if hosts else target
    if _answer(f"Make these changes on {where}? (y/N)").lower() not in ("y", "yes"):
        raise RefusedError(_NO)


def require_name(target: str, hosts: str = "") -> None:
    """Have the target's name typed; RefusedError for anything else."""
    where = f" with {hosts}" if hosts else ""
    if _answer(f"Type the target's name ({target}) to go on{where}") != target:
        raise RefusedError(f"That is not the target's name, {target}. {_NO}")


def _answer(question: str) -> str:
    """The answer to a question before a run; of an interruption it is said that it did nothing."""
    try:
        return ask(question).strip()
    except KeyboardInterrupt:
        say(f"\n{_NO}")  # the cursor is still behind the question
        raise


def ask_step(question: str) -> str:
    """Ansible's question before a step (``--step``)."""
    return ask(question.strip().removesuffix(":"))


def say(line: str) -> None:
    """Tell the person at the terminal; stdout may be for a program."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def ask(question: str, *, hidden: bool = False) -> str:
    """The answer typed at the terminal; RefusedError when there is none."""
    import click

    if not sys.stdin.isatty():
        raise RefusedError(
            f"Refused: there is no terminal to ask on ({question}); nothing was changed.\n"
            "Give --yes to go on without being asked, or --check to only look."
        )
    try:
        with _repeated(question):
            answer: str = click.prompt(
                question, hide_input=hidden, err=True, default="", show_default=False
            )
    except click.Abort:
        raise KeyboardInterrupt from None
    return answer


@contextmanager
def _repeated(question: str) -> Iterator[None]:
    """Print the question again when a process that was stopped (^Z) goes on (fg)."""

    def again(_number: int, _frame: object) -> None:
        print(f"{question}: ", end="", file=sys.stderr, flush=True)  # noqa: T201

    before = signal.signal(signal.SIGCONT, again)
    try:
        yield
    finally:
        signal.signal(signal.SIGCONT, before)


@dataclass(frozen=True)
class Passwords:
    """The passwords that were typed: for privilege escalation, and of vaults by option."""

    become: str | None
    vaults: Mapping[str, str]


def ask_passwords(identities: Sequence[str], *, become: bool, vaults: bool) -> Passwords:
    """The passwords that the options ask for: ``-K``, and those of ``ask_vault_passwords``."""
    become_password = ask("Become password", hidden=True) if become else None
    return Passwords(become_password, ask_vault_passwords(identities, wanted=vaults))


def ask_vault_passwords(identities: Sequence[str], *, wanted: bool) -> dict[str, str]:
    """The passwords of ``-J`` and of ``--vault-id ID@prompt``, typed at the terminal."""
    names = [vault.ASKED] if wanted else []
    return {
        name: ask("Vault password" + (f" ({name})" if name != vault.ASKED else ""), hidden=True)
        for name in [*names, *vault.prompts(identities)]
    }
