"""What Neutron, Cinder and an administrator do through python-novaclient, and what Ironic,
Cyborg and openstacksdk do by a POST of their own through an adapter of keystoneauth."""

import logging
import uuid

import keystoneauth1.adapter
import keystoneauth1.identity.v3
import keystoneauth1.session
import novaclient
import novaclient.api_versions
import novaclient.client
import novaclient.exceptions
import openstack.connection

from harness import Cases, Here, has, refused, same, true

cases = Cases("novaclient")
SERVICE = "service"  # the project of the queues of hosts


def session(here):
    return keystoneauth1.session.Session(auth=keystoneauth1.identity.v3.Password(
        auth_url=here.keystone, username="somebody", password="any", user_domain_id="default", project_id=here.project))


def connect(here, version="2.1"):
    """A client that found nabu in the catalog."""
    return novaclient.client.Client(version, session=session(here), region_name="here")


def adapter(here, **settings):
    return keystoneauth1.adapter.Adapter(session(here), service_type="compute", region_name="here", interface="public",
                                         raise_exc=False, **settings)


def root(here):
    """The address that all APIs have in common."""
    return Here(here.endpoint.split("/compute")[0], here.keystone, here.project)


def server(here, **hosts):
    """A server that nabu is told of."""
    name = str(uuid.uuid4())
    answer = adapter(here).put(f"/os-server-hosts/{name}", json={"server_host": hosts})
    same("told of the server", answer.status_code, 200)
    return name


def taken(here, host):
    """What the agent of a host gets."""
    queue = adapter(here).get(f"/os-host-queues/{host}").json()["host_queue"]
    has("queue", queue, host=host, queue="nova-events." + host, project_id=SERVICE, ttl=3600)
    messages = root(here).call("POST", f"/queues/{queue['queue']}/claims?limit=20", {}, project=SERVICE)
    return [message["body"] for message in (messages or {"messages": []})["messages"]]


def host():
    return "host-" + uuid.uuid4().hex[:12]


@cases("server_external_events.create", "gets each event answered, as Cinder asks")
def _(here):
    mine = host()
    there, nowhere, gone = server(here, host=mine), server(here), str(uuid.uuid4())
    events = [{"name": "network-changed", "server_uuid": there},
              {"name": "network-changed", "server_uuid": nowhere},
              {"name": "network-changed", "server_uuid": gone},
              {"name": "volume-extended", "server_uuid": there}]
    came = connect(here, "2.51").server_external_events.create(events)
    same("codes", [event["code"] for event in came], [200, 422, 404, 400])
    same("statuses", [event["status"] for event in came], ["completed", "failed", "failed", "failed"])
    same("no tag", ["tag" in event for event in came], [False] * 4)
    got = taken(here, mine)
    same("delivered", len(got), 1)
    has("event", got[0], name="network-changed", server_uuid=there, status="completed", role="current", host=mine)


@cases("server_external_events.create", "takes what Neutron batches, in order, with its own status and request id")
def _(here):
    mine = host()
    there = server(here, host=mine)
    tags = [str(uuid.uuid4()) for _ in range(5)]
    events = [{"name": "network-vif-plugged", "server_uuid": there, "status": "failed", "tag": tag} for tag in tags]
    request = "req-" + str(uuid.uuid4())
    its = novaclient.client.Client("2.1", session=session(here), region_name="here", global_request_id=request)
    came = its.server_external_events.create(events)
    same("codes", [event["code"] for event in came], [200] * 5)
    got = taken(here, mine)
    same("tags", [event["tag"] for event in got], tags)
    same("status", {event["status"] for event in got}, {"failed"})
    same("request", {event["global_request_id"] for event in got}, {request})


@cases("server_external_events.create", "knows volume-reimaged since 2.93, and not before")
def _(here):
    there = server(here, host=host())
    event = {"name": "volume-reimaged", "server_uuid": there, "tag": str(uuid.uuid4())}
    same("2.93", connect(here, "2.93").server_external_events.create([event])[0]["code"], 200)
    error = refused("2.51", novaclient.exceptions.BadRequest, connect(here, "2.51").server_external_events.create, [event])
    true(str(error), "is not one of ['network-changed'" in str(error))


@cases("server_external_events.create", "hears of no missing version header")
def _(here):
    heard = []
    handler = logging.Handler()
    handler.emit = heard.append
    logging.getLogger("novaclient").addHandler(handler)
    try:
        connect(here, "2.51").server_external_events.create([{"name": "network-changed", "server_uuid": str(uuid.uuid4())}])
    finally:
        logging.getLogger("novaclient").removeHandler(handler)
    same("warnings", [record.getMessage() for record in heard if record.levelno >= logging.WARNING], [])


@cases("server_external_events.create", "is told that the list is empty")
def _(here):
    error = refused("empty", novaclient.exceptions.BadRequest, connect(here).server_external_events.create, [])
    true(str(error), "Invalid input for field/attribute events. Value: []. [] is too short" in str(error))


@cases("versions", "lists and finds the newest version")
def _(here):
    known = {"id": "v2.1", "status": "CURRENT", "min_version": "2.1", "version": "2.104"}
    its = connect(here)
    has("listed", [version.to_dict() for version in its.versions.list() if version.id == "v2.1"][0], **known)
    if adapter(here).get_endpoint().rstrip("/").endswith("v2.1"):  # novaclient asks for one version at an endpoint that names it alone
        has("current", its.versions.get_current().to_dict(), **known)
        same("latest", novaclient.api_versions.discover_version(its, novaclient.api_versions.APIVersion("2.latest")).get_string(),
             novaclient.API_MAX_VERSION.get_string())


@cases("migration", "reaches source and destination, each with its role")
def _(here):
    source, destination = host(), host()
    there = server(here, host=source, source_host=source, dest_host=destination)
    connect(here).server_external_events.create([{"name": "network-changed", "server_uuid": there}])
    first, second = taken(here, source), taken(here, destination)
    same("roles", [event["role"] for event in first + second], ["current", "destination"])
    same("one event", first[0]["id"], second[0]["id"])


@cases("POST of Ironic", "tells of a change of power")
def _(here):
    there = server(here, host=host())
    answer = adapter(here).post("/os-server-external-events", microversion="2.76", json={"events": [
        {"name": "power-update", "server_uuid": there, "tag": "POWER_OFF"}]})
    same("status", answer.status_code, 200)
    true("code", answer.json()["events"][0]["code"] < 400)
    same("version", answer.headers["OpenStack-API-Version"], "compute 2.76")


@cases("POST of Cyborg", "may ignore servers that are on no host yet")
def _(here):
    nowhere = [server(here) for _ in range(3)]
    answer = adapter(here, default_microversion="2.82").post("/os-server-external-events", json={"events": [
        {"name": "accelerator-request-bound", "server_uuid": one, "status": "completed", "tag": str(uuid.uuid4())}
        for one in nowhere]})
    same("status", answer.status_code, 207)
    same("codes", {event["code"] for event in answer.json()["events"]}, {422})


@cases("openstacksdk", "reads mixed results")
def _(here):
    its = openstack.connection.Connection(session=session(here), region_name="here", compute_default_microversion="2.51")
    there, gone = server(here, host=host()), str(uuid.uuid4())
    events = [{"name": "volume-extended", "server_uuid": there, "tag": "v1"}, {"name": "network-changed", "server_uuid": gone}]
    if hasattr(its.compute, "create_server_external_events"):
        came = [event.to_dict() for event in its.compute.create_server_external_events(events)]
    else:  # it is too old, but posts all the same
        answer = its.compute.post("/os-server-external-events", json={"events": events})
        same("status", answer.status_code, 207)
        came = answer.json()["events"]
    same("codes", [event["code"] for event in came], [200, 404])
    has("first", came[0], name="volume-extended", server_uuid=there, status="completed", tag="v1")
