#!/usr/bin/env python3
"""Runs test programs that Cargo has built, some side by side, and adds up the results.

    cargo test --no-run --message-format json … | tools/run-tests.py LOG [argument of every program]…

The suites that kill and freeze processes run one after another, and beside them all others, one after
another: each lane waits more than it computes. What a program prints appears in one piece, when it has
ended. The last line is "N passed, N failed". Fails on any failure, and where nothing was run.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time

# Those that take minutes. The first begins first.
FAULTS = ["process", "crash", "faults"]

RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed", re.MULTILINE)


def programs(lines):
    """What `cargo test --no-run` says that it built: name, program, directory of the package."""
    for line in lines:
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message.get("executable"):
            if message["profile"]["test"]:
                target = message["target"]
                crate = os.path.basename(os.path.dirname(message["manifest_path"]))
                name = target["name"] if "test" in target["kind"] else f"unit tests of {crate}"
                yield name, message["executable"], os.path.dirname(message["manifest_path"])


class Results:
    """Sums over all programs, and what they printed."""

    def __init__(self, log):
        self.log = log
        self.lock = threading.Lock()
        self.passed = self.failed = 0
        self.broken = []

    def add(self, name, seconds, status, text):
        found = RESULT.findall(text)
        with self.lock:
            self.passed += sum(int(passed) for passed, _ in found)
            failed = sum(int(failed) for _, failed in found)
            self.failed += failed
            if status != 0 and failed == 0:
                self.failed += 1
                self.broken.append(f"{name} did not finish: exit status {status}")
            piece = f"\n== {name} ({seconds:.1f} s)\n{text}"
            self.log.write(piece)
            self.log.flush()
            sys.stdout.write(piece)
            sys.stdout.flush()


def run(lane, arguments, results):
    for name, program, directory in lane:
        print(f"run-tests: {name} begins", file=sys.stderr, flush=True)
        begin = time.monotonic()
        environment = {**os.environ, "CARGO_MANIFEST_DIR": directory}
        done = subprocess.run(
            [program, *arguments],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        results.add(name, time.monotonic() - begin, done.returncode, done.stdout)


def main():
    path, *arguments = sys.argv[1:]
    built = sorted(programs(sys.stdin))
    faults = [one for name in FAULTS for one in built if one[0] == name]
    others = [one for one in built if one not in faults]
    with open(path, "w", encoding="utf-8") as log:
        results = Results(log)
        lanes = [
            threading.Thread(target=run, args=(lane, arguments, results))
            for lane in (faults, others)
        ]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
    if results.passed + results.failed == 0:
        results.broken.append("no test was run")
    for line in [f"everything printed is in {path}", *results.broken]:
        print(f"run-tests: {line}", file=sys.stderr)
    print(f"{results.passed} passed, {results.failed} failed", flush=True)
    sys.exit(1 if results.failed or results.broken else 0)


main()
