"""What the commands "glance task-..." do with nabu. They run inside this program, by the
function that the program "glance" consists of."""

import contextlib
import io
import os
import tempfile
import unittest.mock
import uuid

from glanceclient import shell

from glance import COPY, IMPORT
from harness import NOBODY, Cases, Mismatch, same, true

cases = Cases("glance")


def run(here, *words):
    """Runs a command and returns its output. What it keeps at home goes with it."""
    return run_as(["--os-auth-url", here.keystone, "--os-username", "somebody", "--os-password", "any",
                   "--os-user-domain-id", "default", "--os-project-id", here.project, "--os-region-name", "here"], *words)


def run_as(who, *words):
    """The same with options of the program that say where nabu is and who asks."""
    command = [*who, "--os-image-api-version", "2", *words]
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory(prefix="nabu-glance-") as home, \
            unittest.mock.patch.dict(os.environ, HOME=home), \
            contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            shell.OpenStackImagesShell().main(command)
        except SystemExit as end:
            raise Mismatch(f"{words}: {end.code}: {err.getvalue()}") from end
    return out.getvalue()


def rows(table):
    """The cells of a printed table, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def make(here, kind="import", given=IMPORT):
    return here.call("POST", "/tasks", {"type": kind, "input": given})["id"]


@cases("task-create", "makes a task")
def _(here):
    table = dict(rows(run(here, "task-create", "--type", "import", "--input",
                          '{"import_from": "http://images.example/x", "import_from_format": "raw", "image_properties": {}}')))
    same("status", table["status"], "pending")
    same("owner", table["owner"], here.project)
    same("shown", here.call("GET", "/tasks/" + table["id"])["input"]["import_from_format"], "raw")


@cases("task-create", "without Keystone takes the project from a token")
def _(here):
    who = ["--os-image-url", here.endpoint, "--os-auth-token", "somebody:" + here.project]
    table = dict(rows(run_as(who, "task-create", "--type", "import", "--input",
                             '{"import_from": "http://images.example/x", "import_from_format": "raw", "image_properties": {}}')))
    same("owner", table["owner"], here.project)


@cases("task-show", "shows it, and why it failed")
def _(here):
    task = make(here)
    here.report(task, begin={})
    here.report(task, fail={"message": "no such image"})
    table = dict(rows(run(here, "task-show", task)))
    same("shown", [table[name] for name in ("id", "status", "message")], [task, "failure", "no such image"])


@cases("task-show", "says that there is no such task")
def _(here):
    try:
        out = run(here, "task-show", NOBODY)
    except Exception as error:  # the command's own function turns it into a text
        out = str(error)
    true(out, f"Could not find task {NOBODY}" in out)


@cases("task-list", "with every option")
def _(here):
    ids = sorted(make(here) for _ in range(3))
    here.report(ids[0], begin={})
    mine = lambda *options: [row[0] for row in rows(run(here, "task-list", *options)) if row[3] == here.project]
    same("all", sorted(mine()), ids)
    same("sorted", mine("--sort-key", "id", "--sort-dir", "asc"), ids)
    same("sorted downwards, in pages", mine("--sort-key", "id", "--sort-dir", "desc", "--page-size", "1"), ids[::-1])
    for key in "type", "status":
        same("sorted by " + key, sorted(mine("--sort-key", key, "--sort-dir", "asc")), ids)
    same("type", sorted(mine("--type", "import")), ids)
    same("status", mine("--status", "processing"), ids[:1])
    same("page size", sorted(mine("--page-size", "2")), ids)


@cases("image-tasks", "shows an image's tasks")
def _(here):
    image = str(uuid.uuid4())
    task = make(here, "api_image_import", dict(COPY, image_id=image))
    same("statuses", [row[1] for row in rows(run(here, "image-tasks", image))], ["pending"])
    out = run(here, "--verbose", "image-tasks", image)
    true(out, task in out)
