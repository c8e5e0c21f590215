"""What the service clients of tempest find of nabu. They hold every answer against a schema of its
own. Its tests of these APIs make servers and volumes first, which nabu has not got."""

import uuid

from tempest.lib import auth, exceptions
from tempest.lib.services import compute as compute_clients
from tempest.lib.services import image as image_clients
from tempest.lib.services import volume as volume_clients
from tempest.lib.services.volume import base_client

from harness import NOBODY, Cases, refused, same, true

image, volume, compute = Cases("tempest"), Cases("tempest"), Cases("tempest")


def connect(here, client, service):
    """One of tempest's clients, which found nabu in the catalog."""
    credentials = auth.KeystoneV3Credentials(
        username="somebody", password="any", user_domain_name="Default",
        project_name=here.project, project_domain_name="Default")
    return client(auth.KeystoneV3AuthProvider(credentials, here.keystone), service, "here")


@image("VersionsClient", "lists the versions")
def _(here):
    its = connect(here, image_clients.v2.VersionsClient, "image")
    same("has 2.0", its.has_version("2.0"), True)
    same("has 1.0", its.has_version("1.0"), False)


@image("SchemasClient", "reads the schemas of tasks")
def _(here):
    its = connect(here, image_clients.v2.SchemasClient, "image")
    same("task", its.show_schema("task")["name"], "task")
    same("tasks", its.show_schema("tasks")["name"], "tasks")


@image("ImagesClient", "sees an image's tasks")
def _(here):
    picture = str(uuid.uuid4())
    task = here.call("POST", "/tasks", {"type": "api_image_import", "input": {
        "image_id": picture, "import_req": {"method": {"name": "copy-image"}, "all_stores": True}}})
    shown = connect(here, image_clients.v2.ImagesClient, "image").show_image_tasks(picture)
    same("tasks", [one["id"] for one in shown["tasks"]], [task["id"]])


@volume("VersionsClient", "lists and shows the versions")
def _(here):
    its = connect(here, volume_clients.v3.VersionsClient, "block-storage")
    listed = its.list_versions()["versions"]
    same("versions", [one["id"] for one in listed], ["v3.0"])
    same("shown", its.show_version("v3")["versions"][0]["id"], "v3.0")


@volume("MessagesClient", "lists, shows and deletes messages")
def _(here):
    its = connect(here, volume_clients.v3.MessagesClient, "block-storage")
    base_client.VOLUME_MICROVERSION = "3.3"
    told = [here.tell(action_id="001", resource_uuid=str(uuid.uuid4()))["id"] for _ in range(2)]
    same("listed", [one["id"] for one in its.list_messages()["messages"][:2]], told[::-1])  # then other projects'
    same("shown", its.show_message(told[0])["message"]["id"], told[0])
    its.delete_message(told[0])
    true("deleted", its.is_resource_deleted(told[0]))
    refused("nobody", exceptions.NotFound, its.delete_message, NOBODY)


@compute("VersionsClient", "lists the versions and follows their links")
def _(here):
    its = connect(here, compute_clients.VersionsClient, "compute")
    listed = its.list_versions()["versions"]
    same("first", listed[0]["id"], "v2.0")
    for version in listed:
        link, = (link for link in version["links"] if link["rel"] == "self")
        shown = its.get_version_by_url(link["href"])["version"]
        true(f"{shown['links']} has {link}", link in shown["links"])


@compute("ServerExternalEventsClient", "is told what became of an event")
def _(here):
    server = str(uuid.uuid4())
    its = connect(here, compute_clients.ServerExternalEventsClient, "compute")
    its.put(f"os-server-hosts/{server}", '{"server_host": {"host": "compute1"}}')
    event, = its.create_server_external_events([{"name": "network-changed", "server_uuid": server}])["events"]
    same("event", event, {"name": "network-changed", "server_uuid": server, "status": "completed", "code": 200})
