"""Drives nabu with the clients that a cloud already has: openstacksdk, python-zaqarclient,
python-glanceclient, python-cinderclient, python-novaclient and openstackclient. Started by
"make test-clients".

usage: run.py <nabu's program>"""

import os
import signal
import sys
import time

import cinder
import cinder_cli
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
import zaqar
import zaqar_claim
import zaqar_message
import zaqar_queue
import zaqar_share
import zaqar_subscription
import zaqar_websocket

# The name is printed; the path stands behind nabu's address.
PLACES = [("root", ""), ("/messaging", "/messaging")]
FILES = [sdk, sdk_queue, sdk_message, sdk_claim, sdk_subscription,
         zaqar, zaqar_queue, zaqar_message, zaqar_claim, zaqar_share, zaqar_subscription,
         zaqar_websocket, osc, osc_subscription]
COMPUTE_FILES = [nova]
IMAGE_FILES = [glance, glance_cli, sdk_task, osc_task]
VOLUME_FILES = [cinder, cinder_cli, sdk_usermessage, osc_volume]


def main(program):
    forget_the_surroundings()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("make test-clients: stopped"))
    begun, count, failed = time.monotonic(), 0, 0
    with servers.nabu(program) as (url, images, volumes):
        places = [(place, "messaging", url + prefix, "", FILES) for place, prefix in PLACES]
        places += [("/image", "image", url + "/image", "", IMAGE_FILES), ("alone", "image", images, "", IMAGE_FILES)]
        places += [("/volume", "block-storage", url + "/volume", "/v3/PROJECT", VOLUME_FILES),
                   ("/volume/v3", "block-storage", url + "/volume", "/v3", VOLUME_FILES),
                   ("alone", "block-storage", volumes, "/v3/PROJECT", VOLUME_FILES)]
        places += [("/compute/v2.1", "compute", url + "/compute", "/v2.1", COMPUTE_FILES),
                   ("/compute", "compute", url + "/compute", "", COMPUTE_FILES),
                   ("with project", "compute", url + "/compute", "/v2.1/PROJECT", COMPUTE_FILES)]
        for place, service, endpoint, path, files in places:
            with servers.keystone(service, endpoint + path) as keystone:
                for file in files:
                    ran, wrong = file.cases.run(place, endpoint, keystone)
                    count, failed = count + ran, failed + wrong
    if not osc_task.THERE:
        print("skip  openstackclient is too old for \"image task\"")
    if not sdk_usermessage.THERE:
        print("skip  openstacksdk is too old for user messages")
    print(f"make test-clients: {count} cases, {failed} failed, after {time.monotonic() - begun:.0f} s")
    return 1 if failed else 0


def forget_the_surroundings():
    """Takes away what a cloud's user may have in his environment: another cloud, and a
    proxy in front of this machine's own addresses."""
    for name in [name for name in os.environ if name.startswith("OS_")]:
        del os.environ[name]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
