package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nabu/internal/policy"
)

// policyFile writes rules into a folder.
func policyFile(t *testing.T, folder, name, text string) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestThePolicyIsFound(t *testing.T) {
	beside, here := t.TempDir(), t.TempDir()
	t.Chdir(here)
	settings := policyFile(t, beside, "nabu.yaml", "log_level: info")
	allowing := `"queues:get": role:%(x)s`
	policyFile(t, beside, "policy.yaml", allowing+"beside")
	policyFile(t, here, "policy.yaml", allowing+"here")
	policyFile(t, here, "other.yaml", allowing+"other")
	policyFile(t, here, "both.yaml", allowing+"here")
	policyFile(t, beside, "both.yaml", allowing+"both")
	far := policyFile(t, t.TempDir(), "far.yaml", allowing+"far")
	lonely := policyFile(t, t.TempDir(), "nabu.yaml", "log_level: info")
	naming := policyFile(t, beside, "naming.yaml", "policy_file: both.yaml")
	tests := map[string]struct {
		args  []string
		check string
	}{
		"the usual one, beside the settings": {[]string{"--config", settings}, allowing + "beside"},
		"none":                               {[]string{"--config", lonely}, ""},
		"one named as it stands here":        {[]string{"--config", settings, "--policy-file", "other.yaml"}, allowing + "other"},
		"one that a flag names from here":    {[]string{"--config", settings, "--policy-file", "both.yaml"}, allowing + "here"},
		"one that the settings name beside":  {[]string{"--config", naming}, allowing + "both"},
		"one named from the root":            {[]string{"--config", settings, "--policy-file", far}, allowing + "far"},
	}
	for name, test := range tests {
		cfg, _, err := load(t, test.args, nil, "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := cfg.policy.Rule("queues:get").Check; got != strings.TrimPrefix(test.check, `"queues:get": `) {
			t.Errorf("%s: %s from %q", name, got, cfg.PolicyFile)
		}
	}
	_, _, err := load(t, []string{"--config", settings, "--policy-file", "nowhere.yaml"}, nil, "")
	if want := "policy_file (flag --policy-file): open " + filepath.Join(here, "nowhere.yaml") + ": no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if _, _, err := load(t, []string{"--config", settings, "--policy-file", beside}, nil, ""); err == nil || !strings.Contains(err.Error(), "policy_file (flag --policy-file): ") {
		t.Errorf("a folder is taken: %v", err)
	}
}

func TestServeRefusesAWrongPolicy(t *testing.T) {
	t.Parallel()
	file := policyFile(t, t.TempDir(), "policy.yaml", "\"queues:get\": \"@\"\n\"queues:create\": \"role:member or\"\n\"queues:delete\": \"http://localhost\"\n")
	err := run(t.Context(), []string{"serve", "--policy-file", file, "--data-dir", t.TempDir()}, cleanEnviron(), &bytes.Buffer{})
	for _, want := range []string{
		"policy_file (flag --policy-file): " + file + ": line 2, column 18: rule \"queues:create\": character 15: a check is missing at the end",
		"line 3, column 18: rule \"queues:delete\": character 1: \"http://localhost\" asks another server",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	if exitCode(err) != exitMisconfigured {
		t.Errorf("code %d", exitCode(err))
	}
}

func TestServeObeysThePolicy(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	policyFile(t, folder, "policy.yaml", `{"queues:create": "role:maker"}`)
	r := start(t, "--data-dir", newDataDir(t), "--config", policyFile(t, folder, "nabu.yaml", "log_level: info"))
	for role, want := range map[string]int{"admin": 403, "maker": 201} {
		request, err := http.NewRequestWithContext(t.Context(), "PUT", r.url+"/v2/queues/q", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = http.Header{"Client-Id": {"9b2f5a5e-03d1-4c55-8f0e-2f6a7c0e11d4"}, "X-Project-Id": {"p1"}, "X-Roles": {role}}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %d, not %d", role, answer.StatusCode, want)
		}
	}
}

// printed is what a command prints.
func printed(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), args, cleanEnviron(), &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPolicyShow(t *testing.T) {
	t.Parallel()
	file := policyFile(t, t.TempDir(), "policy.yaml", "# ours\n\"queues:create\":\n  role:member and\n  rule:mine\nmine: project_id:p1\n")
	words := map[string]bool{}
	for line := range strings.Lines(printed(t, "policy", "show", "--policy-file", file)) {
		words[strings.Join(strings.Fields(line), " ")] = true
	}
	for _, want := range []string{
		"api method path rule check from",
		"messaging GET /v2 - - -",
		`messaging GET /v2/queues queues:get_all "" default`,
		"messaging PUT /v2/queues/:queue queues:create role:member and rule:mine line 3",
		"messaging queue_create websocket queues:create role:member and rule:mine line 3",
		"messaging GET /v2/health health:get role:admin default",
		"- - - mine project_id:p1 line 5",
		"image DELETE /v2/tasks/:task tasks_api_access rule:context_is_admin default",
		"image GET /v2/schemas/task - - -",
		"volume DELETE /v3/:project/messages/:message message:delete role:admin or (role:member and project_id:%(project_id)s) default",
		"none yet - - event:list role:admin or (role:audit_viewer and project_id:%(project_id)s) or (role:manager and project_id:%(project_id)s) default",
	} {
		if !words[want] {
			t.Errorf("%s is not shown", want)
		}
	}
	var all []shownRule
	if err := json.Unmarshal([]byte(printed(t, "policy", "show", "-o", "json", "--policy-file", file)), &all); err != nil || len(all) != len(words)-1 {
		t.Errorf("%d lines as JSON, %d as a table, error %v", len(all), len(words)-1, err)
	}
}

func TestPolicyCheck(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	settings := policyFile(t, folder, "nabu.yaml", "policy_file: wrong.yaml")
	wrong := policyFile(t, folder, "wrong.yaml", "\"queues:create\": member")
	right := policyFile(t, folder, "right.yaml", "\"queues:create\": rule:member\nmember: role:member\nmembre: role:member\n")
	err := run(t.Context(), []string{"policy", "check", "--config", settings}, cleanEnviron(), &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), wrong+": line 1, column 18: rule \"queues:create\": character 1: \"member\" is no check") || exitCode(err) != exitMisconfigured {
		t.Errorf("code %d: %v", exitCode(err), err)
	}
	want := right + ": 3 rules, of which APIs ask for 1\nwarning: rule \"membre\" is never asked for\n"
	if got := printed(t, "policy", "check", "--config", settings, "--file", right); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	var v policyVerdict
	if err := json.Unmarshal([]byte(printed(t, "policy", "check", "--file", right, "-o", "json")), &v); err != nil || v.Rules != 3 || v.Asked != 1 || len(v.Warnings) != 1 {
		t.Errorf("%+v, error %v", v, err)
	}
	err = run(t.Context(), []string{"policy", "check", "--file", right, "--strict"}, cleanEnviron(), &bytes.Buffer{})
	if exitCode(err) != exitFailure || err.Error() != "the policy's file has 1 warning" {
		t.Errorf("strictly it says %v", err)
	}
	err = run(t.Context(), []string{"policy", "check", "--file", wrong}, cleanEnviron(), &bytes.Buffer{})
	if exitCode(err) != exitMisconfigured || !strings.HasPrefix(err.Error(), "--file: "+wrong+": line 1") {
		t.Errorf("of a wrong --file it says %v", err)
	}
	misspelt := policyFile(t, folder, "misspelt.yaml", "\"queues:craete\": rule:membr\nmember: role:member\n\"queues:get\": rule:member\n")
	got := printed(t, "policy", "check", "--file", misspelt)
	for _, says := range []string{`never asked for; did you mean "queues:create"?`, `; did you mean "member"?`} {
		if !strings.Contains(got, says) {
			t.Errorf("%q is not in %s", says, got)
		}
	}
	later := policyFile(t, folder, "later.yaml", "\"pools:create\": role:admin\n\"admin_or_owner\": role:admin\n")
	want = later + ": 2 rules, of which APIs ask for 0\nwarning: no API asks for rule \"pools:create\" yet\n"
	if got := printed(t, "policy", "check", "--file", later); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	if got := printed(t, "policy", "show", "--policy-file", later); strings.Count(got, "\nnone yet ") < 10 || strings.Contains(got, "none yet  -       -  admin_or_owner") {
		t.Errorf("shown as\n%s", got)
	}
	if got := printed(t, "policy", "check", "--config", policyFile(t, t.TempDir(), "nabu.yaml", "")); got != "there is no file: the defaults hold\n" {
		t.Error(got)
	}
}

// TestTheDocumentListsTheRules compares the table in docs/operating.md with the defaults:
// each rule stands in one line, with its check.
func TestTheDocumentListsTheRules(t *testing.T) {
	text, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "| rules | default |\n| --- | --- |\n")
	if !found {
		t.Fatal("docs/operating.md has no table of the rules")
	}
	table, _, _ := strings.Cut(after, "\n\n")
	listed := map[string]string{}
	for line := range strings.SplitSeq(strings.TrimSpace(table), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		for name := range strings.SplitSeq(cells[0], ", ") {
			listed[strings.Trim(name, "`")] = strings.Trim(cells[1], "`")
		}
	}
	for _, r := range policy.Default().Rules() {
		check := r.Check
		if check == "" {
			check = "@"
		}
		if listed[r.Name] != check {
			t.Errorf("%s is said to be %q, and is %q", r.Name, listed[r.Name], check)
		}
		delete(listed, r.Name)
	}
	if len(listed) > 0 {
		t.Errorf("there are no such rules: %v", listed)
	}
}
