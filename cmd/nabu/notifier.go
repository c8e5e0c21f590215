package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nabu/commands"
	"nabu/domain"
	"nabu/internal/mail"
	"nabu/internal/sealing"
	"nabu/internal/signedurl"
	"nabu/internal/webhook"
	"nabu/projections"
	"nabu/reactors"
)

// newPostman makes what calls webhooks and hands mails over, by the settings. Webhooks on
// this machine are called when whoever can reach nabu sits on it anyway.
func newPostman(cfg config, listens []net.Addr) (*reactors.Postman, error) {
	allow, err := parseNetworks(cfg.WebhookAllowNetworks)
	if err != nil {
		return nil, fmt.Errorf("webhook_allow_networks: %w", err)
	}
	ports, err := parsePorts(cfg.WebhookPorts)
	if err != nil {
		return nil, fmt.Errorf("webhook_ports: %w", err)
	}
	var own []netip.AddrPort
	for _, l := range listens {
		address, err := netip.ParseAddrPort(l.String())
		if err != nil {
			return nil, fmt.Errorf("the address that is listened on: %w", err)
		}
		own = append(own, address)
	}
	password := ""
	if cfg.SMTPPasswordFile != "" {
		if password, err = readSecret(cfg.SMTPPasswordFile); err != nil {
			return nil, misconfigured(fmt.Errorf("smtp_password_file: %w", err))
		}
	}
	return &reactors.Postman{
		PerHost: cfg.WebhookPerHost,
		Webhooks: webhook.New(webhook.Config{
			Allow: allow, Ports: ports, AllowLoopback: cfg.AuthStrategy == noAuth && !cfg.InsecureNoAuth,
			Listens: own, Timeout: cfg.WebhookTimeout, PerHost: cfg.WebhookPerHost,
		}),
		Mails: &mail.Sender{Config: mail.Config{
			Host: cfg.SMTPHost, Port: cfg.SMTPPort, User: cfg.SMTPUser, Password: password,
			TLS: mail.TLSMode(cfg.SMTPTLS), From: cfg.MailFrom, Timeout: cfg.WebhookTimeout,
		}},
	}, nil
}

// newNotifier makes the notifier, and puts its metrics into the registry.
func newNotifier(
	cfg config, listens []net.Addr, db *database, executor *commands.Executor, key signedurl.Key,
	keys *sealing.Keys, registry *prometheus.Registry, log *slog.Logger,
) (*reactors.Notifier, error) {
	postman, err := newPostman(cfg, listens)
	if err != nil {
		return nil, err
	}
	views := &projections.Views{DB: db.read}
	m := newDeliveryMetrics(views, log)
	registry.MustRegister(m.attempts, m.seconds, m.lag, m, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "nabu_webhook_breakers_open", Help: "Hosts and single subscribers that are left alone because they do not answer.",
	}, func() float64 { return float64(postman.Open()) }))
	return reactors.NewNotifier(reactors.NotifierConfig{
		Executor: executor, Views: views, Ledger: db.read, Deliver: postman, Required: cfg.RequireConfirmation, Log: log,
		Confirm: reactors.Confirmations{Key: key, Endpoint: cfg.MessagingPublicEndpoint, Page: cfg.ExternalConfirmationURL},
		Open: func(ctx context.Context, e domain.MessagesPosted) (domain.MessagesPosted, error) {
			return projections.OpenPosted(ctx, keys, e)
		},
		Observe: m.observe,
	}), nil
}

// deliveryMetrics are those of deliveries to subscribers. What waits is asked of the
// database with each scrape, so every replica tells the same; the rest is told by the one
// that delivers.
type deliveryMetrics struct {
	views *projections.Views
	log   *slog.Logger

	attempts         *prometheus.CounterVec
	seconds, lag     prometheus.Histogram
	waiting, overdue *prometheus.Desc
}

func newDeliveryMetrics(views *projections.Views, log *slog.Logger) *deliveryMetrics {
	buckets := prometheus.ExponentialBuckets(0.001, 2, 15) // to 16 s
	return &deliveryMetrics{
		views: views, log: log,
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "nabu_deliveries_total", Help: "Attempts to deliver something to a subscriber, by what they led to."}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "nabu_delivery_seconds", Help: "Time that an attempt took.", Buckets: buckets}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "nabu_delivery_lag_seconds", Help: "Time from a message's post, or its delay's end, to the beginning of the first attempt.",
			Buckets: prometheus.ExponentialBuckets(0.005, 3, 14)}),
		waiting: prometheus.NewDesc("nabu_deliveries_waiting", "Deliveries that wait for a retry or for their message's delay.", nil, nil),
		overdue: prometheus.NewDesc("nabu_deliveries_overdue_seconds", "For how long the first of them could have been tried.", nil, nil),
	}
}

// observe takes note of an attempt.
func (m *deliveryMetrics) observe(d reactors.Delivery) {
	m.attempts.WithLabelValues(string(d.Outcome)).Inc()
	m.seconds.Observe(d.Took.Seconds())
	if d.Lag >= 0 {
		m.lag.Observe(d.Lag.Seconds())
	}
}

// Describe lists the metrics that are asked of the database.
func (m *deliveryMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.waiting
	to <- m.overdue
}

// Collect asks the database. While it does not answer, these metrics are absent.
func (m *deliveryMetrics) Collect(to chan<- prometheus.Metric) {
	waiting, overdue, err := scrape(m.views.WaitingDeliveries)
	if err != nil {
		m.log.Warn("the metrics of deliveries are missing", "error", err)
		return
	}
	to <- prometheus.MustNewConstMetric(m.waiting, prometheus.GaugeValue, float64(waiting))
	to <- prometheus.MustNewConstMetric(m.overdue, prometheus.GaugeValue, overdue.Round(time.Millisecond).Seconds())
}
