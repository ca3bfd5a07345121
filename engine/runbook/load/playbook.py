"""One pass over a playbook and all that it imports: structure, modules, names, tags, variables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from runbook import collection
from runbook.home import is_file, is_folder
from runbook.load import positions, targets
from runbook.load.diagnostics import Path as DocumentPath
from runbook.load.diagnostics import Problem, suggest
from runbook.load.positions import Document, Unsafe

from . import documentation, schemas, templates
from .templates import Needs

OURS, BUILTIN = documentation.OURS, documentation.BUILTIN

#: Variables that Ansible itself defines (docs: special variables); ``ansible_*`` besides.
MAGIC = frozenset({
    "environment", "group_names", "groups", "hostvars", "inventory_dir", "inventory_file",
    "inventory_hostname", "inventory_hostname_short", "item", "omit", "play_hosts",
    "playbook_dir", "role_name", "role_names", "role_path", "vars",
})  # fmt: skip

#: Arguments of include_role and the like that are files or names, by module.
_INCLUDES = {
    "include_tasks", "import_tasks", "include_role", "import_role", "import_playbook",
    "include_vars",
}  # fmt: skip
#: Modules of ansible-core that take their argument as plain text.
_FREE_FORM = {
    "command", "shell", "raw", "script", "meta", "include_tasks", "import_tasks", "include_vars",
    "import_playbook",
}  # fmt: skip
#: Modules of ansible-core that take any argument name.
_ANY_ARGUMENT = {"set_fact", "add_host", "gather_facts"}
_CONDITIONS = ("when", "until", "failed_when", "changed_when")
_AFTER = ("until", "failed_when", "changed_when")  # evaluated with the task's own result
_ONLY_A_NAME = re.compile(r"\s*\{\{\s*(\w+)\s*\}\}\s*")
_ACTIONS = ("action", "local_action")
_SECTIONS = ("pre_tasks", "tasks", "post_tasks")
#: Keywords of a play that are looked at with what they hold, or when it is used.
_OWN_PASS = (*_SECTIONS, "roles", "handlers", "vars", "tags", "vars_prompt", "module_defaults")
_ALWAYS_TAGS = {"all", "tagged", "untagged", "always", "never"}


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


@dataclass(frozen=True)
class Definition:
    """A variable's value, which may be a template that needs others."""

    document: Document
    path: DocumentPath
    value: Any


@dataclass(frozen=True)
class _Scope:
    """What holds for the tasks in one place."""

    folder: Path
    defined: set[str]  # shared along a play: registered names and facts
    known: frozenset[str] = frozenset()  # vars of play, roles, blocks, tasks, loops
    guarded: frozenset[str] = frozenset()  # names that a `when` around tests to be defined
    defaults: tuple[Mapping[str, Any], ...] = ()
    tags: tuple[str, ...] = ()
    play: str = ""
    handler: bool = False
    files: tuple[Path, ...] = ()  # that led here, to notice one that includes itself


@dataclass
class Walk:
    """Goes through playbooks and gathers what they are and what is wrong.

    ``given`` are the names that are defined before any playbook: parameters, inventory, ``-e``.
    With ``open_names``, names may exist that cannot be known before the run, and an undefined
    variable is no problem.
    """

    given: frozenset[str]
    open_names: bool = False
    problems: list[Problem] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    tags: set[str] = field(default_factory=set)
    open_uses: bool = False  # tasks may exist that cannot be known before the run
    used: set[str] = field(default_factory=set)
    definitions: dict[str, list[Definition]] = field(default_factory=dict)
    hosts: list[tuple[Document, DocumentPath, str]] = field(default_factory=list)
    plays: list[str] = field(default_factory=list)
    documents: dict[Path, Document] = field(default_factory=dict)
    _facts: set[str] = field(default_factory=set)
    _reached: set[str] = field(default_factory=set)
    _lacking: set[str] | None = None  # in a play: what it uses of a role that it has not
    _notified: list[tuple[Document, DocumentPath, str]] = field(default_factory=list)
    _handlers: set[str] = field(default_factory=set)
    _handlers_open: bool = False

    # Playbooks and plays

    def playbook(
        self, path: Path, *, tags: tuple[str, ...] = (), importers: tuple[Path, ...] = ()
    ) -> Document:
        """Go through the playbook in the file ``path``; gives its document."""
        importers = (*importers, path)
        document = self._load(path)
        if document.problems and document.value is None:
            return document
        self._structure(document, "playbook", document.value)
        plays = document.value if isinstance(document.value, list) else []
        for index, play in enumerate(plays):
            if not isinstance(play, dict):
                continue
            imported = play.get("import_playbook", play.get(f"{BUILTIN}.import_playbook"))
            if imported is None:
                self._play(document, (index,), play, path.parent, tags)
            elif isinstance(imported, str):
                inner = (*tags, *_tags(play))
                self.given |= self.define(document, (index, "vars"), play.get("vars"))
                self._import_playbook(document, (index,), imported, inner, importers)
        return document

    def tasks_file(self, path: Path) -> None:
        """Go through a file of tasks that no playbook led to."""
        self._tasks_file(path, _Scope(path.parent, self._facts))

    def finish(self) -> None:
        """Look at the definitions that something uses, and at what they use in turn."""
        everything = self.given | self._facts | self.definitions.keys()
        while missing := (self.used & self.definitions.keys()) - self._reached:
            for name in sorted(missing):
                self._reached.add(name)
                for definition in self.definitions[name]:
                    self._needs(definition.document, definition.path, definition.value, everything)

    def expressions(self, document: Document, path: DocumentPath, value: Any) -> None:
        """Hold the templates in a value that belongs to no place in a play against all names."""
        everything = self.given | self._facts | self.definitions.keys()
        self._needs(document, path, value, everything)

    def define(self, document: Document, path: DocumentPath, values: Any) -> frozenset[str]:
        """Note variables with their values; gives their names."""
        if not isinstance(values, dict):
            return frozenset()
        for name, value in values.items():
            place = Definition(document, (*path, name), value)
            self.definitions.setdefault(str(name), []).append(place)
        return frozenset(map(str, values))

    def _import_playbook(
        self,
        document: Document,
        path: DocumentPath,
        name: str,
        tags: tuple[str, ...],
        importers: tuple[Path, ...],
    ) -> None:
        if "{{" in name:
            self._needs(document, path, name, self.given | self._facts)
            self.open_names = self.open_uses = True
            return
        short = name.removeprefix(f"{OURS}.")
        packaged = collection.root() / "playbooks" / f"{short.removesuffix('.yml')}.yml"
        file = importers[-1].parent / name if short == name else packaged
        if file in importers:
            self._report(document, path, "the playbook imports itself")
        elif is_file(file):
            self.playbook(file, tags=tags, importers=importers)
        else:
            known = [entry.name for entry in file.parent.glob("*.y*ml")]
            self._report(document, path, f"there is no playbook {name}", suggest(file.name, known))

    def _play(
        self,
        document: Document,
        path: DocumentPath,
        play: dict[str, Any],
        folder: Path,
        tags: tuple[str, ...],
    ) -> None:
        hosts = play.get("hosts")
        self.plays.append(str(play.get("name", hosts)))
        if isinstance(hosts, str):
            self.hosts.append((document, (*path, "hosts"), hosts))
        known = self.define(document, (*path, "vars"), play.get("vars"))
        known |= self._play_files(document, path, play, folder)
        self._notified, self._handlers, self._handlers_open = [], set(), False
        self._lacking = set()
        scope = _Scope(
            folder, self._facts, known, defaults=(), tags=(*tags, *_tags(play)), play=self.plays[-1]
        )
        scope, roles = self._roles(document, path, play, scope)
        scope = self._with_defaults(document, path, play, scope)
        for name, value in play.items():
            if name not in _OWN_PASS:
                self._needs(document, (*path, name), value, self._names(scope))
        self._tasks(document, (*path, "pre_tasks"), play.get("pre_tasks"), scope)
        for role in roles:
            self._role_tasks(role, scope)
        for section in ("tasks", "post_tasks"):
            self._tasks(document, (*path, section), play.get(section), scope)
        handlers = replace(scope, handler=True)
        for role in roles:
            self._role_tasks(role, handlers, "handlers")
        self._tasks(document, (*path, "handlers"), play.get("handlers"), handlers)
        self._check_notified()
        self._check_role(document, path)

    def _play_files(
        self, document: Document, path: DocumentPath, play: dict[str, Any], folder: Path
    ) -> frozenset[str]:
        names: frozenset[str] = frozenset()
        for index, file in enumerate(_list(play.get("vars_files"))):
            place = (*path, "vars_files", index)
            if not isinstance(file, str) or "{{" in file:
                everything = self.given | self._facts | self.definitions.keys()
                self._needs(document, place, file, everything)
                self.open_names = True
            else:
                names |= self._vars_file(document, place, folder / file)
        prompts = play.get("vars_prompt")
        for prompt in prompts if isinstance(prompts, list) else []:
            if isinstance(prompt, dict):
                names |= {str(prompt.get("name"))}
        return names

    def _vars_file(self, document: Document, path: DocumentPath, file: Path) -> frozenset[str]:
        if not is_file(file):
            self._report(document, path, f"there is no file {targets.shown(file)}")
            return frozenset()
        content = self._load(file)
        if content.value is positions.VAULT:
            self.open_names = True
        return self.define(content, (), content.value)

    # Roles

    def _check_role(self, document: Document, path: DocumentPath) -> None:
        """Variables of the role ``parameters`` in a play without it."""
        names = sorted(self._lacking or ())
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            role = f"{OURS}.parameters"
            message = f"the play uses {shown}, which the role {role} gives: add it to its roles"
            self._report(document, path, message)
        self._lacking = None

    def _roles(
        self, document: Document, path: DocumentPath, play: dict[str, Any], scope: _Scope
    ) -> tuple[_Scope, list[Path]]:
        """The play's scope with its roles' variables, and the folders of the roles."""
        folders = []
        roles = play.get("roles")
        for index, entry in enumerate(roles if isinstance(roles, list) else []):
            name = entry.get("role") if isinstance(entry, dict) else entry
            place = (*path, "roles", index)
            if not isinstance(name, str):
                continue
            self._needs(document, place, name, self._names(scope))
            folder = self._role(document, place, name, scope)
            if isinstance(entry, dict):
                own = self.define(document, (*place, "vars"), entry.get("vars"))
                scope = replace(scope, known=scope.known | own)
                rest = {key: entry[key] for key in entry if key not in ("role", "vars", "tags")}
                self._needs(document, place, rest, self._names(scope))
                self.tags.update(_tags(entry))
            for part in self._with_dependencies(folder, scope) if folder else ():
                folders.append(part)
                scope = replace(scope, known=scope.known | self._role_names(part))
        return scope, folders

    def _with_dependencies(
        self, folder: Path, scope: _Scope, dependants: tuple[Path, ...] = ()
    ) -> list[Path]:
        """The role in ``folder`` after those that its ``meta/main.yml`` names."""
        file = folder / "meta" / "main.yml"
        meta = self._load(file) if is_file(file) and folder not in dependants else None
        entries = meta.value.get("dependencies") if meta and isinstance(meta.value, dict) else None
        found: list[Path] = []
        for index, entry in enumerate(_list(entries)):
            name = entry.get("role", entry.get("name")) if isinstance(entry, dict) else entry
            if meta and isinstance(name, str):
                inner = replace(scope, folder=folder / "tasks")
                place = self._role(meta, ("dependencies", index), name, inner)
                found += (
                    self._with_dependencies(place, inner, (*dependants, folder)) if place else []
                )
        return [*found, folder]

    def _role(
        self, document: Document, path: DocumentPath, name: str, scope: _Scope
    ) -> Path | None:
        if "{{" in name:
            self.open_names = self.open_uses = self._handlers_open = True
            return None
        home = documentation.collection_root(name.rpartition(".")[0])
        beside = [scope.folder / "roles", scope.folder.parent.parent]  # of a play, of a role's task
        places = [home / "roles" / name.rpartition(".")[2]] if home else [p / name for p in beside]
        for folder in places:
            if is_folder(folder):
                return folder
        ours = [f"{OURS}.{p.name}" for p in (collection.root() / "roles").iterdir() if p.is_dir()]
        self._report(document, path, f"there is no role {name}", suggest(name, ours))
        return None

    def _role_names(self, folder: Path) -> frozenset[str]:
        names: frozenset[str] = frozenset()
        for part in ("defaults", "vars"):
            for file in sorted((folder / part).glob("main.y*ml")):
                content = self._load(file)
                names |= self.define(content, (), content.value)
        return names

    def _role_tasks(
        self, folder: Path, scope: _Scope, part: str = "tasks", entry: str = "main"
    ) -> None:
        for ending in ("", ".yml", ".yaml"):
            file = folder / part / f"{entry}{ending}"
            if is_file(file):
                self._tasks_file(file, replace(scope, folder=file.parent))
                return

    # Tasks

    def _tasks(self, document: Document, path: DocumentPath, tasks: Any, scope: _Scope) -> None:
        for index, task in enumerate(tasks if isinstance(tasks, list) else []):
            if isinstance(task, dict):
                place = (*path, index)
                if "block" in task:
                    self._block(document, place, task, scope)
                else:
                    self._task(document, place, task, scope)

    def _tasks_file(self, file: Path, scope: _Scope) -> None:
        scope = replace(scope, files=(*scope.files, file))
        document = self._load(file)
        if document.value is not None:
            kind = "handlers" if scope.handler else "tasks"
            self._structure(document, kind, document.value)
        self._tasks(document, (), document.value, replace(scope, folder=file.parent))

    def _inner(
        self, document: Document, path: DocumentPath, task: dict[str, Any], scope: _Scope
    ) -> _Scope:
        """The scope inside a block or task: its vars, tags, module_defaults, guards."""
        own = self.define(document, (*path, "vars"), task.get("vars"))
        scope = replace(scope, known=scope.known | own, tags=(*scope.tags, *_tags(task)))
        self._needs(document, (*path, "vars"), task.get("vars"), self._names(scope))
        guards: frozenset[str] = frozenset()
        for condition in _list(task.get("when")):
            if isinstance(condition, str):
                guards |= templates.of_condition(condition).guarded
        scope = replace(scope, guarded=scope.guarded | guards)
        self._condition(document, (*path, "when"), task.get("when"), self._names(scope))
        return self._with_defaults(document, path, task, scope)

    def _block(
        self, document: Document, path: DocumentPath, block: dict[str, Any], scope: _Scope
    ) -> None:
        inner = self._inner(document, path, block, scope)
        self.tags.update(inner.tags)
        sections = ("block", "rescue", "always")
        rest = {
            name: value
            for name, value in block.items()
            if name not in (*sections, "when", "vars", "tags", "name", "module_defaults")
        }
        self._needs(document, path, rest, self._names(inner))
        self._notify(document, path, block)
        if scope.handler:
            self._handler_names(block)
        for section in sections:
            self._tasks(document, (*path, section), block.get(section), inner)

    def _task(
        self, document: Document, path: DocumentPath, task: dict[str, Any], scope: _Scope
    ) -> None:
        inner = self._inner(document, path, task, scope)
        self.tags.update(inner.tags)
        self._notify(document, path, task)
        if scope.handler:
            self._handler_names(task)
        control = task.get("loop_control")
        control = control if isinstance(control, dict) else {}
        loop = frozenset(str(control[key]) for key in ("loop_var", "index_var") if key in control)
        inner = replace(inner, known=inner.known | loop)
        register = task.get("register")
        modules = [key for key in task if isinstance(key, str) and key.count(".") >= 2]
        for key, value in task.items():
            names = self._names(inner)
            if key in _AFTER:
                own = {register} if isinstance(register, str) else set()
                self._condition(document, (*path, key), value, names | own)
            elif key not in ("when", "vars", "tags", "module_defaults", "register", *modules):
                self._needs(document, (*path, key), value, names)
        module = self._module_of(document, path, task, modules)
        if module:
            mark = document.mark(path)
            name = str(task.get("name", module))
            tags = tuple(dict.fromkeys(inner.tags))
            where = (document.file, mark.line, inner.play, inner.handler)
            if not _followed(module, task[module]):
                self.steps.append(Step(name, module, tags, *where, _parts(task[module])))
            self._call(document, path, module, task, inner)
        if isinstance(register, str):
            scope.defined.add(register)

    def _module_of(
        self, document: Document, path: DocumentPath, task: dict[str, Any], modules: list[str]
    ) -> str:
        if len(modules) > 1:
            self._report(document, path, f"a task calls one module, not {' and '.join(modules)}")
        elif not modules and not any(_short_module(key) or key in _ACTIONS for key in task):
            self._report(document, path, "the task calls no module")
        return modules[0] if len(modules) == 1 else ""

    def _call(
        self,
        document: Document,
        path: DocumentPath,
        module: str,
        task: dict[str, Any],
        scope: _Scope,
    ) -> None:
        place, given = (*path, module), task[module]
        unknown = _unknown_module(module)
        if unknown:
            self.problems.append(document.problem(place, *unknown, key=True))
        short = module.rpartition(".")[2]
        core = module.startswith((f"{BUILTIN}.", "ansible.legacy."))
        names = self._names(scope)
        literal = self._literal(given)
        arguments = dict(literal) if isinstance(literal, dict) else {}
        if isinstance(task.get("args"), dict):
            arguments.update(task["args"])
        self._arguments_needs(document, place, short if core else "", given, names)
        if isinstance(given, str) and "{{" not in given and not (core and short in _FREE_FORM):
            self._report(document, place, "arguments are a mapping, one a line: name: value")
        elif not unknown and (given is None or isinstance(literal, dict)):
            self._arguments(document, place, module, arguments, scope, core=core)
        if core and short in _INCLUDES:
            self._include(document, place, short, given, scope)
        elif core and short == "template":
            self._template_file(arguments.get("src"), scope)
        elif core and short == "set_fact":
            scope.defined.update(map(str, arguments))
            self.define(document, place, given)

    def _arguments_needs(
        self, document: Document, path: DocumentPath, core: str, given: Any, names: frozenset[str]
    ) -> None:
        condition = {"assert": "that", "debug": "var"}.get(core)
        if condition and isinstance(given, dict) and condition in given:
            rest = {key: value for key, value in given.items() if key != condition}
            self._condition(document, (*path, condition), given[condition], names)
            self._needs(document, path, rest, names)
        else:
            self._needs(document, path, given, names)

    def _arguments(
        self,
        document: Document,
        path: DocumentPath,
        module: str,
        given: dict[str, Any],
        scope: _Scope,
        *,
        core: bool,
    ) -> None:
        short = module.rpartition(".")[2]
        validator = schemas.module_validator(module)
        if validator is None or (core and short in _ANY_ARGUMENT):
            return
        arguments: dict[str, Any] = {}
        for defaults in scope.defaults:
            for key in (*_groups_of(module), module):
                values = self._literal(defaults.get(key))
                arguments.update(values if isinstance(values, dict) else {})
        arguments = {n: v for n, v in arguments.items() if n in schemas.arguments(module)} | given
        arguments = {name: self._literal(value) for name, value in arguments.items()}
        free = {"free_form", "free-form"} if core and short in _FREE_FORM else set()
        for problem in schemas.check(validator, document, path, arguments, _unknown_argument):
            if not any(problem.message == f"{name} is required" for name in free):
                self.problems.append(problem)

    def _literal(self, value: Any) -> Any:
        """What ``{{ name }}`` stands for where one place alone defines the name, as it stands."""
        found = _ONLY_A_NAME.fullmatch(value) if isinstance(value, str) else None
        places = self.definitions.get(found[1], []) if found else []
        return places[0].value if len(places) == 1 else value

    def _with_defaults(
        self, document: Document, path: DocumentPath, holder: dict[str, Any], scope: _Scope
    ) -> _Scope:
        given = holder.get("module_defaults")
        place = (*path, "module_defaults")
        self._needs(document, place, given, self._names(scope))
        defaults = tuple(entry for entry in _list(given) if isinstance(entry, dict))
        for entry in defaults:
            for key in entry:
                wrong = _unknown_defaults(str(key))
                if wrong:
                    self.problems.append(document.problem((*place, key), *wrong, key=True))
                self._default_arguments(document, (*place, key), str(key), entry[key])
        return replace(scope, defaults=(*scope.defaults, *defaults))

    def _default_arguments(
        self, document: Document, path: DocumentPath, key: str, values: Any
    ) -> None:
        collection_name, _, group = key.removeprefix("group/").rpartition(".")
        members = [key]
        if key.startswith("group/"):
            members = [f"{OURS}.{m}" for m in _action_groups().get(group, ())]
        entries = [documentation.module(member) for member in members]
        known = {option for entry in entries if entry for option in entry.options}
        values = self._literal(values)
        if known and isinstance(values, dict) and collection_name in (OURS, BUILTIN):
            for name in values.keys() - known:
                message = f"unknown argument {name!r}"
                place = (*path, name)
                self.problems.append(
                    document.problem(place, message, suggest(str(name), known), key=True)
                )

    # Includes

    def _include(
        self, document: Document, path: DocumentPath, kind: str, given: Any, scope: _Scope
    ) -> None:
        argument = {"include_role": "name", "import_role": "name"}.get(kind, "file")
        name = given.get(argument) if isinstance(given, dict) else given
        if not isinstance(name, str) or "{{" in name:
            self.open_names = self.open_uses = self._handlers_open = True
        elif kind == "include_vars":
            scope.defined.update(self._vars_file(document, path, self._beside(scope, name, "vars")))
        elif argument == "name":
            self._include_role(document, path, name, given, scope)
        else:
            file = self._beside(scope, name, "tasks")
            if file in scope.files:  # at run time, a condition may end what includes itself
                if kind == "import_tasks":
                    self._report(document, path, "the tasks import themselves")
            elif is_file(file):
                self._tasks_file(file, scope)
            else:
                known = [str(p.relative_to(scope.folder)) for p in scope.folder.rglob("*.yml")]
                self._report(document, path, f"there is no file {name}", suggest(name, known))

    def _include_role(
        self, document: Document, path: DocumentPath, name: str, given: Any, scope: _Scope
    ) -> None:
        folder = self._role(document, path, name, scope)
        if folder == collection.root() / "roles" / "parameters":
            scope.defined.update(schemas.from_role())  # kind to an include without `public`
        for part in self._with_dependencies(folder, scope)[:-1] if folder else ():
            scope = replace(scope, known=scope.known | self._role_names(part))
            self._role_tasks(part, scope)
        if folder is not None:
            inner = replace(scope, known=scope.known | self._role_names(folder))
            entry = given.get("tasks_from", "main") if isinstance(given, dict) else "main"
            if folder not in scope.files:
                inner = replace(inner, files=(*scope.files, folder))
                self._role_tasks(folder, inner, entry=str(entry))

    def _template_file(self, source: Any, scope: _Scope) -> None:
        if not isinstance(source, str) or "{{" in source:
            self.open_uses = True
            return
        file = self._beside(scope, source, "templates")
        if is_file(file):
            text = file.read_text(encoding="utf-8", errors="replace")
            document = Document(targets.shown(file), text, {(): positions.Mark(1, 1)})
            self._needs(document, (), text, self._names(scope))

    def _beside(self, scope: _Scope, name: str, kind: str) -> Path:
        """The file ``name`` beside the including one, or in the role's folder of that kind."""
        folder = scope.folder
        places = [folder, folder / kind, folder.parent / kind, folder.parent]
        return next((p / name for p in places if is_file(p / name)), scope.folder / name)

    # Handlers

    def _notify(self, document: Document, path: DocumentPath, task: dict[str, Any]) -> None:
        for name in _list(task.get("notify")):
            if isinstance(name, str):
                self._notified.append((document, (*path, "notify"), name))

    def _handler_names(self, handler: dict[str, Any]) -> None:
        for name in (handler.get("name"), *_list(handler.get("listen"))):
            if isinstance(name, str):
                self._handlers_open = self._handlers_open or "{{" in name
                self._handlers.add(name)

    def _check_notified(self) -> None:
        for document, path, name in self._notified:
            plain = name.rpartition(" : ")[2]
            if plain not in self._handlers and "{{" not in name and not self._handlers_open:
                message = f"the play has no handler {name!r}"
                self._report(document, path, message, suggest(name, self._handlers))

    # Variables

    def _names(self, scope: _Scope) -> frozenset[str]:
        return self.given | scope.defined | scope.known | scope.guarded

    def _needs(
        self, document: Document, path: DocumentPath, value: Any, names: frozenset[str]
    ) -> None:
        for inner, needs in templates.of_value(value):
            self._check_needs(document, (*path, *inner), needs, names)

    def _condition(
        self, document: Document, path: DocumentPath, value: Any, names: frozenset[str]
    ) -> None:
        """Conditions hold in order: one that tests a name guards those after it."""
        guarded: frozenset[str] = frozenset()
        for index, condition in enumerate(_list(value)):
            if isinstance(condition, str) and not isinstance(condition, Unsafe):
                needs = templates.of_condition(condition)
                place = (*path, index) if isinstance(value, list) else path
                self._check_needs(document, place, needs, names | guarded)
                guarded |= needs.guarded

    def _check_needs(
        self, document: Document, path: DocumentPath, needs: Needs, names: frozenset[str]
    ) -> None:
        self.used |= needs.used
        for message, guess in needs.errors:
            self._report(document, path, message, guess)
        for name in sorted(needs.names - names - MAGIC):
            if name.startswith("ansible_") or self.open_names:
                continue
            if self._lacking is not None and name in schemas.from_role():
                self._lacking.add(name)
            else:
                guess = suggest(name, names | MAGIC)
                self._report(document, path, f"undefined variable {name!r}", guess)

    # Documents

    def _load(self, path: Path) -> Document:
        if path not in self.documents:
            self.documents[path] = positions.load(path, targets.shown(path))
            self.problems += self.documents[path].problems
        return self.documents[path]

    def _structure(self, document: Document, kind: str, value: Any) -> None:
        self.problems += schemas.check(
            playbook_validator(kind), document, (), value, _unknown_keyword
        )

    def _report(
        self, document: Document, path: DocumentPath, message: str, suggestion: str = ""
    ) -> None:
        self.problems.append(document.problem(path, message, suggestion))


@cache
def playbook_validator(kind: str) -> Any:
    """The compiled schema of a playbook, or of a file of ``tasks`` or ``handlers``."""
    if kind == "playbook":
        return schemas.validator("playbook")
    whole = schemas.read("playbook")
    return schemas.compiled({"$defs": whole["$defs"], "$ref": f"#/$defs/{kind}"})


def _followed(module: str, arguments: Any) -> bool:
    """Whether the task only stands for others, which the walk has seen."""
    tasks = _INCLUDES - {"include_vars", "import_playbook"}
    return module.removeprefix(f"{BUILTIN}.") in tasks and "{{" not in str(arguments)


def _parts(arguments: Any) -> tuple[str, ...]:
    steps = arguments.get("steps") if isinstance(arguments, dict) else None
    return tuple(
        str(name)
        for step in (steps if isinstance(steps, list) else [])
        for name in (step if isinstance(step, dict) else {})
    )


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _tags(holder: dict[str, Any]) -> tuple[str, ...]:
    return tuple(
        tag.strip()
        for entry in _list(holder.get("tags"))
        for tag in str(entry).split(",")
        if tag.strip()
    )


def _short_module(key: str) -> str:
    """The full name of the module that a short name means, or an empty string."""
    for collection_name in (OURS, BUILTIN):
        if key in documentation.module_names(collection_name):
            return f"{collection_name}.{key}"
    return ""


def _unknown_keyword(key: str, known: list[str]) -> tuple[str, str]:
    full = _short_module(key) if "register" in known or "hosts" not in known else ""
    if full:
        return f"use the full name {full}", ""
    if key in _ACTIONS:
        return "call the module by its full name as the key", ""
    modules = documentation.module_names(OURS) | documentation.module_names(BUILTIN)
    module = "" if "hosts" in known or suggest(key, known) else suggest(key, modules)
    return f"unknown keyword {key!r}", suggest(key, known) or _short_module(module)


def _unknown_argument(key: str, known: list[str]) -> tuple[str, str]:
    if set(known) <= set(_action_groups()["transaction_steps"]):
        return f"unknown step of a transaction: {key!r}", suggest(key, known)
    return f"unknown argument {key!r}", suggest(key, known)


def _unknown_module(name: str) -> tuple[str, str] | None:
    collection_name, _, short = name.rpartition(".")
    names = documentation.module_names(collection_name)
    if short in names:
        return None
    folder = documentation.module_folder(collection_name)
    if folder is not None and is_file(folder.parent / "action" / f"{short}.py"):
        return None
    if folder is None:
        known = [OURS, BUILTIN]
        guess = suggest(collection_name, known)
        if guess:
            return f"unknown module {name!r}", f"{guess}.{short}"
        return f"unknown module {name!r}: the collection {collection_name} is not installed", ""
    guess = suggest(short, names)
    return f"unknown module {name!r}", f"{collection_name}.{guess}" if guess else ""


def _unknown_defaults(key: str) -> tuple[str, str] | None:
    if not key.startswith("group/"):
        return _unknown_module(key) if key.count(".") >= 2 else (f"unknown module {key!r}", "")
    group = key.removeprefix("group/")
    collection_name, _, short = group.rpartition(".")
    if collection_name != OURS or short in _action_groups():
        return None
    guess = suggest(short, _action_groups())
    return f"unknown action group {group!r}", f"group/{OURS}.{guess}" if guess else ""


@cache
def _action_groups() -> Mapping[str, list[str]]:
    text = (collection.root() / "meta" / "runtime.yml").read_text(encoding="utf-8")
    groups: dict[str, list[str]] = yaml.load(text, Loader=yaml.CSafeLoader)["action_groups"]
    return groups


def _groups_of(module: str) -> Iterator[str]:
    collection_name, _, short = module.rpartition(".")
    if collection_name == OURS:
        for group, members in _action_groups().items():
            if short in members:
                yield f"group/{OURS}.{group}"


def known_tags(walk: Walk) -> set[str]:
    """The tags that ``--tags`` may name."""
    return walk.tags | _ALWAYS_TAGS
