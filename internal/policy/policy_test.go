package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// with makes a policy with an operator's file.
func with(t testing.TB, file string) *Policy {
	t.Helper()
	p, err := New(Options{File: []byte(file)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestOsloDecisions holds the answers against those that oslo.policy 4.0.0 gave to the
// same file, and the defaults against the file.
func TestOsloDecisions(t *testing.T) {
	file, err := os.ReadFile("testdata/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/policy-decisions.json")
	if err != nil {
		t.Fatal(err)
	}
	var decisions []struct {
		Rule    string
		Roles   []string
		Its     string `json:"credential_project_id"`
		Target  string `json:"target_project_id"`
		Allowed bool
	}
	if err := json.Unmarshal(text, &decisions); err != nil || len(decisions) < 11 {
		t.Fatalf("%d decisions, error %v", len(decisions), err)
	}
	for name, p := range map[string]*Policy{"the file": with(t, string(file)), "the defaults": Default()} {
		for _, d := range decisions {
			got := p.Rule(d.Rule).Allows(&Credentials{Roles: d.Roles, ProjectID: d.Its}, Target{{"project_id", d.Target}})
			if got != d.Allowed {
				t.Errorf("%s: %+v: allowed: %t", name, d, got)
			}
		}
	}
}

// ann has a bit of everything.
var ann = Credentials{
	UserID: "ann", UserDomainID: "ud", ProjectID: "p1", ProjectDomainID: "pd", SystemScope: "all",
	Roles: []string{"Member", "reader"}, IsAdminProject: true,
	ServiceUserID: "nova", ServiceProjectID: "sp", ServiceRoles: []string{"service"},
	Token: map[string]any{
		"project":  map[string]any{"domain": map[string]any{"id": "d1"}},
		"roles":    []any{map[string]any{"name": "member"}, map[string]any{"name": "auditor"}},
		"methods":  []any{"password", "totp"},
		"number":   json.Number("7"),
		"size":     float64(8),
		"enabled":  true,
		"disabled": false,
		"nothing":  nil,
	},
}

func TestChecks(t *testing.T) {
	target := Target{
		{"project_id", "p1"}, {"other_id", "p2"}, {"user.id", "ann"}, {"visibility", "public"}, {"enabled", "True"}, {"owner", "None"},
		{"role", "MEMBER"}, {"count", "5"}, {"percent", "%"}, {"empty", ""},
	}
	tests := []struct {
		check string
		holds bool
	}{
		{"", true}, {"@", true}, {"!", false},
		{"role:member", true}, {"role:MEMBER", true}, {"role:admin", false}, {"role:memb", false}, {"role:members", false},
		{"role:%(role)s", true}, {"role:%(visibility)s", false}, {"role:%(missing)s", false}, {"role:ſervice", false},

		{"project_id:%(project_id)s", true}, {"tenant_id:%(project_id)s", true}, {"project_id:%(other_id)s", false},
		{"project_id:%(missing)s", false}, {"not project_id:%(missing)s", true}, {"project_id:p1", true}, {"project_id:P1", false},
		{"user_id:%(user.id)s", true}, {"user_domain_id:ud", true}, {"project_domain_id:pd", true}, {"system_scope:all", true},
		{"domain_id:None", true}, {"domain_id:%(owner)s", true}, {"domain_id:%(empty)s", false}, {"user_id:None", false},
		{"service_user_id:nova", true}, {"service_project_id:sp", true}, {"service_roles:service", true}, {"service_roles:admin", false},
		{"roles:Member", true}, {"roles:member", false}, // the path compares exactly
		{"is_admin:True", false}, {"is_admin:False", true}, {"is_admin:true", false}, {"is_admin_project:True", true},
		{"user_id.name:ann", false}, {"roles.name:Member", false}, {"missing:None", false}, {"missing:%(owner)s", false},

		{"token.project.domain.id:d1", true}, {"token.project.domain.id:d2", false}, {"token.project.domain.name:None", false},
		{"token.roles.name:auditor", true}, {"token.roles.name:admin", false}, {"token.methods:totp", true}, {"token.methods:otp", false},
		{"token.number:7", true}, {"token.size:8", true}, {"token.enabled:True", true}, {"token.disabled:False", true},
		{"token.nothing:None", true}, {"token.project:d1", false}, {"token.number.x:7", false}, {"token:None", false},

		{"'public':%(visibility)s", true}, {`"public":%(visibility)s`, true}, {"'private':%(visibility)s", false}, {"'public':%(missing)s", false},
		{"True:%(enabled)s", true}, {"False:%(enabled)s", false}, {"None:%(owner)s", true}, {"None:%(missing)s", false},
		{"5:%(count)s", true}, {"-5:%(count)s", false}, {"'':%(empty)s", true}, {"'a':a", true},
		{"'a-public-5%':a-%(visibility)s-%(count)s%%", true}, {"'%':%(percent)s", true}, {"'x':x%(missing)s", false},

		{"@ and @", true}, {"@ and !", false}, {"! or @", true}, {"not !", true}, {"not not @", true},
		{"@ or ! and !", true}, {"! and ! or @", true}, {"(@ or !) and !", false}, {"! and (! or @)", false},
		{"not ! and !", false}, {"not (! and !)", true}, {"not ! or @", true}, {"not (! or @)", false},
		{"@ or not @ and !", true}, {"! or @ and @ and !", false}, {"@ and ! or @ and @", true}, {"! or ! or @ and @", true},
		{"@ AND @", true}, {"Not !", true}, {"! oR @", true}, {"((@))", true}, {"( @ )", true}, {" \t@\n", true},
	}
	for _, test := range tests {
		name, err := json.Marshal(test.check)
		if err != nil {
			t.Fatal(err)
		}
		p := with(t, `{"asked": `+string(name)+`}`)
		if got := p.Rule("asked").Allows(&ann, target); got != test.holds {
			t.Errorf("%s holds: %t", test.check, got)
		}
	}
}

func TestLists(t *testing.T) {
	tests := map[string]bool{
		`[]`: true, `[[]]`: false, `[[], []]`: false, `[[], ["@"]]`: true,
		`["role:member"]`: true, `["role:admin"]`: false, `["role:admin", "role:member"]`: true,
		`[["role:admin"], ["role:member"]]`: true, `[["role:member", "project_id:%(project_id)s"]]`: true,
		`[["role:member", "role:admin"], ["role:admin"]]`: false, `[["role:member", "role:admin"], "role:reader"]`: true,
		`[["rule:owner"]]`: true, `[["!"]]`: false, `[["'a b':a b"]]`: true,
	}
	for list, holds := range tests {
		p := with(t, `{"owner": "project_id:%(project_id)s", "asked": `+list+`}`)
		if got := p.Rule("asked").Allows(&ann, Target{{"project_id", "p1"}}); got != holds {
			t.Errorf("%s holds: %t", list, got)
		}
	}
}

func TestRulesNameRules(t *testing.T) {
	p := with(t, `
member: role:member
owner: project_id:%(project_id)s
both: rule:member and rule:owner
neither: not rule:both
lost: rule:nowhere
not_lost: not rule:nowhere
`)
	target := Target{{"project_id", "p1"}}
	for name, want := range map[string]bool{"both": true, "neither": false, "lost": false, "not_lost": true, "nowhere": false, "": false} {
		if got := p.Rule(name).Allows(&ann, target); got != want {
			t.Errorf("%s allows: %t", name, got)
		}
	}
	if p.Rule("both").Allows(&ann, Target{{"project_id", "p2"}}) {
		t.Error("another's project is owned")
	}
}

func TestTheDefaultRuleStandsIn(t *testing.T) {
	p := with(t, `{"default": "role:member", "lost": "rule:nowhere"}`)
	for _, name := range []string{"nowhere", "lost", "default"} {
		if !p.Rule(name).Allows(&ann, nil) || p.Rule(name).Allows(&Credentials{}, nil) {
			t.Errorf("%s is not what default is", name)
		}
	}
	if p.Knows("nowhere") || !p.Knows("lost") {
		t.Error("what stands in is taken for the rule")
	}
	if Default().Rule("nowhere").Allows(&Credentials{Roles: []string{"admin"}}, nil) {
		t.Error("a rule that is not there lets somebody in")
	}
}

func TestAdministrators(t *testing.T) {
	admin, member := Credentials{Roles: []string{"Admin"}}, ann
	p := Default()
	if !p.IsAdmin(&admin) || p.IsAdmin(&member) {
		t.Error("role:admin does not say who is an administrator")
	}
	elsewhere := Target{{"project_id", "p2"}}
	if rule := p.Rule("admin_or_owner"); !rule.Allows(&admin, elsewhere) || rule.Allows(&member, elsewhere) {
		t.Error("is_admin is not what context_is_admin says")
	}
	tests := map[string]bool{
		"role:member":               true,
		"!":                         false,
		"project_id:p1":             true,
		"project_id:%(project_id)s": true, // whose target is the caller
		"user_id:%(user_id)s":       true,
		"'p2':%(project_id)s":       false,
		"'x':%(other)s":             false,
		"is_admin:True":             false, // nobody is while that is being found out
		"not is_admin:True":         true,
		"rule:admin_or_owner":       true,
	}
	for check, is := range tests {
		p := with(t, "context_is_admin: "+fmt.Sprintf("%q", check)+"\nasked: is_admin:True and 'p2':%(project_id)s")
		if p.IsAdmin(&member) != is || p.Rule("asked").Allows(&member, elsewhere) != is {
			t.Errorf("with %s an administrator: %t", check, p.IsAdmin(&member))
		}
	}
}

func TestLegacyDefaults(t *testing.T) {
	own, reader := Target{{"project_id", "p1"}}, Credentials{ProjectID: "p1", Roles: []string{"reader"}}
	for _, legacy := range []bool{false, true} {
		p, err := New(Options{LegacyDefaults: legacy, File: []byte(`"message:get": role:admin`)})
		if err != nil {
			t.Fatal(err)
		}
		if p.Rule("message:delete").Allows(&reader, own) != legacy {
			t.Errorf("with legacy defaults %t a reader may delete: %t", legacy, !legacy)
		}
		if p.Rule("message:delete").Allows(&reader, Target{{"project_id", "p2"}}) {
			t.Error("a reader may delete another project's")
		}
		if p.Rule("message:get").Allows(&reader, own) {
			t.Error("a legacy default is added to what the operator wrote")
		}
	}
}

func TestEveryDefaultStandsOnItsOwn(t *testing.T) {
	p := Default()
	for _, warning := range p.Warnings(nil) {
		t.Error(warning)
	}
	if len(p.Rules()) != len(defaults) {
		t.Errorf("%d rules of %d defaults: one is there twice", len(p.Rules()), len(defaults))
	}
}

func TestWhatCannotBeMeantIsRefused(t *testing.T) {
	tests := map[string]string{
		// The file.
		`[1, 2]`:                     "line 1, column 1: must be rules, each a name, a colon and a check",
		`text`:                       "line 1, column 1: must be rules",
		"a: @":                       "cannot be read: line 1: found character",
		"a: '@'\n---\nb: '@'":        "must be one document of YAML",
		"a: '@'\nb: '!'\na: '!'":     `line 3, column 1: rule "a": stands in line 1 already`,
		"1: '@'":                     "line 1, column 1: the name of a rule must be a text",
		"'': '@'":                    "line 1, column 1: the name of a rule must be a text",
		"<<: {a: '@'}":               "the name of a rule must be a text",
		"a:":                         `rule "a": must be a check in quotes, such as "role:member", or a list of lists of them`,
		"a: true":                    `line 1, column 4: rule "a": must be a check in quotes`,
		"a: {b: c}":                  "must be a check in quotes",
		"a: [[1]]":                   `line 1, column 6: rule "a": must be a check`,
		"a: [{}]":                    "must be a check, or a list of checks",
		"a: [['@'], [['@']]]":        "line 1, column 13: rule \"a\": must be a check",
		"x: '@'\na: [['@', 'role']]": `line 2, column 4: rule "a": list 1, check 2: "role" is no check`,
		"\xff":                       "cannot be read",

		// The check.
		"a: ' '":                               `rule "a": character 2: a check is missing at the end`,
		"a: 'role'":                            `character 1: "role" is no check: it has to be @, !, or something like role:member, with a colon`,
		"a: 'role: member'":                    `character 1: there is nothing behind the colon of "role:"`,
		"a: ':member'":                         `there is nothing before the colon of ":member"`,
		"a: 'role:x and'":                      "character 11: a check is missing at the end",
		"a: 'role:x or or role:y'":             `character 11: a check is missing before "or"`,
		"a: 'role:x role:y'":                   `character 8: "and" or "or" is missing before "role:y"`,
		"a: 'and role:x'":                      `character 1: a check is missing before "and"`,
		"a: 'not'":                             "character 4: a check is missing at the end",
		"a: '(role:x'":                         "character 8: the parenthesis that opens at character 1 is not closed here",
		"a: 'role:x)'":                         "character 7: there is no parenthesis that this one would close",
		"a: '()'":                              `character 2: a check is missing before ")"`,
		"a: 'not(role:x)'":                     `character 1: "not(role" before the colon is neither`,
		"a: 'ä:x or \"b\"'":                    `character 8: "\"b\"" is no check`,
		"a: 'http://localhost/%(project_id)s'": `character 1: "http://localhost/%(project_id)s" asks another server, which nabu does not`,
		"a: '@ or https://h'":                  `character 6: "https://h" asks another server`,
		"a: 'project_id:%'":                    "character 1: a \"%\" behind the colon has to begin something like %(project_id)s",
		"a: 'project_id:%(x)d'":                "has to begin something like",
		"a: 'project_id:%(x'":                  "has to begin something like",
		"a: 'project_id:%()s'":                 "has to begin something like",
		"a: 'role:%s'":                         "has to begin something like",
		"a: \"'a:b':%(x)s\"":                   `"'a" before the colon is neither a credential's name nor 'text', True, False, None or a whole number`,
		"a: '007:%(x)s'":                       `"007" before the colon is neither`,
		"a: 'a..b:x'":                          `"a..b" before the colon is neither`,
	}
	refused(t, tests)
}

// refused states for each file what is said of it.
func refused(t *testing.T, files map[string]string) {
	t.Helper()
	for file, says := range files {
		_, err := New(Options{File: []byte(file)})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s\ngot:  %v\nwant: %s", file, err, says)
		}
		if _, is := errors.AsType[*Error](err); !is {
			t.Errorf("%s: %T", file, err)
		}
	}
}

func TestRulesThatLeadBackAreRefused(t *testing.T) {
	refused(t, map[string]string{
		"a: rule:a": `line 1, column 4: rule "a": leads back to itself: a -> a`,
		"a: rule:b\nb: 'not rule:c'\nc: '@ or rule:a'": `rule "a": leads back to itself: a -> b -> c -> a`,
		"default: rule:nowhere":                        `rule "default": leads back to itself: default -> default`,
		"context_is_admin: rule:tasks_api_access":      `leads back to itself: context_is_admin -> tasks_api_access -> context_is_admin`,
	})
}

func TestEachWrongRuleIsNamed(t *testing.T) {
	_, err := New(Options{File: []byte("a: role\nb: '@'\nc: 7\nd: 'not'")})
	for _, name := range []string{`rule "a"`, `rule "c"`, `rule "d"`} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named: %v", name, err)
		}
	}
}

func TestBounds(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("not ", n) + "@" }
	wide := func(n int) string { return "a: [" + strings.Repeat("'@',", n) + "]" }
	chain := func(n int) string {
		file := "r0: '@'\n"
		for i := range n {
			file += fmt.Sprintf("r%d: rule:r%d\n", i+1, i)
		}
		return file
	}
	double := func(n int) string {
		file := "r0: '@'\n"
		for i := range n {
			file += fmt.Sprintf("r%d: rule:r%d and rule:r%d\n", i+1, i, i)
		}
		return file
	}
	within := map[string]string{
		"operators": "a: " + fmt.Sprintf("%q", deep(maxDepth-1)), "checks": wide(maxSteps / 4), "rules": chain(maxDepth - 1), "doubled": double(10),
		"empty": "", "comments": "# nothing\n", "null": "null", "braces": "{}", "tabs": "{\n\t\"a\":\t\"@\"\n}", "alias": "a: &x role:member\nb: *x",
		"long": "a: role:" + strings.Repeat("x", maxCheck-5),
	}
	for name, file := range within {
		if _, err := New(Options{File: []byte(file)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	beyond := map[string]struct{ file, says string }{
		"operators":   {"a: " + fmt.Sprintf("%q", deep(maxDepth+1)), "within one another"},
		"parentheses": {"a: '" + strings.Repeat("(", 2*maxDepth) + "@" + strings.Repeat(")", 2*maxDepth) + "'", "character 101: there are more than 100"},
		"checks":      {wide(maxSteps + 1), "asks for too much"},
		"rules":       {chain(maxDepth + 1), "asks for too much"},
		"doubled":     {double(60), "asks for too much"},
		"long":        {"a: role:" + strings.Repeat("x", maxCheck), "must not be longer than 16384 bytes"},
		"file":        {strings.Repeat("#", maxFile+1), "the file must not be larger than 1048576 bytes"},
	}
	for name, test := range beyond {
		if _, err := New(Options{File: []byte(test.file)}); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWarnings(t *testing.T) {
	p := with(t, `{"queues:get": "rule:reders or tenant:x", "readers": "role:reader", "helper": "@", "messages:get": "rule:helper"}`)
	want := []string{
		`rule "queues:get" names the rule "reders", which is not there: "default" stands in (!)`,
		`rule "queues:get" asks for the credential "tenant", which nobody has`,
		`rule "readers" is never asked for`,
	}
	if got := p.Warnings(nil); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestRulesAreShownAsTheyWereWritten(t *testing.T) {
	p := with(t, "# mine\n\"queues:get\": [[role:a, role:b], role:c]\nmine: role:d\n")
	if r := p.Rule("queues:get"); r.Check != `[["role:a","role:b"],["role:c"]]` || r.Line != 2 || !r.Known {
		t.Errorf("%+v", r)
	}
	if r := p.Rule("mine"); r.Check != "role:d" || r.Line != 3 || r.Known {
		t.Errorf("%+v", r)
	}
	if r := p.Rule("health:get"); r.Check != "role:admin" || r.Line != 0 || !r.Known {
		t.Errorf("%+v", r)
	}
}

// FuzzParse: whatever a file holds, it is read within bounds or refused with an Error,
// and what was read answers.
func FuzzParse(f *testing.F) {
	file, err := os.ReadFile("testdata/policy.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(file))
	for _, check := range []string{
		"role:a and (role:b or not role:c)", "'x':%(y)s", "((((", "%%%(", "http://x", "not not", "rule:asked", "\x1c@", "a.b.c:%(d)s-%(e)s",
	} {
		f.Add(check)
	}
	target := Target{{"project_id", "p1"}}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{text, `{"asked": ` + string(name) + `}`, `{"asked": [[` + string(name) + `], ` + string(name) + `]}`} {
			p, err := New(Options{File: []byte(file)})
			if err != nil {
				if _, is := errors.AsType[*Error](err); !is {
					t.Fatalf("%q: %T %v", file, err, err)
				}
				continue
			}
			for _, r := range p.Rules() {
				if r.steps > maxSteps || r.depth > maxDepth {
					t.Fatalf("%q: %d steps, %d deep", file, r.steps, r.depth)
				}
				r.Allows(&ann, target)
			}
			_ = p.Warnings(nil)
		}
	})
}

var held bool

func BenchmarkAllows(b *testing.B) {
	p := with(b, `asked: "role:reader and (project_id:%(project_id)s or 'public':%(visibility)s)"`)
	for _, name := range []string{"queues:get", "health:get", "message:get_all", "admin_or_owner", "asked"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				held = p.Rule(name).Allows(&ann, Target{{"project_id", "p1"}})
			}
		})
	}
}

// TestAllowsTakesNoMemory: it stands before every request.
func TestAllowsTakesNoMemory(t *testing.T) {
	p := Default()
	for _, name := range []string{"queues:get", "health:get", "message:get_all", "admin_or_owner"} {
		rule := p.Rule(name)
		if n := testing.AllocsPerRun(100, func() { held = rule.Allows(&ann, Target{{"project_id", ann.ProjectID}}) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
