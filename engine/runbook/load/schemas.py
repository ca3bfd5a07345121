"""Validate documents against JSON Schemas, with readable messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from runbook import collection
from runbook.load import documentation
from runbook.load.diagnostics import Path, Problem, suggest
from runbook.load.positions import Document, Unsafe, Vault
from runbook.load.templates import is_template

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

#: jsonschema's ValidationError; its attributes are typed as possibly unset, which they never are
#: on errors that a validator yields.
ValidationError = Any

#: Says what is wrong with a key that no schema knows: (key, known keys) → (message, suggestion).
Unknown = Callable[[str, list[str]], tuple[str, str]]

_KIND = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


@cache
def read(name: str) -> dict[str, Any]:
    """The schema in ``schemas/NAME.schema.json``."""
    path = collection.root() / "schemas" / f"{name}.schema.json"
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


@cache
def parameters() -> Mapping[str, Mapping[str, Any]]:
    """The parameters of the run modes by name, each with its schema."""
    properties: dict[str, Mapping[str, Any]] = dict(read("parameters")["properties"])
    settings = "labeller_settings"
    properties[settings] = {**properties[settings], "properties": _settings_with_parameters()}
    return properties


@cache
def without_default() -> frozenset[str]:
    """The parameters that only an inventory or ``-e`` gives."""
    return frozenset(name for name, schema in parameters().items() if "default" not in schema)


@cache
def from_role() -> frozenset[str]:
    """The variables that the role ``parameters`` gives: parameters with a default, and derived."""
    names: set[str] = set()
    for part in ("defaults", "vars"):
        file = collection.root() / "roles" / "parameters" / part / "main.yml"
        names |= yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader).keys()
    return frozenset(names)


def _settings_with_parameters() -> dict[str, Mapping[str, Any]]:
    """Labeller's settings that parameters set, as properties that no value fits."""
    return {
        key: {"not": {}, "x-parameter": rule["x-parameter"]}
        for key, rule in read("configuration")["properties"].items()
        if "x-parameter" in rule
    }


@cache
def secret_names() -> frozenset[str]:
    """The parameters whose values are secret."""
    return frozenset(name for name, schema in parameters().items() if schema.get("writeOnly"))


@cache
def validator(name: str) -> Validator:
    """The compiled schema ``NAME``."""
    return compiled(read(name))


@cache
def _module_schema(full_name: str) -> Mapping[str, Any]:
    """The schema of a module's arguments; empty when the module documents none."""
    collection_name, _, short = full_name.rpartition(".")
    if collection_name == documentation.OURS:
        path = collection.root() / "schemas" / "modules" / f"{short}.schema.json"
        return read(f"modules/{short}") if path.is_file() else {}
    documented = documentation.module(full_name)
    if documented is None:
        return {}
    return {
        **documentation.options_schema(documented.options, lenient=True),
        "$defs": documentation.TEMPLATE_DEFINITION,
    }


@cache
def module_validator(full_name: str) -> Validator | None:
    """The compiled schema of a module's arguments; none when the module documents none."""
    schema = _module_schema(full_name)
    return compiled(schema) if schema else None


def arguments(full_name: str) -> frozenset[str]:
    """The arguments that a module takes."""
    return frozenset(_module_schema(full_name).get("properties", ()))


def compiled(schema: Mapping[str, Any]) -> Validator:
    """A schema ready for use; jsonschema is imported only now."""
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource

    def retrieve(uri: str) -> Resource[Any]:
        return Resource.from_contents(read(uri.removesuffix(".schema.json")))

    return Draft202012Validator(schema, registry=Registry(retrieve=retrieve))  # type: ignore[call-arg]


def unknown_key(key: str, known: list[str]) -> tuple[str, str]:
    """The usual answer to an unknown key, and the closest known one."""
    return f"unknown key {key!r}", suggest(key, known)


def check(
    against: Validator, document: Document, path: Path, value: Any, unknown: Unknown
) -> Iterator[Problem]:
    """The problems of ``value``, which is at ``path`` of ``document``."""
    for error in against.iter_errors(opaque(value)):
        yield from _explained(error, document, path, unknown)


def check_parameter(name: str, value: Any) -> list[tuple[Path, str]]:
    """The problems of a parameter's value, each with its path in the value.

    Templates are not looked into. The value of a secret is not repeated.
    """
    if is_opaque(value):
        return []
    schema = parameters()[name]
    errors = list(compiled(schema).iter_errors(opaque(value)))
    if errors and schema.get("writeOnly"):
        return [((), f"expected {' or '.join(_kinds(schema))} of another form or type")]
    return [(tuple(error.absolute_path), _message(error)) for error in errors]


def allowed(schema: Mapping[str, Any]) -> str:
    """The choices or the range that a schema leaves, of a list those of its items, in words."""
    if "items" in schema:
        inner = allowed(schema["items"])
        return f"each {inner}" if inner else ""
    if "enum" in schema:
        return _kinds(schema)[0]
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{low} to {high}"
    if low is not None:
        return f"at least {low}"
    return "" if high is None else f"at most {high}"


def is_opaque(value: Any) -> bool:
    """Whether the value is known only when the run evaluates it: a template, or from a vault."""
    if isinstance(value, Vault):
        return True
    return isinstance(value, str) and not isinstance(value, Unsafe) and is_template(value)


def opaque(value: Any) -> Any:
    """``value`` with vault values as templates and keys as text, as schemas can take them."""
    if isinstance(value, Vault):
        return "{{ vault }}"
    if isinstance(value, dict):
        return {str(key): opaque(item) for key, item in value.items()}
    if isinstance(value, list):
        return [opaque(item) for item in value]
    return value


def _explained(
    error: ValidationError, document: Document, base: Path, unknown: Unknown
) -> Iterator[Problem]:
    path = (*base, *error.absolute_path)
    if error.validator in ("anyOf", "oneOf"):
        branch = _best_branch(error)
        if branch:
            for inner in branch:
                yield from _explained(inner, document, base, unknown)
            return
    if error.validator == "additionalProperties" and isinstance(error.schema, Mapping):
        known = sorted(error.schema.get("properties", {}))
        for key in _extra_keys(error):
            message, guess = unknown(key, known)
            yield document.problem((*path, key), message, guess, key=True)
    elif error.validator == "propertyNames" or "propertyNames" in error.absolute_schema_path:
        yield document.problem(
            (*path, error.instance),
            f"{error.instance!r} is no name for a variable or group",
            key=True,
        )
    elif not path and error.validator == "type" and isinstance(error.instance, str):
        # The whole file, which may be the password of a vault, given in the place of a playbook.
        message = f"expected {' or '.join(_kinds(error.schema))}, found text"
        yield document.problem(path, message)
    else:
        yield document.problem(path, _message(error), _guess(error))


def _extra_keys(error: ValidationError) -> list[str]:
    import re

    patterns = error.schema.get("patternProperties", {})
    return [
        key
        for key in error.instance
        if key not in error.schema.get("properties", {})
        and not any(re.search(pattern, key) for pattern in patterns)
    ]


#: What says that an alternative is not the one that was meant.
_SCALAR = ("type", "enum", "pattern")


def _best_branch(error: ValidationError) -> list[ValidationError]:
    """The errors of the one alternative that was meant: of the right type, and deepest."""
    branches: dict[Any, list[ValidationError]] = {}
    for inner in error.context or []:
        branches.setdefault(inner.relative_schema_path[0], []).append(inner)
    meant = {
        index: errors
        for index, errors in branches.items()
        if not any(inner.validator in _SCALAR and not inner.relative_path for inner in errors)
    }
    if len(meant) == 1:
        return next(iter(meant.values()))
    return []


def _guess(error: ValidationError) -> str:
    choices = error.validator_value if error.validator == "enum" else _alternatives(error)
    return suggest(str(error.instance), [str(choice) for choice in choices])


def _alternatives(error: ValidationError) -> list[Any]:
    branches = error.validator_value if error.validator == "anyOf" else []
    return [choice for branch in branches for choice in branch.get("enum", [])]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    text = repr(str(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    if "enum" in schema:
        return [f"one of {', '.join(_shown(v).strip(chr(39)) for v in schema['enum'])}"]
    kinds = schema.get("type", [])
    return [_KIND[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds)]


def _message(error: ValidationError) -> str:
    value, limit = error.instance, error.validator_value
    shown = _shown(value)
    if error.validator == "required":
        missing = error.message.split("'")[1]
        return f"{missing} is required"
    if error.validator in ("anyOf", "oneOf"):
        # Patterns are conversions and templates: what is expected is the type itself.
        branches = [b for b in limit if b != documentation.TEMPLATE and "pattern" not in b]
        if all(set(branch) == {"required"} for branch in branches):
            return f"one of {', '.join(branch['required'][0] for branch in branches)} is required"
        kinds = dict.fromkeys(kind for branch in branches for kind in _kinds(branch))
        if _KIND["boolean"] in kinds:
            kinds = {_KIND["boolean"]: None}
        return f"expected {' or '.join(kinds) or 'something else'}, found {shown}"
    said: dict[str, Callable[[], str]] = {
        "type": lambda: f"expected {' or '.join(_kinds(error.schema))}, found {shown}",
        "enum": lambda: f"expected {_kinds(error.schema)[0]}, found {shown}",
        "const": lambda: f"expected {_shown(limit)}, found {shown}",
        "pattern": lambda: f"{shown} does not have the form {limit}",
        "minimum": lambda: f"{shown} is less than {limit}",
        "maximum": lambda: f"{shown} is more than {limit}",
        "exclusiveMinimum": lambda: f"{shown} must be more than {limit}",
        "exclusiveMaximum": lambda: f"{shown} must be less than {limit}",
        "minLength": lambda: "must not be empty" if limit == 1 else f"shorter than {limit}",
        "minItems": lambda: "must not be empty" if limit == 1 else f"fewer than {limit} items",
        "minProperties": lambda: "must not be empty",
        "maxProperties": lambda: f"expected {limit} key, found {len(value)}: {', '.join(value)}",
        "uniqueItems": lambda: "an item is given twice",
        "not": lambda: f"has a parameter of its own: set {error.schema['x-parameter']} instead",
    }
    return said[error.validator]() if error.validator in said else str(error.message)
