package main

import (
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// deliverySettings are those of what leaves the house for subscribers.
var deliverySettings = []setting{
	{
		key: "webhook_allow_networks", rule: networks,
		help:  "networks that webhooks may be in though they are not public, at any port, such as 10.1.0.0/16,fd00::/8",
		field: func(c *config) any { return &c.WebhookAllowNetworks },
	}, {
		key: "webhook_ports", fallback: "80,443", rule: ports,
		help:  "ports that webhooks elsewhere may have, with commas between",
		field: func(c *config) any { return &c.WebhookPorts },
	}, {
		key: "webhook_timeout", fallback: "10s", rule: positive,
		help:  "how long one call of a webhook, or one mail, may take",
		field: func(c *config) any { return &c.WebhookTimeout },
	}, {
		key: "webhook_per_host", fallback: "10", rule: between(1, 1000),
		help:  "most calls to one host at a time",
		field: func(c *config) any { return &c.WebhookPerHost },
	}, {
		key:   "smtp_host",
		help:  "server that takes mails; empty: mails are dropped",
		field: func(c *config) any { return &c.SMTPHost },
	}, {
		key: "smtp_port", fallback: "0", rule: between(0, 65535),
		help:  "its port; 0: the usual one for smtp_tls",
		field: func(c *config) any { return &c.SMTPPort },
	}, {
		key:   "smtp_user",
		help:  "user there; empty: nobody logs in",
		field: func(c *config) any { return &c.SMTPUser },
	}, {
		key: "smtp_password_file", path: true,
		help:  "file with the user's password",
		field: func(c *config) any { return &c.SMTPPasswordFile },
	}, {
		key: "smtp_tls", fallback: "starttls", rule: oneOf("starttls", "tls", "none"),
		help:  "how the way there is protected: starttls (required), tls from the first byte on, or none",
		field: func(c *config) any { return &c.SMTPTLS },
	}, {
		key: "mail_from", fallback: "nabu@localhost", rule: mailAddress,
		help:  "sender of mails for subscriptions that name none, and of confirmations",
		field: func(c *config) any { return &c.MailFrom },
	}, {
		key: "external_confirmation_url", rule: webURL,
		help:  "page that mails lead to for confirming a subscription; empty: no mail can ask for it",
		field: func(c *config) any { return &c.ExternalConfirmationURL },
	}, {
		key: "messaging_public_endpoint", rule: webURL,
		help:  "where subscribers reach the Messaging API, told with a confirmation; empty: it is not told",
		field: func(c *config) any { return &c.MessagingPublicEndpoint },
	},
}

// commas takes a list apart that has commas between its items. An empty text has none.
func commas(text string) (items []string) {
	for _, item := range strings.Split(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

func networks(text string) error {
	_, err := parseNetworks(text)
	return err
}

func parseNetworks(text string) (networks []netip.Prefix, err error) {
	for _, item := range commas(text) {
		network, err := netip.ParsePrefix(item)
		if err != nil || network.Addr().Is4In6() {
			return nil, fmt.Errorf("must be networks such as 10.1.0.0/16 with commas between, not %q", item)
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

func ports(text string) error {
	_, err := parsePorts(text)
	return err
}

func parsePorts(text string) (ports []uint16, err error) {
	for _, item := range commas(text) {
		n, err := strconv.ParseUint(item, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("must be ports between 1 and 65535 with commas between, not %q", item)
		}
		ports = append(ports, uint16(n))
	}
	if len(ports) == 0 {
		return nil, fmt.Errorf("must have at least one port")
	}
	return ports, nil
}

func mailAddress(text string) error {
	if _, err := mail.ParseAddress(text); err != nil {
		return fmt.Errorf("must be a mail address, not %q", text)
	}
	return nil
}

func webURL(text string) error {
	_, err := parseWebURL(text, "https://nabu.example.net/")
	return err
}

func parseWebURL(text, example string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("must be a URL such as %s, not %q", example, text)
	}
	return u, nil
}

// apiVersion is a version in the path of an API's address.
var apiVersion = regexp.MustCompile(`(^|/)v[0-9]+(\.[0-9]+)?(/|$)`)

// upstreamURL wants an address to which requests go with the version that they bring along.
func upstreamURL(text string) error {
	const example = "http://glance:9292"
	u, err := parseWebURL(text, example)
	if err == nil && apiVersion.MatchString(u.Path) {
		return fmt.Errorf("must be a URL without a version, such as %s, not %q: requests bring it along", example, text)
	}
	return err
}

// versionedURL wants an address of one version of an API.
func versionedURL(text string) error {
	const example = "http://nova:8774/v2.1"
	u, err := parseWebURL(text, example)
	if err == nil && !apiVersion.MatchString(u.Path) {
		return fmt.Errorf("must be a URL with the version, such as %s, not %q", example, text)
	}
	return err
}
