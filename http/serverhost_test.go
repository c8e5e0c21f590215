package http

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nabu/domain"
)

func TestServersAndTheirHosts(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.faulty("GET", hostsPath+"/"+onC1, ``, 404, "itemNotFound", "Server "+onC1+" could not be found.")
	body := `{"server_host": {"host": "compute1", "node": "n1", "source_host": null, "dest_host": "compute2", "state": "active", "observed_at": "2026-03-01T02:00:00Z"}}`
	row := `{"server_host":{"server_uuid":"` + onC1 + `","host":"compute1","node":"n1","source_host":null,"dest_host":"compute2","state":"active","deleted":false,"observed_at":"2026-03-01T02:00:00Z","source":"api"}}`
	a.call("PUT", hostsPath+"/"+onC1, body, 200).is(row)
	a.call("PUT", hostsPath+"/"+onC1, body, 200).is(row) // the same again records nothing
	a.expectKinds("server.assigned")
	stale := `{"server_host": {"host": "compute9", "observed_at": "2026-03-01 01:59:59.999999"}}`
	a.call("PUT", hostsPath+"/"+onC1, stale, 200).is(row)
	a.expectKinds("server.observation-ignored")
	a.call("GET", hostsPath+"/"+strings.ToUpper(strings.ReplaceAll(onC1, "-", "")), ``, 200).is(row)
	a.call("PUT", hostsPath+"/"+onC1, `{"server_host": {}}`, 200)
	a.expectKinds("server.unassigned")
	a.call("DELETE", hostsPath+"/"+onC1, ``, 204)
	a.expectKinds("server.forgotten")
	a.faulty("DELETE", hostsPath+"/"+onC1, ``, 404, "itemNotFound", "Server "+onC1+" could not be found.")
	a.faulty("GET", hostsPath+"/"+onC1, ``, 404, "itemNotFound", "Server "+onC1+" could not be found.")
	if got := a.call("PUT", hostsPath+"/"+onC1, body, 200); !strings.Contains(got.body, `"deleted":true`) {
		t.Errorf("an old word on a forgotten server: %s", got.body)
	}
	a.expectKinds("server.observation-ignored")
	if got := a.call("POST", eventsPath, novaSample(t, "ok-request"), 207); !strings.Contains(got.body, `"code": 404`) {
		t.Errorf("an event of a forgotten server: %s", got.body)
	}
	a.kinds()
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		a.faulty(method, hostsPath+"/"+onC1, body, 403, "forbidden", "Policy doesn't allow nabu:server_hosts to be performed.", "X-Roles", "member")
		a.faulty(method, hostsPath+"/x", body, 400, "badRequest", "Invalid input for field/attribute server_uuid. Value: x. 'x' is not a 'uuid'")
	}
	for body, message := range map[string]string{
		`{}`:                                                       "'server_host' is a required property",
		`{"server_host": null}`:                                    "Invalid input for field/attribute server_host. Value: None. None is not of type 'object'",
		`{"server_host": {"server_uuid": "x"}}`:                    "Invalid input for field/attribute server_host. Value: {'server_uuid': 'x'}. Additional properties are not allowed ('server_uuid' was unexpected)",
		`{"server_host": {"host": 1}}`:                             "Invalid input for field/attribute host. Value: 1. 1 is not of type 'string', 'null'",
		`{"server_host": {"node": "\u0000"}}`:                      "node must not be longer than 255 characters, nor hold a NUL",
		`{"server_host": {"project_id": "\u0000"}}`:                "project_id: project id must have 1 to 256 characters of UTF-8, and no NUL",
		`{"server_host": {"observed_at": "x"}}`:                    "Invalid input for field/attribute observed_at. Value: x. 'x' is not a 'date-time'",
		`{"server_host": {"observed_at": null}}`:                   "Invalid input for field/attribute observed_at. Value: None. None is not of type 'string'",
		`{"server_host": {"observed_at": "1969-12-31T23:59:59Z"}}`: "observed_at must not be before 1970",
	} {
		a.faulty("PUT", hostsPath+"/"+onC1, body, 400, "badRequest", message)
	}
	long := strings.Repeat("[", 90) + `"` + strings.Repeat("ä", 50_000) + `"` + strings.Repeat("]", 90)
	repeated := strings.Repeat("[", 90) + `"` + strings.Repeat("ä", (longestShown-91)/2) + "..."
	a.faulty("PUT", hostsPath+"/"+onC1, `{"server_host": `+long+`}`, 400, "badRequest",
		"Invalid input for field/attribute server_host. Value: "+repeated+". "+repeated+" is not of type 'object'")
}

// Whose a server is stays known, also of one that was forgotten: users are told there of its
// events that are rejected.
func TestWhoseServersAre(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) {
		cfg.Computes.Events = domain.DefaultEventRules()
		cfg.Computes.Events.ToMessages = true
	})
	has := func(got answer, project string) {
		t.Helper()
		if strings.Contains(got.body, `"project_id"`) != (project != "") || project != "" && !strings.Contains(got.body, `"project_id":"`+project+`"`) {
			t.Errorf("not of %q: %s", project, got.body)
		}
	}
	path := hostsPath + "/" + onC1
	has(a.call("PUT", path, `{"server_host": {"project_id": null}}`, 200), "")
	has(a.call("PUT", path, `{"server_host": {"project_id": "a1"}}`, 200), "a1")
	has(a.call("PUT", path, `{"server_host": {"host": "c1", "project_id": ""}}`, 200), "a1")
	has(a.call("GET", path, ``, 200), "a1")
	has(a.call("GET", hostsPath+"?host=c1", ``, 200), "a1")
	a.call("PUT", path, `{"server_host": {"project_id": "b2", "observed_at": "2020-01-01T00:00:00Z"}}`, 200)
	a.call("POST", hostsPath, `{"server_hosts": [{"server_uuid": "`+onC1+`"}]}`, 200)
	has(a.call("GET", path, ``, 200), "a1")
	a.call("DELETE", path, ``, 204)
	volume := "f292cc0c-54a7-4b3b-8174-d2ff82d87008"
	a.call("POST", eventsPath, `{"events": [{"name": "volume-reimaged", "server_uuid": "`+onC1+`", "tag": "`+volume+`"}]}`, 207,
		"OpenStack-API-Version", "compute 2.93")
	list := a.call("GET", "/v3/messages?project_id=a1", ``, 200, "OpenStack-API-Version", "volume 3.71")
	if !strings.Contains(list.body, volume) {
		t.Errorf("a1 is told %s", list.body)
	}
}

func TestManyServersAtOnce(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	item := func(n int, rest string) string {
		return fmt.Sprintf(`{"server_uuid": "00000000-0000-0000-0000-%012d"%s}`, n, rest)
	}
	seed := `{"server_hosts": [` + item(3, `, "host": "c1"`) + `, ` + item(1, `, "host": "c2", "source_host": "c1"`) + `, ` +
		item(2, `, "dest_host": "c1"`) + `, ` + item(0, ``) + `]}`
	got := a.call("POST", hostsPath, seed, 200)
	if strings.Count(got.body, `"code":200`) != 4 || strings.Contains(got.body, "message") {
		t.Errorf("answered %s", got.body)
	}
	a.expectKinds("server.assigned", "server.assigned", "server.assigned", "server.unassigned")
	mixed := `{"server_hosts": [` + item(4, `, "host": "c3"`) + `, {"server_uuid": "x"}, {"host": "c1"}, 5, ` + item(5, `, "observed_at": "then"`) + `]}`
	got = a.call("POST", hostsPath, mixed, 207)
	var answers struct {
		Hosts []struct {
			Server  any `json:"server_uuid"`
			Code    int
			Message string
		} `json:"server_hosts"`
	}
	got.into(&answers)
	for i, code := range []int{200, 400, 400, 400, 400} {
		if its := answers.Hosts[i]; its.Code != code || (its.Message == "") != (code == 200) {
			t.Errorf("item %d: %+v", i, its)
		}
	}
	a.expectKinds("server.assigned")
	ids := func(query string) (ids []string) {
		t.Helper()
		var page struct {
			Hosts []struct {
				Server string `json:"server_uuid"`
			} `json:"server_hosts"`
		}
		a.call("GET", hostsPath+query, ``, 200).into(&page)
		for _, its := range page.Hosts {
			ids = append(ids, strings.TrimLeft(its.Server, "0-"))
		}
		return ids
	}
	for query, want := range map[string][]string{
		"":                               {"", "1", "2", "3", "4"},
		"?limit=2":                       {"", "1"},
		"?limit=0":                       nil,
		"?limit=99999999999999999999999": {"", "1", "2", "3", "4"},
		"?host=c1":                       {"1", "2", "3"},
		"?host=c1&limit=1&marker=00000000-0000-0000-0000-000000000001": {"2"},
		"?host=c2":  {"1"},
		"?host=c9":  nil,
		"?host=%00": nil,
		"?marker=00000000-0000-0000-0000-000000000000": {"1", "2", "3", "4"},
		"?marker=ffffffff-0000-0000-0000-000000000000": nil,
	} {
		if diff := cmp.Diff(want, ids(query)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
	a.call("GET", hostsPath+"?host=c9", ``, 200).is(`{"server_hosts":[]}`)
	for _, query := range []string{"?limit=-1", "?limit=x", "?limit=", "?marker=x"} {
		a.call("GET", hostsPath+query, ``, 400)
	}
	a.call("GET", hostsPath, ``, 403, "X-Roles", "reader")
	// Who may not has nothing of his parsed.
	for _, path := range []string{hostsPath, hostsPath + "/" + onC1, hostsPath + "/x", hostsPath + "?limit=x", "/v2.1/os-host-queues/" + strings.Repeat("h", 256)} {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
			if got := a.send(method, path, strings.NewReader(`{"nonsense`), "X-Roles", "member"); got.status != 403 && got.status != 404 {
				t.Errorf("%s %s: %d %s", method, path, got.status, got.body)
			}
		}
	}
	a.call("POST", hostsPath, seed, 403, "X-Roles", "reader")
	for _, body := range []string{`{"server_hosts": []}`, `{"server_hosts": 1}`, `{"servers": []}`, `{"server_hosts": [` + strings.Repeat(item(7, "")+",", 1000) + item(7, "") + `]}`} {
		a.call("POST", hostsPath, body, 400)
	}
	a.expectKinds()
	a.call("POST", hostsPath, `{"server_hosts": [`+strings.Repeat(item(7, `, "host": "c7", "observed_at": "2026-03-01T02:00:00Z"`)+",", 999)+item(7, "")+`]}`, 200)
	a.expectKinds("server.assigned", "server.unassigned")
}

func TestQueuesOfHosts(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.Computes.Events = domain.EventRules{ServiceProject: "ops", TTL: 600} })
	a.call("GET", "/compute/v2.1/os-host-queues/compute1", ``, 200).
		is(`{"host_queue":{"host":"compute1","queue":"nova-events.compute1","ttl":600,"project_id":"ops"}}`)
	odd := a.call("GET", "/compute/v2.1/os-host-queues/a%2Fb%20c", ``, 200)
	if !strings.Contains(odd.body, `"host":"a/b c","queue":"`+domain.HostQueue("a/b c")+`"`) {
		t.Errorf("the queue of an odd host: %s", odd.body)
	}
	a.call("GET", "/v2.1/os-host-queues/"+strings.Repeat("h", 256), ``, 400)
	a.call("GET", "/v2.1/os-host-queues/c1", ``, 403, "X-Roles", "member")
	a.expectKinds()
}
