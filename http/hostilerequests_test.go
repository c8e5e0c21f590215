package http

import (
	"slices"
	"strings"
)

// properRequest is what a client sends a route that means well.
type properRequest struct {
	body     string
	headers  []string // besides the usual ones
	asks     []string // the names of its query parameters
	refused  int      // the status, of a route that does nothing for anybody
	consumes bool     // it can be done only once
	// ofAnybody: services do it to what any project has.
	ofAnybody bool
}

// properHeaders are those that most requests have.
var properHeaders = []string{
	"Client-ID: " + ours, "X-Project-Id: " + mine, "X-Roles: member,reader,service", "X-User-Id: ann",
	"OpenStack-API-Version: volume 3.71, compute 2.104",
}

const aServer = `{"host": "compute1", "node": "n", "source_host": null, "dest_host": "compute2", "state": "active", "observed_at": "2026-03-01T10:00:00Z"`

// properRequests are those of all routes of the tables.
var properRequests = map[string]properRequest{
	"GET /":          {},
	"GET /v2":        {},
	"GET /v2/":       {},
	"GET /v2/ping":   {},
	"HEAD /v2/ping":  {},
	"GET /v2/health": {headers: []string{"X-Roles: admin"}},
	"GET /ws":        {refused: 426},

	"GET /v2/queues":          {asks: []string{"marker", "limit", "detailed", "with_count", "name", "a"}},
	"PUT /v2/queues/:queue":   {body: `{"a": {"b": [1]}, "_default_message_ttl": 3600, "_default_message_delay": 0, "_max_messages_post_size": 1000, "_dead_letter_queue": "d", "_max_claim_count": 3, "_flavor": "f"}`},
	"GET /v2/queues/:queue":   {},
	"HEAD /v2/queues/:queue":  {},
	"PATCH /v2/queues/:queue": {body: `[{"op": "add", "path": "/metadata/b", "value": {"c": [1]}}, {"op": "replace", "path": "/metadata/a", "value": 2}, {"op": "remove", "path": "/metadata/a"}]`, headers: []string{"Content-Type: " + patchType}, consumes: true},

	"DELETE /v2/queues/:queue":                   {consumes: true},
	"GET /v2/queues/:queue/stats":                {},
	"POST /v2/queues/:queue/purge":               {body: `{"resource_types": ["messages", "subscriptions"]}`},
	"POST /v2/queues/:queue/share":               {body: `{"paths": ["messages", "claims"], "methods": ["GET", "POST"], "expires": "2026-03-02T10:00:00"}`},
	"POST /v2/queues/:queue/share/revoke":        {body: `{"all": true}`},
	"POST /v2/queues/:queue/messages":            {body: `{"messages": [{"body": {"a": [1]}, "ttl": 300, "delay": 1}]}`},
	"GET /v2/queues/:queue/messages":             {asks: []string{"marker", "limit", "echo", "include_claimed", "include_delayed", "ids", "wait"}},
	"DELETE /v2/queues/:queue/messages":          {asks: []string{"ids", "pop", "claim_ids"}, refused: 400},
	"GET /v2/queues/:queue/messages/:message":    {asks: []string{"claim_id"}},
	"DELETE /v2/queues/:queue/messages/:message": {asks: []string{"claim_id"}, consumes: true},
	"POST /v2/queues/:queue/claims":              {body: `{"ttl": 300, "grace": 60, "limit": 1}`, asks: []string{"limit", "wait"}},
	"GET /v2/queues/:queue/claims/:claim":        {},
	"PATCH /v2/queues/:queue/claims/:claim":      {body: `{"ttl": 300, "grace": 60}`},
	"DELETE /v2/queues/:queue/claims/:claim":     {consumes: true},
	"POST /v2/queues/:queue/subscriptions": {
		body:     `{"subscriber": "http://x.example/", "ttl": 3600, "options": {"_retry_policy": {"minimum_delay": 10, "maximum_delay": 20, "retries_with_no_delay": 1, "minimum_delay_retries": 1, "maximum_delay_retries": 1, "retry_backoff_function": "linear", "ignore_subscription_override": false}, "filter_policies": {"a": ["b", {"prefix": "c"}, {"range": {"gte": 2, "lt": 10}}, {"exists": false}]}, "post_data": "x", "post_headers": {"X": "y"}}}`,
		consumes: true,
	},
	"GET /v2/queues/:queue/subscriptions":                       {asks: []string{"marker", "limit", "detailed"}},
	"GET /v2/queues/:queue/subscriptions/:subscription":         {},
	"PATCH /v2/queues/:queue/subscriptions/:subscription":       {body: `{"subscriber": "http://y.example/", "ttl": 3600, "options": {"a": 1}}`, consumes: true},
	"DELETE /v2/queues/:queue/subscriptions/:subscription":      {consumes: true},
	"PUT /v2/queues/:queue/subscriptions/:subscription/confirm": {body: `{"confirmed": true}`},

	"POST /v2/tasks":              {body: `{"type": "import", "input": ` + imported + `}`},
	"GET /v2/tasks":               {asks: []string{"marker", "limit", "sort_key", "sort_dir", "type", "status", "id"}},
	"GET /v2/tasks/:task":         {},
	"DELETE /v2/tasks/:task":      {refused: 405},
	"POST /v2/tasks/:task/action": {body: `{"begin": {"worker": "w1", "message": "x"}}`, consumes: true, ofAnybody: true},
	"GET /v2/images/:image/tasks": {},
	"GET /v2/schemas/task":        {},
	"GET /v2/schemas/tasks":       {},

	"GET /v3/:project/messages": {asks: []string{"marker", "limit", "offset", "sort", "sort_key", "sort_dir", "resource_type", "resource_uuid", "event_id", "message_level", "request_id", "resource_uuid~", "all_tenants"}},
	"POST /v3/:project/messages": {
		body: `{"message": {"action_id": "001", "exception": "NoValidBackend", "detail_id": "003", "resource_uuid": "f292cc0c-54a7-4b3b-8174-d2ff82d87008", "resource_type": "VOLUME", "message_level": "ERROR", "id": "5a2c7a0e-1b2c-4d3e-8f90-1a2b3c4d5e6f"}}`,
	},
	"GET /v3/:project/messages/:message":    {},
	"DELETE /v3/:project/messages/:message": {consumes: true},
	"GET /v3/messages":                      {asks: []string{"marker", "limit", "sort"}},
	"GET /v3/messages/:message":             {},
	"DELETE /v3/messages/:message":          {consumes: true},

	"POST /v2.1/os-server-external-events": {body: `{"events": [{"name": "network-changed", "server_uuid": "` + onC1 + `", "status": "completed", "tag": "t"}]}`},
	"GET /v2.1/os-server-hosts":            {asks: []string{"marker", "limit", "host"}},
	"POST /v2.1/os-server-hosts":           {body: `{"server_hosts": [` + aServer + `, "server_uuid": "` + onC1 + `"}]}`},
	"GET /v2.1/os-server-hosts/:server":    {},
	"PUT /v2.1/os-server-hosts/:server":    {body: `{"server_host": ` + aServer + `}}`},
	"DELETE /v2.1/os-server-hosts/:server": {},
	"GET /v2.1/os-host-queues/:host":       {},
}

// properFrames are the bodies of all actions.
var properFrames = map[string]string{
	"queue_list":          `{"marker": "a", "limit": 3, "detailed": true}`,
	"queue_create":        `{"queue_name": "q", "metadata": {"a": [1], "_default_message_ttl": 3600}}`,
	"queue_get":           `{"queue_name": "q"}`,
	"queue_get_stats":     `{"queue_name": "q"}`,
	"queue_delete":        `{"queue_name": "q9"}`,
	"queue_purge":         `{"queue_name": "q9", "resource_types": ["messages"]}`,
	"message_post":        `{"queue_name": "q", "messages": [{"body": {"a": 1}, "ttl": 300, "delay": 1}]}`,
	"message_list":        `{"queue_name": "q", "marker": "1", "limit": 3, "echo": true, "include_claimed": true, "include_delayed": false}`,
	"message_get":         `{"queue_name": "q", "message_id": ":message"}`,
	"message_get_many":    `{"queue_name": "q", "message_ids": [":message"]}`,
	"message_delete":      `{"queue_name": "q", "message_id": ":message", "claim_id": ":claim"}`,
	"message_delete_many": `{"queue_name": "q", "message_ids": [":message"], "claim_ids": [":claim"], "pop": 1}`,
	"claim_create":        `{"queue_name": "q", "ttl": 300, "grace": 60, "limit": 1}`,
	"claim_get":           `{"queue_name": "q", "claim_id": ":claim"}`,
	"claim_update":        `{"queue_name": "q", "claim_id": ":claim", "ttl": 300, "grace": 60}`,
	"claim_delete":        `{"queue_name": "q", "claim_id": ":claim"}`,
	"subscription_create": `{"queue_name": "q", "subscriber": "http://x.example/", "ttl": 300, "options": {"a": 1}}`,
	"subscription_list":   `{"queue_name": "q", "marker": ":subscription", "limit": 3}`,
	"subscription_get":    `{"queue_name": "q", "subscription_id": ":subscription"}`,
	"subscription_delete": `{"queue_name": "q", "subscription_id": ":subscription"}`,
}

// request is the proper request of a route.
func (p properRequest) request(r route, w *city) hostile {
	h := hostile{method: r.method, target: w.path(r.path, w.own), headers: slices.Clone(properHeaders), body: p.body}
	if p.body != "" && !strings.Contains(strings.Join(p.headers, ""), "Content-Type") {
		h = h.with("Content-Type: application/json")
	}
	for _, line := range p.headers {
		h = h.onlyWith(line)
	}
	return h
}
