package main

import (
	"database/sql"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/http"
	"nabu/internal/compute"
	"nabu/projections"
	"nabu/reactors"
)

// computeConfig are the settings of the Compute API, of which nabu serves external events.
type computeConfig struct {
	Listen           string
	PublicEndpoint   string
	Upstream         string
	EventTTL         int
	EventsToMessages bool
	ForwardTo        string
	ForwardTokenFile string
}

// computeSettings are those of the Compute API.
var computeSettings = []setting{
	{
		key: "compute_listen", rule: address,
		help:  "address and port at which the Compute API stands alone, at the root; empty: it stands under /compute only",
		field: func(c *config) any { return &c.Computes.Listen },
	}, {
		key: "compute_public_endpoint", rule: webURL,
		help:  "where clients reach the Compute API, for its links; empty: the address that they asked",
		field: func(c *config) any { return &c.Computes.PublicEndpoint },
	}, {
		key: "compute_upstream", rule: upstreamURL,
		help:  "compute service that gets every request under /compute but those about external events; empty: there is none",
		field: func(c *config) any { return &c.Computes.Upstream },
	}, {
		key: "event_ttl", fallback: "3600", follows: "max_message_ttl",
		help:  "seconds that an external event waits for its host, at most max_message_ttl, or for the service of forward_to",
		field: func(c *config) any { return &c.Computes.EventTTL },
	}, {
		key: "events_to_messages", fallback: "false",
		help:  "record a user message for each volume whose external event is rejected",
		field: func(c *config) any { return &c.Computes.EventsToMessages },
	}, {
		key: "forward_to", rule: versionedURL,
		help:  "compute service that gets accepted external events instead of the queues of their hosts, with the version, such as http://nova:8774/v2.1; empty: none does",
		field: func(c *config) any { return &c.Computes.ForwardTo },
	}, {
		key: "forward_token_file", path: true,
		help:  "file with the token to show there, read for each request; empty: none is shown",
		field: func(c *config) any { return &c.Computes.ForwardTokenFile },
	},
}

// eventRules are what the settings say of external events.
func (c config) eventRules() domain.EventRules {
	return domain.EventRules{
		ServiceProject: c.Images.ServiceProjectID, TTL: min(c.Computes.EventTTL, c.Limits.MaxMessageTTL),
		ToMessages: c.Computes.EventsToMessages, Forward: c.Computes.ForwardTo != "",
	}
}

// computes are the rules of the Compute API.
func (c config) computes() (rules http.Computes, err error) {
	rules = http.Computes{Events: c.eventRules(), PublicEndpoint: c.Computes.PublicEndpoint}
	if c.Computes.Upstream != "" {
		if rules.Upstream, err = url.Parse(c.Computes.Upstream); err != nil {
			return rules, fmt.Errorf("compute_upstream: %w", err)
		}
	}
	return rules, nil
}

// forwarder is what tells another compute service of external events; nil: there is none.
func (c config) forwarder(executor *commands.Executor, db *sql.DB, log *slog.Logger) (*reactors.Forwarder, error) {
	if c.Computes.ForwardTo == "" {
		return nil, nil
	}
	endpoint, err := url.Parse(c.Computes.ForwardTo)
	if err != nil {
		return nil, fmt.Errorf("forward_to: %w", err)
	}
	return reactors.NewForwarder(reactors.ForwarderConfig{
		Executor: executor, Views: &projections.Views{DB: db}, Ledger: db, Log: log,
		TTL:     time.Duration(c.Computes.EventTTL) * time.Second,
		Service: &compute.Client{Endpoint: endpoint, TokenFile: c.Computes.ForwardTokenFile},
	}), nil
}
