"""What the commands "openstack volume message ..." do with nabu."""

import json

import openstackclient.volume.client

import osc
from cinder import about
from harness import NOBODY, Cases, Mismatch, has, same, true

cases = Cases("openstackclient")
VERSION = "--os-volume-api-version", "3.68"
BY_CINDERCLIENT = isinstance(openstackclient.volume.client.API_VERSIONS, dict)  # later by openstacksdk


def run(here, *words):
    """Runs a command and returns its exit code, output and errors."""
    if BY_CINDERCLIENT:
        for version in "1", "2":  # it forgets once for each process those that cinderclient has not got
            openstackclient.volume.client.API_VERSIONS.setdefault(version, "")
    return osc.run(here, *words)


def answer(here, *words):
    """What a command prints as JSON."""
    code, out, err = run(here, *VERSION, *words, "-f", "json")
    if code:
        raise Mismatch(f"{words}: {code}: {err}")
    return json.loads(out)


@cases("volume message list", "with its options")
def _(here):
    told = [here.tell(action_id="001", resource_uuid=about(here, n))["id"] for n in range(3)]
    mine = lambda *options: [row["ID"] for row in answer(here, "volume", "message", "list", "--project", here.project, *options)]
    same("all", mine(), told[::-1])
    same("two", mine("--limit", "2"), told[:0:-1] if BY_CINDERCLIENT else told[::-1])  # in pages of two
    same("after one", mine("--marker", told[1]), told[:1])
    row = answer(here, "volume", "message", "list", "--project", here.project)[0]
    has("row", row, **{"Event ID": "VOLUME_VOLUME_001_001", "Resource Type": "VOLUME", "Resource UUID": about(here, 2),
                       "Message Level": "ERROR", "User Message": "schedule allocate volume:An unknown error occurred."})


@cases("volume message show", "shows a message")
def _(here):
    told = here.tell(action_id="002", detail_id="021")
    shown = answer(here, "volume", "message", "show", told["id"])
    if BY_CINDERCLIENT:
        has("shown", shown, id=told["id"], user_message="attach volume:Failed to attach volume.")
    else:  # it looks for "messages" where the API says "message"
        same("shown", [value for value in shown.values() if value is not None], [told["id"]])
    code, _, err = run(here, *VERSION, "volume", "message", "show", NOBODY)
    true(err, code != 0 and NOBODY in err)


@cases("volume message delete", "deletes several, and tells of one that is not there")
def _(here):
    told = [here.tell(action_id="001")["id"] for _ in range(2)]
    code, _, err = run(here, *VERSION, "volume", "message", "delete", told[0], NOBODY, told[1])
    true(err, code != 0 and "1 of 3" in err)
    same("left", answer(here, "volume", "message", "list", "--project", here.project), [])


@cases("volume message list", "refuses by itself below 3.3")
def _(here):
    code, _, err = run(here, "--os-volume-api-version", "3.2", "volume", "message", "list")
    true(err, code != 0 and "3.3 or greater is required" in err)
