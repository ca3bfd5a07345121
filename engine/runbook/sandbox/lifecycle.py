"""Create, repair, reset and remove the sandbox."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runbook.errors import InvalidInputError, RefusedError, RunbookError
from runbook.home import write_whole
from runbook.processes import Process
from runbook.sandbox.state import Home, State

if TYPE_CHECKING:
    from pathlib import Path

    from runbook.sandbox.cloud import Network
    from runbook.sandbox.postgres import PostgresServer
    from runbook.sandbox.seed import Geography

BUCKET = "activemapper"
INSTANCE = "labeller-sandbox"
DATABASE = "Africa"
ROLE = "postgis"
#: The database that ``Africa`` is copied from, as the sandbox was made.
TEMPLATE = "seed"

Say = Callable[[str], None]


def say_aloud(sentence: str) -> None:
    """Tell the person at the keyboard, apart from what a command prints."""
    sys.stderr.write(sentence + "\n")


@dataclass(frozen=True)
class Options:
    """The settings that a sandbox is made from."""

    seed: int = 0
    #: GeoJSON; None for the sandbox's own areas.
    aois: bytes | None = None
    #: Of its file, for messages.
    name: str = field(default="", compare=False)

    def save(self, home: Home) -> None:
        """Keep them with the sandbox."""
        home.seed.mkdir(parents=True, exist_ok=True)
        if self.aois is not None:
            (home.seed / "given.geojson").write_bytes(self.aois)
        write_whole(home.options, json.dumps({"seed": self.seed, "name": self.name}), 0o600)

    @classmethod
    def load(cls, home: Home) -> Options | None:
        """Those of the sandbox that is there, finished or not."""
        given = home.seed / "given.geojson"
        try:
            kept = json.loads(home.options.read_text())
            content = given.read_bytes() if given.exists() else None
            return cls(kept["seed"], content, kept["name"])
        except (OSError, ValueError, KeyError):
            return None

    def changed(self, seed: int | None, aois: Path | None) -> Options:
        """These with what the command line gives."""
        try:
            content = self.aois if aois is None else aois.read_bytes()
        except OSError as error:
            raise InvalidInputError(f"{aois}: {error.strerror}") from error
        name = self.name if aois is None else str(aois)
        return Options(self.seed if seed is None else seed, content, name)


def ensure_up(say: Say = say_aloud) -> State:
    """The sandbox of ``RUNBOOK_HOME``, started and complete; ``say`` is given what had to be done.

    If it runs already, only its processes are looked at. Raises RunbookError.
    """
    state = State.load(Home.current())
    return state if state and not state.dead() else up(say)


def up(say: Say = say_aloud, seed: int | None = None, aois: Path | None = None) -> State:
    """As ``ensure_up``; a new one is made from ``seed`` and the GeoJSON file ``aois``.

    Raises RefusedError when there is one that was made from others.
    """
    home = Home.current()
    with home.locked():
        old = Options.load(home)
        wanted = (old or Options()).changed(seed, aois)
        state = State.load(home)
        if state and old != wanted:
            raise RefusedError(
                f"the sandbox in {home.path} was made from another seed or other areas; "
                "`runbook sandbox reset` with the same options recreates it"
            )
        if state and state.dead():
            state = _repaired(home, state, say)
        if state:
            return state
        if home.path.exists():
            say(f"The sandbox in {home.path} cannot continue; it is recreated from its seed.")
        return _make(home, wanted, say)


def reset(seed: int | None = None, aois: Path | None = None) -> State:
    """All as it was at first; from another ``seed`` or other ``aois`` when given."""
    home = Home.current()
    with home.locked():
        old = Options.load(home)
        wanted = (old or Options()).changed(seed, aois)
        state = State.load(home)
        if state is None or state.dead() or old != wanted:
            return _make(home, wanted, say_aloud)

        from runbook.sandbox import cloud

        home.state.unlink()
        shutil.rmtree(home.journal, ignore_errors=True)
        cloud.forget(state.endpoint_url)
        return _fill(home, _placed(state, cloud.make_network(state.endpoint_url, INSTANCE)))


def down() -> bool:
    """Stop all its processes and remove what it held; whether there was anything."""
    home = Home.current()
    with home.locked():
        found = home.path.exists()
        _remove(home)
    return found


def status(home: Home) -> dict[str, object]:
    """The object that ``sandbox status --json`` prints."""
    state = State.load(home)
    if state is None:
        return {"home": str(home.path), "running": False}
    dead = state.dead()
    return {
        "home": str(home.path),
        "running": not dead,
        "stopped": dead,
        "database_url": state.database_url,
        "s3_endpoint_url": state.endpoint_url,
        "bucket": state.bucket,
        "crontab": state.crontab,
        "labeller_home": state.labeller_home,
        "ec2_instance": state.ec2_instance,
        "seed": state.seed,
        "aois": state.aois,
        "cells": state.cells,
        "processes": {name: process.pid for name, process in state.processes.items()},
    }


def _repaired(home: Home, state: State, say: Say) -> State | None:
    """The sandbox with what can be restarted without loss; None when it must be recreated.

    The bucket lives in the memory of its process: when that is gone, so is the bucket, and the
    database alone would not fit a new one.
    """
    dead = state.dead()
    if "aws" in dead:
        say("The sandbox's AWS has stopped, and its bucket with it.")
        return None
    if "postgres" in dead:
        try:
            server = _start_again(_server(home, state))
        except RunbookError as error:
            say(f"The sandbox's PostgreSQL has stopped and does not start: {error}")
            return None
        state = replace(
            state,
            db_port=server.port,
            processes={**state.processes, "postgres": _postgres_process(server)},
        )
        say("The sandbox's PostgreSQL had stopped; it runs again, with its data.")
    if "cron" in dead:
        state = replace(state, processes={**state.processes, "cron": _start_cron(home)})
        say("The sandbox's cron had stopped; it runs again.")
    state.save(home)
    return state


def _make(home: Home, options: Options, say: Say) -> State:
    """Remove what is left of an older one and make it."""
    from runbook.sandbox import checkout
    from runbook.sandbox.seed import Geography

    checkout.check_path(home)
    geography = Geography(options.aois, options.name)
    _remove(home)
    say(f"Making the sandbox in {home.path} ({geography.cells:,} cells).")
    try:
        home.path.mkdir(parents=True, mode=0o700)
        options.save(home)
        return _fill(home, _make_services(home, options.seed, geography))
    except BaseException:
        _remove(home)
        raise


def _make_services(home: Home, seed: int, geography: Geography) -> State:
    """The servers, with all that is made once: template database and objects."""
    from concurrent.futures import ThreadPoolExecutor

    secrets = _new_secrets()
    with ThreadPoolExecutor(1) as pool:
        cloud = pool.submit(_start_cloud, home)
        server = _start_postgres(home)
        _make_template(home, server, secrets["db_pwd"], geography, seed)
        endpoint_url, network = cloud.result()
    state = State(
        bucket=BUCKET,
        database=DATABASE,
        db_user=ROLE,
        db_pwd=secrets["db_pwd"],
        postgres_password=server.password,
        db_port=server.port,
        endpoint_url=endpoint_url,
        ec2_instance=INSTANCE,
        security_group_id="",
        subnet_id="",
        secrets=secrets,
        home=str(home.path),
        labeller_home=str(home.labeller),
        crontab=str(home.crontab),
        seed=seed,
        cells=geography.cells,
        aois=len(geography.area_runs),
        old_aoi=geography.old_aoi,
    )
    return _placed(state, network)


def _fill(home: Home, state: State) -> State:
    """The servers' content, checkout and crontab as at first; ``state.json`` is written last."""
    from concurrent.futures import ThreadPoolExecutor

    from runbook.sandbox import checkout, cloud, processes

    processes.stop_one(home, "cron")
    processes.stop_all(lambda: processes.daemons(home))
    server = _server(home, state)
    configuration = checkout.make(home, state)
    objects: Mapping[str, bytes | Path] = {
        "grid/image_target_aois.geojson": home.seed / "aois.geojson",
        "planet/planet_catalog_ghana_full.csv": home.seed / "catalogue.csv",
        f"planet/{checkout.STATIC_NAMES}": home.seed / "static_names.csv",
        f"config_ghana_{state.old_aoi}.yaml": configuration.encode(),
    }
    with ThreadPoolExecutor(1) as pool:
        bucket = pool.submit(cloud.make_bucket, state.endpoint_url, state.bucket, objects)
        _execute(
            server,
            f'DROP DATABASE IF EXISTS "{DATABASE}" WITH (FORCE)',
            f'CREATE DATABASE "{DATABASE}" TEMPLATE "{TEMPLATE}" OWNER "{ROLE}"',
        )
        bucket.result()
    state = replace(state, processes=_running(home, server))
    state.save(home)
    return state


def _running(home: Home, server: PostgresServer) -> dict[str, Process]:
    from runbook.sandbox.state import recorded

    aws = recorded(home, "aws")
    if aws is None:
        raise RunbookError(f"the sandbox's AWS has ended; its log is {home.run}/aws.log")
    return {"postgres": _postgres_process(server), "aws": aws, "cron": _start_cron(home)}


def _placed(state: State, network: Network) -> State:
    return replace(state, subnet_id=network.subnet_id, security_group_id=network.security_group_id)


def _start_cloud(home: Home) -> tuple[str, Network]:
    from runbook.sandbox import cloud, processes

    process = processes.start(home, "aws")
    note = home.run / "aws.url"
    endpoint_url = processes.wait_for(
        home, "aws", process, lambda: note.read_text() if note.exists() else None
    )
    return endpoint_url, cloud.make_network(endpoint_url, INSTANCE)


def _start_cron(home: Home) -> Process:
    """cron, once it has carried out the crontab's entries for the first time."""
    from runbook.sandbox import processes

    note = home.run / "cron.ready"
    note.unlink(missing_ok=True)
    process = processes.start(home, "cron")
    processes.wait_for(home, "cron", process, lambda: note.exists() or None)
    started = Process.of(process.pid)
    if started is None:
        raise RunbookError(f"the sandbox's cron has ended; its log is {home.run}/cron.log")
    return started


def _server(home: Home, state: State) -> PostgresServer:
    from runbook.sandbox import postgres

    return postgres.PostgresServer(
        home.postgres, state.db_port, state.postgres_password, postgres.binaries()
    )


def _start_postgres(home: Home) -> PostgresServer:
    import secrets

    from runbook.sandbox import postgres

    server = postgres.PostgresServer(
        home.postgres, postgres.free_port(), secrets.token_hex(12), postgres.binaries()
    )
    server.create()
    return _start_again(server)


def _start_again(server: PostgresServer) -> PostgresServer:
    """Start it on its port, or on another one if that is in use."""
    from runbook.sandbox import postgres

    for _ in range(5):
        try:
            server.start()
            return server
        except RunbookError as error:
            if "could not bind" not in str(error):
                raise
            server = replace(server, port=postgres.free_port())
    raise RunbookError("the sandbox's PostgreSQL finds no free port")


def _postgres_process(server: PostgresServer) -> Process:
    process = server.process()
    if process is None:
        raise RunbookError(f"the sandbox's PostgreSQL has ended; its log is {server.log}")
    return process


def _make_template(
    home: Home, server: PostgresServer, password: str, geography: Geography, seed: int
) -> None:
    import psycopg2

    from runbook.sandbox.seed import fill_database

    _execute(
        server,
        # The hash is to slow down guesses, which a random password needs not, and a login by 5 ms.
        "SET scram_iterations = 1",
        f"CREATE ROLE \"{ROLE}\" LOGIN PASSWORD '{password}'",
        f'CREATE DATABASE "{TEMPLATE}" OWNER "{ROLE}"',
    )
    (home.seed / "aois.geojson").write_bytes(geography.geojson)
    connected = psycopg2.connect(
        host="127.0.0.1", port=server.port, dbname=TEMPLATE, user=ROLE, password=password
    )
    with closing(connected) as session:
        names = fill_database(session, geography, seed, BUCKET, home.seed / "catalogue.csv")
    (home.seed / "static_names.csv").write_text(names)


def _execute(server: PostgresServer, *statements: str) -> None:
    """Each in a transaction of its own, as the server's superuser."""
    import psycopg2

    with closing(psycopg2.connect(server.url("postgres"))) as session:
        session.autocommit = True
        with session.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


def _new_secrets() -> dict[str, str]:
    """A value for each secret parameter, and one that it had before; none opens anything."""
    import secrets

    from runbook.sandbox.checkout import SECRETS

    def value(name: str) -> str:
        text = f"sandbox-{name.replace('_', '-')}-{secrets.token_hex(10)}"
        return f"https://slack.invalid/services/{text}" if name == "slack_url" else text

    return {f"{when}{name}": value(name) for when in ("", "previous_") for name in SECRETS}


def _remove(home: Home) -> None:
    """End every process of the sandbox and remove its folder, what makes it one last.

    Raises RefusedError for a folder that holds something else: RUNBOOK_HOME may be any folder.
    """
    from runbook.sandbox import processes

    if not home.path.exists():
        return
    others = [entry for entry in home.path.iterdir() if entry != home.seed]
    if others and not (home.state.exists() or home.options.exists()):
        raise RefusedError(
            f"{home.path} is no sandbox: it holds {min(others).name}, which runbook did not make; "
            "nothing was removed. Set RUNBOOK_HOME to a folder of runbook's own"
        )
    home.state.unlink(missing_ok=True)
    processes.stop_one(home, "cron")
    processes.stop_all(lambda: processes.of(home))
    for entry in home.path.iterdir():
        if entry.is_dir() and not entry.is_symlink() and entry != home.seed:
            shutil.rmtree(entry)
    shutil.rmtree(home.path)
