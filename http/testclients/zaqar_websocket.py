"""python-zaqarclient's WebSocket transport: what its user asks for is an action and a
body, on one connection."""

import contextlib
import json
import uuid

from zaqarclient import transport
from zaqarclient.transport import request
from zaqarclient.transport.errors import ConflictError, ForbiddenError, MalformedRequest, ResourceNotFound

from harness import Cases, has, refused, same, within

cases = Cases("zaqarclient ws")


class Connection:
    """A connection of the client's, and what it answers."""

    def __init__(self, url, ws):
        self.url, self.ws = url, ws

    def ask(self, action, **body):
        return self.response(action, body).deserialized_content

    def status(self, action, **body):
        return self.response(action, body).status_code

    def response(self, action, body, **headers):
        return self.ws.send(request.Request(self.url, action, content=json.dumps(body), headers=headers))


@contextlib.contextmanager
def connected(here, path="/v2", project=None):
    url = here.endpoint.replace("http", "ws", 1) + path
    options = {"auth_opts": {"backend": "noauth", "options": {
        "os_auth_token": "any", "os_project_id": project or here.project}}}
    with transport.get_transport_for(url, version=2, options=options) as ws:
        yield Connection(url, ws)


def bodies(messages):
    return [message["body"] for message in messages]


@cases("queue_create, queue_list", "makes queues and shows them")
def _(here):
    with connected(here) as c:
        same("nothing", c.ask("queue_list"), {"queues": []})
        same("created", c.status("queue_create", queue_name="builds", metadata={"team": "ci", "n": 1.5}), 201)
        same("again", c.status("queue_create", queue_name="builds"), 204)
        c.ask("queue_create", queue_name="other")
        same("get", c.ask("queue_get", queue_name="builds"), {"team": "ci", "n": 1.5})
        same("absent", c.ask("queue_get", queue_name="none"), {})
        same("list", c.ask("queue_list"), {"queues": [{"name": "builds"}, {"name": "other"}]})
        same("page", c.ask("queue_list", marker="builds", limit=1, detailed=True),
             {"queues": [{"name": "other", "metadata": {}}]})
        refused("name", MalformedRequest, c.ask, "queue_create", queue_name="a b")
        refused("limit", MalformedRequest, c.ask, "queue_list", limit=21)


@cases("queue_get_stats and others", "counts, empties and removes")
def _(here):
    with connected(here, "/v2/") as c:
        refused("absent", ResourceNotFound, c.ask, "queue_get_stats", queue_name="builds")
        ids = c.ask("message_post", queue_name="builds", messages=[{"body": 1}, {"body": 2}])["message_ids"]
        stats = c.ask("queue_get_stats", queue_name="builds")["messages"]
        has("stats", stats, free=2, claimed=0, total=2)
        same("oldest", stats["oldest"]["id"], ids[0])
        same("purge", c.status("queue_purge", queue_name="builds", resource_types=["messages"]), 204)
        same("empty", c.ask("queue_get_stats", queue_name="builds"), {"messages": {"claimed": 0, "free": 0, "total": 0}})
        same("delete", c.status("queue_delete", queue_name="builds"), 204)
        same("list", c.ask("queue_list"), {"queues": []})


@cases("message_post, message_get", "brings messages and shows them")
def _(here):
    with connected(here, "/ws") as c:
        same("none", c.ask("message_list", queue_name="builds"), {"messages": []})
        answer = c.response("message_post", {"queue_name": "builds", "messages": [
            {"body": {"ü": [1, 2.5, None]}, "ttl": 300}, {"body": "text"}, {"body": 3}]})
        same("status", answer.status_code, 201)
        ids = answer.deserialized_content["message_ids"]
        same("own", c.ask("message_list", queue_name="builds"), {"messages": []})
        messages = c.ask("message_list", queue_name="builds", echo=True)["messages"]
        same("ids", [m["id"] for m in messages], ids)
        same("bodies", bodies(messages), [{"ü": [1, 2.5, None]}, "text", 3])
        same("members", sorted(messages[0]), ["age", "body", "claim_id", "id", "ttl"])
        has("first", messages[0], ttl=300, claim_id=None)
        within("age", messages[0]["age"], *here.ages())
        same("page", bodies(c.ask("message_list", queue_name="builds", echo=True, limit=1, marker=ids[0])["messages"]), ["text"])
        same("one", c.ask("message_get", queue_name="builds", message_id=ids[1])["messages"]["body"], "text")
        same("many", bodies(c.ask("message_get_many", queue_name="builds", message_ids=[ids[2], ids[0]])["messages"]),
             [{"ü": [1, 2.5, None]}, 3])
        refused("absent", ResourceNotFound, c.ask, "message_get", queue_name="builds", message_id=str(uuid.uuid4()))
        refused("ttl", MalformedRequest, c.ask, "message_post", queue_name="builds", messages=[{"body": 1, "ttl": 5}])


@cases("message_delete and _many", "deletes by id, by ids and by pop")
def _(here):
    with connected(here) as c:
        ids = c.ask("message_post", queue_name="builds", messages=[{"body": n} for n in range(5)])["message_ids"]
        same("one", c.status("message_delete", queue_name="builds", message_id=ids[0]), 204)
        same("many", c.status("message_delete_many", queue_name="builds", message_ids=ids[1:3]), 204)
        same("pop", bodies(c.ask("message_delete_many", queue_name="builds", pop=1)["messages"]), [3])
        same("left", bodies(c.ask("message_list", queue_name="builds", echo=True)["messages"]), [4])
        refused("neither", MalformedRequest, c.ask, "message_delete_many", queue_name="builds")


@cases("claim_create and others", "holds messages and lets them go")
def _(here):
    with connected(here) as c:
        same("nothing", c.status("claim_create", queue_name="builds"), 204)
        ids = c.ask("message_post", queue_name="builds", messages=[{"body": 1}, {"body": 2}])["message_ids"]
        answer = c.response("claim_create", {"queue_name": "builds", "ttl": 100, "grace": 60, "limit": 1})
        same("status", answer.status_code, 201)
        claim = answer.deserialized_content
        same("claimed", [(m["id"], m["claim_id"]) for m in claim["messages"]], [(ids[0], claim["claim_id"])])
        named = {"queue_name": "builds", "claim_id": claim["claim_id"]}
        same("get", c.ask("claim_get", **named)["ttl"], 100)
        same("update", c.status("claim_update", ttl=200, **named), 204)
        same("updated", c.ask("claim_get", **named)["ttl"], 200)
        refused("without the claim", ForbiddenError, c.ask, "message_delete", queue_name="builds", message_id=ids[0])
        same("with it", c.status("message_delete", message_id=ids[0], **named), 204)
        same("delete", c.status("claim_delete", **named), 204)
        refused("gone", ResourceNotFound, c.ask, "claim_get", **named)


@cases("subscription_create", "subscribes others")
def _(here):
    with connected(here) as c:
        made = c.ask("subscription_create", queue_name="builds", subscriber="http://127.0.0.1:9/", ttl=300, options={"a": 1})
        named = {"queue_name": "builds", "subscription_id": made["subscription_id"]}
        item = c.ask("subscription_get", **named)
        has("item", item, source="builds", subscriber="http://127.0.0.1:9/", ttl=300, options={"a": 1}, confirmed=False)
        same("list", [s["id"] for s in c.ask("subscription_list", queue_name="builds")["subscriptions"]], [item["id"]])
        here.call("PUT", f"/queues/builds/subscriptions/{item['id']}/confirm", {"confirmed": True})
        refused("again", ConflictError, c.ask, "subscription_create", queue_name="builds", subscriber="http://127.0.0.1:9/")
        refused("address", MalformedRequest, c.ask, "subscription_create", queue_name="builds", subscriber="fake")
        same("delete", c.status("subscription_delete", **named), 204)
        refused("gone", ResourceNotFound, c.ask, "subscription_get", **named)


@cases("subscription_create, recv", "gets what is posted as long as it is subscribed")
def _(here):
    with connected(here) as c:
        made = c.ask("subscription_create", queue_name="builds", ttl=300)
        here.post("builds", {"body": {"job": 17}, "ttl": 300}, {"body": "text"})
        same("first", c.ws.recv(), {"body": {"job": 17}, "ttl": 300, "queue_name": "builds", "Message_Type": "Notification"})
        same("second", c.ws.recv()["body"], "text")
        c.ask("subscription_delete", queue_name="builds", subscription_id=made["subscription_id"])
        here.post("builds", {"body": "unheard"})
        same("messages", bodies(c.ask("message_list", queue_name="builds")["messages"]), [{"job": 17}, "text", "unheard"])


@cases("send", "stays in the project that it has authenticated for")
def _(here):
    with connected(here) as c, connected(here, project=here.project + "-other") as other:
        c.ask("queue_create", queue_name="builds")
        same("theirs", other.ask("queue_list"), {"queues": []})
        c.ws._project_id = here.project + "-other"
        refused("another project", ForbiddenError, c.ask, "queue_list")


@cases("send", "says what is wrong in words")
def _(here):
    with connected(here) as c:
        for action, body in [("no_such_action", {}), ("queue_get", {}), ("message_post", {"queue_name": "builds", "messages": {}})]:
            refusal = refused(action, MalformedRequest, c.ask, action, **body)
            assert "Description: " in str(refusal) and "None" not in str(refusal), str(refusal)


@cases("send", "is not repeated its token")
def _(here):
    with connected(here) as c:
        c.ask("queue_list")
        c.ws._ws.send(json.dumps({"action": "queue_list", "body": {}, "headers": {
            "Client-ID": str(uuid.uuid4()), "X-Project-ID": here.project, "X-Auth-Token": "secret"}}))
        same("token", c.ws.recv()["request"]["headers"]["X-Auth-Token"], "***")
