"""Runs the examples of docs/clients.md. A block "console" has commands after "$ ", each followed by
what it prints; a block "python" is a program, and the block "text" after it what that prints. "…"
stands for anything. A word behind the name says what not every installed client has."""

import collections
import os
import re
import subprocess
import sys
import tempfile

import casetable
import osc_task
from harness import Mismatch, run_one, true

NEEDS = {"": "", "image-task": osc_task.LACKS}
WRITTEN = "http://127.0.0.1:8888"  # where the examples have nabu
BLOCK = re.compile(r"^### (.*)\n|^```(console|python|text) ?(\S*)\n((?:.*\n)*?)```\n", re.MULTILINE)
COMMAND = re.compile(r"^\$ (.*\n)((?:(?!\$ ).*\n)*)", re.MULTILINE)


class Examples:
    """The examples, in the place of Cases."""

    def run(self, place, endpoint, _):
        """Runs all examples against one endpoint and prints a line for each."""
        counts = collections.Counter()
        for n, (heading, needs, command, expected) in enumerate(examples(), 1):
            lacks = NEEDS[needs]
            problem = lacks or run_one(lambda _, c=command, e=expected: compare(c, e, endpoint), None)
            mark = "skip" if lacks else "FAIL" if problem else "ok"
            counts.update({"skipped": 1} if lacks else {"cases": 1, "failed": mark == "FAIL"})
            problem = f"\n      {problem}" if problem else ""
            print(f"{mark:<4}  {'docs/clients.md':<15}  {place:<10}  {heading:<28}  is right in example {n}{problem}", flush=True)
        return counts


def examples():
    """Each example as the heading above it, what it needs, its command and what that prints."""
    heading, program = "", None
    with open(casetable.DOCUMENT, encoding="utf-8") as file:
        text = file.read()
    for title, kind, needs, block in BLOCK.findall(text):
        if title:
            heading = title
        elif kind == "console":
            for command, expected in COMMAND.findall(block):
                yield heading, needs, ["bash", "-c", command.strip()], expected
        elif kind == "python":
            program = heading, needs, [sys.executable, "-c", block]
        else:
            yield *program, block


def compare(command, expected, endpoint):
    """Runs a command as somebody with nothing in his environment, and looks at what it prints."""
    command = [word.replace(WRITTEN, endpoint).replace(WRITTEN.replace("http", "ws"), endpoint.replace("http", "ws")) for word in command]
    with tempfile.TemporaryDirectory(prefix="nabu-examples-") as home:
        done = subprocess.run(command, env=dict(os.environ, HOME=home, COLUMNS="200", PYTHONWARNINGS="ignore"),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise Mismatch(f"exit code {done.returncode}: {done.stderr}")
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    true(f"it prints {done.stdout!r}", re.fullmatch(pattern, done.stdout, re.DOTALL))
