"""``comment``: reports as comments of a pull request on GitHub."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import urllib3

from runbook.errors import InvalidInputError, RunbookError, StaleError, UnreachableError
from runbook.events.render.report.markdown import LIMIT, MARKER

if TYPE_CHECKING:
    from runbook.load.plan_file import PlanFile

#: Stands below the marker of a comment whose plan the newest commit does not make any more.
OUTDATED = "> **Outdated:** the newest commit of this pull request makes no such plan."

#: Seconds: for an answer, between two attempts without an answer, at most until GitHub takes
#: requests again. Attempts of a request.
_TIMEOUT, _PAUSE, _LONGEST, _ATTEMPTS = 30.0, 2.0, 120.0, 4
_API = "2022-11-28"


class GitHubError(RunbookError):
    """GitHub refused a request, with an HTTP ``status``."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class PullRequest:
    """A pull request: ``repository`` is OWNER/NAME, ``api`` the address of GitHub's REST API."""

    api: str
    repository: str
    number: int

    @property
    def comments(self) -> str:
        """The path of its comments."""
        return f"/repos/{self.repository}/issues/{self.number}/comments"

    def comment(self, identity: int) -> str:
        """The path of one comment."""
        return f"/repos/{self.repository}/issues/comments/{identity}"


def pull_request(
    environment: Mapping[str, str], repository: str = "", number: int | None = None
) -> PullRequest:
    """The pull request that is meant; what is not given is what GitHub Actions says.

    Raises InvalidInputError for what neither says.
    """
    repository = repository or environment.get("GITHUB_REPOSITORY", "")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise InvalidInputError(
            f"the repository is {repository!r}; expected OWNER/NAME, as --repo or GITHUB_REPOSITORY"
        )
    found = re.fullmatch(r"refs/pull/(\d+)/\w+", environment.get("GITHUB_REF", ""))
    number = number or (int(found[1]) if found else None)
    if number is None:
        raise InvalidInputError(
            "no pull request: give its number as --pr, or run this in a workflow on pull_request"
        )
    api = environment.get("GITHUB_API_URL") or "https://api.github.com"
    return PullRequest(api.rstrip("/"), repository, number)


class GitHub:
    """GitHub's REST API, with one token; ``sleep`` is called with the seconds to wait."""

    def __init__(self, api: str, token: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._api, self._sleep = api, sleep
        self._pool = urllib3.PoolManager(timeout=_TIMEOUT, retries=False)
        self._headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {token}",
            "User-Agent": "labeller-runbook",
            "X-GitHub-Api-Version": _API,
        }

    def all(self, path: str) -> Iterator[dict[str, Any]]:
        """The items of a list, page by page."""
        address: str | None = f"{self._api}{path}?per_page=100"
        while address:
            answer = self._answer("GET", address)
            yield from answer.json()
            found = re.search(r'<([^>]+)>;\s*rel="next"', answer.headers.get("link", ""))
            address = found[1] if found else None
            if address and not address.startswith(
                f"{self._api}/"
            ):  # the token is for this API only
                raise RunbookError(f"{self._api} sends on to another address: {address}")

    def send(self, method: str, path: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Make or change something; what it has become."""
        done: dict[str, Any] = self._answer(method, f"{self._api}{path}", given).json()
        return done

    def _answer(
        self, method: str, address: str, given: Mapping[str, Any] | None = None
    ) -> urllib3.BaseHTTPResponse:
        body = json.dumps(given).encode() if given is not None else None
        for left in reversed(range(_ATTEMPTS)):
            try:
                answer = self._pool.request(method, address, body=body, headers=self._headers)
            except urllib3.exceptions.HTTPError as error:
                if not left or method == "POST":  # that may have been made
                    raise UnreachableError(f"{self._api} does not answer: {error}") from error
                self._sleep(_PAUSE)
                continue
            if answer.status < 300:
                return answer
            wait = pause(method, answer.status, answer.headers, time.time())
            if wait is None or wait > _LONGEST or not left:
                raise GitHubError(_problem(method, address, answer, wait), answer.status)
            self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")


def pause(method: str, status: int, headers: Mapping[str, str], now: float) -> float | None:
    """Seconds until a request that failed may be sent again; None if that is of no use.

    Source: "Rate limits for the REST API", docs.github.com. A server's error may have come after
    the comment was made, so that is not sent again.
    """
    limited = status in (403, 429)
    if limited and (after := headers.get("retry-after", "")).isdigit():
        return float(after)
    if limited and headers.get("x-ratelimit-remaining") == "0":
        return max(float(headers.get("x-ratelimit-reset", now)) - now, 1.0)
    if status == 429:
        return 60.0
    return _PAUSE if status in (500, 502, 503, 504) and method != "POST" else None


_ADVICE = {
    401: "the token in GITHUB_TOKEN is not valid, or has expired",
    403: "the token may not write comments: a workflow needs 'permissions: pull-requests: write'",
    404: "there is no such repository or pull request, or the token may not see it",
}


def _problem(
    method: str, address: str, answer: urllib3.BaseHTTPResponse, wait: float | None
) -> str:
    try:
        given = answer.json()
        details = [str(each.get("message") or each) for each in given.get("errors") or []]
        said = ": ".join([str(given.get("message", "")), *details])
    except (ValueError, AttributeError):
        said = answer.data.decode(errors="replace")[:200]
    advice = f"; {_ADVICE[answer.status]}" if answer.status in _ADVICE and wait is None else ""
    if wait is not None and wait > _LONGEST:
        advice = f"; it takes requests again in {wait / 60:.0f} min: run this again then"
    return f"{method} {address}: HTTP {answer.status} {said}{advice}".replace("\n", " ")


def post(reports: Sequence[str], where: PullRequest, github: GitHub) -> list[str]:
    """Make the reports the comments of a pull request; gives their addresses.

    The comment with the same marker is updated, of several the newest. The other comments with a
    marker are marked as outdated. Comments of other accounts, which the token may not change, are
    left. Raises InvalidInputError for a text without a marker, or two with the same one.
    """
    markers = [_marker(report) for report in reports]
    if len(set(markers)) < len(markers):
        raise InvalidInputError("two of the reports are about the same playbook and target")
    left = [each for each in github.all(where.comments) if MARKER.match(each["body"] or "")]
    addresses = []
    for marker, report in zip(markers, reports, strict=True):
        done = None
        for each in [each for each in reversed(left) if _marker(each["body"]) == marker]:
            if done := _changed(each, report, where, github):
                left.remove(each)
                break
        done = done or github.send("POST", where.comments, {"body": report})
        addresses.append(str(done["html_url"]))
    for each in left:
        if OUTDATED not in each["body"]:
            _changed(each, outdated(each["body"]), where, github)
    return addresses


def require_reviewed(plans: Sequence[PlanFile], where: PullRequest, github: GitHub) -> None:
    """Raise StaleError for plan files whose SHA-256 no comment names that is up to date."""
    bodies = [str(each["body"] or "") for each in github.all(where.comments)]
    current = [body for body in bodies if MARKER.match(body) and OUTDATED not in body]
    wrong = [plan.file for plan in plans if not any(plan.sha256 in body for body in current)]
    if wrong:
        raise StaleError(
            f"{', '.join(wrong)}: not the plan that a comment of pull request {where.number} "
            "shows; make the plan again, and have it reviewed"
        )


def _changed(
    comment: dict[str, Any], body: str, where: PullRequest, github: GitHub
) -> dict[str, Any] | None:
    """A comment with another text; None if it belongs to another account."""
    if comment["body"].split() == body.split():  # GitHub ends lines in its own way
        return comment
    try:
        return github.send("PATCH", where.comment(comment["id"]), {"body": body})
    except GitHubError as error:
        if error.status in (403, 404):
            return None
        raise


def outdated(body: str) -> str:
    """A comment that says first that it is outdated, its text folded."""
    marker, _, text = body.partition("\n")
    folded = f"<details><summary>What it was</summary>\n\n{text.strip()}\n\n</details>"
    whole = f"{marker}\n\n{OUTDATED}\n\n{folded}\n"
    return whole if len(whole) <= LIMIT else f"{marker}\n\n{OUTDATED}\n"


def _marker(report: str) -> str:
    found = MARKER.match(report)
    if not found:
        raise InvalidInputError(
            "a file is no report: its first line is not '<!-- runbook: ... -->'; make it with "
            "--report FILE.md"
        )
    return found[0]
