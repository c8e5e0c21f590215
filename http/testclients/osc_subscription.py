"""The commands "openstack messaging subscription ...". There is none to confirm one."""

from harness import NOBODY, Cases, has, same, within
from osc import NO_OLD_NAMES, column, fails, openstack, quiet, show

cases = Cases("openstackclient")

URI = "https://hooks.example.net/in?a=1&b=2"


def subscriptions(here, queue="builds"):
    """The subscriptions that nabu lists, asked without the client."""
    return here.call("GET", f"/queues/{queue}/subscriptions?limit=20")["subscriptions"]


@cases("messaging subscription create", "makes one and its queue; show and list show it")
def _(here):
    made = show(here, "messaging", "subscription", "create", "builds", URI, "600", "--options", '{"a": {"b": 1}}')
    same("made", made, {"ID": made["ID"], "Subscriber": URI, "TTL": 600, "Options": {"a": {"b": 1}}})
    same("queues", [queue["name"] for queue in here.call("GET", "/queues")["queues"]], ["builds"])
    got = show(here, "messaging", "subscription", "show", "builds", made["ID"])
    has("shown", got, **made, Confirmed=False)
    within("age", got["Age"], *here.ages())
    rows = show(here, "messaging", "subscription", "list", "builds")
    same("listed", len(rows), 1)
    has("in the list", rows[0], **made, Confirmed=False)
    within("age in the list", rows[0]["Age"], *here.ages())


@cases("messaging subscription create", "again shows the first one, until it is confirmed")
def _(here):
    create = lambda ttl: ("messaging", "subscription", "create", "builds", "http://fake", ttl)
    first = show(here, *create("600"))
    same("again", show(here, *create("700")), first)
    here.call("PUT", f"/queues/builds/subscriptions/{first['ID']}/confirm", {"confirmed": True})
    fails(here, "Code: 409", *create("700"))


@cases("messaging subscription create", "says what is wrong, and makes nothing")
def _(here):
    fails(here, "Code: 400. Title: ", "messaging", "subscription", "create", "builds", "fake", "600")
    fails(here, "Code: 400", "messaging", "subscription", "create", "builds", "http://fake", "59")
    same("subscriptions", subscriptions(here), [])


@cases("messaging subscription list", "takes limit and marker; by default it is ten")
def _(here):
    for n in range(12):
        here.call("POST", "/queues/builds/subscriptions", {"subscriber": f"http://fake/{n}"})
    rows = lambda *words: column(show(here, "messaging", "subscription", "list", "builds", *words), "Subscriber")
    same("by default", rows(), [f"http://fake/{n}" for n in range(10)])
    same("limit", rows("--limit", "2"), ["http://fake/0", "http://fake/1"])
    same("marker", rows("--marker", subscriptions(here)[9]["id"]), ["http://fake/10", "http://fake/11"])
    same("absent queue", show(here, "messaging", "subscription", "list", "absent"), [])
    fails(here, "Code: 400", "messaging", "subscription", "list", "builds", "--limit", "21")


@cases("messaging subscription update", "leaves what it does not name, but always sends options")
def _(here):
    made = here.call("POST", "/queues/builds/subscriptions",
                     {"subscriber": "http://fake", "ttl": 600, "options": {"a": 1}})["subscription_id"]
    update = lambda *words: openstack(here, "messaging", "subscription", "update", "builds", made, *words)
    kept = lambda: [subscriptions(here)[0][name] for name in ("subscriber", "ttl", "options")]
    update("--ttl", "700", "--options", '{"b": 2}')
    same("ttl and options", kept(), ["http://fake", 700, {"b": 2}])
    update("--subscriber", "mailto:ci@example.net")
    same("subscriber", kept(), ["mailto:ci@example.net", 700, {}])
    fails(here, "Code: 400", "messaging", "subscription", "update", "builds", made, "--ttl", "59")
    fails(here, "Code: 404", "messaging", "subscription", "update", "builds", NOBODY, "--ttl", "60")
    same("afterwards", kept(), ["mailto:ci@example.net", 700, {}])


@cases("messaging subscription update", "shows nothing of what it did, by itself")
def _(here):
    made = here.call("POST", "/queues/builds/subscriptions", {"subscriber": "http://fake"})["subscription_id"]
    same("shown", show(here, "messaging", "subscription", "update", "builds", made, "--ttl", "600"),
         {"ID": "", "Subscriber": "", "TTL": "", "Options": ""})


@cases("messaging subscription delete", "deletes one, and may be repeated")
def _(here):
    made = here.call("POST", "/queues/builds/subscriptions", {"subscriber": "http://fake"})["subscription_id"]
    for _ in range(2):
        quiet(here, "messaging", "subscription", "delete", "builds", made)
    same("left", subscriptions(here), [])
    fails(here, "Code: 404", "messaging", "subscription", "show", "builds", made)


@cases("messaging queue purge", "takes the subscriptions as well, or only them")
def _(here):
    for words in ([], ["--resource_types", "subscriptions"]):
        here.call("POST", "/queues/builds/subscriptions", {"subscriber": "http://fake"})
        quiet(here, "messaging", "queue", "purge", "builds", "--resource_types", "messages")
        same("after messages", len(subscriptions(here)), 1)
        quiet(here, "messaging", "queue", "purge", "builds", *words)
        same("after the purge", subscriptions(here), [])


@cases("subscription create", "and list, show, update, delete work by their old names", NO_OLD_NAMES)
def _(here):
    made = show(here, "subscription", "create", "builds", "http://fake", "600")
    same("listed", column(show(here, "subscription", "list", "builds"), "ID"), [made["ID"]])
    same("shown", show(here, "subscription", "show", "builds", made["ID"])["Subscriber"], "http://fake")
    openstack(here, "subscription", "update", "builds", made["ID"], "--ttl", "700")
    same("ttl", subscriptions(here)[0]["ttl"], 700)
    quiet(here, "subscription", "delete", "builds", made["ID"])
    same("left", subscriptions(here), [])
