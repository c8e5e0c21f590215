"""What openstacksdk (conn.message) does with nabu. It finds nabu in the catalog, sends
another Client-ID with each call, and pages by the last item's id."""

import keystoneauth1.noauth
import keystoneauth1.session
import openstack
import openstack.connection

from harness import Cases, same

cases = Cases("openstacksdk")


def connect(here):
    """The message proxy of a connection that found nabu in the catalog."""
    return openstack.connect(
        load_yaml_config=False, load_envvars=False, region_name="here",
        auth={"auth_url": here.keystone, "username": "somebody", "password": "any",
              "user_domain_id": "default", "project_id": here.project}).message


def ids(messages):
    return [message.id for message in messages]


@cases("conn.message", "finds nabu in the catalog as messaging, and its version 2")
def _(here):
    endpoint = connect(here).get_endpoint_data()
    same("endpoint", endpoint.url.rstrip("/"), here.endpoint + "/v2")
    same("version", endpoint.api_version, (2, 0))


class NoKeystone(keystoneauth1.noauth.NoAuth):
    """Authentication without Keystone, but with a project."""

    def __init__(self, endpoint, project):
        super().__init__(endpoint=endpoint)
        self.project = project

    def get_project_id(self, session, **_):
        return self.project


@cases("conn.message", "without Keystone, takes the endpoint with /v2")
def _(here):
    session = keystoneauth1.session.Session(auth=NoKeystone(here.endpoint + "/v2", here.project))
    message = openstack.connection.Connection(session=session).message
    message.create_queue(name="builds")
    same("queues", [queue.name for queue in message.queues()], ["builds"])
