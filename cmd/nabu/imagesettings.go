package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"nabu/domain"
	"nabu/http"
	"nabu/internal/jsonschema"
	"nabu/internal/outbound"
)

// imageConfig are the settings of the Image API, of which nabu serves the tasks.
type imageConfig struct {
	Listen                string
	PublicEndpoint        string
	Upstream              string
	Endpoint              string
	ServiceProjectID      string
	TaskTimeToLive        int
	TaskProcessingTimeout time.Duration
	MaxAttempts           int
	TaskTypes             string
	TaskEventsQueue       bool
	AllowedSchemes        string
	DisallowedSchemes     string
	AllowedHosts          string
	DisallowedHosts       string
	AllowedPorts          string
	DisallowedPorts       string
	SwiftPaths            bool

	rules domain.TaskRules
}

// imageSettings are those of the Image API, under Glance's names where it has them.
var imageSettings = []setting{
	{
		key: "image_listen", rule: address,
		help:  "address and port at which the Image API stands alone, at the root; empty: it stands under /image only",
		field: func(c *config) any { return &c.Images.Listen },
	}, {
		key: "image_public_endpoint", rule: webURL,
		help:  "where clients reach the Image API, for its links; empty: the address that they asked",
		field: func(c *config) any { return &c.Images.PublicEndpoint },
	}, {
		key: "image_upstream", rule: upstreamURL,
		help:  "image service that gets every request under /image but those about tasks; empty: there is none",
		field: func(c *config) any { return &c.Images.Upstream },
	}, {
		key: "image_endpoint", rule: webURL,
		help:  "image service that is asked whether an image without tasks is there, and gets the images of nabu worker; empty: image_upstream",
		field: func(c *config) any { return &c.Images.Endpoint },
	}, {
		key: "service_project_id", fallback: "service",
		help:  "project in which queues hand work out, such as tasks.import",
		field: func(c *config) any { return &c.Images.ServiceProjectID },
	}, {
		key: "task_time_to_live", fallback: "48",
		help:  "hours that a task is kept after its end",
		field: func(c *config) any { return &c.Images.TaskTimeToLive },
	}, {
		key: "task_processing_timeout", fallback: "6h",
		help:  "how long a task may be in processing without a report until it fails; 0: for ever",
		field: func(c *config) any { return &c.Images.TaskProcessingTimeout },
	}, {
		key: "max_attempts", fallback: "1",
		help:  "how often a task may be begun when its workers are lost",
		field: func(c *config) any { return &c.Images.MaxAttempts },
	}, {
		key: "task_types", group: true,
		help:  "types of tasks besides Glance's, each with the JSON schema of its input, as JSON or, in the file, as a group",
		field: func(c *config) any { return &c.Images.TaskTypes },
	}, {
		key: "task_events_queue", fallback: "false",
		help:  "post each change of a task to the queue tasks.events of its project",
		field: func(c *config) any { return &c.Images.TaskEventsQueue },
	}, {
		key:   "import_allowed_schemes",
		help:  "schemes that images may be imported by, with commas between; with the denied ones empty as well: http,https",
		field: func(c *config) any { return &c.Images.AllowedSchemes },
	}, {
		key:   "import_disallowed_schemes",
		help:  "schemes that images may not be imported by; of no effect beside allowed ones",
		field: func(c *config) any { return &c.Images.DisallowedSchemes },
	}, {
		key:   "import_allowed_hosts",
		help:  "hosts, by name or address, that images may be imported from, wherever they are; empty: any, but for this machine and link-local ones",
		field: func(c *config) any { return &c.Images.AllowedHosts },
	}, {
		key:   "import_disallowed_hosts",
		help:  "hosts that images may not be imported from; of no effect beside allowed ones",
		field: func(c *config) any { return &c.Images.DisallowedHosts },
	}, {
		key: "import_allowed_ports", rule: portsOrNone,
		help:  "ports that images may be imported from; with the denied ones empty as well: 80,443",
		field: func(c *config) any { return &c.Images.AllowedPorts },
	}, {
		key: "import_disallowed_ports", rule: portsOrNone,
		help:  "ports that images may not be imported from; of no effect beside allowed ones",
		field: func(c *config) any { return &c.Images.DisallowedPorts },
	}, {
		key: "import_swift_paths", fallback: "false",
		help:  "take container/object for the place of an image to import, as old openstacksdks name it",
		field: func(c *config) any { return &c.Images.SwiftPaths },
	},
}

// portsOrNone is the rule for a list of ports that may be empty.
func portsOrNone(text string) error {
	_, err := portList(text)
	return err
}

func portList(text string) ([]uint16, error) {
	if len(commas(text)) == 0 {
		return nil, nil
	}
	return parsePorts(text)
}

// taskRules are what the settings say of tasks.
func (c imageConfig) taskRules() (domain.TaskRules, error) {
	rules := domain.TaskRules{
		ServiceProject: c.ServiceProjectID, TimeToLive: time.Duration(c.TaskTimeToLive) * time.Hour,
		ProcessingTimeout: c.TaskProcessingTimeout, MaxAttempts: c.MaxAttempts,
		Types: domain.TaskTypes(), EventsQueue: c.TaskEventsQueue,
	}
	if c.TaskTypes == "" {
		return rules, nil
	}
	var own map[string]json.RawMessage
	if err := json.Unmarshal([]byte(c.TaskTypes), &own); err != nil {
		return rules, fmt.Errorf("task_types: must be an object with a JSON schema for each name: %w", err)
	}
	for name, schema := range own {
		if _, glances := rules.Types[name]; glances {
			return rules, fmt.Errorf("task_types: %s is a type of Glance's and cannot have another schema", name)
		}
		compiled, err := jsonschema.Compile(string(schema))
		if err != nil {
			return rules, fmt.Errorf("task_types: %s: %w", name, err)
		}
		rules.Types[name] = domain.TaskType{Schema: string(schema), Check: func(input string) error {
			return compiled.Check(cmp.Or(input, "null"))
		}}
	}
	return rules, nil
}

// images are the rules of the Image API.
func (c imageConfig) images() (http.Images, error) {
	rules := http.Images{Tasks: c.rules, SwiftPaths: c.SwiftPaths, PublicEndpoint: c.PublicEndpoint}
	var err error
	if c.Upstream != "" {
		if rules.Upstream, err = url.Parse(c.Upstream); err != nil {
			return rules, fmt.Errorf("image_upstream: %w", err)
		}
	}
	rules.Service = rules.Upstream
	if c.Endpoint != "" {
		if rules.Service, err = url.Parse(c.Endpoint); err != nil {
			return rules, fmt.Errorf("image_endpoint: %w", err)
		}
	}
	rules.Imports, err = c.importFilter()
	return rules, err
}

// importFilter is what images may be imported from.
func (c imageConfig) importFilter() (*outbound.Filter, error) {
	lower := func(text string) []string { return commas(strings.ToLower(text)) }
	allow, err := portList(c.AllowedPorts)
	if err != nil {
		return nil, fmt.Errorf("import_allowed_ports: %w", err)
	}
	deny, err := portList(c.DisallowedPorts)
	if err != nil {
		return nil, fmt.Errorf("import_disallowed_ports: %w", err)
	}
	return &outbound.Filter{
		AllowSchemes: lower(c.AllowedSchemes), DenySchemes: lower(c.DisallowedSchemes),
		AllowHosts: lower(c.AllowedHosts), DenyHosts: lower(c.DisallowedHosts),
		AllowPorts: allow, DenyPorts: deny,
	}, nil
}
