"""What python-glanceclient does with nabu's tasks. It reads the schema first and takes no
task that does not fit it, and it follows the links of pages."""

import html

import keystoneauth1.identity.v3
import keystoneauth1.session
from glanceclient import exc
from glanceclient.v2 import client

from harness import NOBODY, Cases, has, refused, same, true

cases = Cases("glanceclient")
IMPORT = {"import_from": "http://images.example/x.qcow2", "import_from_format": "qcow2",
          "image_properties": {"disk_format": "qcow2", "container_format": "bare"}}
IMAGE = "2d3b7b7e-0f5e-4c3c-9d8e-5f0f6a1b2c3d"
COPY = {"image_id": IMAGE, "import_req": {"method": {"name": "copy-image"}}}


def connect(here):
    """A client that found nabu in the catalog."""
    auth = keystoneauth1.identity.v3.Password(
        auth_url=here.keystone, username="somebody", password="any", user_domain_id="default", project_id=here.project)
    return client.Client(session=keystoneauth1.session.Session(auth=auth), region_name="here", service_type="image")


def mine(here, tasks):
    """The ids of this case's tasks. An administrator sees those of others too."""
    return [task["id"] for task in tasks if task["owner"] == here.project]


@cases("tasks.create", "makes a task, and sees it as nabu shows it")
def _(here):
    tasks = connect(here).tasks
    made = tasks.create(type="import", input=IMPORT)
    has("made", made, type="import", status="pending", owner=here.project, input=IMPORT, message="", result=None,
        user_id="somebody")
    shown = tasks.get(made["id"])
    has("shown", shown, id=made["id"], created_at=made["created_at"], updated_at=made["created_at"],
        request_id=made["request_id"])


@cases("tasks.create", "makes one of a type of the operator's own")
def _(here):
    tasks = connect(here).tasks
    made = tasks.create(type="resize", input={"size": 3})
    same("type", tasks.get(made["id"])["type"], "resize")
    error = refused("without a size", exc.HTTPBadRequest, tasks.create, type="resize", input={"other": 3})
    true(str(error), "Provided object does not match schema 'task'" in html.unescape(str(error)))


@cases("tasks.create", "is told what is wrong, without tags")
def _(here):
    tasks = connect(here).tasks
    error = refused("a file", exc.HTTPBadRequest, tasks.create, type="import",
                    input=dict(IMPORT, import_from="file:///etc/passwd"))
    true(str(error), "File based imports are not allowed. Please use a non-local source of image data." in str(error))
    true("no tags", "<" not in str(error))
    error = refused("this machine", exc.HTTPBadRequest, tasks.create, type="import",
                    input=dict(IMPORT, import_from="http://127.0.0.1/x"))
    true(str(error), "does not pass filtering: http://127.0.0.1/x" in str(error))


@cases("tasks.get", "is told that there is no such task")
def _(here):
    error = refused("nobody", exc.HTTPNotFound, connect(here).tasks.get, NOBODY)
    true(str(error), f"Could not find task {NOBODY}" in str(error))


@cases("tasks.get", "sees success with its result, and failure with its reason")
def _(here):
    tasks = connect(here).tasks
    good, bad = tasks.create(type="import", input=IMPORT), tasks.create(type="import", input=IMPORT)
    for task in good, bad:
        here.report(task["id"], begin={"worker": "w1"})
    here.report(good["id"], progress={"message": "Copied 15 MiB"})
    has("on its way", tasks.get(good["id"]), status="processing", message="Copied 15 MiB")
    here.report(good["id"], succeed={"result": {"image_id": IMAGE}})
    here.report(bad["id"], fail={"message": "no such image"})
    has("good", tasks.get(good["id"]), status="success", result={"image_id": IMAGE})
    has("bad", tasks.get(bad["id"]), status="failure", result=None, message="no such image")
    true("expires", tasks.get(bad["id"])["expires_at"])


@cases("tasks.list", "pages through all, in any order")
def _(here):
    tasks = connect(here).tasks
    ids = [tasks.create(type="import", input=IMPORT)["id"] for _ in range(5)]
    filters = {"owner": here.project}
    same("by id", mine(here, tasks.list(page_size=2, sort_key="id", sort_dir="asc", filters=filters)), sorted(ids))
    same("by id, downwards", mine(here, tasks.list(page_size=2, sort_key="id", sort_dir="desc", filters=filters)),
         sorted(ids, reverse=True))
    same("by default", sorted(mine(here, tasks.list(page_size=1))), sorted(ids))


@cases("tasks.list", "by status and type")
def _(here):
    tasks = connect(here).tasks
    first = tasks.create(type="import", input=IMPORT)["id"]
    second = tasks.create(type="import", input=IMPORT)["id"]
    here.report(first, begin={})
    for status, ids in ("pending", [second]), ("processing", [first]), ("success", []), ("failure", []):
        same(status, mine(here, tasks.list(filters={"status": status})), ids)
    same("import", sorted(mine(here, tasks.list(filters={"type": "import"}))), sorted([first, second]))
    error = refused("unknown", exc.HTTPBadRequest, list, tasks.list(filters={"type": "export"}))
    true(str(error), "Invalid type value: export" in str(error))


@cases("images.get_associated_image_tasks", "sees an image's tasks, once the version says that it may")
def _(here):
    its = connect(here)
    made = its.tasks.create(type="api_image_import", input=COPY)
    tasks = [task for task in its.images.get_associated_image_tasks(IMAGE)["tasks"] if task["owner"] == here.project]
    same("ids", [task["id"] for task in tasks], [made["id"]])
    has("task", tasks[0], image_id=IMAGE, deleted=False, deleted_at=None, expires_at=None, input=COPY, user_id="somebody")
