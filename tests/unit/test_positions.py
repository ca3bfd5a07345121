"""YAML with positions: right places, and a problem instead of a traceback for any bytes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.load import positions
from runbook.load.positions import VAULT, Mark, Unsafe, load, load_bytes, load_text

TEXT = """\
---
# Leading words.
# And more.
- name: Play
  vars: &vars
    a: 1
    b: [x, "y"]
- vars:
    <<: *vars
    a: 2
"""


def test_values_places_and_comment() -> None:
    document = load_text(TEXT, "f.yml")
    assert not document.problems
    assert document.value == yaml.safe_load(TEXT)
    assert document.comment == "Leading words. And more."
    assert document.mark((0, "name")) == Mark(4, 9)
    assert document.mark((0, "name"), key=True) == Mark(4, 3)
    assert document.mark((0, "vars", "b", 1)) == Mark(7, 12)
    assert document.mark((1, "vars", "a")) == Mark(10, 8)
    assert document.mark((1, "vars", "b", 1)) == Mark(7, 12)
    assert document.mark((1, "vars", "b"), key=True) == Mark(7, 5)
    assert document.mark((0, "vars", "absent")) == document.mark((0, "vars"))


def test_tags() -> None:
    document = load_text(
        "a: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  00\nb: !unsafe '{{ x }}'\n", "f"
    )
    assert document.value["a"] is VAULT
    assert isinstance(document.value["b"], Unsafe)
    assert load_bytes(b"$ANSIBLE_VAULT;1.1;AES256\n6162\n", "f").value is VAULT


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)

BROKEN = {
    b"a: 1\na: 2\n": "f:2:1: a: the key is given twice; the first is on line 1",
    b"a:\n\tb: 1\n": "f:2:1: document: a tab where YAML wants spaces",
    b"a: 1\n---\nb: 2\n": "f:2:1: document: a second document begins here; a file holds one",
    b"ok: 1\nx: \xff\n": "f:2:4: document: byte 0xff is not UTF-8 text",
    b"a: x\0y\n": "f:1:5: document: control character U+0000 in the text",
    b"a: *nothing\n": "f:1:4: document: an alias without an anchor before it; quote text that begins with *",
    b"a: &a [*a]\n": "f:1:8: document: an alias without an anchor before it; quote text that begins with *",
    b"a: !command ls\n": "f:1:4: document: a tag that is not known here; quote text that begins with !",
    b"a: !!python/object:os.system x\n": "f:1:4: document: a tag that is not known here; quote text that begins with !",
    b"a: !!set {x}\n": "f:1:4: document: a tag that is not known for a mapping; quote text that begins with !",
    b"a: {{ x }}\n": "f:1:5: a: a key must be text; quote a value that begins with {{",
    b"? [1]\n: 2\n": "f:1:3: document: a key must be text",
    b"on: 2\n": "f:1:1: document: the key is read as true, not as text; quote it",
    b"a: 2018-99-99\n": "f:1:4: document: written as a timestamp, which it is not; quote it if it is text",
    b"<<: 3\n": "f:1:5: document: << takes a mapping or a list of mappings",
    b"a: 'x\n": "f:1:4: document: not YAML: while scanning a quoted scalar found unexpected end of stream",
    b"[" * 100_000: "f:1:61: document: nested deeper than 60 levels",
    BOMB.encode(): "f:5:25: document: more than 50,000 values, its aliases written out",
}


@pytest.mark.parametrize(("data", "expected"), BROKEN.items(), ids=range(len(BROKEN)))
def test_broken_documents(data: bytes, expected: str) -> None:
    started = time.process_time()
    assert [str(problem) for problem in load_bytes(data, "f").problems] == [expected]
    assert time.process_time() - started < 2


def test_nesting_through_aliases_is_bounded() -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 200))
    (problem,) = load_text(text, "f").problems
    assert "nested deeper" in problem.message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    big = tmp_path / "big.yml"
    big.write_bytes(b"- x\n" * 2_500_000)
    assert [str(p) for p in load(big, "big.yml").problems] == [
        "big.yml:1:1: document: the file has 10.0 MB; at most 4.2 MB are read"
    ]
    assert "No such file" in load(tmp_path / "absent.yml").problems[0].message
    assert "Is a directory" in load(tmp_path).problems[0].message


YAMLISH = st.text(alphabet="ab01:-[]{}&*!<>|'\"#%@`,?~= \t\n.é\0\u2028\x85", max_size=200)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=200), YAMLISH.map(str.encode)))
def test_any_bytes_give_a_document_or_located_problems(data: bytes) -> None:
    document = load_bytes(data, "f")
    for problem in document.problems:
        assert problem.line >= 1
        assert problem.col >= 1
        assert problem.message


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(alphabet="abcxyz_", min_size=2, max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_reads_what_pyyaml_reads(value: object) -> None:
    text = yaml.safe_dump(value)
    document = load_text(text, "f")
    if not document.problems:  # text that YAML dumps may look like a timestamp
        assert document.value == value
        assert positions.load_text(text, "f") == document
