"""What the commands "openstack image task ..." do with nabu."""

import contextlib
import importlib.util
import io
import json

from openstackclient import shell

from glance import IMPORT
from harness import NOBODY, Cases, Mismatch, same, true
from osc import command

cases = Cases("openstackclient")
LACKS = "" if importlib.util.find_spec("openstackclient.image.v2.task") else "openstackclient has them since 6.1"


def run(here, *words):
    """Runs a command and returns its exit code, output and errors."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = shell.main(command(here, words))
    return code, out.getvalue(), err.getvalue()


def answer(here, *words):
    """What a command prints as JSON."""
    code, out, err = run(here, *words, "-f", "json")
    if code:
        raise Mismatch(f"{words}: {code}: {err}")
    return json.loads(out)


def make(here):
    return here.call("POST", "/tasks", {"type": "import", "input": IMPORT})["id"]


@cases("image task list", "with its options", LACKS)
def _(here):
    ids = sorted(make(here) for _ in range(3))
    here.report(ids[0], begin={})
    mine = lambda *options: [row["ID"] for row in answer(here, "image", "task", "list", *options) if row["Owner"] == here.project]
    same("all", sorted(mine()), ids)
    same("sorted", mine("--sort-key", "id", "--sort-dir", "asc"), ids)
    same("type", sorted(mine("--type", "import")), ids)
    same("status", mine("--status", "processing"), ids[:1])
    same("after one", mine("--sort-key", "id", "--sort-dir", "asc", "--marker", ids[0]), ids[1:])


@cases("image task show", "shows a task", LACKS)
def _(here):
    task = make(here)
    shown = answer(here, "image", "task", "show", task)
    same("shown", [shown["id"], shown["status"], shown["owner_id"] if "owner_id" in shown else shown["properties"]["owner"]],
         [task, "pending", here.project])
    code, _, err = run(here, "image", "task", "show", NOBODY)
    true(err, code != 0)
