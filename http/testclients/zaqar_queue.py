"""python-zaqarclient's calls for queues."""

import datetime

from zaqarclient import errors
from zaqarclient.queues.v2 import core
from zaqarclient.transport.errors import ConflictError, MalformedRequest, ResourceNotFound

from harness import Cases, has, refused, same, within
from zaqar import OLDER, ask, bodies, connect, connect_elsewhere, names

cases = Cases("zaqarclient")

# What a queue shows that was told nothing.
DEFAULTS = {
    "_default_message_ttl": 3600, "_default_message_delay": 0, "_max_messages_post_size": 262144,
    "_dead_letter_queue": None, "_dead_letter_queue_messages_ttl": None, "_max_claim_count": None,
    "_enable_encrypt_messages": False}


def same_metadata(what, came, **others):
    """The metadata are the defaults but for these."""
    expected = {**DEFAULTS, **others}
    same(what, dict(sorted(came.items())), dict(sorted(expected.items())))


@cases("client.queue", "makes the queue only with force_create")
def _(here):
    client = connect(here)
    client.queue("builds")
    same("queues", names(client.queues()), [])
    queue = client.queue("builds", force_create=True)
    same("name", queue.name, "builds")
    client.queue("builds", force_create=True)
    same("queues", names(client.queues()), ["builds"])


@cases("client.queues", "lists one page of ten, with names and hrefs")
def _(here):
    client = connect(here)
    expected = [f"q-{n:02}" for n in range(12)]
    for name in expected:
        client.queue(name, force_create=True)
    queues, count = client.queues()
    listed = list(queues)
    same("names", [queue.name for queue in listed], expected[:10])
    same("hrefs", [queue.href for queue in listed], ["/v2/queues/" + name for name in expected[:10]])
    same("count", count, None)


@cases("client.queues", "takes limit, marker, detailed and with_count")
def _(here):
    client = connect(here)
    for name in ("a", "b", "c", "d"):
        here.make_queue(name, team=name)
    queues, count = client.queues(limit=2, marker="a", detailed=True, with_count=True)
    listed = list(queues)
    same("names", [queue.name for queue in listed], ["b", "c"])
    same("count", count, 4)
    for queue in listed:
        same_metadata("metadata of " + queue.name, queue.metadata(), team=queue.name)
    same("count of none", connect_elsewhere(here).queues(with_count=True)[1], 0)
    refused("limit 21", MalformedRequest, client.queues, limit=21)
    refused("limit 0", MalformedRequest, client.queues, limit=0)


@cases("client.queues().stream", "follows the links to the last page, filters kept")
def _(here):
    client = connect(here)
    expected = [f"q-{n:02}" for n in range(23)]
    for n, name in enumerate(expected):
        here.make_queue(name, colour="red, {or} blue" if n % 2 else "green", size=n % 3)
    for limit in (1, 7, 20):
        same(f"by {limit}", [queue.name for queue in client.queues(limit=limit)[0].stream()], expected)
    odd = client.queues(limit=3, colour="red, {or} blue")[0].stream()
    same("of one colour", [queue.name for queue in odd], expected[1::2])
    both = client.queues(limit=1, colour="green", size=0)[0].stream()
    same("of a colour and a size", [queue.name for queue in both], expected[::6])
    tens = client.queues(limit=2, name="-1")[0].stream()
    same("by a part of the name", [queue.name for queue in tens], expected[10:20])
    detailed = list(client.queues(limit=5, detailed=True)[0].stream())
    same("details on all pages", [queue.metadata()["size"] for queue in detailed], [n % 3 for n in range(23)])


@cases("client.queue", "refuses dots by itself, and trips over them in lists")
def _(here):
    client = connect(here)
    refused("queue", ValueError, client.queue, "a.b")
    ask(client, core.queue_create, "a.b")
    refused("list", ValueError, names, client.queues())
    same("stored", [queue["name"] for queue in here.call("GET", "/queues")["queues"]], ["a.b"])


@cases("queue.exists", "asks nabu, or is refused by an older client, whose lower level asks nabu")
def _(here):
    client = connect(here)
    if OLDER:
        refused("exists", errors.InvalidOperation, client.queue("builds").exists)
    else:
        same("exists", client.queue("builds", auto_create=False).exists(), False)
    same("absent", ask(client, core.queue_exists, "builds"), False)
    client.queue("builds", force_create=True)
    same("there", ask(client, core.queue_exists, "builds"), True)


@cases("queue.metadata", "shows the defaults, of an absent queue too")
def _(here):
    client = connect(here)
    same_metadata("absent", client.queue("absent").metadata())
    same("queues", names(client.queues()), [])
    ask(client, core.queue_create, "builds", metadata={"team": "ci", "_max_claim_count": 3})
    same_metadata("made", client.queue("builds").metadata(), team="ci", _max_claim_count=3)
    ask(client, core.queue_create, "builds", metadata={"team": "qa"})
    same_metadata("made again", client.queue("builds").metadata_dict, team="ci", _max_claim_count=3)


@cases("queue.metadata(new)", "adds, replaces, and removes what is not named")
def _(here):
    client = connect(here)
    queue = client.queue("builds", force_create=True)
    same_metadata("added", queue.metadata({"team": "ci", "tags": [1, {"a": None}]}),
                  team="ci", tags=[1, {"a": None}])
    same_metadata("replaced", queue.metadata({"team": "qa", "_default_message_ttl": 600}),
                  team="qa", _default_message_ttl=600)
    same_metadata("kept", client.queue("builds").metadata(), team="qa", _default_message_ttl=600)
    same_metadata("emptied", queue.metadata({}))
    same_metadata("reloaded", queue.metadata(force_reload=True))
    same_metadata("a key with / and ~", queue.metadata({"a~1b~0c": 1}), **{"a/b~c": 1})


@cases("queue.metadata(new)", "cannot set what shows null: the client removes it again")
def _(here):
    queue = connect(here).queue("builds", force_create=True)
    same_metadata("set", queue.metadata({"_max_claim_count": 3, "team": "ci"}), team="ci")
    same_metadata("stored", here.call("GET", "/queues/builds"), team="ci")


@cases("queue.metadata(new)", "refuses wrong values and absent queues, and changes nothing")
def _(here):
    client = connect(here)
    refused("absent", ResourceNotFound, client.queue("absent").metadata, {"a": 1})
    queue = client.queue("builds", force_create=True)
    queue.metadata({"team": "ci"})
    refused("ttl 59", MalformedRequest, queue.metadata, {"team": "qa", "_default_message_ttl": 59})
    same_metadata("after ttl 59", queue.metadata(force_reload=True), team="ci")
    change = lambda *operations: ask(client, core.queue_update, "builds", list(operations))
    replace = {"op": "replace", "path": "/metadata/team", "value": "qa"}
    refused("remove of what is not there", ConflictError, change, replace,
            {"op": "remove", "path": "/metadata/absent"})
    refused("replace of what is not there", ConflictError, change, replace,
            {"op": "replace", "path": "/metadata/absent", "value": 1})
    refused("another operation", MalformedRequest, change, replace, {"op": "test", "path": "/metadata/team"})
    same_metadata("at last", queue.metadata(force_reload=True), team="ci")


@cases("queue.delete", "takes metadata, messages and claims along, and may be repeated")
def _(here):
    client = connect(here)
    queue = client.queue("builds", force_create=True)
    queue.metadata({"team": "ci"})
    queue.post([{"body": 1}, {"body": 2}])
    claim = queue.claim(ttl=300, grace=60, limit=1)
    queue.delete()
    same("queues", names(client.queues()), [])
    same_metadata("metadata", queue.metadata(force_reload=True))
    same("messages", bodies(queue.messages(echo=True, include_claimed=True)), [])
    refused("claim", ResourceNotFound, lambda: queue.claim(id=claim.id).age)
    queue.delete()


@cases("queue.stats", "of an absent and of an empty queue are zeros")
def _(here):
    client = connect(here)
    zeros = {"messages": {"claimed": 0, "free": 0, "total": 0}}
    same("absent", client.queue("absent").stats, zeros)
    same("queues", names(client.queues()), [])
    same("empty", client.queue("empty", force_create=True).stats, zeros)


@cases("queue.stats", "counts free and claimed, and shows the oldest and the newest")
def _(here):
    client = connect(here)
    queue = client.queue("builds")
    posted = [path.rsplit("/", 1)[1] for path in queue.post([{"body": n} for n in range(7)])["resources"]]
    claim = queue.claim(ttl=300, grace=60, limit=2)
    stats = queue.stats["messages"]
    has("counts", stats, claimed=2, free=5, total=7)
    for which, message in [("oldest", posted[0]), ("newest", posted[6])]:
        same(which + ": members", sorted(stats[which]), ["age", "created", "href"])
        same(which + ": href", stats[which]["href"].split("?")[0], "/v2/queues/builds/messages/" + message)
        within(which + ": age", stats[which]["age"], *here.ages())
        created = datetime.datetime.strptime(stats[which]["created"], "%Y-%m-%dT%H:%M:%SZ")
        ago = (datetime.datetime.utcnow() - created).total_seconds()
        within(which + ": seconds since created", ago, 0, here.ages()[1] + 1)
    claim.delete()
    has("after the release", queue.stats["messages"], claimed=0, free=7, total=7)
    queue.delete_messages(posted[0], posted[6])
    stats = queue.stats["messages"]
    has("after a deletion", stats, claimed=0, free=5, total=5)
    same("oldest then", stats["oldest"]["href"], "/v2/queues/builds/messages/" + posted[1])
    same("newest then", stats["newest"]["href"], "/v2/queues/builds/messages/" + posted[5])


@cases("queue.stats", "counts what is delayed as free")
def _(here):
    here.make_queue("slow", _default_message_delay=60)
    here.post("slow", {"body": "late"}, {"body": "soon", "delay": 0})
    queue = connect(here).queue("slow")
    has("counts", queue.stats["messages"], claimed=0, free=2, total=2)
    queue.claim(ttl=300, grace=60)
    has("with a claim", queue.stats["messages"], claimed=1, free=1, total=2)


@cases("queue.purge", "takes free, claimed and delayed, and leaves metadata and claims")
def _(here):
    client = connect(here)
    ask(client, core.queue_create, "slow", metadata={"_default_message_delay": 60, "team": "ci"})
    queue = client.queue("slow")
    queue.post([{"body": "claimed", "delay": 0}, {"body": "late"}, {"body": "free", "delay": 0}])
    claim = queue.claim(ttl=300, grace=60, limit=1)
    same("claimed", bodies(claim), ["claimed"])
    queue.purge()
    same("stats", queue.stats, {"messages": {"claimed": 0, "free": 0, "total": 0}})
    same("messages", bodies(queue.messages(echo=True, include_claimed=True, include_delayed=True)), [])
    same_metadata("metadata", queue.metadata(force_reload=True), team="ci", _default_message_delay=60)
    same("the claim's messages", bodies(queue.claim(id=claim.id)), [])
    queue.post([{"body": "new", "delay": 0}])
    same("posted afterwards", bodies(queue.messages(echo=True)), ["new"])


@cases("queue.purge(resource_types)", "takes only what is named")
def _(here):
    client = connect(here)
    queue = client.queue("builds")
    queue.post([{"body": n} for n in range(3)])
    queue.purge(resource_types=["subscriptions"])
    same("after subscriptions", bodies(queue.messages(echo=True)), [0, 1, 2])
    for what, bad in [("another type", ["claims"]), ("a text", "messages")]:
        refused(what, MalformedRequest, queue.purge, resource_types=bad)
    same("after refusals", bodies(queue.messages(echo=True)), [0, 1, 2])
    queue.purge(resource_types=["messages"])
    same("after messages", bodies(queue.messages(echo=True)), [])
    queue.purge(resource_types=["messages", "subscriptions"])
    client.queue("absent").purge()
