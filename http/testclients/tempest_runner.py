"""Runs or lists the tests of zaqar-tempest-plugin for version 2 of the API. It is a program of its own
because tempest knows one configuration for each. Says what became of each test in a line of JSON.

usage: tempest_runner.py list
       tempest_runner.py run <Keystone's address> <part of a test's name that is left out>..."""

import itertools
import json
import os
import sys
import tempfile
import traceback
import unittest
import uuid

CONFIGURATION = """
[DEFAULT]
log_dir = {folder}
[auth]
use_dynamic_credentials = false
test_accounts_file = {folder}/accounts.yaml
[identity]
auth_version = v3
uri_v3 = {keystone}
region = here
[oslo_concurrency]
lock_path = {folder}/locks
"""
ACCOUNTS = """
- username: somebody
  password: any
  project_name: {project}
"""


def main(keystone=None, *left_out):
    with tempfile.TemporaryDirectory(prefix="nabu-tempest-") as folder:
        write(folder, "tempest.conf", CONFIGURATION.format(folder=folder, keystone=keystone or "http://127.0.0.1/v3"))
        os.environ.update(TEMPEST_CONFIG_DIR=folder, TEMPEST_CONFIG="tempest.conf")
        for of_one_class, tests in itertools.groupby(found(), type):
            if keystone is None:
                for test in tests:
                    say(test, "found")
                continue
            # Tests count what there is, so each class gets a project that has nothing.
            write(folder, "accounts.yaml", ACCOUNTS.format(project=of_one_class.__name__ + "-" + uuid.uuid4().hex))
            unittest.TestSuite(test for test in tests if not any(part in test.id() for part in left_out)).run(Result())


def write(folder, name, text):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)


def found():
    """The plugin's tests, one class after the other."""
    import zaqar_tempest_plugin.tests.v2 as tests  # which reads the configuration
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(tests.__file__))))
    waiting = [unittest.defaultTestLoader.discover(os.path.dirname(tests.__file__), top_level_dir=top)]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, unittest.TestSuite):
            waiting[:0] = one
        else:
            yield one


def say(test, outcome, text=""):
    name = test.id().split("[")[0]
    print(json.dumps({"class": name.split(".")[-2], "test": name.split(".")[-1], "outcome": outcome, "text": text}), flush=True)


class Result(unittest.TestResult):
    """Says the outcome of each test as it comes."""

    def addSuccess(self, test):
        say(test, "ok")

    def addSkip(self, test, reason):
        say(test, "skip", reason)

    def addFailure(self, test, problem):
        say(test, "FAIL", "".join(traceback.format_exception_only(*problem[:2])))

    addError = addFailure


if __name__ == "__main__":
    if sys.argv[1:2] not in (["list"], ["run"]):
        sys.exit(__doc__)
    main(*sys.argv[2:])
