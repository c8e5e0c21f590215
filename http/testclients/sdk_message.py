"""openstacksdk's calls for messages."""

from openstack.exceptions import ResourceNotFound
from openstack.message.v2 import message as sdk_message

from harness import NOBODY, Cases, refused, same, within
from sdk import connect, ids

cases = Cases("openstacksdk")


@cases("post_message", "makes the queue, and returns a path for each message")
def _(here):
    message = connect(here)
    paths = message.post_message("builds", [{"body": {"n": n}, "ttl": 300} for n in range(3)])
    posted = list(message.messages("builds"))
    same("bodies", [one.body for one in posted], [{"n": 0}, {"n": 1}, {"n": 2}])
    same("paths", paths, [f"/v2/queues/builds/messages/{one.id}" for one in posted])
    same("hrefs", [one.href for one in posted], paths)
    same("queues", [queue.name for queue in message.queues()], ["builds"])


@cases("post_message", "brings back any JSON as it was sent")
def _(here):
    message = connect(here)
    bodies = [{"z": 1, "a": {"ü": [None, True, 0.5]}}, [1, "2", []], "", "text\u0000\U0001f980", 0, False, None,
              2 ** 63 - 1, -2 ** 63]
    message.post_message("builds", [{"body": body} for body in bodies])
    same("bodies", [one.body for one in message.messages("builds")], bodies)


@cases("post_message", "without a ttl takes the queue's, and 3600 if it has none")
def _(here):
    message = connect(here)
    message.create_queue(name="builds", default_message_ttl=120)
    for queue in ("builds", "others"):
        message.post_message(queue, [{"body": 1}, {"body": 2, "ttl": 60}])
    same("builds", [one.ttl for one in message.messages("builds")], [120, 60])
    same("others", [one.ttl for one in message.messages("others")], [3600, 60])


@cases("post_message", "refuses all of a post for one bad message (the client says KeyError)")
def _(here):
    message = connect(here)
    refuse = lambda what, queue, *messages: same(
        what, refused(what, KeyError, message.post_message, queue, list(messages)).args, ("resources",))
    for what, bad in [("ttl 59", {"body": 1, "ttl": 59}), ("ttl above", {"body": 1, "ttl": 1209601}),
                      ("ttl null", {"body": 1, "ttl": None}), ("no body", {"ttl": 60}), ("no object", 5)]:
        refuse(what, "builds", {"body": 1}, bad)
    refuse("no message", "builds")
    message.create_queue(name="small", max_messages_post_size=100)
    refuse("too large", "small", {"body": "x" * 100})
    same("queues", [queue.name for queue in message.queues()], ["small"])
    same("messages", list(message.messages("builds")), [])


@cases("messages", "walks all pages, oldest first, with ids, hrefs, ttls and ages")
def _(here):
    message = connect(here)
    for begin in range(0, 45, 15):
        message.post_message("builds", [{"body": n, "ttl": 100 + n} for n in range(begin, begin + 15)])
    for what, query in [("by default", {}), ("by seven", {"limit": 7}), ("by one", {"limit": 1}),
                        ("by twenty", {"limit": 20}), ("with echo", {"echo": True})]:
        walked = list(message.messages("builds", **query))
        same(what + ": bodies", [one.body for one in walked], list(range(45)))
        same(what + ": ttls", [one.ttl for one in walked], list(range(100, 145)))
        for one in walked:
            same("href", one.href, f"/v2/queues/builds/messages/{one.id}")
            within("age", one.age, *here.ages())
            same("age's type", type(one.age), int)
    same("after the 40th", [one.body for one in message.messages("builds", marker=walked[39].id)],
         list(range(40, 45)))


@cases("messages", "walks on when what it has seen is deleted")
def _(here):
    message = connect(here)
    message.post_message("builds", [{"body": n} for n in range(25)])
    seen = []
    for one in message.messages("builds", limit=5):
        message.delete_message("builds", one.id)
        seen.append(one.body)
    same("bodies", seen, list(range(25)))
    same("left", list(message.messages("builds")), [])


@cases("messages", "hides a client's own, unless it asks for the echo")
def _(here):
    message = connect(here)
    mine = "9b2f5a5e-03d1-4c55-8f0e-2f6a7c0e11d4"
    sdk_message.Message.new(queue_name="builds", client_id=mine).post(message, [{"body": "mine"}])
    message.post_message("builds", [{"body": "another's"}])
    bodies = lambda **query: [one.body for one in message.messages("builds", **query)]
    same("own hidden", bodies(client_id=mine), ["another's"])
    same("the same id, written otherwise", bodies(client_id=mine.replace("-", "").upper()), ["another's"])
    same("own shown", bodies(client_id=mine, echo=True), ["mine", "another's"])
    same("to others", bodies(), ["mine", "another's"])


@cases("messages", "of an absent queue and of another project are none")
def _(here):
    message = connect(here)
    same("absent", list(message.messages("absent")), [])
    message.post_message("builds", [{"body": 1}])
    same("another project's", list(message.messages("builds", project_id=here.project + "-other")), [])


@cases("messages", "refuses more than twenty on a page (the client says KeyError)")
def _(here):
    message = connect(here)
    message.post_message("builds", [{"body": 1}])
    same("limit 21", refused("limit 21", KeyError, list, message.messages("builds", limit=21)).args,
         ("messages",))


@cases("get_message", "shows one message, or says that it is absent")
def _(here):
    message = connect(here)
    message.post_message("builds", [{"body": {"n": n}, "ttl": 60 + n} for n in range(3)])
    second = list(message.messages("builds"))[1]
    for what, given in [("by its id", second.id), ("by the message", second)]:
        one = message.get_message("builds", given)
        same(what + ": id", one.id, second.id)
        same(what + ": body", one.body, {"n": 1})
        same(what + ": ttl", one.ttl, 61)
        same(what + ": href", one.href, f"/v2/queues/builds/messages/{second.id}")
        within(what + ": age", one.age, *here.ages())
    refused("from another queue", ResourceNotFound, message.get_message, "others", second.id)
    refused("an id of nobody", ResourceNotFound, message.get_message, "builds",
            NOBODY)
    refused("no id at all", ResourceNotFound, message.get_message, "builds", "nonsense")


@cases("delete_message", "takes away that one, and may be repeated")
def _(here):
    message = connect(here)
    message.post_message("builds", [{"body": n} for n in range(3)])
    first, second, third = list(message.messages("builds"))
    message.delete_message("builds", second)
    same("left", ids(message.messages("builds")), [first.id, third.id])
    refused("deleted", ResourceNotFound, message.get_message, "builds", second.id)
    message.delete_message("builds", second.id)
    message.delete_message("builds", second.id, ignore_missing=False)  # never a 404
    message.delete_message("others", first.id)
    message.delete_message("builds", "nonsense")
    same("left after that", ids(message.messages("builds")), [first.id, third.id])


@cases("messages", "hides what is delayed; get_message shows it")
def _(here):
    message = connect(here)
    here.make_queue("slow", _default_message_delay=60)
    late, soon = here.post("slow", {"body": "late"}, {"body": "soon", "delay": 0})
    same("listed", ids(message.messages("slow")), [soon])
    same("by its id", message.get_message("slow", late).body, "late")
    message.delete_message("slow", late)
    refused("deleted", ResourceNotFound, message.get_message, "slow", late)


@cases("post_message", "with a delay delays nothing in a queue that does not")
def _(here):
    message = connect(here)
    message.post_message("builds", [{"body": 1, "delay": 300}, {"body": 2, "delay": "nonsense"}])
    same("listed", [one.body for one in message.messages("builds")], [1, 2])
