"""Comments of a pull request, on a server that answers as GitHub does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import github_server
import pytest
from github_server import GitHubServer

from runbook.errors import InvalidInputError, RunbookError, StaleError, UnreachableError
from runbook.flow import comment
from runbook.load.plan_file import PlanFile

REGULAR = "<!-- runbook: regular.yml on labeller3 -->\n\n## Check regular.yml\n"
RESET = "<!-- runbook: reset.yml on labeller3 -->\n\n## Check reset.yml\n"


@pytest.fixture
def server() -> Iterator[GitHubServer]:
    with github_server.running() as running:
        yield running


def posted(server: GitHubServer, *reports: str, waited: list[float] | None = None) -> list[str]:
    where = comment.PullRequest(server.url, "o/n", 7)
    waits = waited if waited is not None else []
    return comment.post(
        reports, where, comment.GitHub(server.url, github_server.TOKEN, waits.append)
    )


def test_a_comment_is_made_then_updated_then_left(server: GitHubServer) -> None:
    (address,) = posted(server, REGULAR)
    assert address == server.comments[0]["html_url"]
    assert posted(server, REGULAR + "more\n") == [address]
    assert [body.split()[-1] for body in server.bodies()] == ["more"]
    server.requests.clear()
    assert posted(server, REGULAR + "more\n") == [address]
    assert [method for method, _ in server.requests] == ["GET"]


def test_comments_on_later_pages_are_found(server: GitHubServer) -> None:
    for number in range(7):
        server.add(f"a person's comment {number}")
    server.add(REGULAR + "old")
    posted(server, REGULAR + "new")
    assert len(server.comments) == 8
    assert "new" in server.bodies()[-1]


def test_what_the_newest_commit_does_not_plan_is_outdated(server: GitHubServer) -> None:
    posted(server, REGULAR, RESET)
    posted(server, REGULAR)
    reset = server.bodies()[1]
    assert reset.startswith("<!-- runbook: reset.yml on labeller3 -->")
    assert comment.OUTDATED in reset
    assert "<details>" in reset
    server.requests.clear()
    posted(server, REGULAR)
    assert [method for method, _ in server.requests] == ["GET"]
    posted(server, REGULAR, RESET)
    assert comment.OUTDATED not in server.bodies()[1]
    assert len(server.comments) == 2


def test_an_older_comment_of_the_same_plan_is_outdated(server: GitHubServer) -> None:
    server.add(REGULAR + "first")
    server.add(REGULAR + "second")
    posted(server, REGULAR + "third")
    assert comment.OUTDATED in server.bodies()[0]
    assert "third" in server.bodies()[1]


def test_a_marker_in_another_comment_is_left_alone(server: GitHubServer) -> None:
    server.add(REGULAR + "copied", ours=False)
    posted(server, REGULAR)
    assert server.bodies() == [REGULAR + "copied", REGULAR]


def test_an_outdated_comment_is_never_too_long(server: GitHubServer) -> None:
    long = REGULAR + "x" * (65_536 - len(REGULAR))
    posted(server, long)
    posted(server, RESET)
    assert comment.OUTDATED in server.bodies()[0]


def test_a_limit_is_waited_for(server: GitHubServer) -> None:
    reset = str(int(time.time()) + 50)
    server.failures = [
        ("GET", 403, {"Retry-After": "7"}, '{"message": "secondary rate limit"}'),
        ("GET", 503, {}, "no"),
        ("POST", 403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}, "{}"),
    ]
    waited: list[float] = []
    posted(server, REGULAR, waited=waited)
    assert waited[0] == 7
    assert waited[1] < 10
    assert 40 < waited[2] <= 50
    assert len(server.comments) == 1


def test_a_limit_that_is_too_far_is_an_error(server: GitHubServer) -> None:
    server.failures = [("GET", 429, {"Retry-After": "3600"}, '{"message": "rate limit"}')]
    with pytest.raises(
        RunbookError, match=r"HTTP 429 rate limit; it takes requests again in 60 min"
    ):
        posted(server, REGULAR)


def test_a_comment_that_may_have_been_made_is_not_made_again(server: GitHubServer) -> None:
    server.failures = [("POST", 502, {}, "<html>bad gateway</html>")]
    with pytest.raises(RunbookError, match="HTTP 502"):
        posted(server, REGULAR)
    assert [method for method, _ in server.requests].count("POST") == 1


@pytest.mark.parametrize(
    ("report", "repository", "expected"),
    [
        (REGULAR + "x" * 65_536, "o/n", r"HTTP 422 Validation Failed: body is too long"),
        (REGULAR, "o/other", r"HTTP 404 Not Found; there is no such repository"),
    ],
)
def test_a_refusal_says_why(
    server: GitHubServer, report: str, repository: str, expected: str
) -> None:
    where = comment.PullRequest(server.url, repository, 7)
    with pytest.raises(RunbookError, match=expected):
        comment.post([report], where, comment.GitHub(server.url, github_server.TOKEN))


def test_a_page_elsewhere_does_not_get_the_token(server: GitHubServer) -> None:
    server.comments = [{"id": n, "body": "", "html_url": ""} for n in range(4)]
    where = comment.PullRequest(server.url, "o/n", 7)
    github = comment.GitHub(server.url, github_server.TOKEN)
    server.url = "http://elsewhere.invalid"
    with pytest.raises(RunbookError, match="another address: http://elsewhere"):
        comment.post([REGULAR], where, github)


def test_github_that_does_not_answer() -> None:
    with github_server.running() as server:
        pass
    waited: list[float] = []
    with pytest.raises(UnreachableError, match="does not answer"):
        posted(server, REGULAR, waited=waited)
    assert len(waited) == 3


def test_reports_of_the_same_plan_are_refused(server: GitHubServer) -> None:
    with pytest.raises(InvalidInputError, match="same playbook and target"):
        posted(server, REGULAR, REGULAR)
    with pytest.raises(InvalidInputError, match="is no report"):
        posted(server, "hello")
    assert server.requests == []


def test_the_command_in_a_workflow(server: GitHubServer, tmp_path: Path) -> None:
    (tmp_path / "plan.md").write_text(REGULAR)
    environment = {
        **os.environ, "GITHUB_API_URL": server.url, "GITHUB_REPOSITORY": "o/n",
        "GITHUB_REF": "refs/pull/7/merge", "GITHUB_TOKEN": github_server.TOKEN,
    }  # fmt: skip

    def run(**changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "runbook", "comment", "plan.md"],
            env={**environment, **changed}, cwd=tmp_path, text=True, capture_output=True,
        )  # fmt: skip

    done = run()
    assert (done.returncode, done.stdout) == (0, server.comments[0]["html_url"] + "\n")
    refused = run(GITHUB_TOKEN="ghs_wrong")
    assert refused.returncode == 1
    assert "GITHUB_TOKEN is not valid" in refused.stderr
    assert "ghs_wrong" not in refused.stderr
    for missing, expected in (
        ({"GITHUB_TOKEN": ""}, "no token"),
        ({"GITHUB_REPOSITORY": ""}, "--repo"),
        ({"GITHUB_REF": "refs/heads/main"}, "--pr"),
    ):
        done = run(**missing)
        assert done.returncode == 3
        assert expected in done.stderr


def test_a_plan_that_no_current_comment_shows_is_refused(server: GitHubServer) -> None:
    where, github = (
        comment.PullRequest(server.url, "o/n", 7),
        comment.GitHub(server.url, github_server.TOKEN),
    )
    reviewed, other = PlanFile("a.json", "a" * 64, {}), PlanFile("b.json", "b" * 64, {})
    server.add(f"{REGULAR}Plan: SHA-256 `{reviewed.sha256}`\n")
    server.add(comment.outdated(f"{RESET}Plan: SHA-256 `{other.sha256}`\n"))
    server.add(f"I have seen {other.sha256}", ours=False)
    comment.require_reviewed([reviewed], where, github)
    with pytest.raises(
        StaleError, match=r"^b\.json: not the plan that a comment of pull request 7"
    ):
        comment.require_reviewed([reviewed, other], where, github)
