package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"nabu/domain"
	"nabu/internal/policy"
	"nabu/internal/postgres"
	"nabu/internal/sealing"
)

// config is what the settings add up to.
type config struct {
	Listen                   string
	Env                      string
	AuthStrategy             string
	InsecureNoAuth           bool
	PolicyFile               string
	LegacyDefaults           bool
	DataDir                  string
	PGBin                    string
	AllowPrivatePostgres     bool
	DatabaseURL              string
	DirectDatabaseURL        string
	MaxConnections           int
	ShutdownTimeout          time.Duration
	LogLevel                 string
	LogFormat                string
	LogRequests              bool
	WebSocketConnections     int
	WebSocketOrigins         string
	ClientIDUUIDSafe         string
	MessageDeleteWithClaimID bool
	EnableChecksum           bool
	RequireConfirmation      bool
	SubscriberTypes          string
	SignedURLSecretKey       string
	SignedURLSecretKeyFile   string
	WebhookAllowNetworks     string
	WebhookPorts             string
	WebhookTimeout           time.Duration
	WebhookPerHost           int
	SMTPHost                 string
	SMTPPort                 int
	SMTPUser                 string
	SMTPPasswordFile         string
	SMTPTLS                  string
	MailFrom                 string
	ExternalConfirmationURL  string
	MessagingPublicEndpoint  string
	Limits                   domain.Limits
	EncryptionKeysFile       string
	Images                   imageConfig
	Worker                   workerConfig
	Volumes                  volumeConfig
	Computes                 computeConfig

	masters *sealing.Masters // of EncryptionKeysFile; nil: there is none
	policy  *policy.Policy
}

// setting is one key of the configuration. Its flag is the key with dashes, its
// environment variable the key in upper case behind NABU_.
type setting struct {
	path     bool // it names a file or a folder
	key      string
	fallback string
	help     string
	field    func(*config) any // where the value goes; its type is the value's kind
	rule     func(string) error
	follows  string // key of the maximum that the default never exceeds; both are numbers
	secret   bool   // shown without passwords
	hidden   bool   // not shown at all
	group    bool   // may be a group in the file, and is JSON elsewhere
}

// The values of settings that other code asks about.
const (
	production = "production"
	noAuth     = "noauth"
	strict     = "strict"
)

// settings are all keys, in the order in which they are shown.
var settings = slices.Concat(serviceSettings, messagingSettings, deliverySettings, imageSettings, workerSettings, volumeSettings, computeSettings)

var serviceSettings = []setting{
	{
		key: "listen", fallback: "127.0.0.1:8888", rule: address,
		help:  "address and port to listen on",
		field: func(c *config) any { return &c.Listen },
	}, {
		key: "env", fallback: "development", rule: oneOf("development", production),
		help:  "production: nabu does not start with its private PostgreSQL, which nobody backs up, unless allow_private_postgres says so",
		field: func(c *config) any { return &c.Env },
	}, {
		key: "auth_strategy", fallback: noAuth, rule: oneOf(noAuth),
		help:  "how clients prove who they are",
		field: func(c *config) any { return &c.AuthStrategy },
	}, {
		key: "insecure_noauth", fallback: "false",
		help:  "allow noauth on an address that other machines can reach",
		field: func(c *config) any { return &c.InsecureNoAuth },
	}, {
		key: "policy_file", path: true,
		help:  "file with rules of who may do what; empty: policy.yaml beside the file of the settings, if there is one",
		field: func(c *config) any { return &c.PolicyFile },
	}, {
		key: "legacy_defaults", fallback: "false",
		help:  "add to the default rules what OpenStack allowed before its release Xena; rules in policy_file stay as they are",
		field: func(c *config) any { return &c.LegacyDefaults },
	}, {
		key: "data_dir", path: true,
		help:  "folder of the private PostgreSQL; empty: the usual place for data",
		field: func(c *config) any { return &c.DataDir },
	}, {
		key: "pg_bin", path: true, rule: programs,
		help:  "folder of PostgreSQL's programs; empty: look for them",
		field: func(c *config) any { return &c.PGBin },
	}, {
		key: "allow_private_postgres", fallback: "false",
		help:  "allow the private PostgreSQL in production",
		field: func(c *config) any { return &c.AllowPrivatePostgres },
	}, {
		key: "database_url", secret: true, rule: connectionString,
		help:  "PostgreSQL to use; empty: a private one",
		field: func(c *config) any { return &c.DatabaseURL },
	}, {
		key: "direct_database_url", secret: true, rule: connectionString,
		help:  "way to the same database around a transaction pooler, for migrations and the feed; empty: database_url",
		field: func(c *config) any { return &c.DirectDatabaseURL },
	}, {
		key: "max_connections", fallback: "16", rule: between(9, 1000),
		help:  "most connections of this nabu to the database: one to write, one to load what the next claims will want, six to follow the history, the others to read; several nabus need as many each",
		field: func(c *config) any { return &c.MaxConnections },
	}, {
		key: "shutdown_timeout", fallback: "30s", rule: positive,
		help:  "how long a stop may take",
		field: func(c *config) any { return &c.ShutdownTimeout },
	}, {
		key: "log_level", fallback: "info", rule: oneOf("debug", "info", "warn", "error"),
		help:  "least level that is logged",
		field: func(c *config) any { return &c.LogLevel },
	}, {
		key: "log_format", fallback: "auto", rule: oneOf("auto", "text", "json"),
		help:  "auto: text on a terminal, json elsewhere",
		field: func(c *config) any { return &c.LogFormat },
	}, {
		key: "log_requests", fallback: "false",
		help:  "log each request, with project and user; /healthz, /readyz and /metrics at level debug",
		field: func(c *config) any { return &c.LogRequests },
	}, {
		key: "websocket_connections", fallback: "1000", rule: between(1, 1_000_000),
		help:  "most WebSockets that are open at once",
		field: func(c *config) any { return &c.WebSocketConnections },
	}, {
		key: "websocket_origins", rule: origins,
		help:  "hosts of pages from which browsers may open WebSockets besides nabu's own, with commas between; * for any text",
		field: func(c *config) any { return &c.WebSocketOrigins },
	},
}

// messagingSettings are those of the Messaging API, under Zaqar's names. Their
// bounds depend on one another and are checked by domain.Limits.
var messagingSettings = []setting{
	{
		key: "client_id_uuid_safe", fallback: strict, rule: oneOf(strict, "off"),
		help:  "strict: a Client-ID must be a UUID; off: 10 to 36 characters",
		field: func(c *config) any { return &c.ClientIDUUIDSafe },
	},
	{
		key: "message_delete_with_claim_id", fallback: "false",
		help:  "messages are deleted by ids only together with claim_ids that hold them",
		field: func(c *config) any { return &c.MessageDeleteWithClaimID },
	}, {
		key: "enable_checksum", fallback: "false",
		help:  "show the MD5 checksum of each message's body",
		field: func(c *config) any { return &c.EnableChecksum },
	}, {
		key: "encryption_keys_file", path: true, rule: masterKeys,
		help:  "file of master keys for queues that encrypt, the active one first; empty: none may",
		field: func(c *config) any { return &c.EncryptionKeysFile },
	}, {
		key: "require_confirmation", fallback: "false",
		help:  "deliver to subscribers only once they have confirmed their subscription",
		field: func(c *config) any { return &c.RequireConfirmation },
	}, {
		key: "subscriber_types", fallback: strings.Join(domain.SubscriberTypes, ","), rule: someOf(domain.SubscriberTypes...),
		help:  "schemes that the address of a subscriber may have, with commas between",
		field: func(c *config) any { return &c.SubscriberTypes },
	},
	{
		key: "signed_url_secret_key", hidden: true,
		help:  "what signed URLs are signed with, Zaqar's if they are to stay good; empty: a random key, kept in the database",
		field: func(c *config) any { return &c.SignedURLSecretKey },
	}, {
		key: "signed_url_secret_key_file", path: true,
		help:  "file with the signed_url_secret_key",
		field: func(c *config) any { return &c.SignedURLSecretKeyFile },
	},
	limit("max_signed_url_life", "most seconds a signed URL may be good; 0: no bound",
		func(l *domain.Limits) *int { return &l.MaxSignedURLLife }),
	limitBelow("max_message_ttl", "default_message_ttl", "seconds a message lives if its sender does not say",
		func(l *domain.Limits) *int { return &l.DefaultMessageTTL }),
	limit("max_message_ttl", "most seconds a message may live",
		func(l *domain.Limits) *int { return &l.MaxMessageTTL }),
	limitBelow("max_message_delay", "default_message_delay", "seconds a message is held back in queues that do not say",
		func(l *domain.Limits) *int { return &l.DefaultMessageDelay }),
	limit("max_message_delay", "most seconds a message may be held back",
		func(l *domain.Limits) *int { return &l.MaxMessageDelay }),
	{
		key: "message_delay_on_any_queue", fallback: "false",
		help:  "a message's delay counts in every queue; otherwise, as in Zaqar, in those with a delay of their own only",
		field: func(c *config) any { return &c.Limits.DelayOnAnyQueue },
	},
	limit("max_messages_post_size", "most bytes of a request that posts messages",
		func(l *domain.Limits) *int { return &l.MaxMessagesPostSize }),
	limit("max_queue_metadata", "most bytes of a queue's metadata",
		func(l *domain.Limits) *int { return &l.MaxQueueMetadata }),
	limit("max_queues_per_page", "most queues of one page",
		func(l *domain.Limits) *int { return &l.MaxQueuesPerPage }),
	limit("max_messages_per_page", "most messages of one page, and most ids of one request",
		func(l *domain.Limits) *int { return &l.MaxMessagesPerPage }),
	limit("max_messages_per_claim_or_pop", "most messages of one claim or pop",
		func(l *domain.Limits) *int { return &l.MaxMessagesPerClaimOrPop }),
	limitBelow("max_claim_ttl", "default_claim_ttl", "seconds a claim holds its messages if its client does not say",
		func(l *domain.Limits) *int { return &l.DefaultClaimTTL }),
	limit("max_claim_ttl", "most seconds a claim may hold its messages",
		func(l *domain.Limits) *int { return &l.MaxClaimTTL }),
	limitBelow("max_claim_grace", "default_claim_grace", "seconds that messages outlive their claim if its client does not say",
		func(l *domain.Limits) *int { return &l.DefaultClaimGrace }),
	limit("max_claim_grace", "most seconds that messages outlive their claim",
		func(l *domain.Limits) *int { return &l.MaxClaimGrace }),
	limit("default_subscription_ttl", "seconds a subscription lives if its maker does not say",
		func(l *domain.Limits) *int { return &l.DefaultSubscriptionTTL }),
	limit("max_subscriptions_per_page", "most subscriptions of one page",
		func(l *domain.Limits) *int { return &l.MaxSubscriptionsPerPage }),
	limit("max_wait", "most seconds that a claim or a listing may wait for messages",
		func(l *domain.Limits) *int { return &l.MaxWait }),
}

func limit(key, help string, field func(*domain.Limits) *int) setting {
	defaults := domain.DefaultLimits()
	return setting{
		key: key, help: help, fallback: strconv.Itoa(*field(&defaults)),
		field: func(c *config) any { return field(&c.Limits) },
	}
}

// limitBelow is a limit whose default follows another one.
func limitBelow(most, key, help string, field func(*domain.Limits) *int) setting {
	s := limit(key, help, field)
	s.follows = most
	return s
}

func (s setting) flag() string { return strings.ReplaceAll(s.key, "_", "-") }

func (s setting) variable() string { return variablePrefix + strings.ToUpper(s.key) }

// kind is what a value of the setting looks like.
func (s setting) kind() string {
	switch s.field(&config{}).(type) {
	case *int:
		return "number"
	case *bool:
		return "bool"
	case *time.Duration:
		return "duration"
	}
	return "text"
}

// put reads a value into the configuration.
func (s setting) put(c *config, text string) (err error) {
	switch field := s.field(c).(type) {
	case *string:
		*field = text
	case *int:
		if *field, err = strconv.Atoi(text); err != nil {
			return fmt.Errorf("must be a whole number, not %q", text)
		}
	case *bool:
		if *field, err = strconv.ParseBool(text); err != nil {
			return fmt.Errorf("must be true or false, not %q", text)
		}
	case *time.Duration:
		if *field, err = time.ParseDuration(text); err != nil {
			return fmt.Errorf("must be a duration such as 30s or 5m, not %q", text)
		}
	}
	if s.rule != nil {
		return s.rule(text)
	}
	return nil
}

// show is the setting's value as anyone may see it.
func (s setting) show(c *config) string {
	switch field := s.field(c).(type) {
	case *string:
		if s.hidden && *field != "" {
			return "(not shown)"
		}
		if s.secret && *field != "" {
			return postgres.Redact(*field)
		}
		return *field
	case *int:
		return strconv.Itoa(*field)
	case *bool:
		return strconv.FormatBool(*field)
	case *time.Duration:
		return field.String()
	}
	return ""
}

// splitList takes a list with commas apart.
func splitList(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}
