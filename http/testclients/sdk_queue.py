"""openstacksdk's calls for queues."""

from openstack.exceptions import BadRequestException

from harness import Cases, refused, same
from sdk import connect

cases = Cases("openstacksdk")


@cases("create_queue", "keeps what it is given")
def _(here):
    message = connect(here)
    message.create_queue(name="builds", default_message_ttl=120, max_messages_post_size=1000,
                         description="of today")
    queue = message.get_queue("builds")
    same("name", queue.name, "builds")
    same("default ttl", queue.default_message_ttl, 120)
    same("size of a post", queue.max_messages_post_size, 1000)
    same("description", queue.description, "of today")
    same("stored", here.call("GET", "/queues/builds")["name"], "builds")  # the client sends it along


@cases("create_queue", "of a queue that is there changes nothing")
def _(here):
    message = connect(here)
    message.create_queue(name="builds", default_message_ttl=120)
    message.create_queue(name="builds", default_message_ttl=600)
    same("default ttl", message.get_queue("builds").default_message_ttl, 120)


@cases("create_queue", "takes dots and 64 characters in a name, not 65, not a blank")
def _(here):
    message = connect(here)
    longest = "b.u-i_ld" * 8
    message.create_queue(name=longest)
    same("queues", [queue.name for queue in message.queues()], [longest])
    refused("a longer name", BadRequestException, message.create_queue, name=longest + "s")
    refused("a blank", BadRequestException, message.create_queue, name="my builds")


@cases("create_queue", "refuses a ttl below the least, and makes no queue")
def _(here):
    message = connect(here)
    refused("ttl 59", BadRequestException, message.create_queue, name="builds", default_message_ttl=59)
    same("queues", list(message.queues()), [])


@cases("get_queue", "of an absent queue shows the defaults, and makes no queue")
def _(here):
    message = connect(here)
    queue = message.get_queue("absent")
    same("default ttl", queue.default_message_ttl, 3600)
    same("size of a post", queue.max_messages_post_size, 262144)
    same("queues", list(message.queues()), [])


@cases("queues", "walks all pages, by name, and sees one project only")
def _(here):
    message = connect(here)
    names = [f"q-{n:02}" for n in range(23)]
    for name in reversed(names):
        message.create_queue(name=name)
    same("by default", [queue.name for queue in message.queues()], names)
    same("by seven", [queue.name for queue in message.queues(limit=7)], names)
    same("after q-20", [queue.name for queue in message.queues(marker="q-20")], names[21:])
    same("of another", list(message.queues(project_id=here.project + "-other")), [])


@cases("delete_queue", "takes the messages along, and may be repeated")
def _(here):
    message = connect(here)
    message.create_queue(name="builds", default_message_ttl=120)
    message.post_message("builds", [{"body": 1}])
    message.delete_queue("builds")
    same("queues", list(message.queues()), [])
    message.delete_queue("builds")
    message.delete_queue("builds", ignore_missing=False)  # never a 404
    message.create_queue(name="builds")
    same("messages", list(message.messages("builds")), [])
    same("default ttl", message.get_queue("builds").default_message_ttl, 3600)
