"""openstacksdk's calls for subscriptions. It has none to change or to confirm one."""

from openstack.exceptions import BadRequestException, ConflictException, NotFoundException

from harness import NOBODY, Cases, refused, same, within
from sdk import connect, ids

cases = Cases("openstacksdk")


@cases("create_subscription", "keeps what it is given, and makes the queue")
def _(here):
    message = connect(here)
    made = message.create_subscription("builds", subscriber="https://hooks.example.net/in?a=1&b=2", ttl=600,
                                       options={"post_headers": {"X-Team": "ci"}})
    same("queues", [queue.name for queue in message.queues()], ["builds"])
    got = message.get_subscription("builds", made.subscription_id)
    same("id", got.id, made.subscription_id)
    same("source", got.source, "builds")
    same("subscriber", got.subscriber, "https://hooks.example.net/in?a=1&b=2")
    same("ttl", got.ttl, 600)
    within("age", got.age, *here.ages())
    same("options", got.options, {"post_headers": {"X-Team": "ci"}})


@cases("create_subscription", "without more than a subscriber: 3600 s, no options")
def _(here):
    message = connect(here)
    made = message.create_subscription("builds", subscriber="mailto:ci@example.net")
    got = message.get_subscription("builds", made.subscription_id)
    same("ttl", got.ttl, 3600)
    same("options", got.options, {})


@cases("create_subscription", "again gives the same, or a conflict once it is confirmed")
def _(here):
    message = connect(here)
    first = message.create_subscription("builds", subscriber="http://fake:8080", ttl=600)
    again = message.create_subscription("builds", subscriber="http://fake:8080", ttl=700)
    same("id", again.subscription_id, first.subscription_id)
    same("ttl", message.get_subscription("builds", first.subscription_id).ttl, 600)
    here.call("PUT", f"/queues/builds/subscriptions/{first.subscription_id}/confirm", {"confirmed": True})
    refused("a third time", ConflictException, message.create_subscription, "builds", subscriber="http://fake:8080")


@cases("create_subscription", "says what is wrong, and makes nothing")
def _(here):
    message = connect(here)
    for what, attributes in {
            "no subscriber": {}, "no URI": {"subscriber": "fake"}, "no scheme that is known": {"subscriber": "email://fake"},
            "a trust": {"subscriber": "trust+http://fake"}, "ttl 59": {"subscriber": "http://fake", "ttl": 59},
            "a bad policy": {"subscriber": "http://fake", "options": {"_retry_policy": {"minimum_delay": 25}}}}.items():
        refused(what, BadRequestException, message.create_subscription, "builds", **attributes)
    same("queues", list(message.queues()), [])


@cases("subscriptions", "walks all pages in the order of making, of one queue only")
def _(here):
    message = connect(here)
    made = [message.create_subscription("builds", subscriber=f"http://fake/{n}").subscription_id for n in range(23)]
    message.create_subscription("other", subscriber="http://fake/0")
    same("by default", ids(message.subscriptions("builds")), made)
    same("by seven", ids(message.subscriptions("builds", limit=7)), made)
    same("after the 20th", ids(message.subscriptions("builds", marker=made[19])), made[20:])
    same("of an absent queue", list(message.subscriptions("absent")), [])
    same("of another project", list(message.subscriptions("builds", project_id=here.project + "-other")), [])


@cases("get_subscription", "finds none by another queue or with another id")
def _(here):
    message = connect(here)
    made = message.create_subscription("builds", subscriber="http://fake").subscription_id
    refused("another queue", NotFoundException, message.get_subscription, "other", made)
    refused("another id", NotFoundException, message.get_subscription, "builds", NOBODY)


@cases("delete_subscription", "deletes one, and may be repeated")
def _(here):
    message = connect(here)
    made = message.create_subscription("builds", subscriber="http://fake").subscription_id
    kept = message.create_subscription("builds", subscriber="http://other").subscription_id
    message.delete_subscription("builds", made)
    same("left", ids(message.subscriptions("builds")), [kept])
    message.delete_subscription("builds", made)
    message.delete_subscription("builds", made, ignore_missing=False)  # never a 404


@cases("delete_queue", "leaves the subscriptions to it")
def _(here):
    message = connect(here)
    made = message.create_subscription("builds", subscriber="http://fake").subscription_id
    message.delete_queue("builds")
    same("left", ids(message.subscriptions("builds")), [made])
