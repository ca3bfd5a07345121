# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which Pythons a host has, and what its environment for modules holds, read by a POSIX shell.

A host may have no Python that runs a module, so the script needs none; the controller runs it over
the connection, and the module on the host.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Mapping, Optional, Tuple

from .errors import ModuleFailure

#: The file in an environment that says how it was made.
ABOUT = "runbook-environment"
_BEGIN = "@runbook"

#: What an interpreter says of itself, in the words of Python 2.7 and 3.
_PROBE = """
import os, sys
problem = libc = ""
try:
    import ssl, venv, zlib
    if sys.version_info < (3, 10):
        import distutils.command.install
except ImportError:
    problem = str(sys.exc_info()[1])
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
except ValueError:
    pass
print("\\t".join([".".join(map(str, sys.version_info[:3])), libc, problem]))
"""

#: Prints lines of fields separated by tabs, of which the first says what the line is about. A
#: profile may have printed something before. The variables are set before it, and calls of
#: ``place`` and ``file`` follow.
_SCRIPT = r"""
set -u
LC_ALL=C
export LC_ALL
say() {
    line=$1
    shift
    for field do line="$line	$field"; done
    printf '%s\n' "$line"
}
python() {
    if answer=$("$3" -E -s -S -c "$probe" 2>&1 </dev/null); then
        say "$1" "$2" "$(printf '%s\n' "$answer" | tail -n 1)"
    else
        say "$1" "$2" "" "" "it does not start: $(printf '%s\n' "$answer" | tail -n 1)"
    fi
}
place() {
    there=$1
    case $there in "~/"*) there=$HOME/${there#??} ;; esac
    while [ ! -e "$there" ]; do there=$(dirname "$there"); done
    writable=no
    if [ -d "$there" ] && [ -w "$there" ] && [ -x "$there" ]; then writable=yes; fi
    free=$(df -Pk "$there" 2>/dev/null | awk 'NR == 2 { print $4 }')
    say place "$1" "$there" "$writable" "$free"
}
file() {
    [ -e "$1" ] || return 0
    own=no
    if [ -f "$1" ] && [ -r "$1" ] && [ -O "$1" ]; then own=yes; fi
    say file "$1" "$own" "$(stat -c %a "$1")" "$(sha256sum "$1" 2>/dev/null | cut -c 1-64)"
}
printf '\n%s\n' "$begin"
say home "$HOME"
say machine "$(uname -m)"
say cron "$(crontab -l 2>/dev/null | grep -v '^ *#' | grep -c "$calls")"
if [ -L "$path" ]; then
    say link "$(readlink "$path")"
elif [ -e "$path" ]; then
    say other
fi
if [ -f "$path/$about" ]; then
    while IFS= read -r line; do say about "$line"; done <"$path/$about"
fi
for folder in "$path"/lib/python3.*/site-packages/*.dist-info; do
    if [ -d "$folder" ]; then say package "${folder##*/}"; fi
done
if [ -e "$path/bin/python" ] || [ -L "$path/bin/python" ]; then
    python environment "$path" "$path/bin/python"
fi
seen=" "
look() {
    [ -x "$1" ] && [ ! -d "$1" ] || return 0
    real=$(readlink -f "$1")
    case $seen in *" $real "*) return 0 ;; esac
    seen="$seen$real "
    python candidate "$real" "$real"
}
search() {
    for folder do
        case $folder in */shims) continue ;; esac
        for minor in 13 12 11 10 9 8; do look "$folder/python3.$minor"; done
        look "$folder/python3"
        look "$folder/python"
    done
}
if [ -n "$given" ]; then
    look "$given"
elif [ -n "$searched" ]; then
    IFS=:
    set -- $PATH
    unset IFS
    search "$@" /usr/local/bin /usr/bin /opt/rh/*/root/usr/bin /opt/rh/*/root/bin \
        /opt/python/*/bin /opt/python*/bin "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin
fi
"""


@dataclass(frozen=True)
class Python:
    """An interpreter: its real path, version and C library; ``problem`` is why it is of no use."""

    path: str
    version: str
    libc: str = ""
    problem: str = ""

    @property
    def minor(self) -> Tuple[int, int]:
        """Major and minor version; (0, 0) for one that does not start."""
        parts = self.version.split(".")
        return (int(parts[0]), int(parts[1])) if self.version else (0, 0)


@dataclass(frozen=True)
class Place:
    """The nearest folder of a path that is there, whether it may be written, its free bytes."""

    there: str
    writable: bool
    free: Optional[int]


@dataclass(frozen=True)
class File:
    """A file of this user (``own``) or another's, or no regular file."""

    own: bool
    mode: str
    sha256: str


@dataclass(frozen=True)
class Host:
    """A host, and the environment at a path of it.

    ``link``: what the path links to; ``other``: it is there and no link. ``about``: how the
    environment was made; ``packages``: its versions by normalized name; ``python``: its own.
    """

    home: str
    machine: str
    cron: bool
    link: str = ""
    other: bool = False
    about: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    python: Optional[Python] = None
    pythons: Tuple[Python, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict)
    files: Mapping[str, File] = field(default_factory=dict)


def script(
    path: str, given: str, places: Iterable[str], files: Iterable[str], *, search: bool
) -> str:
    """The shell script that prints what ``parsed`` reads.

    ``path``: of the environment; ``given``: the only interpreter to look at; ``search``: look for
    others, 30 ms each.
    """
    variables = {
        "path": path, "given": given, "searched": "yes" if search else "", "about": ABOUT,
        "begin": _BEGIN, "probe": _PROBE,
        "calls": "{}/bin/runbook ".format(os.path.basename(path)),
    }  # fmt: skip
    lines = ["{}={}".format(name, shlex.quote(value)) for name, value in variables.items()]
    lines.append(_SCRIPT)
    lines += ["place {}".format(shlex.quote(each)) for each in places]
    lines += ["file {}".format(shlex.quote(each)) for each in files]
    return "\n".join([*lines, "say end", ""])


def parsed(output: str) -> Host:
    """The host that the script's output describes; ModuleFailure for one that was cut short."""
    lines = output.rpartition("\n" + _BEGIN + "\n")[2].splitlines()
    if "end" not in lines:
        raise ModuleFailure(
            "the host did not say which Pythons it has; its shell printed: {}".format(
                " ".join(output.split())[-500:] or "nothing"
            )
        )
    found: Dict[str, List[List[str]]] = {}
    for line in lines:
        name, *fields = line.split("\t")
        found.setdefault(name, []).append(fields)
    return _host(found)


def _host(found: Mapping[str, List[List[str]]]) -> Host:
    def one(name: str) -> str:
        return next((fields[0] for fields in found.get(name, ())), "")

    environment = [_python(fields) for fields in found.get("environment", ())]
    return Host(
        home=one("home"),
        machine=one("machine"),
        cron=one("cron") not in ("", "0"),
        link=one("link"),
        other="other" in found,
        about=dict(fields[0].partition("=")[::2] for fields in found.get("about", ())),
        packages=dict(_package(fields[0]) for fields in found.get("package", ())),
        python=environment[0] if environment else None,
        pythons=tuple(_python(fields) for fields in found.get("candidate", ())),
        places={
            path: Place(there, writable == "yes", int(free) * 1024 if free else None)
            for path, there, writable, free in found.get("place", ())
        },
        files={
            path: File(own == "yes", mode, sha256)
            for path, own, mode, sha256 in found.get("file", ())
        },
    )


def _python(fields: List[str]) -> Python:
    path, version, libc, problem = (*fields, "", "", "")[:4]
    known = re.fullmatch(r"\d+\.\d+\.\d+", version)
    return Python(path, version if known else "", libc, problem if known else problem or version)


def _package(folder: str) -> Tuple[str, str]:
    """Name and version by the name of a dist-info folder."""
    name, _, version = folder[: -len(".dist-info")].partition("-")
    return normalized(name), version


def normalized(name: str) -> str:
    """A package's name as packaging.python.org compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def versions(requirements: Iterable[str]) -> Dict[str, str]:
    """Versions by normalized name, of requirements such as ``boto3==1.44.5``."""
    return {
        normalized(name): version for name, _, version in (r.partition("==") for r in requirements)
    }


def shown(pythons: Iterable[Python]) -> str:
    """Interpreters with their versions and problems, for messages."""
    said = [
        "{} ({})".format(each.path, ", ".join(p for p in (each.version, each.problem) if p))
        for each in pythons
    ]
    return ", ".join(said) or "none"
