"""python-zaqarclient's calls for messages."""

from zaqarclient.queues.v2 import core
from zaqarclient.transport.errors import MalformedRequest, ResourceNotFound

from harness import NOBODY, Cases, refused, same, true, within
from zaqar import OLDER, ask, bodies, connect, connect_elsewhere, ids, names

if OLDER:
    from zaqarclient.queues.v1.core import message_pop
else:
    from zaqarclient.queues.v2.core import message_pop

cases = Cases("zaqarclient")


@cases("queue.post", "takes one or several, makes the queue, and returns their paths")
def _(here):
    client = connect(here)
    queue = client.queue("builds")
    one = queue.post({"body": {"job": 17}, "ttl": 300})
    more = queue.post([{"body": "text"}, {"body": [1, None, {"ü": True}]}, {"body": None, "ttl": 60}])
    same("members", (list(one), list(more)), (["resources"], ["resources"]))
    messages = list(queue.messages(echo=True))
    same("paths", one["resources"] + more["resources"],
         ["/v2/queues/builds/messages/" + message.id for message in messages])
    same("bodies", bodies(messages), [{"job": 17}, "text", [1, None, {"ü": True}], None])
    same("ttls", [message.ttl for message in messages], [300, 3600, 3600, 60])
    same("hrefs", [message.href for message in messages], one["resources"] + more["resources"])
    for message in messages:
        within("age", message.age, *here.ages())
        same("claim", message.claim_id, None)
    same("queues", names(client.queues()), ["builds"])


@cases("queue.post", "refuses what is wrong in words, and posts nothing")
def _(here):
    client = connect(here)
    queue = client.queue("builds")
    for what, bad in [("ttl 59", {"body": 1, "ttl": 59}), ("ttl text", {"body": 1, "ttl": "60"}),
                      ("no body", {"ttl": 60}), ("too large", {"body": "x" * 262144})]:
        refusal = refused(what, MalformedRequest, queue.post, [{"body": 1}, bad])
        true(what + ": title and description", "Title: " in str(refusal) and "Description: " in str(refusal))
    refused("no message", MalformedRequest, queue.post, [])
    same("queues", names(client.queues()), [])


@cases("queue.messages", "lists one page, of ten or of the limit")
def _(here):
    queue = connect(here).queue("builds")
    queue.post([{"body": n} for n in range(25)])
    same("by default", bodies(queue.messages(echo=True)), list(range(10)))
    same("limit 20", bodies(queue.messages(echo=True, limit=20)), list(range(20)))
    fourth = list(queue.messages(echo=True))[3]
    same("marker", bodies(queue.messages(echo=True, limit=3, marker=fourth.id)), [4, 5, 6])
    for limit in (0, 21):
        refused(f"limit {limit}", MalformedRequest, queue.messages, limit=limit)


@cases("queue.messages().stream", "follows the links to the last page")
def _(here):
    client = connect(here)
    queue = client.queue("builds")
    for begin in range(0, 45, 15):
        queue.post([{"body": n} for n in range(begin, begin + 15)])
    for limit in (1, 10, 20):
        same(f"by {limit}", bodies(queue.messages(echo=True, limit=limit).stream()), list(range(45)))
    same("without echo", bodies(queue.messages(limit=20).stream()), [])
    same("to another", bodies(connect(here).queue("builds").messages(limit=7).stream()), list(range(45)))
    queue.claim(ttl=300, grace=60, limit=12)
    same("free", bodies(queue.messages(echo=True, limit=4).stream()), list(range(12, 45)))
    same("claimed too", bodies(queue.messages(echo=True, limit=4, include_claimed=True).stream()),
         list(range(45)))


@cases("client.follow", "of the last page's next link finds what is posted later")
def _(here):
    client = connect(here)
    queue = client.queue("builds")
    queue.post([{"body": 1}, {"body": 2}])
    page = ask(client, core.message_list, "builds", echo=True)
    link, = page["links"]
    same("relation", link["rel"], "next")
    same("first", client.follow(link["href"]), {"messages": [], "links": []})
    queue.post([{"body": 3}])
    page = client.follow(link["href"])
    same("then", [message["body"] for message in page["messages"]], [3])
    same("members", sorted(page["messages"][0]), ["age", "body", "href", "id", "ttl"])


@cases("queue.messages", "hides a client's own, unless it asks for the echo")
def _(here):
    mine, other = connect(here).queue("builds"), connect(here).queue("builds")
    mine.post([{"body": "mine"}])
    other.post([{"body": "other's"}])
    same("mine", bodies(mine.messages()), ["other's"])
    same("other's", bodies(other.messages()), ["mine"])
    same("with echo", bodies(mine.messages(echo=True)), ["mine", "other's"])
    same("in another project", bodies(connect_elsewhere(here).queue("builds").messages(echo=True)), [])


@cases("queue.messages", "hides what is delayed, unless it is asked for")
def _(here):
    here.make_queue("slow", _default_message_delay=60)
    queue = connect(here).queue("slow")
    queue.post([{"body": "late"}, {"body": "soon", "delay": 0}, {"body": "later", "delay": 900}])
    same("listed", bodies(queue.messages(echo=True)), ["soon"])
    everything = list(queue.messages(echo=True, include_delayed=True))
    same("all", bodies(everything), ["late", "soon", "later"])
    same("by ids", bodies(queue.messages(*ids(everything))), ["late", "soon", "later"])
    same("one", queue.message(everything[0].id).body, "late")
    refused("delay 901", MalformedRequest, queue.post, [{"body": 1, "delay": 901}])


@cases("queue.messages(ids)", "shows those that are there, in the queue's order")
def _(here):
    queue = connect(here).queue("builds")
    queue.post([{"body": n} for n in range(22)])
    posted = ids(queue.messages(echo=True, limit=20).stream())
    claim = queue.claim(ttl=300, grace=60, limit=1)
    same("bodies", bodies(queue.messages(posted[3], posted[0], posted[2])), [0, 2, 3])
    same("claims", [message.claim_id for message in queue.messages(posted[0], posted[1])], [claim.id, None])
    same("missing ones", bodies(queue.messages(NOBODY, posted[1], "nonsense")), [1])
    refused("none", ResourceNotFound, queue.messages, NOBODY)
    same("twenty", bodies(queue.messages(*posted[:20])), list(range(20)))
    refused("twenty-one", MalformedRequest, queue.messages, *posted[:21])


@cases("queue.message", "shows one message, or says that it is absent")
def _(here):
    client = connect(here)
    queue = client.queue("builds")
    queue.post([{"body": {"n": n}, "ttl": 60 + n} for n in range(3)])
    second = list(queue.messages(echo=True))[1]
    message = queue.message(second.id)
    same("message", (message.id, message.body, message.ttl, message.claim_id), (second.id, {"n": 1}, 61, None))
    within("age", message.age, *here.ages())
    refused("another queue", ResourceNotFound, client.queue("others").message, second.id)
    refused("another project", ResourceNotFound, connect_elsewhere(here).queue("builds").message, second.id)
    refused("nobody", ResourceNotFound, queue.message, NOBODY)


@cases("message.delete", "takes away that one, and may be repeated")
def _(here):
    queue = connect(here).queue("builds")
    queue.post([{"body": n} for n in range(3)])
    second = list(queue.messages(echo=True))[1]
    second.delete()
    same("left", bodies(queue.messages(echo=True)), [0, 2])
    second.delete()
    same("left after that", bodies(queue.messages(echo=True)), [0, 2])


@cases("queue.delete_messages", "takes away those named, claimed or not")
def _(here):
    queue = connect(here).queue("builds")
    queue.post([{"body": n} for n in range(25)])
    posted = ids(queue.messages(echo=True, limit=20).stream())
    queue.claim(ttl=300, grace=60, limit=2)
    queue.delete_messages(posted[0], posted[2], NOBODY, "nonsense")
    left = lambda: bodies(queue.messages(echo=True, include_claimed=True, limit=20).stream())
    same("left", left(), [1] + list(range(3, 25)))
    queue.delete_messages(posted[0], NOBODY)
    refused("no ids", MalformedRequest, queue.delete_messages)
    refused("twenty-one", MalformedRequest, queue.delete_messages, *posted[4:])
    same("left after refusals", left(), [1] + list(range(3, 25)))
    queue.delete_messages(*posted[:20])
    same("left at last", left(), list(range(20, 25)))


@cases("queue.pop", "takes the oldest away and shows them")
def _(here):
    client = connect(here)
    queue = client.queue("builds")
    queue.post([{"body": {"n": n}, "ttl": 60 + n} for n in range(25)])
    posted = ids(queue.messages(echo=True, limit=20).stream())
    first, = queue.pop()
    same("first", (first.id, first.body, first.ttl, first.claim_count), (posted[0], {"n": 0}, 60, 0))
    within("age", first.age, *here.ages())
    more = list(queue.pop(20))
    same("more", [(message.id, message.body) for message in more],
         [(posted[n], {"n": n}) for n in range(1, 21)])
    same("left", ids(queue.messages(echo=True)), posted[21:])
    refused("popped", ResourceNotFound, queue.message, posted[0])
    page = ask(client, message_pop, "builds", count=1)
    same("members of the answer", list(page), ["messages"])
    same("members of a message", sorted(page["messages"][0]),
         ["age", "body", "claim_count", "claim_id", "id", "ttl"])
    same("claim", page["messages"][0]["claim_id"], None)
    same("the rest", bodies(queue.pop(20)), [{"n": n} for n in range(22, 25)])
    same("nothing", bodies(queue.pop(20)), [])


@cases("queue.pop", "gives messages without href, which the client cannot delete")
def _(here):
    queue = connect(here).queue("builds")
    queue.post([{"body": 1}])
    message, = queue.pop()
    same("href", message.href, None)
    refused("delete", TypeError, message.delete)


@cases("queue.pop", "leaves what is claimed or delayed, and makes no queue")
def _(here):
    client = connect(here)
    here.make_queue("slow", _default_message_delay=60)
    queue = client.queue("slow")
    queue.post([{"body": "claimed", "delay": 0}, {"body": "late"}, {"body": "free", "delay": 0}])
    claim = queue.claim(ttl=300, grace=60, limit=1)
    same("popped", bodies(queue.pop(10)), ["free"])
    same("left", bodies(queue.messages(echo=True, include_claimed=True, include_delayed=True)),
         ["claimed", "late"])
    claim.delete()
    same("released", bodies(queue.pop(10)), ["claimed"])
    same("absent", bodies(client.queue("absent").pop()), [])
    same("queues", names(client.queues()), ["slow"])


@cases("queue.pop", "is no claim: counts none, and sends nothing to the dead letters")
def _(here):
    here.make_queue("builds", _max_claim_count=1, _dead_letter_queue="dead")
    client = connect(here)
    queue = client.queue("builds")
    queue.post([{"body": 1}])
    queue.claim(ttl=300, grace=60).delete()
    message, = queue.pop()
    same("message", (message.body, message.claim_count), (1, 1))
    same("dead letters", bodies(client.queue("dead").messages(echo=True)), [])


@cases("queue.pop", "refuses 0 and 21, and takes nothing")
def _(here):
    queue = connect(here).queue("builds")
    queue.post([{"body": 1}])
    for count in (0, 21, -1, "x"):
        refused(f"pop {count}", MalformedRequest, queue.pop, count)
    same("left", bodies(queue.messages(echo=True)), [1])
