"""The modules that tasks call: their names, their arguments, and defaults of arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from runbook import collection
from runbook.home import is_file
from runbook.load import documentation, schemas
from runbook.load.diagnostics import suggest

if TYPE_CHECKING:
    from runbook.load.diagnostics import Problem
    from runbook.load.walk.node import Node

OURS, BUILTIN = documentation.OURS, documentation.BUILTIN

#: Modules that read other files of a playbook, or of variables.
INCLUDES = {
    "include_tasks", "import_tasks", "include_role", "import_role", "import_playbook",
    "include_vars",
}  # fmt: skip
#: Keywords that call a module in another way.
ACTIONS = ("action", "local_action")
#: Modules of ansible-core that take their argument as plain text.
_FREE_FORM = {
    "command", "shell", "raw", "script", "meta", "include_tasks", "import_tasks", "include_vars",
    "import_playbook",
}  # fmt: skip
#: Modules of ansible-core that take any argument name.
_ANY_ARGUMENT = {"set_fact", "add_host", "gather_facts"}

#: Gives the value of a template that only names a variable (variables.Variables.literal).
Literal = Callable[[Any], Any]


def core_name(module: str) -> str:
    """The short name of a module of ansible-core, else an empty string."""
    core = module.startswith((f"{BUILTIN}.", "ansible.legacy."))
    return module.rpartition(".")[2] if core else ""


def given(task: Node, module: str, literal: Literal) -> dict[str, Any]:
    """The arguments of a task: those below the module's name, and ``args``."""
    values, more = literal(task[module].value), task["args"].value
    return {
        **(values if isinstance(values, dict) else {}),
        **(more if isinstance(more, dict) else {}),
    }


def problems(
    task: Node, module: str, defaults: Iterable[Node], literal: Literal
) -> Iterator[Problem]:
    """The problems of a module's name and arguments, ``defaults`` for them counted in."""
    call, free = task[module], core_name(module) in _FREE_FORM
    unknown = _unknown_module(module)
    if unknown:
        yield call.problem(*unknown, key=True)
    if isinstance(call.value, str) and "{{" not in call.value and not free:
        yield call.problem("arguments are a mapping, one a line: name: value")
    elif not unknown and (call.value is None or isinstance(literal(call.value), dict)):
        yield from _against_schema(call, module, given(task, module, literal), defaults, literal)


def _against_schema(
    call: Node, module: str, given: dict[str, Any], defaults: Iterable[Node], literal: Literal
) -> Iterator[Problem]:
    validator, core = schemas.module_validator(module), core_name(module)
    if validator is None or core in _ANY_ARGUMENT:
        return
    arguments: dict[str, Any] = {}
    for entry in defaults:
        for key in (*_groups_of(module), module):
            values = literal(entry[key].value)
            arguments.update(values if isinstance(values, dict) else {})
    arguments = {n: v for n, v in arguments.items() if n in schemas.arguments(module)} | given
    arguments = {name: literal(value) for name, value in arguments.items()}
    free = ("free_form", "free-form") if core in _FREE_FORM else ()
    for problem in schemas.check(validator, call.document, call.path, arguments, _unknown_argument):
        if not any(problem.message == f"{name} is required" for name in free):
            yield problem


def default_problems(entry: Node, literal: Literal) -> Iterator[Problem]:
    """The problems of an entry of ``module_defaults``: unknown modules, groups, arguments."""
    for key in entry.value:
        values = entry[key]
        if unknown := _unknown_defaults(str(key)):
            yield values.problem(*unknown, key=True)
        yield from _default_arguments(str(key), values, literal)


def _default_arguments(key: str, node: Node, literal: Literal) -> Iterator[Problem]:
    collection_name, _, group = key.removeprefix("group/").rpartition(".")
    members = [key]
    if key.startswith("group/"):
        members = [f"{OURS}.{m}" for m in _action_groups().get(group, ())]
    entries = [documentation.module(member) for member in members]
    known = {option for entry in entries if entry for option in entry.options}
    values = literal(node.value)
    if known and isinstance(values, dict) and collection_name in (OURS, BUILTIN):
        for name in values.keys() - known:
            guess = suggest(str(name), known)
            yield node[name].problem(f"unknown argument {name!r}", guess, key=True)


def modules_of(task: Node) -> list[str]:
    """The full names of modules among a task's keys."""
    return [key for key in task.value if isinstance(key, str) and key.count(".") >= 2]


def call_problem(task: Node) -> str:
    """Why it is not one module that a task calls; an empty string if it is."""
    modules = modules_of(task)
    if len(modules) > 1:
        return f"a task calls one module, not {' and '.join(modules)}"
    if not modules and not any(_full_name(key) or key in ACTIONS for key in task.value):
        return "the task calls no module"
    return ""


def unknown_keyword(key: str, known: list[str]) -> tuple[str, str]:
    """The message and the suggestion for a keyword that is none of the ``known`` ones."""
    full = _full_name(key) if "register" in known or "hosts" not in known else ""
    if full:
        return f"use the full name {full}", ""
    if key in ACTIONS:
        return "call the module by its full name as the key", ""
    modules = documentation.module_names(OURS) | documentation.module_names(BUILTIN)
    module = "" if "hosts" in known or suggest(key, known) else suggest(key, modules)
    return f"unknown keyword {key!r}", suggest(key, known) or _full_name(module)


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
        guess = suggest(collection_name, [OURS, BUILTIN])
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


def _full_name(key: str) -> str:
    """The full name of the module that a short name means, or an empty string."""
    for collection_name in (OURS, BUILTIN):
        if key in documentation.module_names(collection_name):
            return f"{collection_name}.{key}"
    return ""


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
