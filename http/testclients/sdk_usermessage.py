"""What openstacksdk (conn.block_storage) does with nabu's user messages. It sends no version
unless it is told to."""

import importlib.util

import openstack

from harness import Cases, same

cases = Cases("openstacksdk")
LACKS = "" if importlib.util.find_spec("openstack.block_storage.v3.message") else "openstacksdk has them since 4.16"


def connect(here, **settings):
    """The block storage proxy of a connection that found nabu in the catalog."""
    return openstack.connect(
        load_yaml_config=False, load_envvars=False, region_name="here",
        auth={"auth_url": here.keystone, "username": "somebody", "password": "any",
              "user_domain_id": "default", "project_id": here.project}, **settings).block_storage


@cases("conn.block_storage", "finds nabu in the catalog, and its versions")
def _(here):
    found = connect(here).get_endpoint_data()
    same("version", found.api_version, (3, 0))
    same("microversions", [found.min_microversion, found.max_microversion], [(3, 0), (3, 71)])


@cases("conn.block_storage", "reads messages with the version that it is told to send")
def _(here):
    told = here.tell(action_id="001")
    answer = connect(here).get(f"/messages/{told['id']}", microversion="3.71")
    shown = answer.json()["message"]
    same("links", [link["rel"] for link in shown.pop("links")], ["self", "bookmark"])
    del told["links"]  # which have the project if the catalog has it
    same("shown", shown, told)


@cases("messages", "lists and deletes messages", LACKS)
def _(here):
    block_storage = connect(here, block_storage_default_microversion="3.71")
    told = [here.tell(action_id="001")["id"] for _ in range(3)]
    same("listed", [message.id for message in block_storage.messages(project_id=here.project, limit=2)], told[::-1])
    block_storage.delete_message(told[0])
    same("left", [message.id for message in block_storage.messages(project_id=here.project)], told[:0:-1])
    # It looks for "messages" where the API says "message", here as anywhere.
    same("shown", block_storage.get_message(told[1]).id, told[1])
