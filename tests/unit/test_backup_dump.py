"""Files of ``pg_dump -a`` as data, in whatever pieces they come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils.backup import dump as dumps
from ansible_collections.labeller.runbook.plugins.module_utils.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Two tables; the rows of both hold what would be SQL, or their end, elsewhere.
FILE = rb"""--
-- PostgreSQL database dump
--
SET client_encoding = 'LATIN1';
SET search_path = old, pg_catalog;
COPY "odd ""T" (id, "a, b") FROM stdin;
1	x\\.
2	\\.
\\.
3	SELECT pg_catalog.setval('not', 1, true);
\.


COPY public.other (line) FROM stdin;
SELECT pg_catalog.setval('public.id_seq', 9, true);
-- PostgreSQL database dump complete
\.

SELECT pg_catalog.setval('public.id_seq', 7, false);
SELECT pg_catalog.setval('"Odd ''s"', 12, true);
--
-- PostgreSQL database dump complete
--

"""
ROWS = FILE[FILE.index(b"1\tx") : FILE.index(b"\\.\n\n\nCOPY")]
DUMP_END = FILE.rindex(b"-- PostgreSQL")


def pieces(body: bytes, size: int) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


@pytest.mark.parametrize("size", [*range(1, 40), len(FILE)])
def test_a_file_is_read_in_pieces_of_any_size(size: int) -> None:
    dump = dumps.Dump(pieces(FILE, size), "s3://b/t.sql")
    assert dump.block() == ("old", 'odd "T', ["id", "a, b"], "LATIN1")
    assert b"".join(dump.rows()) == ROWS
    dump.rest()
    assert dump.sequences == {("public", "id_seq"): (7, False), ("old", "Odd 's"): (12, True)}
    assert dump.complete


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_a_block_without_rows(size: int) -> None:
    dump = dumps.Dump(pieces(b"COPY t (a) FROM stdin;\n\\.\n", size), "t.sql")
    assert dump.block().schema == "public"
    assert b"".join(dump.rows()) == b""


def test_a_file_that_was_cut_off_is_refused() -> None:
    cut = dumps.Dump(pieces(FILE[: FILE.index(b"3\tSELECT")], 7), "s3://b/t.sql")
    cut.block()
    with pytest.raises(InvalidInput, match=r"s3://b/t.sql was cut off"):
        list(cut.rows())
    nearly = dumps.Dump(pieces(FILE[:DUMP_END], 7), "s3://b/t.sql")
    nearly.block()
    list(nearly.rows())
    nearly.rest()
    assert not nearly.complete


@pytest.mark.parametrize(
    ("body", "message"),
    [(b"x" * (3 << 20), "endless line"), (b"INSERT INTO t VALUES (1);\n", "no COPY block")],
)
def test_what_is_no_such_dump_is_named(body: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"s3://b/t.sql .*{message}"):
        dumps.Dump(pieces(body, 1 << 16), "s3://b/t.sql").block()


def test_dumps_of_a_folder() -> None:
    keys = ["d/b.sql", "d/a.sql", "d/deeper/c.sql", "d/a.sql.gz", "d/.sql"]
    assert dumps.tables(keys, "d/") == {"a": "d/a.sql", "b": "d/b.sql"}
