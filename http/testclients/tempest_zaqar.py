"""What zaqar-tempest-plugin finds of nabu: the tests that Zaqar has to pass itself, as they are."""

import collections
import importlib.metadata
import json
import os
import subprocess
import sys

CLIENT = "tempest"
VERSION = importlib.metadata.version("zaqar-tempest-plugin")
TOKEN = "without Keystone nobody needs a token, and who names no project either is answered 400"
LEFT_OUT = {  # by a part of the test's name
    "_without_a_token": TOKEN,
    "_with_invalid_token": TOKEN,
    "_with_invalid_auth_token": TOKEN,
    "test_trust_subscription": "Keystone makes the trusts",
    "test_dead_letter_queue": "it sleeps for 140 s: make test-tempest",
}
SLOW = "test_dead_letter_queue"


class Plugin:
    """The plugin's tests, in the place of Cases."""

    def __init__(self, slow=False):
        self.left_out = {part: why for part, why in LEFT_OUT.items() if not (slow and part == SLOW)}

    def rows(self):
        """What Cases.rows gives: client, call and what has to be true."""
        return [(CLIENT, came["class"], came["test"]) for came in runner("list")]

    def run(self, place, _, keystone):
        """Runs all tests at one endpoint and prints a line for each."""
        counts, missing = collections.Counter(), {row[1:] for row in self.rows()}
        for name in sorted(missing):
            for part, why in self.left_out.items():
                if part in name[1]:
                    missing.discard(name)
                    counts.update(skipped=1)
                    show("skip", place, *name, why)
        for came in runner("run", keystone, *self.left_out):
            missing.discard((came["class"], came["test"]))
            counts.update({"skipped": 1} if came["outcome"] == "skip" else {"cases": 1, "failed": came["outcome"] != "ok"})
            show(came["outcome"], place, came["class"], came["test"], came["text"])
        for name in sorted(missing):
            counts.update(cases=1, failed=1)
            show("FAIL", place, *name, "it did not run")
        return counts


def show(mark, place, group, test, why):
    problem = f"\n      {' '.join(why.split())}" if why else ""
    print(f"{mark:<4}  {CLIENT:<15}  {place:<10}  {group:<28}  {test}{problem}", flush=True)


def runner(*words):
    """What the program says that runs them, line by line."""
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tempest_runner.py")
    with subprocess.Popen([sys.executable, "-B", "-W", "ignore", program, *words],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"{program} {' '.join(words)}: exit code {process.returncode}")
