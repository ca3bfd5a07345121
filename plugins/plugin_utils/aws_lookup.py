# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The base of the lookups of secrets in AWS: a client, one request a secret, errors in a line.

The value is asked for once: templates are evaluated for each task that uses them, in processes that
Ansible forks from the one in which the play began.
"""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, List, Mapping, Tuple

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    BOTO3_ERROR = ""
except ImportError as _error:
    BOTO3_ERROR = str(_error)

try:  # From ansible-core 2.22 on, it masks the secrets that it knows in all its output.
    from ansible.module_utils.secrets import register_secrets
except ImportError:

    def register_secrets(values: Iterable[str], /) -> None:
        """Nothing: an older ansible-core has no list of secrets."""


#: What the services' codes mean, and what to do.
_REASONS = {
    "ResourceNotFoundException": "there is none of this name{where}; check name and region",
    "ParameterNotFound": "there is none of this name{where}; check name and region",
    "ParameterVersionNotFound": "it has no such version{where}",
    "InvalidRequestException": "it cannot be read{where}, it may be marked for deletion",
    "AccessDeniedException": "access denied{where}; the credentials lack this permission",
    "UnrecognizedClientException": "the credentials are not valid{where}",
    "InvalidSignatureException": "the credentials are not valid{where}",
    "ExpiredTokenException": "the credentials have expired{where}",
    "DecryptionFailure": "its KMS key cannot be used{where}",
    "InvalidKeyId": "its KMS key cannot be used{where}",
}
_SESSION = {
    "profile_name": "profile",
    "region_name": "region",
    "aws_access_key_id": "access_key",
    "aws_secret_access_key": "secret_key",
    "aws_session_token": "session_token",
}

#: The values that were read, by service, name and options.
_known: Dict[Tuple[str, ...], str] = {}


class SecretLookup(LookupBase):
    """A lookup of texts in a service; a subclass says which, and how one is read."""

    service: str
    called: str

    def read(self, client: Any, name: str) -> str:
        """The value of the secret ``name``, by one request."""
        raise NotImplementedError

    def run(self, terms: Any, variables: Any = None, **kwargs: Any) -> List[str]:
        """One value for each term."""
        self.set_options(var_options=variables, direct=kwargs)
        unknown = sorted(set(kwargs) - set(self._options))
        if unknown:
            raise self.failure(str(terms[0]), "there is no option {}".format(", ".join(unknown)))
        options = {name: self.get_option(name) for name in sorted(self._options)}
        values = [self._value(str(term), options) for term in terms]
        register_secrets(values)
        return values

    def _value(self, term: str, options: Mapping[str, Any]) -> str:
        key = (self.service, term, *("{}={}".format(*each) for each in options.items()))
        if key not in _known:
            _known[key] = self._asked(term, options)
        return _known[key]

    def _asked(self, term: str, options: Mapping[str, Any]) -> str:
        if BOTO3_ERROR:
            raise self.failure(term, "boto3 is missing ({})".format(BOTO3_ERROR))
        where = ""
        try:
            session = boto3.Session(**{name: options[key] for name, key in _SESSION.items()})
            where = " in region {}".format(session.region_name) if session.region_name else ""
            retries = {"mode": "standard", "total_max_attempts": 3}
            config = Config(connect_timeout=5, read_timeout=15, retries=retries)
            client = session.client(
                self.service, endpoint_url=options["endpoint_url"], config=config
            )
            return self.read(client, term)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            reason = _REASONS.get(code, "the service refuses{where}: " + code)
            raise self.failure(term, reason.format(where=where)) from None
        except (BotoCoreError, ValueError) as error:
            said = " ".join(str(error).split())
            raise self.failure(term, "it cannot be asked for{}: {}".format(where, said)) from None

    def failure(self, term: str, reason: str) -> AnsibleError:
        """The error of a secret that cannot be read; without any value."""
        return AnsibleError("{} {}: {}".format(self.called, term, reason))


def part(text: str, keys: List[str]) -> str:
    """The value below ``keys`` in a secret that is a JSON object; KeyError when it has none."""
    found = json.loads(text)
    for key in keys:
        found = found[key]
    return found if isinstance(found, str) else json.dumps(found)
