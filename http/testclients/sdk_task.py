"""What openstacksdk (conn.image) does with nabu's tasks. It finds nabu in the catalog by the
Image API's version document."""

import openstack
import openstack.exceptions
import openstack.image.v2._proxy

from glance import COPY, IMAGE, IMPORT
from harness import NOBODY, Cases, refused, same, true

cases = Cases("openstacksdk")
LACKS = "openstacksdk has it since 4.7"


def connect(here):
    """The image proxy of a connection that found nabu in the catalog."""
    return openstack.connect(
        load_yaml_config=False, load_envvars=False, region_name="here",
        auth={"auth_url": here.keystone, "username": "somebody", "password": "any",
              "user_domain_id": "default", "project_id": here.project}).image


@cases("conn.image", "finds nabu in the catalog as image, and its newest version")
def _(here):
    endpoint = connect(here).get_endpoint_data()
    same("endpoint", endpoint.url.rstrip("/"), here.endpoint + "/v2")
    same("version", endpoint.api_version, (2, 17))


@cases("create_task", "makes a task")
def _(here):
    image = connect(here)
    made = image.create_task(type="import", input=IMPORT)
    same("made", [made.status, made.owner_id, made.input, made.message, made.result],
         ["pending", here.project, IMPORT, "", None])
    same("shown", image.get_task(made.id).created_at, made.created_at)


@cases("get_task", "is told that there is no such task")
def _(here):
    error = refused("nobody", openstack.exceptions.ResourceNotFound, connect(here).get_task, NOBODY)
    true(str(error), f"Could not find task {NOBODY}" in str(error))


@cases("tasks", "pages through all, with every filter")
def _(here):
    image = connect(here)
    ids = sorted(image.create_task(type="import", input=IMPORT).id for _ in range(5))
    mine = lambda **query: [task.id for task in image.tasks(**query) if task.owner_id == here.project]
    same("sorted", mine(sort_key="id", sort_dir="asc", limit=2), ids)
    same("sorted downwards", mine(sort_key="id", sort_dir="desc", limit=3), ids[::-1])
    here.report(ids[0], begin={})
    same("status", mine(status="processing"), ids[:1])
    same("type", sorted(mine(type="import")), ids)


@cases("wait_for_task", "to success")
def _(here):
    image = connect(here)
    task = image.create_task(type="import", input=IMPORT)
    here.report(task.id, begin={})
    here.report(task.id, succeed={"result": {"image_id": IMAGE}})
    done = image.wait_for_task(task, interval=1, wait=20)
    same("done", [done.status, done.result], ["success", {"image_id": IMAGE}])


@cases("wait_for_task", "to failure")
def _(here):
    image = connect(here)
    task = image.create_task(type="import", input={"import_from": IMPORT["import_from"]})
    refused("failed", openstack.exceptions.ResourceFailure, image.wait_for_task, task, interval=1, wait=20)
    same("why", image.get_task(task.id).message, "Input does not contain 'import_from_format' field")


@cases("get_task_schema", "reads the schemas")
def _(here):
    image = connect(here)
    one, several = image.get_task_schema(), image.get_tasks_schema()
    same("types", one.properties["type"]["enum"], ["import", "api_image_import", "location_import", "resize"])
    same("statuses", one.properties["status"]["enum"], ["pending", "processing", "success", "failure"])
    same("several", several.properties["tasks"]["items"]["properties"]["type"]["enum"], one.properties["type"]["enum"])


@cases("image_tasks", "sees an image's tasks", "" if hasattr(openstack.image.v2._proxy.Proxy, "image_tasks") else LACKS)
def _(here):
    image = connect(here)
    made = image.create_task(type="api_image_import", input=COPY)
    same("tasks", [task.image_id for task in image.image_tasks(IMAGE) if task.id == made.id], [IMAGE])
