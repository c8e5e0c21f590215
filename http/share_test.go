package http

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"nabu/domain"
	"nabu/internal/signedurl"
)

// show is a signed URL as the headers of a request, without any other identity.
func (u shared) show() []string {
	return []string{
		"URL-Signature", u.Signature, "URL-Expires", u.Expires, "URL-Methods", strings.Join(u.Methods, ","),
		"URL-Paths", strings.Join(u.Paths, ","), "X-Project-ID", u.Project, "X-User-ID", "", "X-Roles", "admin",
	}
}

// share makes a signed URL of a queue.
func (a *api) share(queue, body string) (u shared) {
	a.Helper()
	a.call("POST", "/v2/queues/"+queue+"/share", body, 200).into(&u)
	return u
}

// What Zaqar has signed with the same key is signed the same here, and can be used.
func TestZaqarsSamples(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	const project = "c0ffee00c0ffee00c0ffee00c0ffee00"
	var u shared
	a.call("POST", "/messaging/v2/queues/builds/share",
		`{"paths": ["messages", "claims"], "methods": ["POST", "GET"], "expires": "2036-03-02T10:00:00"}`, 200,
		"X-Project-ID", project).has("Content-Type", "application/json").is(`{
			"paths": ["/v2/queues/builds/claims", "/v2/queues/builds/messages"], "methods": ["GET", "POST"],
			"project": "` + project + `", "expires": "2036-03-02T10:00:00",
			"signature": "c5cdea77e8fe2bc332c030edd36aa60a0771c35b23c4cf3b84178a229d86b5f9"}`).into(&u)
	for _, prefix := range []string{"", "/messaging"} {
		a.call("GET", prefix+"/v2/queues/builds/messages", ``, 200, u.show()...).is(`{"messages": [], "links": []}`)
		a.call("DELETE", prefix+"/v2/queues/builds/messages?pop=1", ``, 404, u.show()...).is(`{"title": "404 Not Found"}`)
		a.call("GET", prefix+"/v2/queues/builds/messages", ``, 404, append(u.show(), "X-Project-ID", "other")...).is(`{"title": "404 Not Found"}`)
	}
	a.recorded()
}

func TestShare(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	tests := map[string]struct {
		body   string
		title  string
		answer shared
	}{
		"nothing said":     {`{}`, "", shared{[]string{"messages"}, []string{"GET"}, "", "2026-03-02T10:00:00", ""}},
		"empty lists":      {`{"paths": [], "methods": []}`, "", shared{[]string{"messages"}, []string{"GET"}, "", "2026-03-02T10:00:00", ""}},
		"everything":       {`{"paths": ["subscriptions", "messages", "claims"], "methods": ["PUT", "X", "GET"], "expires": "2026-03-01T11:00:00.5+00:30"}`, "", shared{[]string{"claims", "messages", "subscriptions"}, []string{"GET", "PUT", "X"}, "", "2026-03-01T10:30:00", ""}},
		"no body":          {``, "Invalid request body", shared{}},
		"a list":           {`[]`, "Invalid request body", shared{}},
		"no JSON":          {`{`, "Invalid request body", shared{}},
		"a project":        {`{"project_id": "x"}`, "Invalid API request", shared{}},
		"another path":     {`{"paths": ["messages", "stats"]}`, "Invalid API request", shared{}},
		"a number as path": {`{"paths": [1]}`, "Invalid API request", shared{}},
		"a text as paths":  {`{"paths": "messages"}`, "Invalid API request", shared{}},
		"null as paths":    {`{"paths": null}`, "Invalid API request", shared{}},
		"a text as method": {`{"methods": "GET"}`, "Invalid API request", shared{}},
		"null in methods":  {`{"methods": [null]}`, "Invalid API request", shared{}},
		"a separator":      {`{"methods": ["GET\\nvictim"]}`, "Invalid API request", shared{}},
		"now":              {`{"expires": "2026-03-01T10:00:00.9"}`, "Invalid API request", shared{}},
		"the past":         {`{"expires": "2016-01-01T00:00:00"}`, "Invalid API request", shared{}},
		"a number":         {`{"expires": 4102444800}`, "Invalid API request", shared{}},
		"a number as text": {`{"expires": "4102444800"}`, "Invalid API request", shared{}},
		"null as end":      {`{"expires": null}`, "Invalid API request", shared{}},
		"no date":          {`{"expires": "tomorrow"}`, "Invalid API request", shared{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.title != "" {
				a.call("POST", "/v2/queues/q/share", test.body, 400).refused(test.title)
				return
			}
			u := a.share("q", test.body)
			for i, path := range test.answer.Paths {
				test.answer.Paths[i] = "/v2/queues/q/" + path
			}
			end, _ := signedurl.ParseExpires(test.answer.Expires)
			test.answer.Project = "p1"
			test.answer.Signature = signedurl.Key("sample-key").Sign(signedurl.Grant{
				Paths: test.answer.Paths, Methods: test.answer.Methods, Project: "p1", Expires: end,
			})
			want, _ := json.Marshal(test.answer)
			got, _ := json.Marshal(u)
			if string(want) != string(got) {
				t.Fatalf("answered %s, want %s", got, want)
			}
		})
	}
	a.call("POST", "/v2/queues/a@b/share", `{}`, 400).refused("Invalid queue identification")
	a.call("GET", "/v2/queues/q/share", ``, 405).has("Allow", "POST, OPTIONS")
	a.recorded()
}

func TestTheOperatorMayBoundTheLife(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.Limits.MaxSignedURLLife = 600 })
	if u := a.share("q", `{}`); u.Expires != "2026-03-01T10:10:00" {
		t.Errorf("good until %s", u.Expires)
	}
	a.share("q", `{"expires": "2026-03-01T10:10:00"}`)
	a.call("POST", "/v2/queues/q/share", `{"expires": "2026-03-01T10:10:01"}`, 400).refused("Invalid API request")
}

// Each check fails as if there were nothing, before a request without a Client-ID is told
// of that.
func TestSignedRequests(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	u := a.share("a.b", `{"paths": ["messages"], "methods": ["GET", "POST", "DELETE"]}`)
	sign := func(paths, methods, expires string) shared {
		end, _ := signedurl.ParseExpires(expires)
		g := signedurl.Grant{Paths: strings.Split(paths, ","), Methods: strings.Split(methods, ","), Project: "p1", Expires: end}
		return shared{g.Paths, g.Methods, "p1", expires, signedurl.Key("sample-key").Sign(g)}
	}
	const messages = "/v2/queues/a.b/messages"
	tests := map[string]struct {
		method, path string
		headers      []string
		status       int
	}{
		"a page":                       {"GET", messages, nil, 200},
		"a page under the prefix":      {"GET", "/messaging" + messages, nil, 200},
		"a page with a query":          {"GET", messages + "?limit=1", nil, 200},
		"an item":                      {"DELETE", messages + "/" + ours, nil, 204},
		"an escaped letter":            {"GET", "/v2/queues/a.b/%6dessages", nil, 200},
		"another method":               {"PUT", messages, nil, 404},
		"a method that nobody has":     {"BREW", messages, nil, 404},
		"another collection":           {"GET", "/v2/queues/a.b/claims", nil, 404},
		"the queue":                    {"GET", "/v2/queues/a.b", nil, 404},
		"another queue":                {"GET", "/v2/queues/aXb/messages", nil, 404},
		"a longer name":                {"GET", messages + "X", nil, 404},
		"an escaped slash":             {"GET", "/v2/queues/a.b%2Fmessages", nil, 404},
		"all queues":                   {"GET", "/v2/queues", nil, 404},
		"the ping":                     {"GET", "/v2/ping", nil, 404},
		"another project":              {"GET", messages, []string{"X-Project-ID", "p2"}, 404},
		"no project":                   {"GET", messages, []string{"X-Project-ID", ""}, 404},
		"a project that is no text":    {"GET", messages, []string{"X-Project-ID", "\xff"}, 404},
		"a project that is too long":   {"GET", messages, []string{"X-Project-ID", strings.Repeat("p", 257)}, 404},
		"another end":                  {"GET", messages, []string{"URL-Expires", "2026-03-02T10:00:01"}, 404},
		"no end":                       {"GET", messages, []string{"URL-Expires", ""}, 404},
		"a longer list":                {"GET", messages, []string{"URL-Paths", messages + ",/v2/queues/other/messages"}, 404},
		"another order":                {"GET", messages, []string{"URL-Methods", "POST,DELETE,GET"}, 200},
		"the end written otherwise":    {"GET", messages, []string{"URL-Expires", "2026-03-02T11:00:00.123+01:00"}, 200},
		"upper case":                   {"GET", messages, []string{"URL-Signature", strings.ToUpper(u.Signature)}, 404},
		"another signature":            {"GET", messages, []string{"URL-Signature", strings.Repeat("0", 64)}, 404},
		"everything wrong, no Client":  {"PUT", messages, []string{"Client-ID", "", "Accept", "text/html"}, 404},
		"good, but no Client-ID":       {"GET", messages, []string{"Client-ID", ""}, 400},
		"good, but nothing accepted":   {"GET", messages, []string{"Accept", "text/html"}, 406},
		"an empty signature is none":   {"GET", "/v2/queues/other/messages", []string{"URL-Signature", ""}, 200},
		"an absent route":              {"GET", messages + "/1/2", nil, 404},
		"signed for what is not there": {"PUT", messages, sign(messages, "PUT", "2026-03-02T10:00:00").show(), 405},
		"signed for an admin's":        {"GET", "/v2/health", sign("/v2/health", "GET", "2026-03-02T10:00:00").show(), 403},
		"signed for the ping":          {"GET", "/v2/ping", sign("/v2/ping", "GET", "2026-03-02T10:00:00").show(), 204},
		"signed, and over":             {"GET", messages, sign(messages, "GET", "2026-03-01T10:00:00").show(), 404},
		"signed, and just not over":    {"GET", messages, sign(messages, "GET", "2026-03-01T10:00:01").show(), 200},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := a.call(test.method, test.path, ``, test.status, append(u.show(), test.headers...)...)
			if test.status == 404 {
				got.is(`{"title": "404 Not Found"}`)
			}
		})
	}
	a.advance(24*time.Hour - time.Second)
	a.call("GET", messages, ``, 200, u.show()...)
	a.advance(time.Second)
	a.call("GET", messages, ``, 404, u.show()...)
	a.recorded()
}

// The history tells which signed URL was used, but not the URL.
func TestTheHistoryTellsOfABearer(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.LogRequests = true })
	u := a.share("q", `{"methods": ["POST"]}`)
	a.call("POST", "/v2/queues/q/messages", `{"messages": [{"body": 1}]}`, 201, u.show()...)
	for _, e := range a.history() {
		if want := "signed-url:" + signedurl.Digest(u.Signature)[:16]; e.Origin.Actor != want || e.Origin.Project != "p1" {
			t.Errorf("%s by %+v, want %s", e.Event.EventType(), e.Origin, want)
		}
	}
	if strings.Contains(a.log.String(), u.Signature) {
		t.Errorf("log: %s", a.log)
	}
}

func TestRevokeOne(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	one, other := a.share("q", `{}`), a.share("q", `{"methods": ["GET", "POST"]}`)
	elsewhere := a.share("q2", `{}`)
	told, _ := json.Marshal(one)
	a.call("POST", "/v2/queues/q/share/revoke", string(told), 204)
	end, _ := signedurl.ParseExpires(one.Expires)
	a.recorded(domain.ShareRevoked{Project: "p1", Queue: "q", Digest: signedurl.Digest(one.Signature), Expires: end})
	a.call("GET", "/v2/queues/q/messages", ``, 404, one.show()...).is(`{"title": "404 Not Found"}`)
	a.replica().call("GET", "/v2/queues/q/messages", ``, 404, one.show()...)
	a.call("GET", "/v2/queues/q/messages", ``, 200, other.show()...)
	a.call("GET", "/v2/queues/q2/messages", ``, 200, elsewhere.show()...)

	a.call("POST", "/v2/queues/q/share/revoke", string(told), 204) // asking again changes nothing
	a.recorded()
	a.call("POST", "/v2/queues/q/share", `{}`, 409).refused("Resource conflict") // it would be the same one
	a.call("DELETE", "/v2/queues/q", ``, 204)
	a.call("PUT", "/v2/queues/q", ``, 201)
	a.call("GET", "/v2/queues/q/messages", ``, 404, one.show()...)
	a.history()

	late, _ := json.Marshal(other)
	a.advance(24 * time.Hour)
	a.call("POST", "/v2/queues/q/share/revoke", string(late), 204) // it is over by itself
	a.recorded()
}

func TestRevokeAll(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	old, elsewhere := a.share("q", `{}`), a.share("q2", `{}`)
	confirm := signedurl.Grant{
		Paths: []string{"/v2/queues/q/subscriptions/s1/confirm"}, Methods: []string{"PUT"}, Project: "p1", Expires: a.Now().Add(time.Hour),
	}
	for n := range 2 {
		a.call("POST", "/v2/queues/q/share/revoke", `{"all": true}`, 204)
		a.recorded(domain.SharesRevoked{Project: "p1", Queue: "q"})
		a.call("GET", "/v2/queues/q/messages", ``, 404, old.show()...)
		a.call("GET", "/v2/queues/q2/messages", ``, 200, elsewhere.show()...)
		fresh := a.share("q", `{}`)
		if fresh.Signature == old.Signature {
			t.Fatalf("round %d: the same signature again", n)
		}
		a.call("GET", "/v2/queues/q/messages", ``, 200, fresh.show()...)
		a.replica().call("GET", "/v2/queues/q/messages", ``, 200, fresh.show()...)
		told, _ := json.Marshal(old)
		a.call("POST", "/v2/queues/q/share/revoke", string(told), 404).refused("Not found")
		old = fresh
	}
	// What nabu signs for a subscriber is no share.
	bearer, err := a.server.bearer(t.Context(), confirm, a.server.SigningKey.Sign(confirm), "PUT", confirm.Paths[0])
	if err != nil || bearer.Project != "p1" || bearer.User != "" || len(bearer.Roles) > 0 {
		t.Errorf("a confirmation: %+v, %v", bearer, err)
	}
	for _, path := range []string{"/v2/queues/q/subscriptions", "/v2/queues/q/subscriptions/s1", "/v2/queues/q/messages/s1/confirm", "/v2/queues/q/subscriptions//confirm"} {
		confirm.Paths[0] = path
		if _, err := a.server.bearer(t.Context(), confirm, a.server.SigningKey.Sign(confirm), "PUT", path); err == nil {
			t.Errorf("%s is taken for a confirmation", path)
		}
	}
}

func TestBadRevocations(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	u := a.share("q", `{}`)
	member := func(change func(map[string]any)) string {
		text, _ := json.Marshal(u)
		told := map[string]any{}
		_ = json.Unmarshal(text, &told)
		change(told)
		text, _ = json.Marshal(told)
		return string(text)
	}
	for name, test := range map[string]struct {
		body   string
		status int
	}{
		"no body":           {``, 400},
		"nothing":           {`{}`, 400},
		"a list":            {`[]`, 400},
		"not all":           {`{"all": false}`, 400},
		"all and more":      {member(func(m map[string]any) { m["all"] = true }), 400},
		"an unknown member": {`{"all": true, "x": 1}`, 400},
		"no signature":      {member(func(m map[string]any) { delete(m, "signature") }), 400},
		"a number":          {member(func(m map[string]any) { m["signature"] = 1 }), 400},
		"no end":            {member(func(m map[string]any) { delete(m, "expires") }), 400},
		"no paths":          {member(func(m map[string]any) { delete(m, "paths") }), 400},
		"no project":        {member(func(m map[string]any) { delete(m, "project") }), 404},
		"another project":   {member(func(m map[string]any) { m["project"] = "p2" }), 404},
		"another end":       {member(func(m map[string]any) { m["expires"] = "2026-03-05T00:00:00" }), 404},
		"another signature": {member(func(m map[string]any) { m["signature"] = "00" }), 404},
		"of another queue":  {member(func(m map[string]any) { m["paths"] = []string{"/v2/queues/q2/messages"} }), 404},
	} {
		t.Run(name, func(t *testing.T) {
			a.call("POST", "/v2/queues/q/share/revoke", test.body, test.status)
		})
	}
	text, _ := json.Marshal(u)
	a.call("POST", "/v2/queues/q2/share/revoke", string(text), 404)
	a.call("POST", "/v2/queues/q/share/revoke", string(text), 404, "X-Project-ID", "p2")
	a.call("POST", "/v2/queues/q/share/revoke", string(text), 404, u.show()...) // the bearer may not
	a.recorded()
}

// FuzzSigned: whatever the headers say, an unsigned request finds nothing.
func FuzzSigned(f *testing.F) {
	a := newAPI(f).alone()
	f.Add("00", "2036-03-02T10:00:00", "GET", "/v2/queues/q/messages", "p1")
	f.Add("\x00", "9999-12-31", ",GET", "/v2,,", "\\n")
	f.Fuzz(func(t *testing.T, signature, expires, methods, paths, project string) {
		for _, text := range []string{signature, expires, methods, paths, project} {
			if url.PathEscape(text) == "" || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				return // no header can have it, or it is none
			}
		}
		if strings.TrimSpace(signature) == "" {
			return
		}
		b := *a
		b.TB = t
		b.call("GET", "/v2/queues/q/messages", ``, 404, "URL-Signature", signature, "URL-Expires", expires,
			"URL-Methods", methods, "URL-Paths", paths, "X-Project-ID", project).is(`{"title": "404 Not Found"}`)
	})
}
