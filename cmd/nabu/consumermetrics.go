package main

import (
	"context"
	"database/sql"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nabu/eventstore"
	"nabu/internal/postgres"
)

// consumerMetrics are those of the feed's consumers. They are asked of the database with
// each scrape, so every replica tells the same.
type consumerMetrics struct {
	db  *sql.DB
	log *slog.Logger

	events, seconds, parked, parkedSeconds *prometheus.Desc
}

// scrapePatience is how long a scrape waits for the database.
const scrapePatience = 2 * time.Second

func newConsumerMetrics(db *sql.DB, log *slog.Logger) *consumerMetrics {
	about := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, []string{"consumer"}, nil)
	}
	return &consumerMetrics{
		db: db, log: log,
		events:        about("nabu_consumer_lag_events", "Events of the ledger behind the consumer's checkpoint, whether it wants them or not."),
		seconds:       about("nabu_consumer_lag_seconds", "How long the first of them has been in the ledger."),
		parked:        about("nabu_consumer_parked_events", "Events that are set aside for the consumer."),
		parkedSeconds: about("nabu_consumer_parked_seconds", "For how long the first of them has been."),
	}
}

// Describe lists the metrics.
func (m *consumerMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.events, m.seconds, m.parked, m.parkedSeconds} {
		to <- d
	}
}

// Collect asks the database. While it does not answer, these metrics are absent and the
// others are not.
func (m *consumerMetrics) Collect(to chan<- prometheus.Metric) {
	consumers, err := postgres.Within(context.Background(), scrapePatience, func(ctx context.Context) ([]eventstore.Consumer, error) {
		return eventstore.Consumers(ctx, m.db)
	})
	if err != nil {
		m.log.Warn("the metrics of the consumers are missing", "error", err)
		return
	}
	for _, c := range consumers {
		for about, value := range map[*prometheus.Desc]float64{
			m.events: float64(c.Events), m.seconds: c.Age.Seconds(),
			m.parked: float64(c.Parked), m.parkedSeconds: c.ParkedAge.Seconds(),
		} {
			to <- prometheus.MustNewConstMetric(about, prometheus.GaugeValue, value, c.Name)
		}
	}
}

// backlog is how much waits, and for how long the first of it has.
type backlog struct {
	waiting int
	oldest  time.Duration
}

// scrape asks a view for a backlog.
func scrape(view func(context.Context) (int, time.Duration, error)) (waiting int, oldest time.Duration, err error) {
	its, err := postgres.Within(context.Background(), scrapePatience, func(ctx context.Context) (b backlog, err error) {
		b.waiting, b.oldest, err = view(ctx)
		return b, err
	})
	return its.waiting, its.oldest, err
}

// newUpMetric asks the database with each scrape.
func newUpMetric(db *sql.DB) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "nabu_database_up", Help: "Whether the database answers: 1, or 0.",
	}, func() float64 {
		_, err := postgres.Within(context.Background(), scrapePatience, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, db.PingContext(ctx)
		})
		if err != nil {
			return 0
		}
		return 1
	})
}
