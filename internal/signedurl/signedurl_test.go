package signedurl

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// vector is a signature that Zaqar made with the key "sample-key".
var vector = Grant{
	Paths:   []string{"/v2/queues/builds/messages", "/v2/queues/builds/claims"},
	Methods: []string{"POST", "GET"}, Project: "c0ffee00c0ffee00c0ffee00c0ffee00",
	Expires: time.Date(2036, 3, 2, 10, 0, 0, 0, time.UTC),
}

const (
	vectorKey       = "sample-key"
	vectorSignature = "c5cdea77e8fe2bc332c030edd36aa60a0771c35b23c4cf3b84178a229d86b5f9"
)

func TestZaqarsSignatureHolds(t *testing.T) {
	if got := Key(vectorKey).Sign(vector); got != vectorSignature {
		t.Fatalf("signed as %s", got)
	}
	if !Key(vectorKey).Verify(vector, vectorSignature) {
		t.Fatal("not verified")
	}
	turned := vector
	turned.Paths, turned.Methods = slices.Clone(vector.Paths), slices.Clone(vector.Methods)
	slices.Reverse(turned.Paths)
	slices.Reverse(turned.Methods)
	turned.Expires = vector.Expires.Add(999 * time.Millisecond).In(time.FixedZone("", 3600))
	if !Key(vectorKey).Verify(turned, vectorSignature) {
		t.Fatal("the order, the zone or the fraction counts")
	}
}

func TestNothingElseIsVerified(t *testing.T) {
	key := Key(vectorKey)
	for name, change := range map[string]func(*Grant){
		"another path":    func(g *Grant) { g.Paths = []string{"/v2/queues/builds/messages", "/v2/queues/other/claims"} },
		"a path more":     func(g *Grant) { g.Paths = append(slices.Clone(g.Paths), "/v2/queues/other/messages") },
		"a method more":   func(g *Grant) { g.Methods = []string{"POST", "GET", "DELETE"} },
		"another project": func(g *Grant) { g.Project = "other" },
		"a second more":   func(g *Grant) { g.Expires = g.Expires.Add(time.Second) },
		"a method for the project": func(g *Grant) {
			g.Methods, g.Project = []string{"GET"}, `POST\n`+g.Project
		},
	} {
		other := vector
		change(&other)
		if key.Verify(other, vectorSignature) {
			t.Error(name)
		}
	}
	for _, signature := range []string{"", strings.ToUpper(vectorSignature), vectorSignature[:63], vectorSignature + "0"} {
		if key.Verify(vector, signature) {
			t.Errorf("signature %q", signature)
		}
	}
	for name, other := range map[string]Key{"no key": nil, "an empty key": {}, "another key": Key("x"), "a derived key": key.Derive("x")} {
		if other.Verify(vector, vectorSignature) {
			t.Error(name)
		}
	}
	if Key(nil).Verify(vector, Key(nil).Sign(vector)) {
		t.Error("no key verifies what it signs")
	}
}

// The parts of what is signed have no room of their own: a method with the separator in
// it would read as a project.
func TestNoPartPassesForAnother(t *testing.T) {
	key := Key(vectorKey)
	signed := Grant{Paths: []string{"/p"}, Methods: []string{`GET\nvictim`}, Project: "mine", Expires: vector.Expires}
	read := Grant{Paths: []string{"/p"}, Methods: []string{"GET"}, Project: `victim\nmine`, Expires: vector.Expires}
	if key.Sign(signed) != key.Sign(read) {
		t.Fatal("the two are told apart by themselves")
	}
	if key.Verify(signed, key.Sign(signed)) {
		t.Error("a method with a separator is verified")
	}
}

func TestAllows(t *testing.T) {
	g := Grant{Paths: []string{"/v2/queues/a.b/messages", "/v2/ping", ""}, Methods: []string{"GET"}}
	for path, want := range map[string]bool{
		"/v2/queues/a.b/messages": true, "/v2/queues/a.b/messages/": true, "/v2/queues/a.b/messages/1": true,
		"/v2/queues/aXb/messages": false, "/v2/queues/a.b/messagesX": false, "/v2/queues/a.b": false,
		"/v2/queues/a.b/messages%2F1": false, "x/v2/ping": false, "/v2/ping": true, "/": false, "": false,
	} {
		if got := g.Allows("GET", path); got != want {
			t.Errorf("%q: %t", path, got)
		}
		if g.Allows("get", path) || g.Allows("POST", path) {
			t.Errorf("%q by another method", path)
		}
	}
}

func TestExpires(t *testing.T) {
	for text, want := range map[string]string{
		"2036-03-02T10:00:00":        "2036-03-02T10:00:00",
		"2036-03-02 10:00:00":        "2036-03-02T10:00:00",
		"2036-03-02T10:00:00.999999": "2036-03-02T10:00:00",
		"2036-03-02T10:00:00,5Z":     "2036-03-02T10:00:00",
		"2036-03-02T10:00:00+01:30":  "2036-03-02T08:30:00",
		"2036-03-02T23:00:00-0130":   "2036-03-03T00:30:00",
		"2036-03-02T10+01":           "2036-03-02T09:00:00",
		"20360302T100000Z":           "2036-03-02T10:00:00",
		"2036-03-02T10:30":           "2036-03-02T10:30:00",
		"2036-03-02":                 "2036-03-02T00:00:00",
		"2036-3-2":                   "2036-03-02T00:00:00",
		"2036-03":                    "2036-03-01T00:00:00",
		"2036-03-02T10:00:00+23:59":  "2036-03-01T10:01:00",
		"9999-12-31T23:59:59":        "9999-12-31T23:59:59",
		"0001-01-01":                 "0001-01-01T00:00:00",
		"":                           "", "2036": "", "20360302": "", "5": "", "-5": "", " 2036-03-02": "", "2036-03-02T": "", "2036-02-30": "",
		"2036-00-01": "", "2036-13-01": "", "2036-03-02T24:00:00": "", "2036-03-02T10:60:00": "", "2036-03-02T10:00:60": "",
		"2036-03-02T10:00:00+24:00": "", "2036-03-02T10:00:00 UTC": "", "9999-12-31T23:59:59-01:00": "",
		"0001-01-01T00:00:00+01:00": "", "tomorrow": "", "２０３６-03-02": "",
	} {
		at, ok := ParseExpires(text)
		if ok != (want != "") || ok && FormatExpires(at) != want {
			t.Errorf("%q is %s, %t", text, FormatExpires(at), ok)
		}
	}
}

func headersOf(g Grant, signature string) http.Header {
	return http.Header{
		HeaderSignature: {signature}, HeaderExpires: {FormatExpires(g.Expires)}, HeaderProject: {g.Project},
		HeaderMethods: {strings.Join(g.Methods, ",")}, HeaderPaths: {strings.Join(g.Paths, ",")},
	}
}

func TestWhatIsSignedIsReadBack(t *testing.T) {
	item := rapid.StringMatching(`[A-Za-z0-9/._-]{1,8}`)
	rapid.Check(t, func(t *rapid.T) {
		g := Grant{
			Paths:   rapid.SliceOfN(item, 1, 4).Draw(t, "paths"),
			Methods: rapid.SliceOfN(item, 1, 4).Draw(t, "methods"),
			Project: rapid.String().Draw(t, "project"),
			Expires: time.Unix(rapid.Int64Range(0, 200_000_000_000).Draw(t, "expires"), 0),
		}
		key := Key(rapid.StringN(1, 40, -1).Draw(t, "key"))
		got, signature, ok := FromHeaders(headersOf(g, key.Sign(g)))
		if !ok || !key.Verify(got, signature) {
			t.Fatalf("not verified: %+v", got)
		}
		if !got.Allows(g.Methods[0], g.Paths[0]+"/x") {
			t.Fatal("not allowed")
		}
	})
}

func FuzzFromHeaders(f *testing.F) {
	f.Add(vectorSignature, "2036-03-02T10:00:00", "GET,POST", "/v2/queues/builds/claims,/v2/queues/builds/messages", vector.Project)
	f.Add("x", "9999-12-31T23:59:59.9-23:59", ",", `/a\n/b,`, `\n`)
	f.Fuzz(func(t *testing.T, signature, expires, methods, paths, project string) {
		h := http.Header{
			HeaderSignature: {signature}, HeaderExpires: {expires}, HeaderMethods: {methods}, HeaderPaths: {paths}, HeaderProject: {project},
		}
		g, its, ok := FromHeaders(h)
		if !ok {
			return
		}
		if its != signature || its == "" || g.Project != project || strings.Join(g.Methods, ",") != methods || strings.Join(g.Paths, ",") != paths {
			t.Fatalf("read as %+v", g)
		}
		if again, ok := ParseExpires(FormatExpires(g.Expires)); !ok || !again.Equal(g.Expires) {
			t.Fatalf("%q is %s, which is none", expires, FormatExpires(g.Expires))
		}
		key := Key(vectorKey)
		if key.Verify(g, its) && its != key.Sign(g) || g.plain() && !key.Verify(g, key.Sign(g)) {
			t.Fatal("verified otherwise than signed")
		}
	})
}
