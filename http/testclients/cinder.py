"""What python-cinderclient does with nabu's user messages. It asks for the versions before it
has a token, takes the newest one that both know, and goes to the next page by the address in
the answer as it is."""

import cinderclient.client
import keystoneauth1.identity.v3
import keystoneauth1.session
from cinderclient import api_versions, exceptions
from cinderclient.v3 import client

from harness import NOBODY, Cases, has, refused, same, true

cases = Cases("cinderclient")
VOLUME = "f292cc0c-54a7-4b3b-8174-d2ff82d87008"


def connect(here, version="3.68"):
    """A client that found nabu in the catalog."""
    auth = keystoneauth1.identity.v3.Password(
        auth_url=here.keystone, username="somebody", password="any", user_domain_id="default", project_id=here.project)
    return client.Client(session=keystoneauth1.session.Session(auth=auth), region_name="here", service_type="volumev3",
                         api_version=api_versions.APIVersion(version))


def about(here, n):
    """The id of something that only this case tells of."""
    return f"{here.project[:8]}-{n:04}-4000-8000-{here.project[:12]}"


def ids(messages):
    return [message.id for message in messages]


@cases("get_server_version", "is told the versions without a token")
def _(here):
    for url in here.endpoint + "/v3", here.endpoint + "/v3/" + here.project, here.endpoint:
        same(url, [version.get_string() for version in cinderclient.client.get_server_version(url)], ["3.0", "3.71"])


@cases("discover_version", "takes the newest version that both know")
def _(here):
    found = api_versions.discover_version(connect(here), api_versions.APIVersion("3.latest"))
    same("version", found.get_string(), api_versions.MAX_VERSION)


@cases("messages.get", "sees a message as it was told")
def _(here):
    told = here.tell(action_id="001", detail_id="003", resource_uuid=VOLUME, request_id="req-1")
    del told["links"]  # which have the project if the catalog has it
    for version in "3.3", "3.68":
        message = connect(here, version).messages.get(told["id"])
        has(version, message.to_dict(), **told)
        true(str(message.links), message.links[0]["href"].startswith(here.endpoint + "/v3/"))
    same("text", message.user_message, "schedule allocate volume:Could not find any available weighted backend.")
    refused("nobody", exceptions.NotFound, connect(here).messages.get, NOBODY)


@cases("messages.list", "with every filter")
def _(here):
    messages = connect(here).messages
    first = here.tell(action_id="001", resource_uuid=about(here, 1), request_id="req-" + here.project)
    second = here.tell(action_id="009", resource_uuid=about(here, 2), resource_type="VOLUME_SNAPSHOT", message_level="WARNING")
    mine = lambda **filters: ids(messages.list(search_opts=dict(project_id=here.project, **filters)))
    same("none", mine(), [second["id"], first["id"]])
    same("resource_uuid", ids(messages.list(search_opts={"resource_uuid": about(here, 1)})), [first["id"]])
    same("request_id", ids(messages.list(search_opts={"request_id": "req-" + here.project})), [first["id"]])
    same("event_id", mine(event_id="VOLUME_VOLUME_SNAPSHOT_009_001"), [second["id"]])
    same("message_level", mine(message_level="WARNING"), [second["id"]])
    same("resource_type", mine(resource_type="volume"), [first["id"]])
    same("a part", mine(**{"event_id~": "_009_"}), [second["id"]])
    same("nothing", mine(event_id="VOLUME_VOLUME_002_001"), [])


@cases("messages.list", "pages and sorts")
def _(here):
    messages = connect(here).messages
    told = [here.tell(action_id=f"00{n}")["id"] for n in (3, 1, 2, 5, 4)]
    mine = lambda **how: ids(messages.list(search_opts={"project_id": here.project}, **how))
    same("newest first", mine(), told[::-1])
    same("sorted", mine(sort="event_id:asc"), [told[n] for n in (1, 2, 0, 4, 3)])
    same("two", mine(limit=2), told[:2:-1])
    same("after one", mine(marker=told[2]), told[1::-1])
    same("page by page", ids(messages._list(  # by the links
        f"/messages?project_id={here.project}&limit=2", "messages", limit=5)), told[::-1])
    refused("nobody", exceptions.NotFound, messages.list, marker=NOBODY)
    refused("a bad key", exceptions.BadRequest, messages.list, search_opts={"sort_key": "nothing"})


@cases("messages.list", "before there were filters, gets all there are")
def _(here):
    told = here.tell(action_id="001")
    true("it is there", told["id"] in ids(connect(here, "3.3").messages.list()))


@cases("messages.list", "finds what failed by its own name of the request")
def _(here):
    told = here.tell(action_id="001", request_id="req-local", global_request_id="req-" + here.project)
    same("as it looks when a volume is in error",
         [message.user_message for message in connect(here).messages.list(search_opts={"request_id": "req-" + here.project})],
         [told["user_message"]])


@cases("messages.delete", "is gone afterwards")
def _(here):
    messages = connect(here).messages
    told = here.tell(action_id="001")
    messages.delete(told["id"])
    refused("deleted", exceptions.NotFound, messages.get, told["id"])
    refused("twice", exceptions.NotFound, messages.delete, told["id"])
    same("list", messages.list(search_opts={"project_id": here.project}), [])


@cases("messages.get", "needs 3.3, and says so itself")
def _(here):
    refused("too old", exceptions.VersionNotFoundForAPIMethod, connect(here, "3.2").messages.get, NOBODY)
