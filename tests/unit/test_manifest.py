"""Manifests: what cannot be used is named, whose a backup is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils.backup import manifest
from ansible_collections.labeller.runbook.plugins.module_utils.errors import InvalidInput

ENTRY = {"key": "k", "size": 1, "sha256": "0", "rows": 1}
TABLE = {"schema": "public", "columns": [], "rows": 1, "fingerprint": "", "sequences": {}}
WHOLE = {
    "format_version": 1,
    "backup_id": "x",
    "bucket": "b",
    "prefix": "p/",
    "compression": "zstd",
}


def text(**table: Any) -> bytes:
    return json.dumps({**WHOLE, "tables": {"t": {**TABLE, "objects": [ENTRY], **table}}}).encode()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (text(rows="1"), "s3://b/m, table t: rows is missing or not of type int"),
        (text(columns=None), "s3://b/m, table t: columns is missing or not of type list"),
        (text(objects=[{**ENTRY, "sha256": 7}]), "an object of table t: sha256 is missing"),
        (text(objects=["k"]), "an object of table t: key is missing"),
        (json.dumps({**WHOLE, "tables": {"t": []}}).encode(), "table t: schema is missing"),
        (json.dumps(WHOLE).encode(), "s3://b/m: tables is missing"),
        (b"[]", "has no format_version"),
        (b'{"format_version": 2}', "use a newer runbook"),
        (text()[:-1], "is not a manifest"),
        (b"\xff", "is not a manifest"),
        (b"[" * 100_000, "is not a manifest"),
        (b'{"format_version":' * 100_000, "is not a manifest"),
    ],
)
def test_what_cannot_be_used_is_named(body: bytes, message: str) -> None:
    assert manifest.parse(text(), "s3://b/m")["backup_id"] == "x"
    with pytest.raises(InvalidInput, match=message):
        manifest.parse(body, "s3://b/m")


def test_backups_of_different_databases_have_different_owners() -> None:
    params = {"login_host": "h", "login_port": 5432, "login_db": "Africa"}
    others = [{"login_host": "i"}, {"login_port": 5433}, {"login_db": "Asia"}]
    owners = {manifest.identity({**params, **other}) for other in [{}, *others]}
    assert len(owners) == 4
    assert manifest.identity(params) == manifest.identity(dict(params))


def test_names_of_tables_are_no_trouble_in_keys() -> None:
    assert manifest.folder('My Schema.T/a"b') == "My%20Schema.T%2Fa%22b"
    held: Any = {**WHOLE, "label": "café"}
    assert "café".encode() in manifest.dumps(held)
