package http

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"nabu/internal/policy"
)

// withPolicy has a server obey an operator's rules.
func withPolicy(t testing.TB, file string) func(*Config) {
	t.Helper()
	p, err := policy.New(policy.Options{File: []byte(file)})
	if err != nil {
		t.Fatal(err)
	}
	return func(cfg *Config) { cfg.Policy = p }
}

// openRoutes are those of the tables that need no rule.
var openRoutes = []string{
	"GET /", "GET /v2", "GET /v2/", "GET /ws",
	"GET /messaging", "GET /messaging/", "GET /messaging/v2", "GET /messaging/v2/", "GET /messaging/ws",
	"GET /:version/schemas/task", "GET /:version/schemas/tasks", "GET /image/:version/schemas/task", "GET /image/:version/schemas/tasks",
}

// versionPaths answer every method with a list of versions.
var versionPaths = []string{"/image", "/image/", "/image/v2", "/image/v2/", "/image/versions", "/image/versions/", "/image/*", "/volume", "/volume/", "/volume/v3", "/volume/v3/", "/v3", "/v3/",
	"/compute", "/compute/", "/compute/v2.1", "/compute/v2.1/", "/compute/v2", "/compute/v2/", "/compute/*", "/v2.1", "/v2.1/"}

// operatorRoutes answer who operates nabu; they are open too.
var operatorRoutes = []string{
	"GET /healthz", "HEAD /healthz", "GET /readyz", "HEAD /readyz", "GET /healthcheck", "HEAD /healthcheck", "GET /metrics",
	"GET /image/healthcheck", "HEAD /image/healthcheck", "GET /volume/healthcheck", "HEAD /volume/healthcheck",
	"GET /compute/healthcheck", "HEAD /compute/healthcheck",
}

// TestEveryRouteHasARule: echo knows no route that was not added with the rule of its line
// in a table, which the policy knows, or as an open one.
func TestEveryRouteHasARule(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.Metrics = http.NotFoundHandler() })
	lines := map[routeKey]string{}
	for _, table := range a.server.tables() {
		for _, r := range table.routes {
			for _, address := range append(table.addresses("", r.path), table.addresses(table.prefix, r.path)...) {
				lines[routeKey{address, r.method}] = r.rule
			}
		}
	}
	for _, r := range a.server.echo.Routes() {
		key, name := routeKey{r.Path, r.Method}, r.Method+" "+r.Path
		rule, added := a.server.rules[key]
		line, listed := lines[key]
		switch {
		case !added:
			t.Errorf("%s has neither a rule nor the mark of an open route", name)
		case listed && rule != line:
			t.Errorf("%s is added with the rule %q, not with %q", name, rule, line)
		case rule != open && !a.server.Policy.Knows(rule):
			t.Errorf("%s has the rule %s, which the policy does not know", name, rule)
		case rule == open && listed != slices.Contains(openRoutes, name) && !slices.Contains(operatorRoutes, name):
			t.Errorf("%s is open", name)
		case rule == open && !listed && !slices.Contains(operatorRoutes, name) && !slices.Contains(versionPaths, r.Path) &&
			r.Method != echo.RouteNotFound:
			if got := a.send(r.Method, inPath.Replace(r.Path), nil); got.status < 400 && r.Method != "OPTIONS" {
				t.Errorf("%s is in no table, and answers %d: %s", name, got.status, got.body)
			}
		}
		delete(lines, key)
	}
	if len(lines) > 0 {
		t.Errorf("not added: %v", lines)
	}
	for name, action := range actions {
		if !a.server.Policy.Knows(action.rule) {
			t.Errorf("the action %s has the rule %q, which the policy does not know", name, action.rule)
		}
	}
}

// inPath gives the names in a route's path values.
var inPath = strings.NewReplacer(":queue", "q", ":message", "m", ":claim", "c", ":subscription", "s", ":version", "v2", ":task", "t", ":image", "i", ":project", "a1", ":server", onC1, ":host", "h")

// understood are bodies of requests whose rule is asked when they are understood.
var understood = map[string]string{
	"POST /v2.1/os-server-external-events": `{"events": [{"name": "network-changed", "server_uuid": "` + onC1 + `"}]}`,
	"POST /v2.1/os-server-hosts":           `{"server_hosts": [{"server_uuid": "` + onC1 + `"}]}`,
	"PUT /v2.1/os-server-hosts/:server":    `{"server_host": {}}`,
}

func TestARouteWithoutARuleIsNotAdded(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("it was added")
		}
	}()
	newAPI(t).server.add("GET", "/x", "", nil)
}

// headersOf are what a request to an API has besides the usual headers.
func headersOf(api string) []string {
	if api == VolumeAPI {
		return inA1
	}
	return nil
}

// nobody is a policy that lets nobody do anything.
func nobody() string {
	var file strings.Builder
	for _, r := range policy.Default().Rules() {
		file.WriteString(`"` + r.Name + `": "!"` + "\n")
	}
	return file.String()
}

// TestEveryRouteObeysItsRule: with a policy that lets nobody do anything, each route and
// each action names its rule and changes nothing.
func TestEveryRouteObeysItsRule(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withPolicy(t, nobody())).stopWith()
	w := a.dial("/v2", false)
	forbidden := 0
	for _, r := range Routes() {
		says := "Policy does not allow " + r.Rule + " to be performed."
		switch r.API {
		case ImageAPI:
			says = "You are not authorized to complete " + r.Rule + " action."
		case VolumeAPI, ComputeAPI:
			says = "Policy doesn't allow " + r.Rule + " to be performed."
		}
		switch {
		case r.Path == onWebSocket:
			forbidden++
			w.send(`{"action": "` + r.Method + `", "headers": {` + oursAndP1 + `}, "body": ` + bodyOf(actions[r.Method].knows) + `}`)
			if got := w.receive(); !strings.Contains(got.body, `"body":{"error":"`+says+`"}`) || !strings.Contains(got.body, `"status":403`) {
				t.Errorf("%s: %s", r.Method, got.body)
			}
		case r.Rule != "":
			forbidden++
			path := inPath.Replace(r.Path)
			got := a.send(r.Method, path, strings.NewReader(cmp.Or(understood[r.Method+" "+r.Path], `{}`)), headersOf(r.API)...)
			if got.status != 403 || r.Method != "HEAD" && !strings.Contains(got.body, says) {
				t.Errorf("%s %s: %d %s", r.Method, path, got.status, got.body)
			}
		case r.Rule == "":
			if got := a.send(r.Method, r.Path, nil); got.status == 403 {
				t.Errorf("%s %s: %s", r.Method, r.Path, got.body)
			}
		}
	}
	if forbidden < 40 {
		t.Errorf("only %d were asked for", forbidden)
	}
	a.recorded()
}

// bodyOf is a frame's body that has what the action needs.
func bodyOf(knows parameters) string {
	values := map[shape]string{aText: `"x"`, aNumber: `1`, aFlag: `true`, aList: `[]`, anObject: `{}`}
	var members []string
	for _, p := range knows {
		if p.required {
			members = append(members, `"`+p.name+`": `+values[p.shape])
		}
	}
	return "{" + strings.Join(members, ", ") + "}"
}

// TestOperatorsRulesCount: what the file says holds for requests and for frames alike.
func TestOperatorsRulesCount(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withPolicy(t, `
"queues:create": role:member and not role:suspended
"queues:delete": user_id:ann and project_id:%(project_id)s
"queues:get_all": project_id:p1
"health:get": "@"
`)).stopWith()
	a.call("PUT", "/v2/queues/q", ``, 403, "X-Roles", "reader").refused("Not authorized")
	a.call("PUT", "/v2/queues/q", ``, 403, "X-Roles", "Member, Suspended").refused("Not authorized")
	a.call("PUT", "/v2/queues/q", ``, 403, "X-Roles", " , ").refused("Not authorized")
	a.recorded()
	a.call("PUT", "/v2/queues/q", ``, 201, "X-Roles", " MEMBER ")
	a.call("GET", "/v2/queues", ``, 200, "X-Roles", "nobody")
	a.call("GET", "/v2/queues", ``, 403, "X-Project-ID", "p2").refused("Not authorized")
	a.call("GET", "/v2/health", ``, 200, "X-Roles", "nobody")

	w := a.dial("/v2", false)
	w.ask("queue_list", `{}`, 200)
	w.refused("queue_delete", `{"queue_name": "q"}`, 403, "Policy does not allow queues:delete to be performed.")
	a.call("DELETE", "/v2/queues/q", ``, 403).refused("Not authorized")
	a.call("DELETE", "/v2/queues/q", ``, 204, "X-User-ID", "ann")
}
