"""A job: one run, fully decided, a plain value. JSON is its wire format. A sweep's jobs are kept as one plan."""

from launcher.job.digests import point_digest, point_group
from launcher.job.model import JOB_VERSION, Job
from launcher.job.overrides import overridden
from launcher.job.planning import ENTROPY_BYTES, again, plan, run_id
from launcher.job.wire import from_json, to_json

__all__ = [
    "ENTROPY_BYTES",
    "JOB_VERSION",
    "Job",
    "again",
    "from_json",
    "overridden",
    "plan",
    "point_digest",
    "point_group",
    "run_id",
    "to_json",
]
