"""python-zaqarclient's signed URLs: who gets one needs no account."""

import json

from zaqarclient.queues import client as zaqarclient
from zaqarclient.queues.v2 import core
from zaqarclient.transport.errors import MalformedRequest, ResourceNotFound

from harness import Cases, has, refused, same
from zaqar import ask, bodies, connect

cases = Cases("zaqarclient")


def bear(here, url, **others):
    """A client that has nothing but a signed URL."""
    shown = {name: url[name] for name in ("expires", "methods", "paths", "signature")}
    return zaqarclient.Client(here.endpoint, version=2, conf={"auth_opts": {
        "backend": "signed-url", "options": {**shown, "os_project_id": url["project"], **others}}})


@cases("queue.signed_url", "allows to read messages for a day")
def _(here):
    queue = connect(here).queue("builds", force_create=True)
    url = queue.signed_url()
    same("members", sorted(url), ["expires", "methods", "paths", "project", "signature"])
    has("url", url, methods=["GET"], paths=["/v2/queues/builds/messages"], project=here.project)
    queue.post([{"body": 1}])
    theirs = bear(here, url).queue("builds")
    same("messages", bodies(theirs.messages()), [1])
    refused("posting", ResourceNotFound, theirs.post, [{"body": 2}])
    refused("claiming", ResourceNotFound, theirs.claim, ttl=300, grace=60)
    same("still there", bodies(queue.messages(echo=True)), [1])


@cases("queue.signed_url", "allows what is named, and single messages too")
def _(here):
    queue = connect(here).queue("builds", force_create=True)
    url = queue.signed_url(paths=["messages", "claims"], ttl_seconds=600, methods=["GET", "POST", "DELETE"])
    has("url", url, methods=["DELETE", "GET", "POST"],
        paths=["/v2/queues/builds/claims", "/v2/queues/builds/messages"])
    theirs = bear(here, url).queue("builds")
    theirs.post([{"body": "theirs"}])
    claimed = list(theirs.claim(ttl=300, grace=60))
    same("claimed", bodies(claimed), ["theirs"])
    for message in claimed:
        message.delete()
    same("left", bodies(queue.messages(echo=True, include_claimed=True)), [])
    refused("stats", ResourceNotFound, lambda: theirs.stats)
    refused("another queue", ResourceNotFound, bear(here, url).queue("other").post, [{"body": 1}])


@cases("queue.signed_url", "is worth nothing when anything in it is changed")
def _(here):
    queue = connect(here).queue("builds", force_create=True)
    url = queue.signed_url()
    for name, value in [("expires", "2099-01-01T00:00:00"), ("methods", ["DELETE", "GET"]),
                        ("paths", ["/v2/queues"]), ("signature", "0" * 64), ("os_project_id", "another")]:
        theirs = bear(here, url, **{name: value}).queue("builds")
        refused(name, ResourceNotFound, lambda: bodies(theirs.messages()))


@cases("queue.signed_url", "refuses other paths, the past, and a project")
def _(here):
    client = connect(here)
    queue = client.queue("builds", force_create=True)
    refused("paths", MalformedRequest, queue.signed_url, paths=["stats"])
    refused("the past", MalformedRequest, queue.signed_url, ttl_seconds=-1)
    refused("a project", MalformedRequest, ask, client, core.signed_url_create, "builds", project_id="x")


@cases("queue.signed_url", "can be taken back by itself, and with all others")
def _(here):
    queue = connect(here).queue("builds", force_create=True)
    one, other = queue.signed_url(ttl_seconds=600), queue.signed_url(ttl_seconds=700)
    look = lambda url: bodies(bear(here, url).queue("builds").messages())
    same("before", [look(one), look(other)], [[], []])
    here.call("POST", "/queues/builds/share/revoke", json.loads(json.dumps(one)))
    refused("the one", ResourceNotFound, look, one)
    same("the other", look(other), [])
    here.call("POST", "/queues/builds/share/revoke", {"all": True})
    refused("the other, after all", ResourceNotFound, look, other)
    same("a new one", look(queue.signed_url(ttl_seconds=700)), [])
