"""The schemas are schemas, take the good documents and refuse each bad one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from runbook import collection, generate
from runbook.load import documentation, schemas

FIXTURES = Path(__file__).parent.parent / "schemas"
SCHEMAS = sorted((collection.root() / "schemas").rglob("*.schema.json"))


def bad_documents() -> list[tuple[str, int, Any]]:
    return [
        (path.stem, index, document)
        for path in sorted((FIXTURES / "bad").glob("*.yml"))
        for index, document in enumerate(yaml.safe_load(path.read_text()))
    ]


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_is_a_2020_12_schema(path: Path) -> None:
    import json

    schema = json.loads(path.read_text())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"]
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", sorted((FIXTURES / "good").glob("*.yml")), ids=lambda p: p.stem)
def test_good_documents(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    assert list(schemas.validator(path.stem).iter_errors(document)) == []


@pytest.mark.parametrize(("name", "index", "document"), bad_documents())
def test_bad_documents(name: str, index: int, document: Any) -> None:
    assert list(schemas.validator(name).iter_errors(document))


def test_parameters_are_described_and_their_defaults_fit() -> None:
    for name, schema in schemas.parameters().items():
        assert schema["description"].endswith("."), name
        # Not set is a choice of its own only where the schema says so.
        assert len({"default", "x-required", "x-optional"} & set(schema)) == 1, name
        if "default" in schema:
            assert schemas.check_parameter(name, schema["default"]) == [], name


def test_generated_files_are_in_step() -> None:
    out_of_step = [
        str(path.relative_to(collection.root())) for path in generate.stale(collection.root())
    ]
    assert out_of_step == [], "run `python -m runbook.generate`"


def test_generate_notices_and_mends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    for part in ("schemas", "plugins", "meta", "roles"):
        shutil.copytree(collection.root() / part, tmp_path / part)
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(collection, "root", lambda: tmp_path)
    for cached in (documentation.module, documentation.module_names, documentation.collection_root):
        cached.cache_clear()
    try:
        generate.main([])
        assert generate.main(["--check"]) == 0
        source = tmp_path / "plugins" / "modules" / "crontab_profile.py"
        source.write_text(source.read_text().replace("\n  home:\n", "\n  house:\n"))
        leftover = tmp_path / "schemas" / "modules" / "gone.schema.json"
        leftover.write_text("{}")
        documentation.module.cache_clear()
        assert {path.name for path in generate.stale(tmp_path)} == {
            "crontab_profile.schema.json", "modules.md", "gone.schema.json",
        }  # fmt: skip
        assert generate.main(["--check"]) == 1
        assert generate.main([]) == 0
        assert generate.main(["--check"]) == 0
        assert not leftover.exists()
    finally:
        monkeypatch.undo()
        for cached in (
            documentation.module,
            documentation.module_names,
            documentation.collection_root,
        ):
            cached.cache_clear()


def test_option_types() -> None:
    options = {
        "number": {"type": "int"},
        "names": {"type": "list", "elements": "str", "required": True},
        "one": {"choices": ["a", "b"], "aliases": ["uno"], "required": True},
        "inner": {"type": "dict", "suboptions": {"path": {"type": "path", "required": True}}},
        "many": {"type": "list", "elements": "dict", "suboptions": {"x": {"type": "bool"}}},
    }
    strict = schemas.compiled(
        {**documentation.options_schema(options), "$defs": documentation.TEMPLATE_DEFINITION}
    )
    good = {
        "names": ["x"],
        "uno": "b",
        "number": "{{ n }}",
        "inner": {"path": "/"},
        "many": [{"x": True}],
    }
    assert strict.is_valid(good)
    for change in (
        {"number": "1"}, {"number": True}, {"names": "x"}, {"names": [[]]}, {"uno": "c"},
        {"inner": {}}, {"inner": {"path": "/", "other": 1}}, {"many": [{"x": "yes"}]}, {"zzz": 1},
    ):  # fmt: skip
        assert not strict.is_valid({**good, **change}), change
    assert not strict.is_valid({"names": []})
    lenient = schemas.compiled({
        **documentation.options_schema(options, lenient=True), "$defs": documentation.TEMPLATE_DEFINITION,
    })  # fmt: skip
    for change in ({"number": "1"}, {"names": "x,y"}, {"many": [{"x": "yes"}]}):
        assert lenient.is_valid({**good, **change}), change
    assert not lenient.is_valid({**good, "number": "one"})
