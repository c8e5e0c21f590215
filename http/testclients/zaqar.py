"""What python-zaqarclient (version 2 of the API) does with nabu. It glues every path that
nabu gives to its endpoint, and takes a claim's id out of a message's href."""

import importlib.util

from zaqarclient.queues import client as zaqarclient

from harness import Cases, has, same, within

cases = Cases("zaqarclient")
OLDER = importlib.util.find_spec("zaqarclient.queues.v1") is not None  # than 4.0


def connect(here, project=None):
    """A client without Keystone. Each has a Client-ID of its own and keeps it."""
    return zaqarclient.Client(here.endpoint, version=2, conf={
        "auth_opts": {"backend": "noauth", "options": {"os_project_id": project or here.project}}})


def connect_elsewhere(here):
    """A client in another project."""
    return connect(here, here.project + "-other")


def ask(client, function, *args, **kwargs):
    """Calls a function of the client's lower level."""
    request, transport = client._request_and_transport()
    return function(transport, request, *args, **kwargs)


def ids(messages):
    return [message.id for message in messages]


def bodies(messages):
    return [message.body for message in messages]


def names(queues):
    """The names in an answer of queues(), which is a list and a count."""
    return [queue.name for queue in queues[0]]


@cases("Client", "finds nabu in the catalog as messaging")
def _(here):
    client = zaqarclient.Client(version=2, conf={"auth_opts": {"backend": "keystone", "options": {
        "os_auth_url": here.keystone, "os_username": "somebody", "os_password": "any",
        "os_user_domain_id": "default", "os_project_id": here.project}}})
    queue = client.queue("builds", force_create=True)
    queue.post([{"body": 1}])
    same("queues", names(connect(here).queues()), ["builds"])
    same("messages", bodies(queue.messages(echo=True)), [1])


@cases("client.ping", "is true")
def _(here):
    same("ping", connect(here).ping(), True)


@cases("client.health", "tells how eight kinds of requests went")
def _(here):
    health = connect(here).health()
    same("storage", health["storage_reachable"], True)
    same("operations", sorted(health["operation_status"]), [
        "bulk_delete_messages", "claim_messages", "create_queue", "delete_claim", "delete_messages",
        "delete_queue", "list_messages", "post_messages"])
    for name, operation in health["operation_status"].items():
        has(name, operation, succeeded=True, ref=None)
        within(name + ": seconds", operation["seconds"], 0, 60)


@cases("client.homedoc", "tells where queues, messages, claims and subscriptions are")
def _(here):
    resources = connect(here).homedoc()["resources"]
    needed = ["claim", "delete_claim", "message_delete", "message_get", "messages", "messages_delete",
              "patch_claim", "ping", "post_claim", "post_messages", "queue", "queue_purge", "queue_stats",
              "queues", "subscription", "subscription_patch", "subscriptions_get", "subscriptions_post"]
    same("relations", [name for name in needed if "rel/" + name not in resources], [])
    same("message_delete", resources["rel/message_delete"]["href-template"],
         "/v2/queues/{queue_name}/messages/{message_id}{?claim_id}")
    same("queue_stats", resources["rel/queue_stats"]["href-template"], "/v2/queues/{queue_name}/stats")
