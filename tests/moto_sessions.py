"""Sessions of moto's server that have a policy, as AWS documents them: moto gives out tokens and forgets their policy.

A session may do what both its user (or role) and its own policy allow ("Session policies" of IAM's user guide). Reading
an object that isn't there is refused to whom the bucket can't be listed by ("GetObject" of the S3 API Reference), and
a condition on the prefix of a listing is no listing of the bucket. Only a server that checks rights looks at it.
"""

from __future__ import annotations

import fnmatch
import json
import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.iam import access_control
from moto.iam.access_control import AssumedRoleAccessKey, CreateAccessKeyFailure, IAMUserAccessKey, S3IAMRequest
from moto.s3.models import s3_backends
from moto.sts.models import sts_backends
from moto.sts.responses import TokenResponse

init, collect, permitted = (
    AssumedRoleAccessKey.__init__,
    AssumedRoleAccessKey.collect_policies,
    S3IAMRequest.check_action_permitted,
)


def get_federation_token(self: Any) -> ActionResult:
    """Give a session of its own to a user, who is remembered."""
    name, policy = self._get_param("Name"), self._get_param("Policy")
    made = self.backend.assume_role(
        region_name=self.region,
        role_session_name=name,
        role_arn=f"arn:aws:iam::{self.current_account}:role/{name}",
        policy=policy,
        duration=self._get_int_param("DurationSeconds", 43200),
        external_id=None,
    )
    said = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization", ""))
    made.federated_by = said[1] if said else ""
    return ActionResult({"Credentials": made, "PackedPolicySize": 6})


def begin(self: Any, account_id: str, partition: str, access_key_id: str, headers: Any) -> None:
    init(self, account_id, partition, access_key_id, headers)
    found = sts_backends[account_id][partition].assumed_roles
    self.session = next(one for one in found if one.access_key_id == access_key_id)
    if self.session.expiration < utcnow().replace(tzinfo=self.session.expiration.tzinfo):
        raise CreateAccessKeyFailure(reason="InvalidToken")


def policies(self: Any) -> list[Any]:
    """Return the policies of who asked for the session: a user's where it was federated, else the role's."""
    if user := getattr(self.session, "federated_by", ""):
        return IAMUserAccessKey(self.account_id, self.partition, user, {}).collect_policies()
    return collect(self)


def check(self: Any, resource: str) -> None:
    """Ask the user's or role's own rights first, then the session's."""
    permitted(self, resource)
    session = getattr(self._access_key, "session", None)
    if session is None or not session.policy:
        return
    statements = json.loads(session.policy)["Statement"]
    bucket, _, key = resource.rpartition(":::")[2].partition("/")
    action = self._action
    prefix = (parse_qs(urlsplit(self._path).query).get("prefix") or [None])[0]
    if action == "s3:DeleteObject" and not key:
        wanted = [f"{resource}/{name}" for name in named(self._body)]
    else:
        wanted = [resource if not key else f"arn:aws:s3:::{bucket}/{unquote(key)}"]
    if not wanted or not all(allows(statements, action, one, prefix) for one in wanted):
        self._raise_access_denied()
    lists = allows(statements, "s3:ListBucket", f"arn:aws:s3:::{bucket}", None)
    if action == "s3:GetObject" and not lists and not is_there(self.account_id, bucket, unquote(key)):
        self._raise_access_denied()


def named(body: bytes) -> list[str]:
    return [one.text or "" for one in ElementTree.fromstring(body).iter() if one.tag.rpartition("}")[2] == "Key"]


def is_there(account: str, bucket: str, key: str) -> bool:
    found = s3_backends[account]["aws"].buckets.get(bucket)
    return found is not None and found.keys.get(key) is not None


def allows(statements: list[dict[str, Any]], action: str, resource: str, prefix: str | None) -> bool:
    return any(
        one["Effect"] == "Allow"
        and any(fits(name, action) for name in listed(one["Action"]))
        and any(fits(name, resource) for name in listed(one["Resource"]))
        and holds(one.get("Condition") or {}, prefix)
        for one in statements
    )


def holds(condition: dict[str, Any], prefix: str | None) -> bool:
    assert set(condition) <= {"StringLike"} and set(condition.get("StringLike", {})) <= {"s3:prefix"}
    patterns = listed(condition.get("StringLike", {}).get("s3:prefix", []))
    return not patterns or (prefix is not None and any(fits(one, prefix) for one in patterns))


def listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def fits(pattern: str, text: str) -> bool:
    """Match as IAM does: * and ? are wild but where ${*} and ${?} stand, brackets are not."""
    parts = re.split(r"(\$\{[*?$]\})", pattern)
    wild = (f"[{part[2]}]" if part.startswith("${") else part.replace("[", "[[]") for part in parts)
    return fnmatch.fnmatchcase(text, "".join(wild))


def install() -> None:
    TokenResponse.get_federation_token = get_federation_token  # type: ignore[method-assign]
    AssumedRoleAccessKey.__init__ = begin  # type: ignore[method-assign]
    AssumedRoleAccessKey.collect_policies = policies  # type: ignore[method-assign]
    access_control.S3IAMRequest.check_action_permitted = check  # type: ignore[method-assign]
