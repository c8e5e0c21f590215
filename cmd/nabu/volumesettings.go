package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/yaml"

	"nabu/domain"
	"nabu/http"
)

// volumeConfig are the settings of the Block Storage API, of which nabu serves the user
// messages.
type volumeConfig struct {
	Listen                     string
	PublicEndpoint             string
	Upstream                   string
	MessageTTL                 int
	MessageReapInterval        int
	MaxLimit                   int
	Filters                    string
	Catalogue                  string
	TaskFailuresToUserMessages bool

	rules domain.UserMessageRules
}

// volumeSettings are those of the Block Storage API, under Cinder's names where it has them.
var volumeSettings = []setting{
	{
		key: "volume_listen", rule: address,
		help:  "address and port at which the Block Storage API stands alone, at the root; empty: it stands under /volume only",
		field: func(c *config) any { return &c.Volumes.Listen },
	}, {
		key: "volume_public_endpoint", rule: webURL,
		help:  "where clients reach the Block Storage API, for its links; empty: the address that they asked",
		field: func(c *config) any { return &c.Volumes.PublicEndpoint },
	}, {
		key: "volume_upstream", rule: upstreamURL,
		help:  "volume service that gets every request under /volume but those about user messages; empty: there is none",
		field: func(c *config) any { return &c.Volumes.Upstream },
	}, {
		key: "message_ttl", fallback: "2592000",
		help:  "seconds that a user message is guaranteed to be there",
		field: func(c *config) any { return &c.Volumes.MessageTTL },
	}, {
		key: "message_reap_interval", fallback: "86400",
		help:  "seconds between two rounds that delete the user messages whose message_ttl is over",
		field: func(c *config) any { return &c.Volumes.MessageReapInterval },
	}, {
		key: "osapi_max_limit", fallback: "1000", rule: between(1, 100_000),
		help:  "most user messages of a page, and those of one whose client does not say",
		field: func(c *config) any { return &c.Volumes.MaxLimit },
	}, {
		key: "user_message_filters", fallback: strings.Join(http.UserMessageFilters, ","),
		help:  "what others than administrators may filter user messages by, with commas between; with ~ at the end for parts as well",
		field: func(c *config) any { return &c.Volumes.Filters },
	}, {
		key: "user_message_catalogue", path: true,
		help:  "file with actions and details of other services, and with texts in other languages, as YAML or JSON; empty: what nabu ships",
		field: func(c *config) any { return &c.Volumes.Catalogue },
	}, {
		key: "task_failures_to_user_messages", fallback: "false",
		help:  "tell the owner of a task that fails by a user message as well",
		field: func(c *config) any { return &c.Volumes.TaskFailuresToUserMessages },
	},
}

// userMessageRules are what the settings say of user messages.
func (c volumeConfig) userMessageRules() (domain.UserMessageRules, error) {
	rules := domain.UserMessageRules{
		TTL: time.Duration(c.MessageTTL) * time.Second, ReapInterval: time.Duration(c.MessageReapInterval) * time.Second,
		Catalogue: domain.DefaultCatalogue(), TaskFailures: c.TaskFailuresToUserMessages,
	}
	if c.Catalogue == "" {
		return rules, nil
	}
	text, err := os.ReadFile(c.Catalogue)
	if err != nil { // it names the file
		return rules, fmt.Errorf("user_message_catalogue: %w", err)
	}
	if rules.Catalogue, err = parseCatalogue(text); err != nil {
		return rules, fmt.Errorf("user_message_catalogue: %s: %w", c.Catalogue, err)
	}
	return rules, nil
}

// parseCatalogue makes a catalogue of what nabu ships and a part of the operator's. JSON is
// YAML as well.
func parseCatalogue(text []byte) (*domain.Catalogue, error) {
	values, err := yaml.Parser().Unmarshal(text)
	if err != nil {
		return nil, err
	}
	if text, err = json.Marshal(values); err != nil {
		return nil, fmt.Errorf("ids must be texts: %w", err)
	}
	file, err := domain.ParseCatalogue(text)
	if err != nil {
		return nil, err
	}
	return domain.NewCatalogue(file)
}

// volumes are the rules of the Block Storage API.
func (c volumeConfig) volumes() (http.Volumes, error) {
	rules := http.Volumes{
		Messages: c.rules, MaxLimit: c.MaxLimit, Filters: commas(c.Filters), PublicEndpoint: c.PublicEndpoint,
	}
	if c.Upstream == "" {
		return rules, nil
	}
	var err error
	if rules.Upstream, err = url.Parse(c.Upstream); err != nil {
		return rules, fmt.Errorf("volume_upstream: %w", err)
	}
	return rules, nil
}
