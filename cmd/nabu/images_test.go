package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestTaskSettings(t *testing.T) {
	cfg, _, err := load(t, []string{"--task-processing-timeout", "0", "--max-attempts", "3", "--task-events-queue", "--service-project-id", "svc"}, nil,
		"task_time_to_live: 2\ntask_types:\n  resize:\n    type: object\n    required: [size]\n  wait: true\n")
	if err != nil {
		t.Fatal(err)
	}
	rules := cfg.Images.rules
	if rules.TimeToLive != 2*time.Hour || rules.ProcessingTimeout != 0 || rules.MaxAttempts != 3 || !rules.EventsQueue || rules.ServiceProject != "svc" {
		t.Errorf("read %+v", rules)
	}
	if names := strings.Join(rules.TypeNames(), " "); names != "import api_image_import location_import resize wait" {
		t.Errorf("types %s", names)
	}
	if own := rules.Types["resize"]; own.Check(`{"size": 1}`) != nil || own.Check(``) == nil || !strings.Contains(own.Schema, `"required":["size"]`) {
		t.Errorf("its schema is %s", own.Schema)
	}
	cfg, _, err = load(t, nil, environment{`NABU_TASK_TYPES={"a": {}, "b.c": {"type": "null"}}`}, "")
	if err != nil || len(cfg.Images.rules.Types) != 5 || cfg.Images.rules.Types["b.c"].Check("") != nil {
		t.Errorf("types %v, error %v", cfg.Images.rules.Types, err)
	}
}

func TestBadImageSettingsAreNamed(t *testing.T) {
	for says, file := range map[string]string{
		"nabu.yaml): must be an object":              "task_types: none",
		"nabu.yaml): a: ":                            "task_types: {a: {type: nothing}}",
		"must not refer to file:///etc/passwd":       `task_types: {a: {"$ref": "file:///etc/passwd"}}`,
		"nabu.yaml): import is a type of Glance's":   "task_types: {import: {}}",
		"the name of a task type must have 1 to 30":  "task_types: {a b: {}}",
		"no task type can have the name events":      "task_types: {events: {}}",
		"max_attempts (file":                         "max_attempts: 0",
		"task_time_to_live (file":                    "task_time_to_live: 0",
		"task_processing_timeout (file":              "task_processing_timeout: -1s",
		"nabu.yaml): project id":                     `service_project_id: ""`,
		"such as http://glance:9292, not \"glance\"": "image_upstream: glance",
		"image_upstream (file":                       "image_upstream: http://glance:9292/v2",
		"volume_upstream (file":                      "volume_upstream: http://cinder/volume/v3/",
		"compute_upstream (file":                     "compute_upstream: http://nova:8774/v2.1",
		"forward_to (file":                           "forward_to: http://nova:8774",
		"image_endpoint (file":                       "image_endpoint: ftp://glance",
		"image_listen (file":                         "image_listen: nowhere",
		"import_allowed_ports (file":                 "import_allowed_ports: http",
		"must be a text, not a group":                "listen: {a: b}",
		"must be a group, or one as JSON, not a li":  "task_types: [transcode]",
		"image_public_endpoint (file":                "image_public_endpoint: /image",
	} {
		_, _, err := load(t, nil, nil, file)
		if exitCode(err) != exitMisconfigured || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, which does not say %q", file, err, says)
		} else if strings.Contains(err.Error(), "message_ttl") {
			t.Errorf("%s: %v, which speaks of another setting", file, err)
		}
	}
}

func TestImportSettings(t *testing.T) {
	cfg, _, err := load(t, []string{"--import-allowed-hosts", "Images.Example, 127.0.0.1", "--import-disallowed-ports", "22,25", "--image-upstream", "http://glance:9292"}, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	images, err := cfg.Images.images()
	if err != nil || images.Service != images.Upstream || images.Upstream.Host != "glance:9292" {
		t.Fatalf("%+v, error %v", images, err)
	}
	filter, err := cfg.Images.importFilter()
	if err != nil || len(filter.AllowHosts) != 2 || len(filter.DenyPorts) != 2 || len(filter.AllowPorts) != 0 {
		t.Errorf("%+v, error %v", filter, err)
	}
}

func TestServeWithAListenerForImages(t *testing.T) {
	t.Parallel()
	r := start(t, "--data-dir", newDataDir(t), "--image-listen", "127.0.0.1:0")
	var line struct{ Msg, URL string }
	for text := range strings.Lines(r.logged()) {
		if strings.Contains(text, "Image API by itself") {
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				t.Fatal(err)
			}
		}
	}
	response, err := http.Get(line.URL + "/versions")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || response.StatusCode != 200 || !bytes.Contains(text, []byte(line.URL+"/v2/")) {
		t.Errorf("%d %s, error %v", response.StatusCode, text, err)
	}
	r.call("GET", "/image/versions", "", 200)
	http.DefaultClient.CloseIdleConnections()
	r.end()

	err = run(t.Context(), []string{"serve", "--listen", "127.0.0.1:0", "--image-listen", "0.0.0.0:0", "--data-dir", newDataDir(t)}, cleanEnviron(), io.Discard)
	if exitCode(err) != exitMisconfigured || !strings.Contains(err.Error(), "0.0.0.0:0") {
		t.Errorf("exit code %d: %v", exitCode(err), err)
	}
}
