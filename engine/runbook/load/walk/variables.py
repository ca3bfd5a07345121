"""The variables of a playbook: where each is defined, what uses it, what is undefined."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runbook.load import schemas, templates
from runbook.load.diagnostics import Problem, suggest
from runbook.load.positions import Unsafe
from runbook.load.templates import Needs
from runbook.load.walk.node import Node
from runbook.load.walk.scope import ANY, Play

if TYPE_CHECKING:
    from runbook.load.walk.scope import Scope

#: Variables that Ansible itself defines (docs: special variables); ``ansible_*`` besides.
MAGIC = frozenset({
    "environment", "group_names", "groups", "hostvars", "inventory_dir", "inventory_file",
    "inventory_hostname", "inventory_hostname_short", "item", "omit", "play_hosts",
    "playbook_dir", "role_name", "role_names", "role_path", "vars",
})  # fmt: skip

_NAME = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_NAME_OR_DEFAULT = re.compile(r"\{\{\s*(\w+)\s*(?:\|\s*default\('([^'{}]*)'\)\s*)?\}\}")


class Variables:
    """The variables of a walk.

    ``given`` are the names that are defined before any playbook: parameters, inventory, ``-e``;
    ``facts`` those that tasks have registered or set, for all that comes after.
    """

    def __init__(self, given: frozenset[str], problems: list[Problem]) -> None:
        self.given = given
        self._outside = given
        self.facts: set[str] = set()
        self.used: set[str] = set()
        self.definitions: dict[str, list[Node]] = {}
        self._problems = problems
        self._reached: set[str] = set()

    def define(self, values: Node, over: frozenset[str] = frozenset()) -> frozenset[str]:
        """The names of a mapping of variables; notes the values, except of names in ``over``."""
        if not isinstance(values.value, dict):
            return frozenset()
        for name in (name for name in values.value if name not in over):
            self.definitions.setdefault(str(name), []).append(values[name])
        return frozenset(map(str, values.value))

    def literal(self, value: Any) -> Any:
        """The value of a ``{{ name }}`` that is defined in one place only; else ``value``."""
        found = _NAME.fullmatch(value.strip()) if isinstance(value, str) else None
        defined = self.definitions.get(found[1], []) if found else []
        return defined[0].value if len(defined) == 1 else value

    def filled(self, name: str) -> str:
        """A file's name with the variables in it that the playbook alone defines, in one place.

        One that is defined nowhere has its default: ``{{ name | default('text') }}``.
        """

        def value(found: re.Match[str]) -> str:
            name, default = found.groups()
            if default is not None and self._nowhere(name):
                return default
            said = found[0] if name in self._outside else self.literal("{{ " + name + " }}")
            return said if isinstance(said, str) and "{{" not in said else found[0]

        return _NAME_OR_DEFAULT.sub(value, name)

    def _nowhere(self, name: str) -> bool:
        known = self.given | self.facts | self.definitions.keys() | MAGIC
        return not (name in known or ANY in known or name.startswith("ansible_"))

    def names(self, scope: Scope) -> frozenset[str]:
        """The variables that are defined in a scope."""
        return self.given | self.facts | scope.known | scope.guarded

    def check(self, node: Node, scope: Scope) -> None:
        """Note what the templates in a value use, and what of it is undefined."""
        self._check(node, self.names(scope), scope.play)

    def check_anywhere(self, node: Node) -> None:
        """The same for a value outside of plays, which may use every variable."""
        everything = self.given | self.facts | self.definitions.keys()
        self._check(node, everything, Play())

    def condition(self, node: Node, scope: Scope) -> None:
        """The same for conditions. They hold in order: one that tests a name guards the next."""
        for each in node.each():
            if isinstance(each.value, str) and not isinstance(each.value, Unsafe):
                needs = templates.of_condition(each.value)
                self._needs(each, needs, self.names(scope), scope.play)
                scope = replace(scope, guarded=scope.guarded | needs.guarded)

    def finish(self) -> None:
        """Check the definitions that something uses, and what they use in turn."""
        while missing := (self.used & self.definitions.keys()) - self._reached:
            for name in sorted(missing):
                self._reached.add(name)
                for definition in self.definitions[name]:
                    self.check_anywhere(definition)

    def _check(self, node: Node, names: frozenset[str], play: Play) -> None:
        for inner, needs in templates.of_value(node.value):
            below = Node(node.document, (*node.path, *inner), None)
            self._needs(below, needs, names, play)

    def _needs(self, node: Node, needs: Needs, names: frozenset[str], play: Play) -> None:
        self.used |= needs.used
        for message, guess in needs.errors:
            self._problems.append(node.problem(message, guess))
        for name in sorted(needs.names - names - MAGIC):
            if name.startswith("ansible_") or ANY in names:
                continue
            if play.lacking is not None and name in schemas.from_role():
                play.lacking.add(name)
            else:
                guess = suggest(name, names | MAGIC)
                self._problems.append(node.problem(f"undefined variable {name!r}", guess))


def guards(conditions: Node) -> frozenset[str]:
    """The names that conditions test to be defined."""
    texts = [each.value for each in conditions.each() if isinstance(each.value, str)]
    return frozenset().union(*(templates.of_condition(text).guarded for text in texts))
