# What demo.sh asks for, with curl alone. It is read by demo.sh.

introduce_clients() {
	say "OpenStack's clients are not used: they are not on this machine (make clients), or curl was asked for."
	run 'api() { curl -sS --fail-with-body -H "Client-ID: 9b2f5a5e-03d1-4c55-8f0e-2f6a7c0e11d4" -H "X-Auth-Token: ann:c0ffee" -H "Content-Type: application/json" "$@"; }'
}

claim_from_builds='api -X POST "$nabu/v2/queues/builds/claims?limit=1" -d "{\"ttl\": 60, \"grace\": 60}"'

make_queue() { run "api -X PUT \$nabu/v2/queues/$1"; }

post_message() { run "api \$nabu/v2/queues/$1/messages -d '{\"messages\": [{\"body\": $2}]}'"; }

queue_stats() { run "api \$nabu/v2/queues/$1/stats"; }

subscribe() { run "api \$nabu/v2/queues/$1/subscriptions -d '{\"subscriber\": \"$2\", \"ttl\": 600, \"options\": $3}'"; }

create_task() { run "api \$nabu/image/v2/tasks -d '{\"type\": \"import\", \"input\": $1}'"; }

show_task() { run "api \$nabu/image/v2/tasks/$1"; }

list_user_messages() { run 'api -H "OpenStack-API-Version: volume 3.68" $nabu/volume/v3/c0ffee/messages'; }

tell_of_event() {
	run "api \$nabu/compute/v2.1/os-server-external-events -d '{\"events\": [
  {\"name\": \"network-vif-plugged\", \"server_uuid\": \"$1\", \"tag\": \"port-1\"},
  {\"name\": \"network-vif-plugged\", \"server_uuid\": \"$2\", \"tag\": \"port-2\"}]}'"
}

# found_member is the value of a member in the last output, an object.
found_member() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" out | head -1 | grep . || fail "there is no $1"; }
