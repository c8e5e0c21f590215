package policy

import "fmt"

// defaultRule is a rule that nabu ships.
type defaultRule struct {
	name, check string
	// legacy is what the default was until some release; empty: the same, or stricter.
	legacy string
}

// text is the rule's check.
func (d defaultRule) text(withLegacy bool) string {
	if withLegacy && d.legacy != "" {
		return fmt.Sprintf("(%s) or %s", d.check, d.legacy)
	}
	return d.check
}

// Checks that several defaults share.
const (
	anybody        = "" // of a project, whose data is separated from others' by itself
	admin          = "role:admin"
	adminOrService = "role:service or role:admin"
	adminOrReader  = "role:admin or (role:reader and project_id:%(project_id)s)"
	adminOrMember  = "role:admin or (role:member and project_id:%(project_id)s)"
	adminOrAuditor = "role:admin or (role:audit_viewer and project_id:%(project_id)s) or (role:manager and project_id:%(project_id)s)"

	// Cinder's default before Xena.
	adminOrOwner = "rule:admin_or_owner"
)

// defaults are the rules that nabu ships, by the names under which OpenStack's services
// have them, and a few of nabu's own.
var defaults = []defaultRule{
	{name: ruleIsAdmin, check: admin},
	{name: "admin_or_owner", check: "is_admin:True or project_id:%(project_id)s"},

	{name: "queues:get_all", check: anybody},
	{name: "queues:create", check: anybody},
	{name: "queues:get", check: anybody},
	{name: "queues:update", check: anybody},
	{name: "queues:delete", check: anybody},
	{name: "queues:stats", check: anybody},
	{name: "queues:share", check: anybody},
	{name: "queues:purge", check: anybody},
	{name: "messages:get_all", check: anybody},
	{name: "messages:create", check: anybody},
	{name: "messages:get", check: anybody},
	{name: "messages:delete", check: anybody},
	{name: "messages:delete_all", check: anybody},
	{name: "claims:create", check: anybody},
	{name: "claims:get", check: anybody},
	{name: "claims:update", check: anybody},
	{name: "claims:delete", check: anybody},
	{name: "subscription:get_all", check: anybody},
	{name: "subscription:create", check: anybody},
	{name: "subscription:get", check: anybody},
	{name: "subscription:update", check: anybody},
	{name: "subscription:delete", check: anybody},
	{name: "subscription:confirm", check: anybody},
	{name: "topics:get_all", check: anybody},
	{name: "topics:create", check: anybody},
	{name: "topics:get", check: anybody},
	{name: "topics:update", check: anybody},
	{name: "topics:delete", check: anybody},
	{name: "topics:stats", check: anybody},
	{name: "topics:purge", check: anybody},
	{name: "ping:get", check: anybody},
	{name: "health:get", check: admin},
	{name: "flavors:get_all", check: anybody},
	{name: "flavors:create", check: admin},
	{name: "flavors:get", check: anybody},
	{name: "flavors:update", check: admin},
	{name: "flavors:delete", check: admin},
	{name: "pools:get_all", check: admin},
	{name: "pools:create", check: admin},
	{name: "pools:get", check: admin},
	{name: "pools:update", check: admin},
	{name: "pools:delete", check: admin},

	{name: "tasks_api_access", check: "rule:" + ruleIsAdmin},
	{name: "get_image", check: adminOrReader},
	{name: "nabu:task_report", check: adminOrService},

	{name: "message:get_all", check: adminOrReader, legacy: adminOrOwner},
	{name: "message:get", check: adminOrReader, legacy: adminOrOwner},
	{name: "message:delete", check: adminOrMember, legacy: adminOrOwner},
	{name: "nabu:message_create", check: adminOrService},

	{name: "os_compute_api:os-server-external-events:create", check: adminOrService},
	{name: "nabu:server_hosts", check: adminOrService},

	{name: "event:list", check: adminOrAuditor},
	{name: "event:show", check: adminOrAuditor},
	{name: "nabu:history", check: adminOrAuditor},
}
