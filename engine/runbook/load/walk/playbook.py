"""Playbooks and their plays, in order, with the playbooks that they import."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from runbook.home import is_file, is_folder
from runbook.load.diagnostics import Problem, suggest
from runbook.load.positions import Reader
from runbook.load.walk import files
from runbook.load.walk.arguments import BUILTIN, OURS
from runbook.load.walk.files import Files
from runbook.load.walk.node import Node, tags_of
from runbook.load.walk.scope import ANY, Play, Scope
from runbook.load.walk.tasks import Found, Tasks
from runbook.load.walk.variables import Variables

_SECTIONS = ("pre_tasks", "tasks", "post_tasks")
#: Keywords of a play that are looked at with what they hold, or when it is used.
_OWN_PASS = (*_SECTIONS, "roles", "handlers", "vars", "tags", "vars_prompt", "module_defaults")
_ALWAYS_TAGS = {"all", "tagged", "untagged", "always", "never"}


@dataclass(frozen=True)
class _Imports:
    """The tags and variables that a playbook has from those that import it; ``files`` are these."""

    tags: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    files: tuple[Path, ...] = ()


class Walk(Found):
    """Goes through playbooks and gathers what they are and what is wrong.

    ``given`` are the names that are defined before any playbook: parameters, inventory, ``-e``.
    With ``open_names``, names may exist that cannot be known before the run, and an undefined
    variable is no problem. Walks with the same ``read`` read a file once.
    """

    def __init__(
        self, given: frozenset[str], *, open_names: bool = False, read: Reader | None = None
    ) -> None:
        super().__init__()
        self.variables = Variables(given | {ANY} if open_names else given, self.problems)
        self.files = Files(self.problems, read or Reader())
        self._tasks = Tasks(self, self.files, self.variables)

    @property
    def open_names(self) -> bool:
        """Whether names may exist that cannot be known before the run."""
        return ANY in self.variables.given | self.variables.facts

    @property
    def known_tags(self) -> set[str]:
        """The tags that ``--tags`` may name."""
        return self.tags | _ALWAYS_TAGS

    def playbook(self, path: Path) -> None:
        """Go through the playbook in the file ``path``."""
        self._playbook(path, _Imports())

    def tasks_file(self, path: Path) -> None:
        """Go through a file of tasks that no playbook led to."""
        self._tasks.file(path, Scope(path.parent))

    def _playbook(self, path: Path, imports: _Imports) -> None:
        imports = replace(imports, files=(*imports.files, path))
        plays = self.files.load(path)
        if plays.document.problems and plays.value is None:
            return
        self.files.check(plays, "playbook")
        for play in plays:
            entry = play.value if isinstance(play.value, dict) else {}
            name = entry.get("import_playbook", entry.get(f"{BUILTIN}.import_playbook"))
            if isinstance(name, str):
                self._import_playbook(play, name, imports)
            elif entry and name is None:
                self._play(play, path.parent, imports)

    def _import_playbook(self, entry: Node, name: str, imports: _Imports) -> None:
        given = self.variables.define(entry["vars"], imports.names)
        self.variables.given |= given
        scope = Scope(imports.files[-1].parent)
        if "{{" in name:
            self.variables.check(replace(entry, value=name), scope)
            self._tasks.unknown_until_run(scope)
            return
        file = files.playbook(name, scope.folder)
        if file in imports.files:
            self.problems.append(entry.problem("the playbook imports itself"))
        elif is_file(file):
            tags = (*imports.tags, *tags_of(entry))
            self._playbook(file, replace(imports, tags=tags, names=imports.names | given))
        else:
            beside = file.parent.glob("*.y*ml") if is_folder(file.parent) else ()
            guess = suggest(file.name, [other.name for other in beside])
            self.problems.append(entry.problem(f"there is no playbook {name}", guess))

    def _play(self, play: Node, folder: Path, imports: _Imports) -> None:
        hosts = play["hosts"]
        if isinstance(hosts.value, str):
            self.hosts.append(hosts)
        known = self.variables.define(play["vars"], imports.names)
        known |= self._variables_files(play, folder)
        of_play = Play(str(play.value.get("name", hosts.value)), lacking=set())
        scope = Scope(folder, known, tags=(*imports.tags, *tags_of(play)), play=of_play)
        scope, roles = self._roles(play, scope)
        scope = self._tasks.with_defaults(play, scope)
        for name in play.value:
            if name not in _OWN_PASS:
                self.variables.check(play[name], scope)
        self._tasks.visit(play["pre_tasks"], scope)
        for role in roles:
            self._tasks.role_tasks(role, scope)
        for section in ("tasks", "post_tasks"):
            self._tasks.visit(play[section], scope)
        handlers = replace(scope, handler=True)
        for role in roles:
            self._tasks.role_tasks(role, handlers, "handlers")
        self._tasks.visit(play["handlers"], handlers)
        self.problems += [*_unknown_handlers(of_play), *_lacking_role(play, of_play)]

    def _variables_files(self, play: Node, folder: Path) -> frozenset[str]:
        """The variables of ``vars_files`` and ``vars_prompt``."""
        names: frozenset[str] = frozenset()
        for file in play["vars_files"].each():
            if not isinstance(file.value, str) or "{{" in file.value:
                self.variables.check_anywhere(file)
                self.variables.facts.add(ANY)
            else:
                names |= self._tasks.variables_file(file, folder / file.value)
        prompts = [prompt for prompt in play["vars_prompt"] if isinstance(prompt.value, dict)]
        return names | {str(prompt["name"].value) for prompt in prompts}

    def _roles(self, play: Node, scope: Scope) -> tuple[Scope, list[Path]]:
        """The play's scope with its roles' variables, and the folders of the roles."""
        folders = []
        for entry in play["roles"]:
            name = entry["role"].value if isinstance(entry.value, dict) else entry.value
            if not isinstance(name, str):
                continue
            self.variables.check(replace(entry, value=name), scope)
            found = self._tasks.roles(replace(entry, value=name), scope)
            if isinstance(entry.value, dict):
                scope = scope.knowing(self.variables.define(entry["vars"]))
                self.variables.check(entry.without("role", "vars", "tags"), scope)
                self.tags.update(tags_of(entry))
            for folder in found:
                scope = scope.knowing(self._tasks.role_names(folder))
            folders += found
        return scope, folders


def _unknown_handlers(play: Play) -> list[Problem]:
    """Handlers that tasks of a play notify and that it has not."""
    if ANY in play.handlers:
        return []
    return [
        notified.problem(
            f"the play has no handler {notified.value!r}", suggest(notified.value, play.handlers)
        )
        for notified in play.notified
        if notified.value.rpartition(" : ")[2] not in play.handlers and "{{" not in notified.value
    ]


def _lacking_role(play: Node, of_play: Play) -> list[Problem]:
    """Variables of the role ``parameters`` in a play without it."""
    names = sorted(of_play.lacking or ())
    if not names:
        return []
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    role = f"{OURS}.parameters"
    return [
        play.problem(f"the play uses {shown}, which the role {role} gives: add it to its roles")
    ]
