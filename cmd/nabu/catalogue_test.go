package main

import (
	"encoding/json"
	"strings"
	"testing"

	"nabu/domain"
)

func TestCatalogueShow(t *testing.T) {
	t.Parallel()
	file := policyFile(t, t.TempDir(), "catalogue.yaml", `
services:
  - name: SHARE
    resource_types: [SHARE, SNAPSHOT]
    actions: [{id: "150", name: EXTEND_SHARE, text: extend share}]
    details: [{id: "151", name: SHARE_BUSY, text: Share is busy.}]
    exceptions: {ShareBusyException: "151"}
`)
	lines := map[string]bool{}
	for line := range strings.Lines(printed(t, "catalogue", "show", "--user-message-catalogue", file)) {
		lines[strings.Join(strings.Fields(line), " ")] = true
	}
	for _, want := range []string{
		"service what id name text",
		"VOLUME action 001 SCHEDULE_ALLOCATE_VOLUME schedule allocate volume",
		"VOLUME detail 001 UNKNOWN_ERROR An unknown error occurred.",
		"VOLUME exception 003 NoValidBackend -",
		"IMAGE resource types - IMAGE, TASK -",
		"SHARE resource types - SHARE, SNAPSHOT -",
		"SHARE action 150 EXTEND_SHARE extend share",
		"SHARE detail 151 SHARE_BUSY Share is busy.",
		"SHARE exception 151 ShareBusyException -",
	} {
		if !lines[want] {
			t.Errorf("there is no line %q in %v", want, lines)
		}
	}
	var shown domain.CatalogueFile
	if err := json.Unmarshal([]byte(printed(t, "catalogue", "show", "-o", "json", "--user-message-catalogue", file)), &shown); err != nil {
		t.Fatal(err)
	}
	if n := len(shown.Services); n != 3 || shown.Services[2].Exceptions["ShareBusyException"] != "151" {
		t.Errorf("as JSON: %+v", shown)
	}
	for line := range strings.Lines(printed(t, "catalogue", "show", "--config", policyFile(t, t.TempDir(), "nabu.yaml", ""))) {
		if strings.HasPrefix(line, "SHARE") {
			t.Errorf("without the setting there is %q", line)
		}
	}
}
