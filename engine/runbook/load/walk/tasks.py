"""The tasks of a playbook in Ansible's order, with the files and roles that they include."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runbook import collection
from runbook.home import is_file
from runbook.load import positions, schemas, targets
from runbook.load.diagnostics import Problem, suggest
from runbook.load.positions import Document
from runbook.load.walk import arguments, files
from runbook.load.walk.files import Files
from runbook.load.walk.node import Node, tags_of
from runbook.load.walk.scope import ANY, Scope
from runbook.load.walk.variables import Variables, guards

_AFTER = ("until", "failed_when", "changed_when")  # evaluated with the task's own result
_SECTIONS = ("block", "rescue", "always")
#: Keywords of a task whose values are checked apart from the others.
_OWN_PASS = ("when", "vars", "tags", "module_defaults", "register")


@dataclass(frozen=True)
class Step:
    """A task as it stands in the playbook; ``parts`` are the steps of a transaction."""

    name: str
    module: str
    tags: tuple[str, ...]
    file: str
    line: int
    play: str
    handler: bool = False
    parts: tuple[str, ...] = ()


@dataclass
class Found:
    """The problems, steps, tags and hosts that a walk has come across.

    ``open_uses``: tasks may exist that cannot be known before the run.
    """

    problems: list[Problem] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    tags: set[str] = field(default_factory=set)
    hosts: list[Node] = field(default_factory=list)
    open_uses: bool = False


class Tasks:
    """Goes through lists of tasks and all that they include."""

    def __init__(self, found: Found, read: Files, variables: Variables) -> None:
        self._found = found
        self._files = read
        self._variables = variables

    def visit(self, tasks: Node, scope: Scope) -> None:
        """Go through a list of tasks and blocks."""
        for task in tasks:
            if isinstance(task.value, dict):
                if "block" in task.value:
                    self._block(task, scope)
                else:
                    self._task(task, scope)

    def file(self, file: Path, scope: Scope) -> None:
        """Go through a file of tasks, or of handlers."""
        tasks = self._files.load(file)
        if tasks.value is not None:
            self._files.check(tasks, "handlers" if scope.handler else "tasks")
        self.visit(tasks, replace(scope, files=(*scope.files, file), folder=file.parent))

    def role_tasks(
        self, folder: Path, scope: Scope, part: str = "tasks", entry: str = "main"
    ) -> None:
        """Go through the tasks or handlers of a role."""
        file = files.role_file(folder, part, entry)
        if file:
            self.file(file, replace(scope, folder=file.parent))

    def roles(self, name: Node, scope: Scope, dependants: tuple[Path, ...] = ()) -> list[Path]:
        """The folder of a role after those that it depends on; none where it is not known."""
        if "{{" in name.value:
            self.unknown_until_run(scope)
            return []
        folder = files.role(name.value, scope.folder)
        if folder is None:
            guess = suggest(name.value, files.own_roles())
            self._found.problems.append(name.problem(f"there is no role {name.value}", guess))
            return []
        found: list[Path] = []
        file = folder / "meta" / "main.yml"
        if folder not in dependants and is_file(file):
            inner = replace(scope, folder=folder / "tasks")
            for entry in self._files.load(file)["dependencies"].each():
                value = entry.value
                other = value.get("role", value.get("name")) if isinstance(value, dict) else value
                if isinstance(other, str):
                    found += self.roles(replace(entry, value=other), inner, (*dependants, folder))
        return [*found, folder]

    def role_names(self, folder: Path) -> frozenset[str]:
        """The variables that a role defines."""
        contents = [
            self._files.load(file)
            for part in ("defaults", "vars")
            for file in sorted((folder / part).glob("main.y*ml"))
        ]
        return frozenset().union(*map(self._variables.define, contents))

    def variables_file(self, place: Node, file: Path) -> frozenset[str]:
        """The variables of a file, which ``place`` names."""
        if not is_file(file):
            self._found.problems.append(place.problem(f"there is no file {targets.shown(file)}"))
            return frozenset()
        content = self._files.load(file)
        if content.value is positions.VAULT:
            self._variables.facts.add(ANY)
        return self._variables.define(content)

    def with_defaults(self, holder: Node, scope: Scope) -> Scope:
        """The scope inside of what has ``module_defaults``."""
        given = holder["module_defaults"]
        self._variables.check(given, scope)
        values = given.value if isinstance(given.value, list) else [given.value]
        entries = [replace(given, value=entry) for entry in values if isinstance(entry, dict)]
        for entry in entries:
            self._found.problems += arguments.default_problems(entry, self._variables.literal)
        return replace(scope, defaults=(*scope.defaults, *entries))

    def unknown_until_run(self, scope: Scope) -> None:
        """Note that names, tasks and handlers may exist that cannot be known before the run."""
        self._variables.facts.add(ANY)
        scope.play.handlers.add(ANY)
        self._found.open_uses = True

    def _inner(self, task: Node, scope: Scope) -> Scope:
        """The scope inside a block or task: its vars, tags, module_defaults, guards."""
        scope = scope.knowing(self._variables.define(task["vars"]))
        scope = replace(scope, tags=(*scope.tags, *tags_of(task)))
        self._variables.check(task["vars"], scope)
        scope = replace(scope, guarded=scope.guarded | guards(task["when"]))
        self._variables.condition(task["when"], scope)
        self._found.tags.update(scope.tags)
        self._handlers(task, scope)
        return self.with_defaults(task, scope)

    def _block(self, block: Node, scope: Scope) -> None:
        inner = self._inner(block, scope)
        rest = block.without(*_SECTIONS, "when", "vars", "tags", "name", "module_defaults")
        self._variables.check(rest, inner)
        for section in _SECTIONS:
            self.visit(block[section], inner)

    def _task(self, task: Node, scope: Scope) -> None:
        inner = self._inner(task, scope)
        control = task["loop_control"]
        loop = {str(control[key].value) for key in ("loop_var", "index_var") if control[key].value}
        inner = inner.knowing(loop)
        register = task["register"].value
        own = {register} if isinstance(register, str) else set()
        modules = arguments.modules_of(task)
        for key in task.value:
            if key in _AFTER:
                self._variables.condition(task[key], inner.knowing(own))
            elif key not in (*_OWN_PASS, *modules):
                self._variables.check(task[key], inner)
        if wrong := arguments.call_problem(task):
            self._found.problems.append(task.problem(wrong))
        if len(modules) == 1:
            self._call(task, modules[0], inner)
        self._variables.facts.update(own)

    def _handlers(self, task: Node, scope: Scope) -> None:
        """The handlers that a task notifies, and the names that it has as one itself."""
        notify = task["notify"]
        names = [each.value for each in notify.each() if isinstance(each.value, str)]
        scope.play.notified.extend(replace(notify, value=name) for name in names)
        if scope.handler:
            for each in (task["name"], *task["listen"].each()):
                if isinstance(each.value, str):
                    scope.play.handlers.update({each.value, *([ANY] if "{{" in each.value else [])})

    def _call(self, task: Node, module: str, scope: Scope) -> None:
        call, core = task[module], arguments.core_name(module)
        if not (core in arguments.INCLUDES and self._followed(core, call.value)):
            line, name = task.document.mark(task.path).line, str(task.value.get("name", module))
            tags, where = tuple(dict.fromkeys(scope.tags)), (task.document.file, line)
            step = Step(name, module, tags, *where, scope.play.name, scope.handler, _parts(call))
            self._found.steps.append(step)
        self._arguments_use(call, core, scope)
        literal = self._variables.literal
        self._found.problems += arguments.problems(task, module, scope.defaults, literal)
        if core in arguments.INCLUDES:
            self._include(call, core, scope)
        elif core == "template":
            self._template(arguments.given(task, module, literal).get("src"), scope)
        elif core == "set_fact":
            self._variables.facts.update(map(str, arguments.given(task, module, literal)))
            self._variables.define(call)

    def _followed(self, core: str, argument: Any) -> bool:
        """Whether a task only stands for others, which the walk sees."""
        named = self._variables.filled(str(argument))
        return core not in ("include_vars", "import_playbook") and "{{" not in named

    def _arguments_use(self, call: Node, core: str, scope: Scope) -> None:
        condition = {"assert": "that", "debug": "var"}.get(core)
        if condition and isinstance(call.value, dict) and condition in call.value:
            self._variables.condition(call[condition], scope)
            call = call.without(condition)
        self._variables.check(call, scope)

    def _include(self, call: Node, kind: str, scope: Scope) -> None:
        argument = "name" if kind in ("include_role", "import_role") else "file"
        name = call.value.get(argument) if isinstance(call.value, dict) else call.value
        name = self._variables.filled(name) if isinstance(name, str) else name
        if not isinstance(name, str) or "{{" in name:
            self.unknown_until_run(scope)
        elif kind == "include_vars":
            file = files.beside(scope.folder, name, "vars")
            self._variables.facts.update(self.variables_file(call, file))
        elif argument == "name":
            self._include_role(replace(call, value=name), call["tasks_from"], scope)
        else:
            self._include_tasks(replace(call, value=name), kind, scope)

    def _include_tasks(self, name: Node, kind: str, scope: Scope) -> None:
        file = files.beside(scope.folder, name.value, "tasks")
        if file in scope.files:  # at run time, a condition may end what includes itself
            if kind == "import_tasks":
                self._found.problems.append(name.problem("the tasks import themselves"))
        elif is_file(file):
            self.file(file, scope)
        else:
            known = [str(path.relative_to(scope.folder)) for path in scope.folder.rglob("*.yml")]
            guess = suggest(name.value, known)
            self._found.problems.append(name.problem(f"there is no file {name.value}", guess))

    def _include_role(self, name: Node, entry: Node, scope: Scope) -> None:
        folders = self.roles(name, scope)
        if not folders:
            return
        *others, folder = folders
        if folder == collection.root() / "roles" / "parameters":
            self._variables.facts.update(schemas.from_role())  # also without `public`
        for part in others:
            scope = scope.knowing(self.role_names(part))
            self.role_tasks(part, scope)
        if folder not in scope.files:
            inner = scope.knowing(self.role_names(folder))
            inner = replace(inner, files=(*scope.files, folder))
            self.role_tasks(folder, inner, entry=str(entry.value or "main"))

    def _template(self, source: Any, scope: Scope) -> None:
        if not isinstance(source, str) or "{{" in source:
            self._found.open_uses = True
            return
        file = files.beside(scope.folder, source, "templates")
        if is_file(file):
            text = file.read_text(encoding="utf-8", errors="replace")
            document = Document(
                targets.shown(file), text, {(): positions.Mark(1, 1)}, digest=positions.digest(file)
            )
            self._files.documents.setdefault(file, document)
            self._variables.check(Node(document, (), text), scope)


def _parts(call: Node) -> tuple[str, ...]:
    """The names of the steps of a transaction."""
    steps = [step.value for step in call["steps"] if isinstance(step.value, dict)]
    return tuple(str(name) for step in steps for name in step)
