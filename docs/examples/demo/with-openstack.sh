# What demo.sh asks for, with OpenStack's own clients. It is read by demo.sh.

introduce_clients() {
	say "OpenStack's clients find nabu by a clouds.yaml. Without Keystone a token of user and project is all they have to show."
	cat >clouds.yaml <<-END
		clouds:
		  nabu:
		    auth_type: admin_token
		    auth: {endpoint: "$nabu", token: "ann:c0ffee"}
		    volume_api_version: "3.68"
		    block_storage_endpoint_override: $nabu/volume/v3/c0ffee
	END
	run 'cat clouds.yaml'
	run 'export OS_CLOUD=nabu OS_MESSAGE_CLIENT_ID=9b2f5a5e-03d1-4c55-8f0e-2f6a7c0e11d4'
	say "Only glance cannot read that, and keeps schemas at home."
	run 'glance() { HOME="$PWD" command glance --os-image-api-version 2 --os-image-url $nabu/image --os-auth-token ann:c0ffee "$@"; }'
}

claim_from_builds='openstack messaging claim create builds --ttl 60 --grace 60 --limit 1'

make_queue() { run "openstack messaging queue create $1"; }

post_message() { run "openstack messaging message post $1 '[{\"body\": $2}]'"; }

queue_stats() { run "openstack messaging queue stats $1"; }

subscribe() { run "openstack messaging subscription create $1 $2 600 --options '$3'"; }

create_task() { run "glance task-create --type import --input '$1'"; }

show_task() { run "glance task-show $1"; }

list_user_messages() { run 'openstack volume message list -c "Event ID" -c "Resource UUID" -c "User Message" -c "Request ID"'; }

tell_of_event() {
	run "$python - <<'END'
from keystoneauth1 import session, token_endpoint
from novaclient import client

neutron = session.Session(auth=token_endpoint.Token('$nabu/compute/v2.1', 'neutron:service'))
for event in client.Client('2.51', session=neutron).server_external_events.create([
    {'name': 'network-vif-plugged', 'server_uuid': '$1', 'tag': 'port-1'},
    {'name': 'network-vif-plugged', 'server_uuid': '$2', 'tag': 'port-2'},
]):
    print(event)
END"
}

# found_member is the value of a member in the last output, a table.
found_member() { sed -n "s/^| $1  *| \([^ ]*\).*/\1/p" out | head -1 | grep . || fail "there is no $1"; }
