"""What the commands "cinder message-..." do with nabu. They run inside this program, by the
class that the program "cinder" consists of."""

import contextlib
import io
import logging
import os
import unittest.mock

from cinderclient import exceptions, shell

from cinder import about
from harness import Cases, Mismatch, same, true

cases = Cases("cinder")


def run(here, *words, version="3.68"):
    """Runs a command and returns its output."""
    command = ["--os-auth-url", here.keystone, "--os-username", "somebody", "--os-password", "any",
               "--os-user-domain-id", "default", "--os-project-id", here.project,
               "--os-volume-api-version", version, *words]
    out, err = io.StringIO(), io.StringIO()
    with unittest.mock.patch.dict(os.environ, OS_REGION_NAME="here"), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            shell.OpenStackCinderShell().main(command)
        except SystemExit as end:
            raise Mismatch(f"{words}: {end.code}: {err.getvalue()}") from end
        except exceptions.CommandError as refusal:
            raise Mismatch(f"{words}: {refusal}") from refusal
        finally:
            logging.getLogger("cinderclient").handlers.clear()
    return out.getvalue()


def rows(table):
    """The cells of a printed table, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


@cases("message-list", "with every option")
def _(here):
    first = here.tell(action_id="001", detail_id="003", resource_uuid=about(here, 1), request_id="req-" + here.project)["id"]
    second = here.tell(action_id="009", resource_type="VOLUME_SNAPSHOT", resource_uuid=about(here, 2), message_level="WARNING",
                       request_id="req-" + here.project)["id"]
    third = here.tell(action_id="001", resource_uuid=about(here, 2), request_id="req-" + here.project)["id"]
    mine = lambda *options: [row[0] for row in rows(run(here, "message-list", "--request_id", "req-" + here.project, *options))]
    same("all", sorted(mine()), sorted([first, second, third]))
    same("--resource_uuid", sorted(mine("--resource_uuid", about(here, 2))), sorted([second, third]))
    same("--resource_type", mine("--resource_type", "volume_snapshot"), [second])
    same("--event_id", mine("--event_id", "VOLUME_VOLUME_001_003"), [first])
    same("--level", mine("--level", "warning"), [second])
    same("--sort", mine("--sort", "created_at:asc"), [first, second, third])
    same("--limit", mine("--limit", "1"), [third])
    same("--marker", mine("--marker", third, "--limit", "1"), [second])
    same("--filters", mine("--filters", "event_id=VOLUME_VOLUME_001_003"), [first])
    same("a part", mine("--filters", "event_id~=SNAPSHOT"), [second])
    same("row", rows(run(here, "message-list", "--resource_uuid", about(here, 1))),
         [[first, "VOLUME", about(here, 1), "VOLUME_VOLUME_001_003",
           "schedule allocate volume:Could not find any available weighted backend."]])


@cases("message-show", "shows all of it")
def _(here):
    told = here.tell(action_id="007", detail_id="009", resource_uuid=about(here, 1))
    shown = dict(rows(run(here, "message-show", told["id"])))
    same("shown", shown, {name: str(told[name]) for name in sorted(told) if name != "links"})


@cases("message-delete", "deletes several")
def _(here):
    told = [here.tell(action_id="001", request_id="req-" + here.project)["id"] for _ in range(3)]
    run(here, "message-delete", *told[:2])
    same("left", [row[0] for row in rows(run(here, "message-list", "--request_id", "req-" + here.project))], told[2:])
    try:
        run(here, "message-show", told[0])
    except Mismatch as gone:
        true(str(gone), told[0] in str(gone))
    else:
        raise Mismatch("it is still shown")


@cases("message-show", "negotiates its version")
def _(here):
    told = here.tell(action_id="001")
    for version in "3.3", "3.5":
        same(version, dict(rows(run(here, "message-show", told["id"], version=version)))["id"], told["id"])
    logging.getLogger("cinderclient.shell").disabled = True  # it says that it takes an older one
    same("too new", dict(rows(run(here, "message-show", told["id"], version="3.99")))["id"], told["id"])
