"""What cases need besides a client: where nabu is, checks that say what they expected,
and a list to stand in."""

import collections
import json
import os
import time
import traceback
import urllib.request
import uuid

NOBODY = "00000000-0000-4000-8000-000000000000"  # an id that nothing has


class Mismatch(Exception):
    """Something came that the case did not expect."""


def same(what, came, expected):
    """The two are equal, to the order of members and to 1 not being true."""
    if came != expected or json.dumps(came, default=str) != json.dumps(expected, default=str):
        raise Mismatch(f"{what}: expected {expected!r}, came {came!r}")


def has(what, came, **expected):
    """The object has at least these members, with these values."""
    same(what, {name: came.get(name, "(absent)") for name in expected}, expected)


def within(what, came, low, high):
    """It is a number, and none outside these."""
    if isinstance(came, bool) or not isinstance(came, (int, float)) or not low <= came <= high:
        raise Mismatch(f"{what}: expected {low} to {high}, came {came!r}")


def true(what, came):
    """It holds."""
    if not came:
        raise Mismatch(f"{what}: expected so, is not")


def refused(what, error, call, *args, **kwargs):
    """The call ends with this error. The error is returned."""
    try:
        came = call(*args, **kwargs)
    except error as refusal:
        return refusal
    except Exception as other:
        raise Mismatch(f"{what}: expected {error.__name__}, came {describe(other)}") from other
    raise Mismatch(f"{what}: expected {error.__name__}, came the answer {came!r}")


def describe(error):
    return " ".join(f"{type(error).__name__}: {error}".split())


class Here:
    """Where a case finds itself: at one of nabu's endpoints, in a project of its own."""

    def __init__(self, endpoint, keystone, project):
        self.endpoint = endpoint  # of the API, without /v2
        self.keystone = keystone  # where a stand-in knows that endpoint
        self.project = project
        self.begun = time.monotonic()

    def ages(self):
        """What a message can be old that was posted in this case, in seconds."""
        return 0, time.monotonic() - self.begun + 1

    def call(self, method, path, body=None, project=None):
        """Asks nabu without a client, for what the client at hand cannot say."""
        request = urllib.request.Request(
            self.endpoint + "/v2" + path, method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Client-ID": str(uuid.uuid4()), "X-Project-Id": project or self.project,
                     "Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            text = response.read()
        return json.loads(text) if text else None

    def report(self, task, **action):
        """Reports on a task as its worker does."""
        return self.call("POST", f"/tasks/{task}/action", action)

    def tell(self, **message):
        """Tells the project's users something, as a service does, and returns the message."""
        request = urllib.request.Request(
            f"{self.endpoint}/v3/{self.project}/messages", method="POST", data=json.dumps({"message": message}).encode(),
            headers={"X-Project-Id": self.project, "OpenStack-API-Version": "volume 3.71", "Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)["message"]

    def make_queue(self, name, **metadata):
        """Makes a queue with any metadata. Not every client can."""
        self.call("PUT", "/queues/" + name, metadata)

    def post(self, queue, *messages):
        """Posts messages, as some other client, and returns their ids."""
        answer = self.call("POST", f"/queues/{queue}/messages", {"messages": list(messages)})
        return [path.rsplit("/", 1)[1] for path in answer["resources"]]


class Cases:
    """The cases of one file, in the order in which they are written."""

    def __init__(self, client):
        self.client = client
        self.cases = []

    def __call__(self, call, says, lacks=""):
        """Adds a function as a case: which call of the client it is about, and what has
        to be true. lacks is why the client that is installed cannot be asked, if it cannot."""
        def add(function):
            self.cases.append((call, says, lacks, function))
            return function
        return add

    def rows(self):
        """Each case in a few words: client, call and what has to be true."""
        return [(self.client, call, says) for call, says, *_ in self.cases]

    def run(self, place, endpoint, keystone):
        """Runs all cases at one endpoint, prints a line for each, and returns how many
        there were (cases), how many of these failed, and how many were skipped."""
        counts = collections.Counter()
        for call, says, lacks, function in self.cases:
            here = Here(endpoint, keystone, uuid.uuid4().hex)
            problem = lacks or run_one(function, here)
            mark = "skip" if lacks else "FAIL" if problem else "ok"
            counts.update({"skipped": 1} if lacks else {"cases": 1, "failed": mark == "FAIL"})
            problem = f"\n      {problem}" if problem else ""
            print(f"{mark:<4}  {self.client:<15}  {place:<10}  {call:<28}  {says}{problem}", flush=True)
        return counts


def run_one(function, here):
    """Runs a case and returns what is wrong, and where, or None."""
    try:
        function(here)
    except Mismatch as mismatch:
        return f"{place_of(function, mismatch)}: {mismatch}"
    except Exception as error:
        return f"{place_of(function, error)}: expected no error, came {describe(error)}"
    return None


def place_of(function, error):
    """The line of the case at which it ended."""
    code = function.__code__
    lines = [at.lineno for at in traceback.extract_tb(error.__traceback__)
             if (at.filename, at.name) == (code.co_filename, code.co_name)]
    return f"{os.path.basename(code.co_filename)}:{lines[-1]}"
