package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nabu/domain"
)

func TestUserMessageSettings(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "catalogue.yaml")
	const share = `
services:
  - name: SHARE
    resource_types: [SHARE]
    actions: [{id: "150", name: EXTEND_SHARE, text: extend share}]
translations:
  - language: fr
    actions: {"150": agrandir}
`
	if err := os.WriteFile(file, []byte(share), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := load(t, []string{
		"--user-message-catalogue", file, "--message-ttl", "3600", "--message-reap-interval", "60", "--task-failures-to-user-messages",
		"--user-message-filters", "event_id~, action_id", "--osapi-max-limit", "7", "--volume-upstream", "http://cinder:8776",
	}, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	volumes, err := cfg.Volumes.volumes()
	if err != nil || volumes.MaxLimit != 7 || strings.Join(volumes.Filters, ",") != "event_id~,action_id" || volumes.Upstream.Host != "cinder:8776" {
		t.Errorf("%+v, error %v", volumes, err)
	}
	rules := volumes.Messages
	if rules.TTL != time.Hour || rules.ReapInterval != time.Minute || !rules.TaskFailures {
		t.Errorf("%+v", rules)
	}
	if text := rules.Catalogue.Text(domain.UserMessage{ActionID: "150", DetailID: "001"}, "fr"); text != "agrandir:An unknown error occurred." {
		t.Errorf("text %q", text)
	}
	for says, settings := range map[string]string{
		"message_ttl (file":            "message_ttl: 0",
		"message_reap_interval (file":  "message_reap_interval: 0",
		"osapi_max_limit (file":        "osapi_max_limit: 0",
		"volume_listen (file":          "volume_listen: 8776",
		"volume_public_endpoint (file": "volume_public_endpoint: /volume",
		"nabu.yaml): open /nothing/":   "user_message_catalogue: /nothing/here",
	} {
		if _, _, err := load(t, nil, nil, settings); exitCode(err) != exitMisconfigured || !strings.Contains(err.Error(), says) || strings.Count(err.Error(), "/nothing/here") > 1 {
			t.Errorf("%s: %v, which does not say %q", settings, err, says)
		}
	}
	for catalogue, says := range map[string]string{
		"services: [{name: SHARE}]":                                   "at least one",
		"translations: [{language: fr, actions: {150: x}}]":           "ids must be texts",
		"services: [{name: SHARE, actions: [{id: 150, name: COPY}]}]": "services.actions.id must be a text in quotation marks, not a number",
		"services: SHARE": "services must be a list, not a text",
		"texts: {}":       "unknown field",
		"a: [":            "catalogue.yaml",
	} {
		if err := os.WriteFile(file, []byte(catalogue), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := load(t, []string{"--user-message-catalogue", file}, nil, ""); exitCode(err) != exitMisconfigured || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, which does not say %q", catalogue, err, says)
		}
	}
}

// A service leaves a user message in the queue, and a running nabu records it.
func TestServeRecordsWhatIsLeftInTheQueue(t *testing.T) {
	t.Parallel()
	r := start(t, "--data-dir", newDataDir(t))
	r.ask("POST", "/v2/queues/messages.produce/messages",
		`{"messages": [{"body": {"project_id": "c0ffee", "message": {"action_id": "001"}}}]}`, 201, "X-Project-ID", "service")
	var page struct{ Messages []json.RawMessage }
	for len(page.Messages) == 0 { // it is heard of at once
		text := r.ask("GET", "/v3/c0ffee/messages", "", 200, "X-Project-ID", "c0ffee", "OpenStack-API-Version", "volume 3.5")
		if err := json.Unmarshal([]byte(text), &page); err != nil {
			t.Fatal(err)
		}
	}
}
