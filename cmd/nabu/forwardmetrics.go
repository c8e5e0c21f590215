package main

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nabu/projections"
)

// forwardMetrics are those of what another compute service is still to get. They are asked of
// the database with each scrape, so every replica tells the same.
type forwardMetrics struct {
	views *projections.Views
	log   *slog.Logger

	waiting, oldest *prometheus.Desc
}

func newForwardMetrics(views *projections.Views, log *slog.Logger) *forwardMetrics {
	return &forwardMetrics{
		views: views, log: log,
		waiting: prometheus.NewDesc("nabu_forwards_waiting", "Requests about single servers that the service of forward_to is still to get.", nil, nil),
		oldest:  prometheus.NewDesc("nabu_forwards_oldest_seconds", "How long ago the first of them was accepted.", nil, nil),
	}
}

// Describe lists the metrics.
func (m *forwardMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.waiting
	to <- m.oldest
}

// Collect asks the database. While it does not answer, these metrics are absent.
func (m *forwardMetrics) Collect(to chan<- prometheus.Metric) {
	waiting, oldest, err := scrape(m.views.WaitingForwards)
	if err != nil {
		m.log.Warn("the metrics of what is forwarded are missing", "error", err)
		return
	}
	to <- prometheus.MustNewConstMetric(m.waiting, prometheus.GaugeValue, float64(waiting))
	to <- prometheus.MustNewConstMetric(m.oldest, prometheus.GaugeValue, oldest.Round(time.Millisecond).Seconds())
}
