"""What the commands "openstack messaging ..." do with nabu. They ask a stand-in for
Keystone where nabu is. All but one run inside this program, by the function that the
program "openstack" consists of: most of a command's time is its start."""

import contextlib
import importlib.metadata
import io
import json
import logging
import os
import subprocess
import sys
import unittest.mock

from openstackclient import shell
from osc_lib import clientmanager
from zaqarclient.queues import cli

from harness import Cases, Mismatch, has, same, true, within
from zaqar import OLDER

cases = Cases("openstackclient")
NO_OLD_NAMES = "" if importlib.metadata.entry_points(group="openstack.messaging.v2", name="queue_create") else \
    "python-zaqarclient has no commands without the word messaging since 3.0"
MINE = "9b2f5a5e-03d1-4c55-8f0e-2f6a7c0e11d4"  # the Client-ID, which two commands must be given


def command(here, words):
    """A command as a user types it, with all that he would have in his environment."""
    return ["--os-auth-url", here.keystone, "--os-identity-api-version", "3", "--os-region-name", "here",
            "--os-username", "somebody", "--os-password", "any", "--os-user-domain-id", "default",
            "--os-project-id", here.project, *words]


def run(here, *words):
    """Runs a command and returns its exit code, output and errors."""
    forget_the_last()
    out, err = io.StringIO(), io.StringIO()
    with unittest.mock.patch.dict(os.environ, OS_MESSAGE_CLIENT_ID=MINE), \
            contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = shell.main(command(here, words))
    return code, out.getvalue(), err.getvalue()


def forget_the_last():
    """Takes away what the program keeps for as long as it runs, which is one command."""
    for client in vars(clientmanager.ClientManager).values():
        if hasattr(client, "_handle"):
            client._handle = None
    cli._MESSAGING_ENDPOINT = None
    logging.getLogger().handlers.clear()


def openstack(here, *words):
    """Runs a command that has to succeed, and returns its output."""
    code, out, err = run(here, *words)
    if code != 0:
        raise Mismatch(f"openstack {' '.join(words)}: expected exit code 0, came {code}: {' '.join(err.split())}")
    return out


def show(here, *words):
    """Runs a command that has to succeed, and returns what it shows as an object."""
    return json.loads(openstack(here, *words, "-f", "json"))


def quiet(here, *words):
    """Runs a command that has to succeed and to say nothing."""
    same("output of " + " ".join(words), openstack(here, *words), "")


def fails(here, says, *words):
    """Runs a command that has to fail, and to say why."""
    code, out, err = run(here, *words)
    same("exit code of " + " ".join(words), code, 1)
    same("output of " + " ".join(words), out, "")
    true(f"{says!r} is in {' '.join(err.split())!r}", says in err)


def column(rows, name):
    return [row[name] for row in rows]


def bodies(here, queue, query=""):
    """The bodies that nabu lists, asked without the client."""
    return [message["body"] for message in here.call("GET", f"/queues/{queue}/messages?limit=20{query}")["messages"]]


# The service.

@cases("openstack", "as a program of its own finds nabu in the catalog as messaging")
def _(here):
    here.make_queue("builds")
    done = subprocess.run(
        [sys.executable, "-m", "openstackclient.shell",
         *command(here, ["messaging", "queue", "list", "-f", "json"])],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    same("errors", done.stderr, "")
    same("queues", json.loads(done.stdout), [{"Name": "builds"}])


@cases("messaging ping", "says true")
def _(here):
    same("ping", show(here, "messaging", "ping"), {"Pingable": True})


@cases("messaging health", "shows the health answer")
def _(here):
    health = json.loads(openstack(here, "messaging", "health"))
    same("storage", health["storage_reachable"], True)
    has("posts", health["operation_status"]["post_messages"], succeeded=True)
    has("claims", health["operation_status"]["claim_messages"], succeeded=True)


@cases("messaging homedoc", "shows the home document")
def _(here):
    resources = json.loads(openstack(here, "messaging", "homedoc"))["resources"]
    same("queue", resources["rel/queue"]["href-template"], "/v2/queues/{queue_name}")
    same("claims", resources["rel/post_claim"]["href-template"].split("{?")[0], "/v2/queues/{queue_name}/claims")


# Queues.

@cases("messaging queue create", "makes a queue; list shows it; delete takes it away")
def _(here):
    same("made", show(here, "messaging", "queue", "create", "builds"), {"Name": "builds"})
    same("made again", show(here, "messaging", "queue", "create", "builds"), {"Name": "builds"})
    same("list", show(here, "messaging", "queue", "list"), [{"Name": "builds"}])
    quiet(here, "messaging", "queue", "delete", "builds")
    quiet(here, "messaging", "queue", "delete", "builds")
    same("list afterwards", show(here, "messaging", "queue", "list"), [])


@cases("messaging queue list", "takes limit, marker, detailed and with_count")
def _(here):
    for name in ("a", "b", "c", "d"):
        here.make_queue(name, team=name)
    same("by default", show(here, "messaging", "queue", "list"), [{"Name": name} for name in "abcd"])
    printed = openstack(here, "messaging", "queue", "list", "--limit", "2", "--marker", "a", "--detailed",
                        "--with_count", "-f", "json")
    if OLDER:  # newer ones keep it to themselves
        count, printed = printed.split("\n", 1)
        same("count", count, "Queues in total: 4")
    rows = json.loads(printed)
    same("names", column(rows, "Name"), ["b", "c"])
    same("hrefs", column(rows, "Href"), ["/v2/queues/b", "/v2/queues/c"])
    has("metadata", rows[0]["Metadata_Dict"], team="b", _default_message_ttl=3600, _max_claim_count=None)
    fails(here, "Code: 400", "messaging", "queue", "list", "--limit", "21")


@cases("messaging queue set metadata", "replaces all; get metadata shows it")
def _(here):
    here.make_queue("builds", team="ci", colour="red")
    quiet(here, "messaging", "queue", "set", "metadata", "builds", '{"team": "qa", "_default_message_ttl": 600}')
    shown = show(here, "messaging", "queue", "get", "metadata", "builds")["Metadata"]
    has("metadata", shown, team="qa", colour="(absent)", _default_message_ttl=600, _max_claim_count=None)
    same("what nabu has", shown, here.call("GET", "/queues/builds"))
    fails(here, "Code: 400", "messaging", "queue", "set", "metadata", "builds", '{"_default_message_ttl": 59}')
    fails(here, "Code: 404", "messaging", "queue", "set", "metadata", "absent", '{"team": "qa"}')
    same("afterwards", here.call("GET", "/queues/builds"), shown)


@cases("messaging queue set metadata", "cannot set what shows null: the client removes it again")
def _(here):
    here.make_queue("builds")
    quiet(here, "messaging", "queue", "set", "metadata", "builds", '{"_max_claim_count": 3}')
    same("count", here.call("GET", "/queues/builds")["_max_claim_count"], None)


@cases("messaging queue stats", "counts free and claimed")
def _(here):
    first, _, last = here.post("builds", {"body": 1}, {"body": 2}, {"body": 3})
    here.call("POST", "/queues/builds/claims?limit=1", {})
    stats = show(here, "messaging", "queue", "stats", "builds")["Stats"]["messages"]
    has("counts", stats, claimed=1, free=2, total=3)
    same("oldest", stats["oldest"]["href"].split("?")[0], "/v2/queues/builds/messages/" + first)
    same("newest", stats["newest"]["href"], "/v2/queues/builds/messages/" + last)
    same("absent", show(here, "messaging", "queue", "stats", "absent"),
         {"Stats": {"messages": {"claimed": 0, "free": 0, "total": 0}}})


@cases("messaging queue purge", "takes the messages, or what it is told to take")
def _(here):
    here.post("builds", {"body": 1}, {"body": 2})
    here.call("POST", "/queues/builds/claims?limit=1", {})
    quiet(here, "messaging", "queue", "purge", "builds", "--resource_types", "subscriptions")
    same("after subscriptions", bodies(here, "builds", "&include_claimed=true"), [1, 2])
    quiet(here, "messaging", "queue", "purge", "builds", "--resource_types", "messages")
    same("after messages", bodies(here, "builds", "&include_claimed=true"), [])
    here.post("builds", {"body": 3})
    quiet(here, "messaging", "queue", "purge", "builds")
    same("after all", bodies(here, "builds"), [])


# Messages.

@cases("messaging message post", "posts; list shows ids, bodies, ttls, ages and claims")
def _(here):
    quiet(here, "messaging", "message", "post", "builds",
          '[{"body": {"job": 17}, "ttl": 300}, {"body": "text"}, {"body": [1, null]}]')
    claim = here.call("POST", "/queues/builds/claims?limit=1", {})["messages"][0]["href"].split("=")[1]
    same("own, without echo", show(here, "messaging", "message", "list", "builds"), [])
    rows = show(here, "messaging", "message", "list", "builds", "--echo", "--include-claimed")
    same("bodies", column(rows, "Body"), [{"job": 17}, "text", [1, None]])
    same("ttls", column(rows, "TTL"), [360, 3600, 3600])
    same("claims", column(rows, "Claim ID"), [claim, None, None])
    same("checksums", column(rows, "Checksum"), [None, None, None])
    for row in rows:
        within("age", row["Age"], *here.ages())
    listed = here.call("GET", "/queues/builds/messages?include_claimed=true")["messages"]
    same("ids", column(rows, "ID"), [message["id"] for message in listed])


@cases("messaging message list", "takes limit, ids, client id and include-delayed")
def _(here):
    here.make_queue("slow", _default_message_delay=60)
    posted = here.post("slow", {"body": "late"}, {"body": "soon", "delay": 0}, {"body": "soon too", "delay": 0})
    rows = lambda *words: column(show(here, "messaging", "message", "list", "slow", *words), "Body")
    same("by default", rows(), ["soon", "soon too"])
    same("limit", rows("--limit", "1"), ["soon"])
    same("delayed too", rows("--include-delayed"), ["late", "soon", "soon too"])
    same("ids", rows("--message-ids", f"{posted[2]},{posted[0]}"), ["late", "soon too"])
    quiet(here, "messaging", "message", "post", "slow", '{"body": "own", "delay": 0}')
    same("own, to another", rows("--client-id", "0" * 32), ["soon", "soon too", "own"])
    fails(here, "Code: 400", "messaging", "message", "list", "slow", "--limit", "21")


@cases("messaging message post", "says what is wrong, and posts nothing")
def _(here):
    fails(here, "Code: 400. Title: ", "messaging", "message", "post", "builds", '[{"body": 1}, {"body": 1, "ttl": 59}]')
    same("messages", bodies(here, "builds"), [])


# Claims.

@cases("messaging claim create", "claims; query shows it, renew lengthens it, release ends it")
def _(here):
    posted = here.post("builds", *[{"body": {"n": n}, "ttl": 300 + 1000 * n} for n in range(3)])
    rows = show(here, "messaging", "claim", "create", "builds", "--ttl", "120", "--grace", "90", "--limit", "2")
    claim = rows[0]["Claim_ID"]
    same("claims", column(rows, "Claim_ID"), [claim, claim])
    same("messages", column(rows, "Message_ID"), posted[:2])
    same("bodies", column(rows, "Messages"), [{"n": 0}, {"n": 1}])
    same("ttls", column(rows, "TTL"), [300, 1300])
    for row in rows:
        within("age", row["Age"], *here.ages())
    same("free", bodies(here, "builds"), [{"n": 2}])
    same("ttl", here.call("GET", f"/queues/builds/claims/{claim}")["ttl"], 120)

    rows = show(here, "messaging", "claim", "query", "builds", claim)
    shown = posted if OLDER else ["", ""]  # newer ones show no ids, by themselves
    same("queried", [(row["Message_ID"], row["Message"], row["TTL"]) for row in rows],
         [(shown[0], {"n": 0}, 300), (shown[1], {"n": 1}, 1300)])
    rows = show(here, "messaging", "claim", "renew", "builds", claim, "--ttl", "600", "--grace", "90")
    same("renewed", [(row["Message_ID"], row["Message"], row["TTL"]) for row in rows],
         [(shown[0], {"n": 0}, 690), (shown[1], {"n": 1}, 1300)])
    same("ttl then", here.call("GET", f"/queues/builds/claims/{claim}")["ttl"], 600)

    quiet(here, "messaging", "claim", "release", "builds", claim)
    same("free then", bodies(here, "builds"), [{"n": 0}, {"n": 1}, {"n": 2}])
    fails(here, "Code: 404", "messaging", "claim", "query", "builds", claim)
    fails(here, "Code: 404", "messaging", "claim", "renew", "builds", claim)
    quiet(here, "messaging", "claim", "release", "builds", claim)


@cases("messaging claim create", "without options: ten messages for 300 s; then none")
def _(here):
    posted = here.post("builds", *[{"body": n} for n in range(10)])
    rows = show(here, "messaging", "claim", "create", "builds")
    same("messages", column(rows, "Message_ID"), posted)
    same("ttl", here.call("GET", f"/queues/builds/claims/{rows[0]['Claim_ID']}")["ttl"], 300)
    same("a second time", show(here, "messaging", "claim", "create", "builds"), [])
    fails(here, "Code: 400", "messaging", "claim", "create", "builds", "--ttl", "59")


# The same without "messaging", as they were called before.

@cases("queue create", "and set metadata, get metadata, stats, purge, delete work by their old names", NO_OLD_NAMES)
def _(here):
    same("made", show(here, "queue", "create", "builds"), {"Name": "builds"})
    quiet(here, "queue", "set", "metadata", "builds", '{"team": "qa"}')
    has("metadata", show(here, "queue", "get", "metadata", "builds")["Metadata"], team="qa")
    quiet(here, "message", "post", "builds", '[{"body": 1}]')
    same("messages", column(show(here, "message", "list", "builds", "--echo"), "Body"), [1])
    has("stats", show(here, "queue", "stats", "builds")["Stats"]["messages"], total=1)
    quiet(here, "queue", "purge", "builds")
    same("purged", bodies(here, "builds"), [])
    quiet(here, "queue", "delete", "builds")
    same("deleted", here.call("GET", "/queues")["queues"], [])


@cases("queue list", "by its old name shows no queue: the client expects version 1's answer", NO_OLD_NAMES)
def _(here):
    here.make_queue("builds")
    same("rows", show(here, "queue", "list"), [{"Name": ""}, {"Name": ""}])


@cases("claim create", "by its old name leaves out the ids, by itself; query, renew, release work", NO_OLD_NAMES)
def _(here):
    here.post("builds", {"body": 1}, {"body": 2})
    rows = show(here, "claim", "create", "builds", "--limit", "1")
    same("messages", [(row["Message_ID"], row["Messages"]) for row in rows], [("", 1)])
    claim = rows[0]["Claim_ID"]
    same("queried", column(show(here, "claim", "query", "builds", claim), "Message"), [1])
    same("renewed", column(show(here, "claim", "renew", "builds", claim, "--ttl", "60"), "Message"), [1])
    quiet(here, "claim", "release", "builds", claim)
    same("free", bodies(here, "builds"), [1, 2])
