#!/usr/bin/env bash
# What nabu does, in little more than a minute: with OpenStack's own clients where this machine
# has them, and else with curl.
#
#   make demo
#   docs/examples/demo/demo.sh PROGRAMS [openstack|curl]
#
# PROGRAMS is a folder with nabu, host-agent and outside (see ./outside), as "make demo" builds
# them. What stands behind run or begin is printed and carried out, and must succeed; what stands
# behind shows or holds is checked against what the last command has printed. Whatever is not as
# it is said ends the demo with code 1. It has a nabu, a PostgreSQL and ports of its own, and
# leaves nothing behind. stage.sh has these words; make_queue, claim_from_builds and the like are
# in with-openstack.sh and with-curl.sh.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/stage.sh"
raise_curtain "$@"

title "nabu, for this demo alone"
say "All settings that are not nabu's defaults. With the last two images may come from this machine."
run 'cat nabu.yaml'
begin nabu 'exec nabu serve --config nabu.yaml'
await "nabu is ready" grep -q 'msg=ready' nabu.log
nabu="$(sed -n 's/.*msg=ready url=\([^ ]*\).*/\1/p' nabu.log)"
run "nabu=$nabu"
introduce_clients

title "1. A queue, and a worker that dies"
make_queue builds
post_message builds '{"job": 17, "event": "compiled"}'
say "A worker claims the message for 60 seconds, which is the least that Zaqar's API allows."
begin worker "$claim_from_builds && exec sleep 3600"
await "the worker has the message" grep -q 'job.*17' worker.log
result worker.log
say "Its machine burns down. It cannot give the message back."
strike_dead "$worker_pid"
say "Nobody else gets the message as long as the claim holds:"
run "$claim_from_builds"
shows_nothing "nothing is handed out"
say "That minute cannot be hurried. Until it is over, here is what else nabu does."

title "2. A webhook that fails twice"
say "Who would rather be called than ask subscribes: again at once after a failure, then after 2 s."
subscribe alerts "$outside/alerts" '{"_retry_policy": {"retries_with_no_delay": 1, "minimum_delay_retries": 3, "minimum_delay": 2}}'
subscription="$(found '[0-9a-f]\{8\}-[0-9a-f-]\{27\}')"
post_message alerts '{"disk": "full"}'
await "the subscriber has taken it" grep -q 'answered 204' outside.log
run 'grep ^message outside.log'
shows "the third attempt succeeds" 'attempt 1: answered 503' 'attempt 2: answered 503' 'attempt 3: answered 204'
say "What was tried, and what came of it, is in the history:"
await "the attempts are recorded" recorded delivered --stream "subscription/c0ffee/$subscription"
run "nabu events --config nabu.yaml -o table --stream subscription/c0ffee/$subscription"
shows "two retries, and the delivery" 'retry.*attempt 1.*status 503' 'retry.*attempt 2.*status 503' 'delivered.*attempt 3.*status 204'

title "3. A task that a worker does, and one that fails"
say "A user asks for two images, in Glance's way. The second is not what it is said to be."
create_task '{"import_from": "'"$outside"'/images/disk.raw", "import_from_format": "raw", "image_properties": {"name": "good", "disk_format": "raw", "container_format": "bare"}}'
shows "it waits" pending
good="$(found_member id)"
create_task '{"import_from": "'"$outside"'/images/disk.raw", "import_from_format": "qcow2", "image_properties": {"name": "bad", "disk_format": "qcow2", "container_format": "bare"}}'
bad="$(found_member id)"
request="$(found_member request_id)"
say "nabu's own worker does such tasks, until there is none. It may run on any machine."
run "nabu worker --config nabu.yaml --worker-endpoint $nabu --worker-dir worker --once"
show_task "$good"
shows "the first one is done" success
image="$(found 'image_id[^0-9a-f]*[0-9a-f-]\{36\}' | grep -o '[0-9a-f-]\{36\}$')"
say "There is no image service here, so the image is a file. It is what was asked for:"
run "cmp worker/images/$image images/disk.raw && echo the same bytes"
show_task "$bad"
shows "the second one has failed, and says why" failure 'not qcow2'
say "With task_failures_to_user_messages it is also where users look for what went wrong, in Cinder's way:"
list_user_messages
shows "there is one about that task" IMAGE_TASK_101 "$bad" 'import image:'

title "4. External events that reach a host's agent"
server=11111111-1111-4111-8111-111111111111
say "nabu has to know where the server is. Then Neutron tells, in Nova's way, what has happened."
run "curl -sS -X PUT $nabu/compute/v2.1/os-server-hosts/$server -H 'X-Auth-Token: nova:service' -H 'Content-Type: application/json' -d '{\"server_host\": {\"host\": \"compute1\"}}'"
shows "nabu knows" '"host": *"compute1"'
begin agent "exec host-agent --nabu $nabu --host compute1 --journal agent.journal"
tell_of_event "$server" 22222222-2222-4222-8222-222222222222
shows "each event has its own answer" "code.*200" "code.*404"
say "On compute1 the agent (docs/examples/host-agent) waits in a claim of its queue. It prints:"
await "the agent has the event" grep -q network-vif-plugged agent.log
result agent.log
shows "the event is there, and the other is not" "\"server_uuid\":\"$server\"" '"host":"compute1"'
shows_not "22222222-2222-4222"

title "5. The message of the dead worker"
say "A second worker waits for it. The request is answered when the first claim is over (nabu's own: wait)."
run 'worker() { curl -sS -H "Client-ID: 0c6b1d0a-5f5e-4d0b-a3d5-6a7d3f1c2e90" -H "X-Auth-Token: worker2:c0ffee" -H "Content-Type: application/json" "$@"; }'
run 'while answer="$(worker -X POST "$nabu/v2/queues/builds/claims?limit=1&wait=20" -d "{\"ttl\": 60, \"grace\": 60}")" && test -z "$answer"; do :; done; echo "$answer"'
shows "it is the same message" '"job": 17'
href="$(found '/v2/queues/builds/messages/[^"]*')"
message="$(echo "$href" | sed 's/.*messages\/\([^?]*\).*/\1/')"
say "This one does its work. What is done is deleted:"
run "worker -X DELETE '$nabu$href' -w '%{http_code}\\n'"
shows "it is gone" 204
queue_stats builds
shows "the queue is empty" 'total[^0-9]*0'

title "6. What has happened"
say "The life of that message, with who did it and when:"
await "the deletion is in the index of messages" recorded messages.deleted --message "$message"
run "nabu events --config nabu.yaml -o table --message $message"
shows "posted, claimed, claimed again, deleted" messages.posted.v1 'messages.claimed.v1.*for 60 s' messages.deleted.v1
holds "a minute lies between the two claims" a_minute_apart messages.claimed.v1
say "All that came of one request, the one for the image that failed, up to the user message:"
run "nabu events --config nabu.yaml -o table --request $request"
shows "the task, the message for its worker, and what the worker did" task.created.v1 messages.posted.v1 task.begun.v1 'task.failed.v1.*not qcow2' 'user-message.recorded.v1.*IMAGE_TASK_101'
say "What clients read is made of that history alone. Does it add up, to the last row?"
run "nabu replay --config nabu.yaml --check && echo nothing differs"
shows "it does" '^nothing differs$'

title "The end"
say "nabu stops as it is told to, and the folder with its data goes."
lower_curtain
say "All of this was as it was said, after $SECONDS s."
