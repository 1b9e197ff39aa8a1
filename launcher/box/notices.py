"""Whether a box is about to be taken away: a file that appears, or a page that says so.

A notice of a profile is an absolute path, a URL, or the name of a cloud:

| name | what is asked | told by |
| --- | --- | --- |
| aws | /latest/meta-data/spot/instance-action, with a token of IMDSv2 | 200 and an `action`; 404 otherwise |
| gcp | /computeMetadata/v1/instance/preempted, with Metadata-Flavor: Google | TRUE; FALSE otherwise |
| azure | /metadata/scheduledevents, with Metadata: true | an event Preempt, Terminate, Reboot or Redeploy |

Sources: AWS, "Spot Instance interruption notices"; Google Cloud, "Detect if a VM is preempted"; Microsoft, "Azure
Metadata Service: Scheduled Events for Linux VMs". All three answer at 169.254.169.254, which is link-local (RFC 3927):
nothing else is asked than that, and what the profile names.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

METADATA = "http://169.254.169.254"
ANSWER_S = 2.0
MOST_BYTES = 64 << 10
GOING = ("Preempt", "Terminate", "Reboot", "Redeploy")
NOTHING = ("", "false", "none", "no", "0", "null", "[]", "{}")


def first(notices: Iterable[str], metadata: str = METADATA) -> str | None:
    """Return what the first of these notices that says something says; None while all is quiet."""
    return next((said for notice in notices if (said := one(notice, metadata))), None)


def one(notice: str, metadata: str = METADATA) -> str | None:
    """Ask one. What can't be reached says nothing: a notice is not what keeps a run alive."""
    if notice in CLOUDS:
        try:
            return CLOUDS[notice](metadata)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
    if notice.startswith(("http://", "https://")):
        said = asked(notice)
        return None if said is None or said.strip().lower() in NOTHING else f"{notice} says so"
    return f"there is {notice}" if Path(notice).exists() else None


def aws(metadata: str) -> str | None:
    token = asked(f"{metadata}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
    headers = {"X-aws-ec2-metadata-token": token} if token else {}
    said = asked(f"{metadata}/latest/meta-data/spot/instance-action", headers)
    return f"AWS: {json.loads(said)['action']} at {json.loads(said).get('time')}" if said else None


def gcp(metadata: str) -> str | None:
    said = asked(f"{metadata}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return "Google Cloud: it is preempted" if said and said.strip() == "TRUE" else None


def azure(metadata: str) -> str | None:
    said = asked(f"{metadata}/metadata/scheduledevents?api-version=2020-07-01", {"Metadata": "true"})
    events = json.loads(said).get("Events") or [] if said else []
    found = [event for event in events if event.get("EventType") in GOING]
    return f"Azure: {found[0]['EventType']} at {found[0].get('NotBefore') or 'once'}" if found else None


CLOUDS: dict[str, Callable[[str], str | None]] = {"aws": aws, "gcp": gcp, "azure": azure}


def asked(url: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> str | None:
    """Return what a page says; None where there is none. No proxy is asked: these pages are this machine's own."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers=dict(headers or {}), method=method)
    try:
        with opener.open(request, timeout=ANSWER_S) as answer:
            data: bytes = answer.read(MOST_BYTES)
            return data.decode(errors="replace")
    except (OSError, ValueError):  # HTTPError and URLError are OSErrors
        return None
