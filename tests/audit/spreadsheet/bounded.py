"""python -m tests.audit.spreadsheet.bounded FILE...: audit each in a process of bounded memory and time.

Prints a line of JSON for each: what came of it, and the memory and time that it took.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

from audit.spreadsheet.annotate import annotated
from audit.spreadsheet.report import file_text
from audit.spreadsheet.verdict import audit_file

MEGABYTES = 600
SECONDS = 20  # of a processor


def _address_space():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _audit(file):
    limit = _address_space() + MEGABYTES * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    audit = audit_file(Path(file))
    if audit.verdict == "wrong":
        annotated(audit)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "verdict": audit.verdict,
        "text": file_text(audit),
        "warnings": [warning for table in audit.tables for warning in table.warnings],
        "megabytes": used // 1024,
        "seconds": round(time.process_time() - start, 1),
    }


def main(files):
    for file in files:
        sys.stdout.flush()
        if (child := os.fork()) == 0:
            try:
                print(json.dumps(_audit(file)), flush=True)
            except BaseException as error:
                print(json.dumps({"verdict": "crashed", "text": repr(error)}), flush=True)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            print(json.dumps({"verdict": "killed", "text": f"after {SECONDS} s"}))


if __name__ == "__main__":
    main(sys.argv[1:])
