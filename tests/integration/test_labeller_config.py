"""labeller_config against a real folder and moto's S3 and EC2."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.labeller.runbook.plugins.module_utils import held
from ansible_collections.labeller.runbook.plugins.module_utils import labeller_config as lc
from ansible_collections.labeller.runbook.plugins.module_utils.errors import (
    InvalidInput,
    ModuleFailure,
    Refused,
    Stale,
)
from clients import client
from faulty import Fault, Proxy, on

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_numbers = itertools.count()

SECRETS = {
    "secret_key": "flask-Secret-1",
    "db_pwd": "pw-of-postgis",
    "github_token": "ghp_token1234",
    "api_key": "planet-api-key",
    "aws_access": "AKIAEXAMPLE",
    "aws_secret": "aws/secret+1",
    "slack_url": "https://hooks.slack.invalid/T/B/x",
}
PARAMETERS = {
    **{
        name: option["default"]
        for name, option in lc.ARGUMENTS["parameters"]["options"].items()
        if "default" in option
    },
    **SECRETS,
    "initial": 3,
    "aoi_index": 3,
    "aoi_name": "ghana",
    "number_outgoing_names": 100,
}


@pytest.fixture
def launch(aws: dict[str, Any]) -> Callable[[str], Any]:
    """Starts an instance with a Name tag; gives its description."""
    ec2 = client(aws, "ec2")

    def start(name: str) -> Any:
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}]
        reservation = ec2.run_instances(
            ImageId="ami-12c6146b", MinCount=1, MaxCount=1, TagSpecifications=tags
        )
        return reservation["Instances"][0]

    return start


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "config_template.yaml").write_text(
        "labeller:\n  notification_filter: [Song, Estes]\n  MAIL_USE_TLS:\nlearner:\n  runid: 7\n"
    )
    return tmp_path


@pytest.fixture
def params(
    aws: dict[str, Any], bucket: str, home: Path, launch: Callable[[str], Any]
) -> dict[str, Any]:
    name = f"labeller-{next(_numbers)}"
    launch(name)
    parameters = {**PARAMETERS, "bucket": bucket, "ec2_instance": name}
    return {
        "state": "present", "home": str(home), "restart_file": "", "parameters": parameters, **aws,
        "server_side_encryption": "AES256",
    }  # fmt: skip


def with_(params: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**params, "parameters": {**params["parameters"], **changes}}


def object_of(params: dict[str, Any]) -> Any:
    return client(params, "s3").get_object(
        Bucket=params["parameters"]["bucket"], Key="config_ghana_3.yaml"
    )


def test_file_and_copy_are_verified(params: dict[str, Any], home: Path) -> None:
    verified = {**params, "state": "verified"}
    with pytest.raises(InvalidInput, match="no such object"):
        lc.run(verified, True)
    lc.run(params, False)
    assert not lc.run(verified, True)["changed"]
    path = home / "common" / "config.yaml"
    own = path.read_bytes()
    path.write_bytes(own.replace(b"aoiid: 3", b"aoiid: 4"))
    with pytest.raises(
        Refused, match=r"config.yaml: learner.aoiid is 4, not 3\nApply the run mode"
    ):
        lc.run(verified, False)
    path.write_bytes(own)
    with pytest.raises(Refused, match=r"(?s)s3://.*learner.runid is .*learner_loop says"):
        lc.run(with_(verified, run_id=91, initial=0), False)


def test_a_copy_that_the_server_does_not_encrypt(params: dict[str, Any]) -> None:
    """It is an error, unless the operator accepts it: then it is no change for ever either."""
    none = {**params, "server_side_encryption": "none"}
    with Proxy(params["endpoint_url"]).running() as proxy:
        proxy.rule = on("PUT", "config", Fault("unencrypted"))
        with pytest.raises(Refused, match=r"s3://.*/config_ghana_3.yaml is not encrypted: .* none"):
            lc.run({**params, "endpoint_url": proxy.url}, False)
    assert not lc.run(none, False)["changed"]
    (copy,) = lc.run(params, True)["diff"]
    assert copy["before"].startswith("encryption: none\n")
    assert copy["after"].startswith("encryption: AES256\n")
    assert lc.run(params, False)["changed"]
    assert not lc.run(none, True)["changed"]  # encrypted is no worse
    client(params, "s3").delete_object(
        Bucket=params["parameters"]["bucket"], Key="config_ghana_3.yaml"
    )
    assert lc.run(none, True)["diff"][0]["after"].startswith("encryption: none\n")
    assert lc.run(none, False)["changed"]
    assert "ServerSideEncryption" not in object_of(params)


def test_first_write_check_apply_again(params: dict[str, Any], home: Path) -> None:
    path = home / "common" / "config.yaml"
    checked = lc.run(params, True)
    assert not path.exists()
    assert (
        client(params, "s3").list_objects_v2(Bucket=params["parameters"]["bucket"])["KeyCount"] == 0
    )
    done = lc.run(params, False)
    assert done == checked
    assert done["changed"]
    assert done["web_changed"]
    assert path.stat().st_mode & 0o777 == 0o640
    config = yaml.safe_load(path.read_text())
    assert config["labeller"]["db_host"] == done["db_host"]
    assert config["labeller"]["notification_filter"] == ["Song", "Estes"]
    assert config["learner"]["runid"] == 0
    copy = object_of(params)
    assert copy["Body"].read() == path.read_bytes()
    assert copy["ServerSideEncryption"] == "AES256"
    assert not any(value in json.dumps(done) for value in SECRETS.values())

    inode, modified = path.stat().st_ino, copy["LastModified"]
    again = lc.run(params, False)
    assert not again["changed"]
    assert not again["web_changed"]
    assert again["diff"] == []
    assert path.stat().st_ino == inode
    assert object_of(params)["LastModified"] == modified
    assert again["subnet_id"] == done["subnet_id"] != ""


def test_only_the_copy_differs(params: dict[str, Any], home: Path) -> None:
    lc.run(params, False)
    inode = (home / "common" / "config.yaml").stat().st_ino
    bucket = params["parameters"]["bucket"]
    client(params, "s3").put_object(Bucket=bucket, Key="config_ghana_3.yaml", Body=b"labeller: [")
    done = lc.run(params, False)
    assert [each["after_header"] for each in done["diff"]] == [f"s3://{bucket}/config_ghana_3.yaml"]
    assert not done["web_changed"]
    assert (home / "common" / "config.yaml").stat().st_ino == inode
    assert object_of(params)["Body"].read() == (home / "common" / "config.yaml").read_bytes()


def test_only_the_learner_changes_and_the_web_goes_on(params: dict[str, Any], home: Path) -> None:
    lc.run(params, False)
    done = lc.run(with_(params, number_outgoing_names=20), False)
    assert done["changed"]
    assert not done["web_changed"]
    changed = set(done["diff"][0]["after"].splitlines()) - set(
        done["diff"][0]["before"].splitlines()
    )
    assert changed == {"learner.number_outgoing_names: 20"}
    assert lc.run(with_(params, number_outgoing_names=20, github_repo="a/b"), True)["web_changed"]


def test_a_new_password_is_written_and_neither_is_shown(params: dict[str, Any], home: Path) -> None:
    lc.run(params, False)
    done = lc.run(with_(params, db_pwd="another-pass"), False)
    assert "labeller.db_password: (secret, changed)" in done["diff"][0]["after"]
    assert "another-pass" not in json.dumps(done)
    assert SECRETS["db_pwd"] not in json.dumps(done)
    assert (
        yaml.safe_load((home / "common" / "config.yaml").read_text())["labeller"]["db_password"]
        == "another-pass"
    )


def test_an_open_mode_is_closed_and_own_keys_and_comments_stay(
    params: dict[str, Any], home: Path
) -> None:
    lc.run(params, False)
    path = home / "common" / "config.yaml"
    path.write_text("# mine\n" + path.read_text() + "other:\n  mapper: 1\n")
    lc.run(params, False)
    path.chmod(0o664)
    before = path.read_bytes()
    done = lc.run(params, False)
    assert [each["after_header"] for each in done["diff"]] == [str(path)]
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.read_bytes() == before
    assert b"# mine" in before


def test_instances_by_name_among_the_running(
    params: dict[str, Any], launch: Callable[[str], Any], home: Path
) -> None:
    ec2 = client(params, "ec2")
    name = f"twins-{next(_numbers)}"
    with pytest.raises(InvalidInput, match=f"no running EC2 instance .* Name={name}"):
        lc.run(with_(params, ec2_instance=name), False)
    first, second = launch(name), launch(name)
    with pytest.raises(InvalidInput) as error:
        lc.run(with_(params, ec2_instance=name), False)
    assert first["InstanceId"] in str(error.value)
    assert second["InstanceId"] in str(error.value)
    assert not (home / "common" / "config.yaml").exists()
    ec2.terminate_instances(InstanceIds=[first["InstanceId"]])
    found = lc.run(with_(params, ec2_instance=name), True)
    assert found["instance_id"] == second["InstanceId"]
    assert found["db_host"] == second["PrivateIpAddress"]


def test_a_missing_bucket_changes_nothing(params: dict[str, Any], home: Path) -> None:
    with pytest.raises(InvalidInput, match="no such bucket"):
        lc.run(with_(params, bucket="not-there-at-all"), False)
    assert not (home / "common" / "config.yaml").exists()


def test_a_broken_config_on_the_host_is_not_overwritten(params: dict[str, Any], home: Path) -> None:
    (home / "common" / "config.yaml").write_text("labeller: [\n")
    with pytest.raises(InvalidInput, match=r"config\.yaml:2:1"):
        lc.run(params, False)
    assert (home / "common" / "config.yaml").read_text() == "labeller: [\n"


def test_a_home_without_common_is_named(params: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModuleFailure, match="there is no folder"):
        lc.run({**params, "home": str(tmp_path / "nowhere")}, True)


def test_a_restart_is_due_until_it_is_recorded(params: dict[str, Any], home: Path) -> None:
    due = home / "common" / "httpd-restart"
    params["restart_file"] = str(due)
    assert lc.run(params, True)["web_changed"]
    assert not due.exists()
    assert lc.run(params, False)["web_changed"]
    again = lc.run(params, False)
    assert not again["changed"]
    assert again["web_changed"], "a run that was killed before the handler owes a restart"
    due.unlink()
    assert not lc.run(params, False)["web_changed"]
    assert not lc.run(with_(params, number_outgoing_names=20), False)["web_changed"]
    assert not due.exists()


def test_what_moved_since_the_check_is_stale(
    params: dict[str, Any], home: Path, launch: Callable[[str], Any]
) -> None:
    """A key of the file, a secret of it, the copy, the EC2 instance with the name."""
    lc.run(params, False)
    path, wanted = home / "common" / "config.yaml", with_(params, run_id=92, aws_secret="other")
    original = path.read_bytes()
    copy = {"Bucket": params["parameters"]["bucket"], "Key": "config_ghana_3.yaml"}
    s3, ec2 = client(params, "s3"), client(params, "ec2")

    def stale(named: str) -> None:
        state = path.read_bytes(), object_of(params)["Body"].read()
        with pytest.raises(Stale, match=named) as caught:
            lc.run({**wanted, "planned": planned}, False)
        assert state == (path.read_bytes(), object_of(params)["Body"].read())
        assert not any(secret in str(caught.value) for secret in SECRETS.values())

    planned = held.of_result(lc.run(wanted, True))
    assert not any(secret in json.dumps(planned) for secret in SECRETS.values())
    path.write_bytes(original.replace(b"MAIL_PORT: 25", b"MAIL_PORT: 26"))
    stale("config.yaml: planned labeller.MAIL_PORT: 25, found labeller.MAIL_PORT: 26")
    path.write_bytes(original.replace(b"aws/secret+1", b"aws/secret+2"))
    stale("config.yaml: its content is not what the check read")
    path.write_bytes(original)
    cipher = {"ServerSideEncryption": "AES256"}
    s3.put_object(**copy, Body=original.replace(b"runid: 0", b"runid: 4"), **cipher)
    stale("s3://.*config_ghana_3.yaml: planned learner.runid: 0, found learner.runid: 4")
    s3.put_object(**copy, Body=original, **cipher)
    name = params["parameters"]["ec2_instance"]
    (here,) = ec2.describe_instances(Filters=[{"Name": "tag:Name", "Values": [name]}])[
        "Reservations"
    ]
    ec2.delete_tags(Resources=[here["Instances"][0]["InstanceId"]], Tags=[{"Key": "Name"}])
    launch(name)
    stale("config.yaml: planned labeller.db_host: [0-9.]*, found labeller.db_host: ")
    assert lc.run({**wanted, "planned": held.of_result(lc.run(wanted, True))}, False)["changed"]
