"""python-zaqarclient's calls for subscriptions. It has none to confirm one."""

from zaqarclient.queues.v2 import core
from zaqarclient.transport.errors import ConflictError, MalformedRequest, ResourceNotFound

from harness import NOBODY, Cases, refused, same, within
from zaqar import ask, connect, connect_elsewhere, ids, names

cases = Cases("zaqarclient")


@cases("client.subscription", "makes one and its queue, and reads it back")
def _(here):
    client = connect(here)
    made = client.subscription("builds", subscriber="https://hooks.example.net/in?a=1&b=2", ttl=600,
                               options={"post_headers": {"X-Team": "ci"}})
    same("queues", names(client.queues()), ["builds"])
    same("subscriber", made.subscriber, "https://hooks.example.net/in?a=1&b=2")
    same("ttl", made.ttl, 600)
    within("age", made.age, *here.ages())
    same("options", made.options, {"post_headers": {"X-Team": "ci"}})
    same("confirmed", made.confirmed, False)
    got = client.subscription("builds", id=made.id)
    same("again", [got.subscriber, got.ttl, got.options], [made.subscriber, made.ttl, made.options])


@cases("client.subscription", "without a ttl asks for 60 s, by itself")
def _(here):
    same("ttl", connect(here).subscription("builds", subscriber="mailto:ci@example.net").ttl, 60)


@cases("client.subscription", "again gives the same, or a conflict once it is confirmed")
def _(here):
    client = connect(here)
    first = client.subscription("builds", subscriber="http://fake:8080", ttl=600)
    again = client.subscription("builds", subscriber="http://fake:8080", ttl=700)
    same("id", again.id, first.id)
    same("ttl", again.ttl, 600)
    here.call("PUT", f"/queues/builds/subscriptions/{first.id}/confirm", {"confirmed": True})
    refused("a third time", ConflictError, client.subscription, "builds", subscriber="http://fake:8080")
    same("confirmed", client.subscription("builds", id=first.id).confirmed, True)


@cases("client.subscription", "says what is wrong, and makes nothing")
def _(here):
    client = connect(here)
    for what, attributes in {
            "no URI": {"subscriber": "fake"}, "no scheme that is known": {"subscriber": "email://fake"},
            "ttl 59": {"subscriber": "http://fake", "ttl": 59}, "ttl null": {"subscriber": "http://fake", "ttl": None},
            "options null": {"subscriber": "http://fake", "options": None},
            "a bad policy": {"subscriber": "http://fake", "options": {"_retry_policy": []}}}.items():
        refused(what, MalformedRequest, client.subscription, "builds", **attributes)
    refused("no subscriber", MalformedRequest, ask, client, core.subscription_create, "builds", {})
    same("queues", names(client.queues()), [])


@cases("client.subscription", "finds none by another queue, project or id")
def _(here):
    client = connect(here)
    made = client.subscription("builds", subscriber="http://fake")
    refused("another queue", ResourceNotFound, client.subscription, "other", id=made.id)
    refused("another id", ResourceNotFound, client.subscription, "builds", id=NOBODY)
    refused("another project", ResourceNotFound, connect_elsewhere(here).subscription, "builds", id=made.id)


@cases("client.subscriptions", "lists one page of ten, with all that they are")
def _(here):
    client = connect(here)
    made = [client.subscription("builds", subscriber=f"http://fake/{n}", ttl=100 + n, options={"n": n}) for n in range(12)]
    listed = list(client.subscriptions("builds"))
    same("ids", ids(listed), ids(made)[:10])
    for n, its in enumerate(listed):
        same("its members", [its.queue_name, its.subscriber, its.ttl, its.options, its.confirmed],
             ["builds", f"http://fake/{n}", 100 + n, {"n": n}, False])
        within("age", its.age, *here.ages())
    same("limit and marker", ids(client.subscriptions("builds", limit=1, marker=made[4].id)), [made[5].id])
    same("detailed", ids(client.subscriptions("builds", detailed=False, limit=2)), ids(made)[:2])
    same("of an absent queue", list(client.subscriptions("absent")), [])
    refused("limit 21", MalformedRequest, client.subscriptions, "builds", limit=21)


@cases("client.subscriptions().stream", "follows the links to the last page")
def _(here):
    client = connect(here)
    made = [client.subscription("builds", subscriber=f"http://fake/{n}").id for n in range(23)]
    for limit in (1, 7, 20):
        same(f"by {limit}", ids(client.subscriptions("builds", limit=limit).stream()), made)


@cases("subscription.update", "changes what it names; a ttl begins anew")
def _(here):
    client = connect(here)
    made = client.subscription("builds", subscriber="http://fake", ttl=100, options={"a": 1})
    made.update({"subscriber": "mailto:ci@example.net", "ttl": 600})
    got = client.subscription("builds", id=made.id)
    same("first", [got.subscriber, got.ttl, got.options], ["mailto:ci@example.net", 600, {"a": 1}])
    made.update({"options": {}})
    got = client.subscription("builds", id=made.id)
    same("then", [got.subscriber, got.ttl, got.options], ["mailto:ci@example.net", 600, {}])


@cases("subscription.update", "says what is wrong, and changes nothing")
def _(here):
    client = connect(here)
    made = client.subscription("builds", subscriber="http://fake", ttl=100)
    client.subscription("builds", subscriber="http://other")
    refused("another's subscriber", ConflictError, made.update, {"subscriber": "http://other"})
    for what, data in {"nothing": {}, "unknown": {"colour": "red"}, "ttl 59": {"ttl": 59}, "no URI": {"subscriber": "fake"}}.items():
        refused(what, MalformedRequest, made.update, data)
    got = client.subscription("builds", id=made.id)
    same("afterwards", [got.subscriber, got.ttl], ["http://fake", 100])
    made.delete()
    refused("deleted", ResourceNotFound, made.update, {"ttl": 60})


@cases("subscription.delete", "deletes one, and may be repeated")
def _(here):
    client = connect(here)
    made = client.subscription("builds", subscriber="http://fake")
    kept = client.subscription("builds", subscriber="http://other")
    made.delete()
    made.delete()
    same("left", ids(client.subscriptions("builds")), [kept.id])


@cases("queue.purge", "takes the subscriptions as well, or only them")
def _(here):
    client = connect(here)
    queue = client.queue("builds", force_create=True)
    for purged in (None, ["subscriptions"]):
        client.subscription("builds", subscriber="http://fake")
        queue.purge(resource_types=["messages"])
        same("after messages", len(list(client.subscriptions("builds"))), 1)
        queue.purge(resource_types=purged)
        same(f"after {purged}", list(client.subscriptions("builds")), [])


@cases("queue.delete", "leaves the subscriptions to it")
def _(here):
    client = connect(here)
    made = client.subscription("builds", subscriber="http://fake")
    client.queue("builds").delete()
    same("left", ids(client.subscriptions("builds")), [made.id])
