"""The content of config.yaml: docs/labeller.md 3.1 and 3.3, key by key; nothing of it in a diff."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2.extensions
import pytest
import yaml
from ansible_collections.labeller.runbook.plugins.module_utils import config_content
from ansible_collections.labeller.runbook.plugins.module_utils.errors import (
    InvalidInput,
    ModuleFailure,
)
from hypothesis import given
from hypothesis import strategies as st

SECRETS = {
    "secret_key": "flask-Secret-1",
    "db_pwd": "pw-of-postgis",
    "github_token": "ghp_token1234",
    "api_key": "planet-api-key",
    "aws_access": "AKIAEXAMPLE",
    "aws_secret": "aws/secret+1",
    "slack_url": "https://hooks.slack.invalid/T/B/x",
}

DEFAULTS = {
    name: option["default"]
    for name, option in config_content.PARAMETERS.items()
    if "default" in option
}

# The page's first command: fire_up_labeller.py --initial 1 --ec2_instance labeller3 ...
LABELLER3: dict[str, Any] = {
    **DEFAULTS,
    **SECRETS,
    "initial": 1,
    "ec2_instance": "labeller3",
    "aoi_index": 3,
    "aoi_name": "ghana",
    "incoming_names_static_path": "incoming_names_static_cluster1.csv",
    "number_outgoing_names": 100,
    "api_key": "",
    "image_catalog_predict": "planet_catalog_ghana_1.csv",
}
# The page's second command, of the reset section.
GHANA0: dict[str, Any] = {
    **DEFAULTS,
    **SECRETS,
    "initial": 3,
    "ec2_instance": "ghana0",
    "run_id": 1,
    "bucket": "activemapper",
    "number_outgoing_names": 20,
    "slack_url": "",
}


def written(parameters: dict[str, Any]) -> dict[str, Any]:
    config = config_content.merged(config_content.values(parameters, "10.0.0.7"), None, None)
    loaded = yaml.safe_load(config_content.render(config))
    assert isinstance(loaded, dict)
    return loaded


BLANK: dict[str, Any] = dict.fromkeys(
    [
        "MAIL_USE_TLS", "MAIL_USE_SSL", "MAIL_USERNAME", "MAIL_PASSWORD", "bing_key", "mapbox_key",
        "notification_filter", "bucket", "kml_type", "sites", "reset_initial", "n",
        "consensus_riskmap_dir", "db_pgpassword", "dbpg_password", "db_sandbox_name", "db_url",
        "mapping_category2", "mapping_category3",
    ]
)  # fmt: skip
BLANK["notification_filter"] = []


def test_the_first_command_of_the_page() -> None:
    assert written(LABELLER3) == {
        "labeller": {
            "DEBUG": True,
            "initial": 1,
            "SECRET_KEY": "flask-Secret-1",
            "MAIL_SERVER": "localhost",
            "MAIL_PORT": 25,
            "PL_API_KEY": None,
            "slack_url": "https://hooks.slack.invalid/T/B/x",
            "aws_access": "AKIAEXAMPLE",
            "aws_secret": "aws/secret+1",
            "aws_region": "us-east-1",
            "consensus_directory": "/labels/ghana/",
            "consensus_heatmap_dir": "heatmaps/ghana",
            "db_host": "10.0.0.7",
            "db_production_name": "Africa",
            "db_username": "postgis",
            "db_password": "pw-of-postgis",
            "aoi_s3_object": "grid/image_target_aois.geojson",
            "master_grid_s3_object": "grid/master_grid.tif",
            "s3_catalog_name": "planet_catalog_ghana_full.csv",
            "github_repo": "agroimpacts/issues",
            "github_token": "ghp_token1234",
            "mapping_category1": "field",
            **BLANK,
        },
        "learner": {
            "aoiid": 3,
            "aoiname": "ghana",
            "runid": 0,
            "aws_access": "AKIAEXAMPLE",
            "aws_secret": "aws/secret+1",
            "aws_region": "us-east-1",
            "bucket": "activemapper",
            "prefix": "planet",
            "pool": "f_pool_ghana_3.csv",
            "qs": "q_sites_ghana_3.csv",
            "incoming_names": "incoming_names_ghana_3.csv",
            "incoming_names_static": "incoming_names_static_cluster1.csv",
            "metrics": "incoming_metrics_ghana_3.csv",
            "image_catalog": "planet/planet_catalog_ghana_3.csv",
            "image_catalog_predict": "planet_catalog_ghana_1.csv",
            "image_catalog_fix": "planet/planet_catalog_ghana_3.csv",
            "image_output_pattern": "s3://activemapper/classified-images/ghana_3/image_c{}_r{}_{}_run{}_iteration{}.tif",
            "outgoing": "s3://activemapper/planet/outgoing_names_ghana_3.csv",
            "number_outgoing_names": 100,
        },
    }
    assert config_content.object_key(LABELLER3) == "config_ghana_3.yaml"


def test_the_second_command_of_the_page_differs_where_it_says() -> None:
    first, second = written(LABELLER3), written(GHANA0)
    changes = {
        (section, key): value
        for section, content in second.items()
        for key, value in content.items()
        if value != first[section][key]
    }
    assert changes == {
        ("labeller", "initial"): 3,
        ("labeller", "PL_API_KEY"): "planet-api-key",
        ("labeller", "slack_url"): None,
        ("labeller", "consensus_directory"): "/labels/aoi/",
        ("labeller", "consensus_heatmap_dir"): "heatmaps/aoi",
        ("labeller", "s3_catalog_name"): "planet_catalog_aoi_full.csv",
        ("learner", "aoiid"): 1,
        ("learner", "aoiname"): "aoi",
        ("learner", "runid"): 1,
        ("learner", "pool"): "f_pool_aoi_1.csv",
        ("learner", "qs"): "q_sites_aoi_1.csv",
        ("learner", "incoming_names"): "incoming_names_aoi_1.csv",
        ("learner", "incoming_names_static"): "incoming_names_static_cluster_blank.csv",
        ("learner", "metrics"): "incoming_metrics_aoi_1.csv",
        ("learner", "image_catalog"): "planet/planet_catalog_aoi_1.csv",
        ("learner", "image_catalog_predict"): "planet/planet_catalog_aoi_1.csv",
        ("learner", "image_catalog_fix"): "planet/planet_catalog_aoi_1.csv",
        (
            "learner",
            "image_output_pattern",
        ): "s3://activemapper/classified-images/aoi_1/image_c{}_r{}_{}_run{}_iteration{}.tif",
        ("learner", "outgoing"): "s3://activemapper/planet/outgoing_names_aoi_1.csv",
        ("learner", "number_outgoing_names"): 20,
    }


def test_the_loop_leaves_the_key_out_by_which_the_daemon_would_act() -> None:
    """Also one that the host or the template has: fire_up_labeller.py always wrote it."""
    for host, template in (
        (None, None),
        ({"labeller": {"initial": 3}}, None),
        (None, {"labeller": {"initial": True}}),
    ):
        decided = config_content.values({**GHANA0, "initial": 0}, "10.0.0.7")
        config = config_content.merged(decided, host, template)
        assert "initial" not in config["labeller"]
        others = config_content.merged(config_content.values(GHANA0, "10.0.0.7"), host, template)
        assert {**others["labeller"], **config["labeller"]} == others["labeller"]


def test_without_static_names_the_learner_gets_the_blank_list() -> None:
    learner = written({**LABELLER3, "incoming_names_static_path": ""})["learner"]
    assert learner["incoming_names_static"] == "incoming_names_static_cluster_blank.csv"


def test_the_bucket_of_the_parameters_is_everywhere() -> None:
    text = config_content.render(
        config_content.merged(
            config_content.values({**LABELLER3, "bucket": "other-bucket"}, "h"), None, None
        )
    ).decode()
    assert "activemapper" not in text
    assert text.count("other-bucket") == 3


def test_host_before_template_before_blank_and_parameters_before_all() -> None:
    host = {"labeller": {"mapbox_key": "host", "initial": 2, "mine": [1]}, "own": {"a": 1}}
    template = {
        "labeller": {"mapbox_key": "tpl", "bing_key": "tpl"},
        "learner": {"new": 5, "runid": 9},
    }
    config = config_content.merged(config_content.values(LABELLER3, "h"), host, template)
    assert config["labeller"]["mapbox_key"] == "host"
    assert config["labeller"]["bing_key"] == "tpl"
    assert config["labeller"]["initial"] == 1
    assert config["labeller"]["mine"] == [1]
    assert config["own"] == {"a": 1}
    assert config["learner"]["new"] == 5
    assert config["learner"]["runid"] == 0
    assert config["labeller"]["db_url"] is None


def test_null_is_blank_and_every_scalar_is_on_its_line() -> None:
    text = config_content.render(
        config_content.merged(
            config_content.values({**LABELLER3, "secret_key": "x y " * 100}, "h"), None, None
        )
    ).decode()
    assert "\n  db_url:\n" in text
    assert "null" not in text
    assert all(
        line.startswith(("labeller:", "learner:", "  ")) and ":" in line
        for line in text.splitlines()
    )


PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20))


@given(st.dictionaries(st.text(min_size=1, max_size=8), PLAIN, max_size=5), st.text(min_size=1))
def test_what_is_rendered_reads_back(extra: dict[str, Any], secret: str) -> None:
    config = config_content.merged(
        config_content.values({**LABELLER3, "db_pwd": secret}, "h"), {"labeller": extra}, None
    )
    assert config_content.parse(config_content.render(config), "x") == config


SECRET_TEXT = st.text(st.characters(categories=["L", "N", "P"]), min_size=6, max_size=12).filter(
    lambda text: "(" not in text and not any(text in word for word in ("changed", "secret"))
)


@given(st.lists(SECRET_TEXT, min_size=2, max_size=2, unique=True))
def test_no_secret_old_or_new_is_in_the_description(secrets: list[str]) -> None:
    old, new = secrets
    on_host = {
        "labeller": {
            "db_password": old,
            "db_url": f"postgres://u:{old}@h",
            "note": f"was {old}",
            "my_token": old,
        },
        "learner": {},
    }
    config = config_content.merged(
        config_content.values({**LABELLER3, "db_pwd": new}, "h"), on_host, None
    )
    config["labeller"]["note"] = f"is {new}"
    before, after = config_content.describe(on_host, config)
    lines = {line.partition(": ")[2] for line in (before + after).splitlines()}
    assert not any(secret in line for line in lines for secret in secrets)
    assert "labeller.db_password: (secret, changed)\n" in after


def test_a_difference_that_redaction_hides_is_still_a_change() -> None:
    def config(password: str, count: object) -> dict[str, Any]:
        return {
            "labeller": {"db_password": password, "note": f"x {password}", "count": count},
            "learner": {},
        }

    before, after = config_content.describe(config("old-pass", 1), config("new-pass", "1"))
    assert "labeller.note: x (secret) (changed)\n" in after
    assert "labeller.count: 1 (changed)\n" in after
    assert (
        config_content.describe(config("a-pass", 1), config("a-pass", 1))[1]
        == config_content.describe(config("a-pass", 1), config("a-pass", 1))[0]
    )
    assert before != after


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"labeller:\n  db_password: [hunter2\n", "config.yaml:3:1: not YAML"),
        (b"- hunter2\n", "must be a mapping of sections"),
        (b"labeller: hunter2\n", "labeller must be a mapping"),
        (b"a: \xff hunter2", "not YAML text"),
        (b"labeller:\n\thunter2: 1\n", "config.yaml:2:1: not YAML"),
    ],
)
def test_a_broken_file_is_named_without_its_content(content: bytes, part: str) -> None:
    with pytest.raises(InvalidInput, match=part) as error:
        config_content.parse(content, "config.yaml")
    assert "hunter2" not in str(error.value)
    assert "hunter2" not in repr(error.value.__cause__)


# What the readers of config.yaml make of a value, and what is refused before it is written.

SCHEMA = json.loads(
    (Path(__file__).resolve().parents[2] / "schemas" / "parameters.schema.json").read_text()
)["properties"]
LOGINS = ("db_name", "db_user", "db_pwd")


def read_by_labeller(value: str) -> bool:
    """Whether a login survives the daemons' libpq string and the web application's URL."""
    try:
        parts = psycopg2.extensions.parse_dsn(f"dbname={value} user={value} password={value}")
    except psycopg2.ProgrammingError:
        return False
    try:
        url = urlsplit(f"postgresql://{value}:{value}@127.0.0.1:5432/{value}")
        split = (url.username, url.password, url.hostname, url.port, url.path[1:])
    except ValueError:
        return False
    return (
        parts == dict.fromkeys(("dbname", "user", "password"), value)
        and split == (value, value, "127.0.0.1", 5432, value)
        # SQLAlchemy decodes the first of these and splits at the next two, where urlsplit does not;
        # an apostrophe breaks the string at its start only, a rule that is not worth explaining.
        and not set(value) & set("%@:'")
    )


@given(st.text(st.sampled_from("aZ09_.-+=~!*$&;,\"' \\\t\n@:/%#?"), max_size=6))
def test_a_login_is_accepted_exactly_when_labeller_can_connect_with_it(value: str) -> None:
    for name in LOGINS:
        pattern = SCHEMA[name]["pattern"].replace("$", "\\Z")
        assert bool(re.search(pattern, value)) == read_by_labeller(value)
        if read_by_labeller(value):
            config_content.check({name: value})
        else:
            with pytest.raises(InvalidInput, match=f"{name}: expected a text without blanks"):
                config_content.check({name: value})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("db_pwd", "pass word", "db_pwd: expected a text without blanks and without"),
        (
            "number_outgoing_names",
            0,
            "number_outgoing_names: expected a whole number of at least 1",
        ),
        ("aoi_index", 0, "aoi_index: expected a whole number of at least 1, not 0"),
        ("run_id", -1, "run_id: expected a whole number of at least 0"),
        ("aoi_name", "gha/na", "aoi_name: expected letters, digits and hyphens, not 'gha/na'"),
        ("aoi_name", "{}", "aoi_name"),
        ("secret_key", "", "secret_key: expected a text of one line that is not empty"),
        ("github_token", "", "github_token"),
        ("aws_region", "", "aws_region"),
        ("slack_url", "https://x\nbucket: other", "slack_url: expected a text of one line"),
        ("aoi_s3_object", "a\tb", "aoi_s3_object: expected a text of one line"),
    ],
)
def test_what_a_reader_cannot_use_is_named_and_no_secret_is_shown(
    name: str, value: Any, said: str
) -> None:
    config_content.check(LABELLER3)
    with pytest.raises(InvalidInput) as error:
        config_content.check({**LABELLER3, name: value})
    assert said in str(error.value)
    if config_content.PARAMETERS[name].get("no_log") and value:
        assert str(value) not in str(error.value)


def test_the_notification_filter_is_a_list() -> None:
    decided = config_content.values(LABELLER3, "10.0.0.7")
    for given_, written_ in ((["Song"], ["Song"]), (None, []), ([], [])):
        config = config_content.merged(decided, {"labeller": {"notification_filter": given_}}, None)
        assert config["labeller"]["notification_filter"] == written_
    with pytest.raises(InvalidInput, match=r"notification_filter is 'Song': expected a list"):
        config_content.merged(decided, {"labeller": {"notification_filter": "Song"}}, None)


@pytest.mark.parametrize(
    "text",
    ["0123", "12:30", "1_000", "2020-01-01", "on", "No", "~", "null", "1e3", "1.0e3", "0x1F", "12"],
)
def test_texts_that_yaml_takes_for_something_else_stay_texts(text: str) -> None:
    parameters = {
        **LABELLER3,
        "secret_key": text,
        "db_pwd": text.replace(":", "."),
        "aws_secret": text,
    }
    config = written(parameters)
    assert config["labeller"]["SECRET_KEY"] == config["learner"]["aws_secret"] == text
    assert config["labeller"]["db_password"] == parameters["db_pwd"]
    assert type(config["learner"]["runid"]) is type(config["labeller"]["initial"]) is int


def test_a_host_without_yaml_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_content, "YAML_ERROR", "No module named 'yaml'")
    with pytest.raises(ModuleFailure, match="PyYAML is missing on this host"):
        config_content.parse(b"labeller: {}", "config.yaml")
