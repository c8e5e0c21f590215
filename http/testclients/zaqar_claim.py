"""python-zaqarclient's calls for claims."""

import concurrent.futures

from zaqarclient.queues.v2 import core
from zaqarclient.transport.errors import ForbiddenError, MalformedRequest, ResourceNotFound

from harness import NOBODY, Cases, refused, same, within
from zaqar import ask, bodies, connect, connect_elsewhere, ids, names

cases = Cases("zaqarclient")


@cases("queue.claim", "hands out the oldest, no more than asked for, and hides them")
def _(here):
    queue = connect(here).queue("builds")
    queue.post([{"body": {"n": n}, "ttl": 3600} for n in range(5)])
    posted = ids(queue.messages(echo=True))
    claim = queue.claim(ttl=300, grace=60, limit=2)
    claimed = list(claim)
    same("claimed", [(message.id, message.body, message.ttl) for message in claimed],
         [(posted[0], {"n": 0}, 3600), (posted[1], {"n": 1}, 3600)])
    for message in claimed:
        same("href", message.href, f"/v2/queues/builds/messages/{message.id}?claim_id={claim.id}")
        same("claim", message.claim_id, claim.id)
        within("age", message.age, *here.ages())
    same("free", ids(queue.messages(echo=True)), posted[2:])
    same("all", [message.claim_id for message in queue.messages(echo=True, include_claimed=True)],
         [claim.id, claim.id, None, None, None])
    same("one", queue.message(posted[0]).claim_id, claim.id)


@cases("queue.claim", "without arguments (ttl and grace null): ten messages, 300 s, grace 60 s")
def _(here):
    queue = connect(here).queue("builds")
    queue.post([{"body": n, "ttl": 60} for n in range(15)])
    claim = queue.claim()
    same("ttls of the messages", [message.ttl for message in claim], [360] * 10)
    same("ttl", queue.claim(id=claim.id).ttl, 300)


@cases("queue.claim", "with nothing to hand out is no claim")
def _(here):
    client = connect(here)
    nothing = lambda name: client.queue(name).claim(ttl=300, grace=60)
    same("absent queue", (nothing("absent").id, list(nothing("absent"))), (None, []))
    same("queues", names(client.queues()), [])
    client.queue("empty", force_create=True)
    same("empty queue", (nothing("empty").id, list(nothing("empty"))), (None, []))
    client.queue("builds").post([{"body": 1}])
    same("first", bodies(nothing("builds")), [1])
    same("all claimed", (nothing("builds").id, list(nothing("builds"))), (None, []))


@cases("queue.claim", "by many at once hands out each message once")
def _(here):
    connect(here).queue("builds").post([{"body": n} for n in range(40)])
    queues = [connect(here).queue("builds") for _ in range(8)]
    with concurrent.futures.ThreadPoolExecutor(len(queues)) as pool:
        claims = list(pool.map(lambda queue: bodies(queue.claim(ttl=300, grace=60, limit=5)), queues))
    same("claimed", sorted(body for claim in claims for body in claim), list(range(40)))
    same("sizes", [len(claim) for claim in claims], [5] * 8)


@cases("queue.claim", "lengthens only what would expire before the claim")
def _(here):
    queue = connect(here).queue("builds")
    queue.post([{"body": 1, "ttl": 60}, {"body": 2, "ttl": 330}, {"body": 3, "ttl": 3600}])
    claim = queue.claim(ttl=300, grace=100)
    same("ttls", [message.ttl for message in claim], [400, 330, 3600])
    claim.delete()
    same("ttls afterwards", [message.ttl for message in queue.messages(echo=True)], [400, 330, 3600])


@cases("queue.claim", "refuses ttl, grace and limit out of bounds")
def _(here):
    queue = connect(here).queue("builds")
    queue.post([{"body": 1}])
    for bad in [{"ttl": 59}, {"ttl": 43201}, {"grace": 59}, {"grace": 43201}, {"limit": 0}, {"limit": 21},
                {"limit": "x"}, {"ttl": "300"}]:
        refused(str(bad), MalformedRequest, queue.claim, **bad)
    same("free", bodies(queue.messages(echo=True)), [1])


@cases("queue.claim", "does not hand out what is delayed")
def _(here):
    here.make_queue("slow", _default_message_delay=60)
    queue = connect(here).queue("slow")
    queue.post([{"body": "late"}, {"body": "soon", "delay": 0}, {"body": "late too"}])
    same("claimed", bodies(queue.claim(ttl=300, grace=60)), ["soon"])
    same("a second time", queue.claim(ttl=300, grace=60).id, None)


@cases("queue.claim(id)", "shows age, ttl and messages, or says that it is absent")
def _(here):
    client = connect(here)
    queue = client.queue("builds")
    queue.post([{"body": n} for n in range(3)])
    made = queue.claim(ttl=120, grace=60, limit=2)
    claim = queue.claim(id=made.id)
    same("ttl", claim.ttl, 120)
    within("age", claim.age, *here.ages())
    same("messages", [(message.body, message.claim_id) for message in claim], [(0, made.id), (1, made.id)])
    answer = ask(client, core.claim_get, "builds", made.id)
    same("members", sorted(answer), ["age", "href", "messages", "ttl"])
    same("href", answer["href"], f"/v2/queues/builds/claims/{made.id}")
    refused("another queue", ResourceNotFound, lambda: client.queue("others").claim(id=made.id).age)
    refused("another project", ResourceNotFound,
            lambda: connect_elsewhere(here).queue("builds").claim(id=made.id).age)
    refused("nobody", ResourceNotFound, lambda: queue.claim(id=NOBODY).age)


@cases("claim.update", "begins the claim anew, and lengthens its messages")
def _(here):
    queue = connect(here).queue("builds")
    queue.post([{"body": 1, "ttl": 330}, {"body": 2, "ttl": 3600}])
    claim = queue.claim(ttl=120, grace=60)
    claim.update(ttl=600, grace=90)
    again = queue.claim(id=claim.id)
    same("ttl", again.ttl, 600)
    within("age", again.age, *here.ages())
    same("ttls of the messages", [message.ttl for message in again], [690, 3600])


@cases("claim.update", "takes 300 and 60 for what it is not given")
def _(here):
    queue = connect(here).queue("builds")
    queue.post([{"body": 1, "ttl": 130}])
    claim = queue.claim(ttl=120, grace=90)
    claim.update()
    same("nothing given", (queue.claim(id=claim.id).ttl, [m.ttl for m in queue.claim(id=claim.id)]), (300, [360]))
    claim.update(ttl=400)
    same("a ttl", (queue.claim(id=claim.id).ttl, [m.ttl for m in queue.claim(id=claim.id)]), (400, [460]))
    claim.update(grace=90)
    same("a grace", (queue.claim(id=claim.id).ttl, [m.ttl for m in queue.claim(id=claim.id)]), (300, [460]))


@cases("claim.update", "refuses times out of bounds and claims that are gone")
def _(here):
    client = connect(here)
    queue = client.queue("builds")
    queue.post([{"body": 1}])
    claim = queue.claim(ttl=120, grace=60)
    for bad in [{"ttl": 59}, {"ttl": 43201}, {"grace": 59}, {"grace": 43201}]:
        refused(str(bad), MalformedRequest, claim.update, **bad)
    refused("another queue's", ResourceNotFound, client.queue("others").claim(id=claim.id).update, ttl=600)
    same("ttl", queue.claim(id=claim.id).ttl, 120)
    claim.delete()
    refused("released", ResourceNotFound, claim.update, ttl=600, grace=60)


@cases("claim.delete", "frees its messages at once, at their old places")
def _(here):
    client = connect(here)
    queue = client.queue("builds")
    queue.post([{"body": n} for n in range(4)])
    claim = queue.claim(ttl=300, grace=60, limit=2)
    client.queue("others").claim(id=claim.id).delete()  # another queue's claim: no effect
    same("still claimed", bodies(queue.messages(echo=True)), [2, 3])
    claim.delete()
    refused("released", ResourceNotFound, lambda: claim.age)
    same("free", [(m.body, m.claim_id) for m in queue.messages(echo=True)], [(n, None) for n in range(4)])
    same("claimed anew", bodies(queue.claim(ttl=300, grace=60, limit=3)), [0, 1, 2])
    claim.delete()


@cases("message.delete", "of a claimed message gives the claim that its href names")
def _(here):
    queue = connect(here).queue("builds")
    queue.post([{"body": n} for n in range(3)])
    before = list(queue.messages(echo=True))
    claim = queue.claim(ttl=300, grace=60, limit=2)
    first, second = claim
    refused("seen before the claim", ForbiddenError, before[0].delete)
    first.delete()
    queue.message(second.id).delete()
    same("left", bodies(queue.messages(echo=True, include_claimed=True)), [2])
    same("the emptied claim", bodies(queue.claim(id=claim.id)), [])
    first.delete()


@cases("core.message_delete", "needs the live claim that holds the message, or none")
def _(here):
    client = connect(here)
    queue = client.queue("builds")
    queue.post([{"body": n} for n in range(3)])
    posted = ids(queue.messages(echo=True))
    one, other = queue.claim(ttl=300, grace=60, limit=1), queue.claim(ttl=300, grace=60, limit=1)
    delete = lambda message, claim: ask(client, core.message_delete, "builds", message, claim)
    refused("no claim", ForbiddenError, delete, posted[0], None)
    refused("another claim", ForbiddenError, delete, posted[0], other.id)
    refused("nobody's claim", MalformedRequest, delete, posted[0], NOBODY)
    refused("nonsense", MalformedRequest, delete, posted[0], "nonsense")
    refused("a free message", MalformedRequest, delete, posted[2], one.id)
    refused("a free message, nobody's claim", MalformedRequest, delete, posted[2], NOBODY)
    other.delete()
    refused("a released claim", MalformedRequest, delete, posted[1], other.id)
    refused("a released claim, another's message", MalformedRequest, delete, posted[0], other.id)
    delete(NOBODY, one.id)
    same("all there", ids(queue.messages(echo=True, include_claimed=True)), posted)
    delete(posted[0], one.id)
    delete(posted[0], NOBODY)
    same("left", ids(queue.messages(echo=True, include_claimed=True)), posted[1:])


@cases("queue.claim", "moves what was claimed too often to the dead letters")
def _(here):
    here.make_queue("builds", _max_claim_count=2, _dead_letter_queue="dead",
                    _dead_letter_queue_messages_ttl=600)
    client = connect(here)
    queue, dead = client.queue("builds"), client.queue("dead")
    queue.post([{"body": {"job": "poison"}, "ttl": 3600}])
    poison = ids(queue.messages(echo=True))[0]
    claim = queue.claim(ttl=300, grace=60)
    claim.update(ttl=600, grace=60)  # counts nothing
    claim.delete()
    claim = queue.claim(ttl=300, grace=60)
    same("claimed twice", ids(claim), [poison])
    claim.delete()
    same("not yet dead", bodies(dead.messages(echo=True)), [])
    third = queue.claim(ttl=300, grace=60)
    same("third claim", (third.id, list(third)), (None, []))
    same("left", ids(queue.messages(echo=True, include_claimed=True)), [])
    refused("by its id", ResourceNotFound, queue.message, poison)
    letter, = dead.messages(echo=True)
    same("letter", (letter.id, letter.body, letter.ttl, letter.claim_id), (poison, {"job": "poison"}, 600, None))
    within("age", letter.age, *here.ages())
    same("queues", names(client.queues()), ["builds", "dead"])
    popped, = dead.pop()
    same("counts anew", (popped.id, popped.claim_count), (poison, 0))


@cases("queue.claim", "fills up with others for those that are dead")
def _(here):
    here.make_queue("builds", _max_claim_count=1, _dead_letter_queue="dead")
    client = connect(here)
    queue, dead = client.queue("builds"), client.queue("dead")
    queue.post([{"body": n, "ttl": 1000 + n} for n in range(6)])
    queue.claim(ttl=300, grace=60, limit=3).delete()
    same("claimed", bodies(queue.claim(ttl=300, grace=60, limit=2)), [3, 4])
    same("dead letters", [(letter.body, letter.ttl) for letter in dead.messages(echo=True)],
         [(0, 1000), (1, 1001), (2, 1002)])
    same("left", bodies(queue.messages(echo=True)), [5])
    same("claimed there", bodies(dead.claim(ttl=300, grace=60)), [0, 1, 2])


@cases("queue.claim", "moves and counts nothing without both a limit and a dead letter queue")
def _(here):
    here.make_queue("limit", _max_claim_count=1)
    here.make_queue("target", _dead_letter_queue="dead")
    client = connect(here)
    for name in ("limit", "target"):
        queue = client.queue(name)
        queue.post([{"body": 1}])
        for _ in range(3):
            claim = queue.claim(ttl=300, grace=60)
            same(name, bodies(claim), [1])
            claim.delete()
        message, = queue.pop()
        same(name + ": claims counted", message.claim_count, 0)
    same("queues", names(client.queues()), ["limit", "target"])


@cases("queue.post, queue.claim", "on a queue that encrypts: what was posted is read, claimed and popped")
def _(here):
    client = connect(here)
    ask(client, core.queue_create, "secret", metadata={"_enable_encrypt_messages": True})
    queue, posted = client.queue("secret"), {"password": "\u00e9t\u00e9", "n": 1.5}
    same("flag", queue.metadata()["_enable_encrypt_messages"], True)
    queue.post([{"body": posted, "ttl": 300}, {"body": 2, "ttl": 300}])
    same("listed", bodies(queue.messages(echo=True)), [posted, 2])
    claim = queue.claim(ttl=300, grace=60, limit=1)
    same("claimed", bodies(claim), [posted])
    same("claim again", bodies(queue.claim(id=claim.id)), [posted])
    same("popped", bodies(queue.pop()), [2])
