"""Drives nabu with the clients that a cloud already has: openstacksdk, python-zaqarclient,
python-glanceclient, python-cinderclient, python-novaclient, openstackclient and tempest.
Started by "make test-clients", "make test-tempest" and "make client-table".

usage: run.py drive [--tempest] <nabu's program>   all cases, or tempest's with the slow one
       run.py table [--check]                      writes the list of them into docs/clients.md"""

import collections
import os
import signal
import sys
import time

import casetable
import cinder
import cinder_cli
import examples
import glance
import glance_cli
import nova
import osc
import osc_subscription
import osc_task
import osc_volume
import sdk
import sdk_claim
import sdk_message
import sdk_queue
import sdk_subscription
import sdk_task
import sdk_usermessage
import servers
import tempest_api
import tempest_zaqar
import zaqar
import zaqar_claim
import zaqar_message
import zaqar_queue
import zaqar_share
import zaqar_subscription
import zaqar_websocket

# An API is driven at each of its places: what is printed, which of nabu's addresses, the path
# behind that, and what the catalog has behind that as well.
API = collections.namedtuple("API", "name service places cases")
APIS = [
    API("Messaging v2", "messaging",
        [("root", "all", "", ""), ("/messaging", "all", "/messaging", "")],
        [file.cases for file in (sdk, sdk_queue, sdk_message, sdk_claim, sdk_subscription,
                                 zaqar, zaqar_queue, zaqar_message, zaqar_claim, zaqar_share, zaqar_subscription,
                                 zaqar_websocket, osc, osc_subscription)] + [tempest_zaqar.Plugin()]),
    API("Tasks of the Image API v2", "image",
        [("/image", "all", "/image", ""), ("alone", "images", "", "")],
        [file.cases for file in (glance, glance_cli, sdk_task, osc_task)] + [tempest_api.image]),
    API("User messages of the Block Storage API v3", "block-storage",
        [("/volume", "all", "/volume", "/v3/PROJECT"), ("/volume/v3", "all", "/volume", "/v3"),
         ("alone", "volumes", "", "/v3/PROJECT")],
        [file.cases for file in (cinder, cinder_cli, sdk_usermessage, osc_volume)] + [tempest_api.volume]),
    API("External events of the Compute API v2.1", "compute",
        [("/compute/v2.1", "all", "/compute", "/v2.1"), ("/compute", "all", "/compute", ""),
         ("with project", "all", "/compute", "/v2.1/PROJECT")],
        [nova.cases, tempest_api.compute]),
]

EXAMPLES = API("Examples", "messaging", [("root", "all", "", "")], [examples.Examples()])


def drive(program, apis):
    """Runs the cases against a nabu of their own."""
    forget_the_surroundings()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("run.py: stopped"))
    begun, counts = time.monotonic(), collections.Counter()
    with servers.nabu(program) as addresses:
        for api in apis:
            for place, address, prefix, path in api.places:
                endpoint = addresses[address] + prefix
                with servers.keystone(api.service, endpoint + path) as keystone:
                    for cases in api.cases:
                        counts.update(cases.run(place, endpoint, keystone))
    print(f"{counts['cases']} cases, {counts['failed']} failed, {counts['skipped']} skipped, "
          f"after {time.monotonic() - begun:.0f} s")
    return 1 if counts["failed"] else 0


def tempest_only():
    """What tempest has to say, which takes a while."""
    mine = tempest_zaqar.Plugin(slow=True), tempest_api.image, tempest_api.volume, tempest_api.compute
    return [api._replace(cases=[cases], places=api.places[:1] if cases is mine[0] else api.places)
            for api, cases in zip(APIS, mine)]


def forget_the_surroundings():
    """Takes away what a cloud's user may have in his environment: another cloud, and a
    proxy in front of this machine's own addresses."""
    for name in [name for name in os.environ if name.startswith("OS_")]:
        del os.environ[name]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"


def main(words):
    match words:
        case ["drive", program]:
            return drive(program, [EXAMPLES] + APIS)  # which show what a whole cloud has, so they come first
        case ["drive", "--tempest", program]:
            return drive(program, tempest_only())
        case ["table"]:
            return casetable.write(APIS)
        case ["table", "--check"]:
            return casetable.check(APIS)
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
