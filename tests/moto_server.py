"""moto's server, in which one wins a race: moto looks whether an object is there, and writes it, as two steps.

So what must hold of a claim can be tested on it; that it holds on a real server is tested on Ceph.
"""

from __future__ import annotations

import functools
import runpy
import threading
from pathlib import Path
from typing import Any

from moto.s3.responses import S3Response
from moto.server import main

ONE_WRITES = threading.RLock()
WRITERS = ("put_object", "_key_response_post")  # the second completes uploads in parts


def one_at_a_time(method: Any) -> Any:
    @functools.wraps(method)
    def alone(*args: Any, **named: Any) -> Any:
        with ONE_WRITES:
            return method(*args, **named)

    return alone


if __name__ == "__main__":
    for name in WRITERS:
        setattr(S3Response, name, one_at_a_time(getattr(S3Response, name)))
    runpy.run_path(str(Path(__file__).with_name("moto_sessions.py")))["install"]()  # isolated: no sys.path to it
    main()
