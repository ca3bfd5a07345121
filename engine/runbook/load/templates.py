"""The variables, filters and tests that Jinja templates need; nothing is evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from runbook.load import documentation
from runbook.load.diagnostics import suggest
from runbook.load.positions import Unsafe

if TYPE_CHECKING:
    from jinja2 import Environment, nodes

#: What Ansible's templar offers beside the variables (ansible.template and jinja2.defaults).
GLOBALS = frozenset({
    "range", "dict", "lipsum", "cycler", "joiner", "namespace", "lookup", "query", "q", "now",
    "undef", "omit", "true", "false", "none", "True", "False", "None",
})  # fmt: skip


@dataclass(frozen=True)
class Needs:
    """``names`` must be defined, ``guarded`` ones may be undefined; ``errors`` in the text.

    ``mentioned`` names are taken indirectly: ``hostvars[host].name``, ``lookup('vars', 'name')``.
    """

    names: frozenset[str] = frozenset()
    guarded: frozenset[str] = frozenset()
    mentioned: frozenset[str] = frozenset()
    errors: tuple[tuple[str, str], ...] = ()  # message, suggestion

    @property
    def used(self) -> frozenset[str]:
        """Every variable that the text reads in one way or another."""
        return self.names | self.guarded | self.mentioned


NOTHING = Needs()


def of_value(value: Any) -> Iterator[tuple[tuple[str | int, ...], Needs]]:
    """The needs of every template in ``value``, with the path to it."""
    if isinstance(value, dict):
        for key, item in value.items():
            for path, needs in of_value(item):
                yield (key, *path), needs
            if isinstance(key, str) and "{{" in key:
                yield (key,), of_template(key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            for path, needs in of_value(item):
                yield (index, *path), needs
    elif isinstance(value, str) and not isinstance(value, Unsafe) and "{" in value:
        needs = of_template(value)
        if needs != NOTHING:
            yield (), needs


def is_template(text: str) -> bool:
    """Whether Ansible would evaluate a text."""
    return "{{" in text or "{%" in text


@lru_cache(maxsize=4096)
def of_template(text: str) -> Needs:
    """The needs of a text with templates in it."""
    if not any(mark in text for mark in ("{{", "{%", "{#")):
        return NOTHING
    return _analysed(text)


@lru_cache(maxsize=4096)
def of_condition(text: str) -> Needs:
    """The needs of a bare expression, as ``when`` takes it."""
    if is_template(text):
        needs = of_template(text)
        wrong = ("an expression is wanted here, without {{ }}", "")
        return replace(needs, errors=(*needs.errors, wrong))
    return _analysed("{% if " + text + " %}{% endif %}", text)


@cache
def _environment() -> Environment:
    from jinja2 import Environment

    return Environment(extensions=["jinja2.ext.loopcontrols"])  # noqa: S701 (nothing is rendered)


def _anything(value: Any) -> Any:
    return value


def _analysed(source: str, shown: str | None = None) -> Needs:
    from jinja2 import TemplateError, meta, nodes

    environment = _environment()
    try:
        tree = environment.parse(source)
        filters = {node.name for node in tree.find_all(nodes.Filter)}
        tests = {node.name for node in tree.find_all(nodes.Test)}
        for name in filters:  # known to this environment, so that the next step passes them
            environment.filters.setdefault(name, _anything)
        for name in tests:
            environment.tests.setdefault(name, _anything)
        mentioned = frozenset(_mentioned(tree))
        # Jinja works constant expressions out when it looks for variables: 'a' * 10**9 too.
        for constant in tree.find_all(nodes.Const):
            constant.value = None
        names = frozenset(meta.find_undeclared_variables(tree)) - GLOBALS
    except (TemplateError, RecursionError, SyntaxError, ValueError, OverflowError) as error:
        what = f"the expression {shown!r}" if shown is not None else "the template"
        reason = str(error) if not isinstance(error, RecursionError) else "nested too deeply"
        return Needs(errors=((f"{what} cannot be parsed: {reason}", ""),))
    guarded = frozenset(_guarded(tree))
    return Needs(
        names - guarded,
        names & guarded,
        mentioned if names & _INDIRECT or "lookup" in source else frozenset(),
        (*_unknown("filter", filters), *_unknown("test", tests)),
    )


#: Variables through which others are read by name.
_INDIRECT = frozenset({"hostvars", "vars"})


def _mentioned(tree: nodes.Template) -> Iterator[str]:
    from jinja2 import nodes

    for attribute in tree.find_all(nodes.Getattr):
        yield attribute.attr
    for constant in tree.find_all(nodes.Const):
        if isinstance(constant.value, str):
            yield constant.value


@cache
def known(kind: str) -> frozenset[str]:
    """The ``filter`` or ``test`` names of Jinja, ansible-core and our collection."""
    from jinja2.filters import FILTERS
    from jinja2.tests import TESTS

    return frozenset(FILTERS if kind == "filter" else TESTS) | documentation.plugin_names(kind)


def _unknown(kind: str, names: set[str]) -> Iterator[tuple[str, str]]:
    for name in sorted(names - known(kind)):
        collection_name = name.rpartition(".")[0]
        ours = collection_name in ("", documentation.OURS, documentation.BUILTIN)
        if ours or documentation.collection_root(collection_name) is None:
            yield f"unknown {kind} {name!r}", suggest(name, known(kind))


def _guarded(tree: nodes.Template) -> Iterator[str]:
    """Names whose being undefined the template itself provides for."""
    from jinja2 import nodes

    for node in tree.find_all(nodes.Filter):
        if node.name in ("default", "d", "ansible.builtin.default") and node.node is not None:
            yield from _root(node.node)
    for test in tree.find_all(nodes.Test):
        if test.name in ("defined", "undefined"):
            yield from _root(test.node)


def _root(node: nodes.Node) -> Iterator[str]:
    """The variable at the root of ``a.b[c] | filter``."""
    from jinja2 import nodes

    while isinstance(node, nodes.Getattr | nodes.Getitem | nodes.Filter | nodes.Call):
        if node.node is None:
            return
        node = node.node
    if isinstance(node, nodes.Name):
        yield node.name
