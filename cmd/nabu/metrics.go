package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"nabu/commands"
)

// metrics are those of the process, the database and the executor; HTTP has its own
// in the same registry.
type metrics struct {
	registry *prometheus.Registry
	ways     map[commands.Way]wayMetrics
	head     prometheus.Gauge
}

// wayMetrics are those of the batches that went one way.
type wayMetrics struct {
	commands, events, seconds prometheus.Observer
	failures                  prometheus.Counter
}

func newMetrics(db *database) *metrics {
	sizes := prometheus.ExponentialBuckets(1, 2, 10) // to 512; a batch holds 500 at most
	byWay := []string{"way"}
	count := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "nabu_batch_commands", Help: "Commands decided together.", Buckets: sizes}, byWay)
	events := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "nabu_batch_events", Help: "Events written together.", Buckets: sizes}, byWay)
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "nabu_batch_seconds", Help: "Time from taking a batch to its commit.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}, byWay)
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "nabu_batch_failures_total", Help: "Batches whose callers were told that the database failed."}, byWay)
	m := &metrics{
		registry: prometheus.NewRegistry(),
		ways:     map[commands.Way]wayMetrics{},
		head: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "nabu_ledger_head_position", Help: "Position of the ledger's last event that this process knows of."}),
	}
	for _, way := range []commands.Way{commands.ShortWay, commands.LongWay, commands.NoWay} {
		label := string(way)
		m.ways[way] = wayMetrics{
			count.WithLabelValues(label), events.WithLabelValues(label),
			seconds.WithLabelValues(label), failures.WithLabelValues(label),
		}
	}
	m.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
		collectors.NewDBStatsCollector(db.read, "read"), collectors.NewDBStatsCollector(db.write, "write"),
		count, events, seconds, failures, m.head)
	return m
}

// observe takes note of a batch.
func (m *metrics) observe(r commands.BatchReport) {
	way := m.ways[r.Way]
	way.seconds.Observe(r.Took.Seconds())
	if r.Err != nil {
		way.failures.Inc()
		return
	}
	way.commands.Observe(float64(r.Commands))
	way.events.Observe(float64(r.Events))
	m.head.Set(float64(r.Head))
}

// watch adds what the executor tells when asked.
func (m *metrics) watch(e *commands.Executor) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "nabu_commands_waiting", Help: "Commands that wait to be decided.",
	}, func() float64 { return float64(e.Waiting()) }))
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "nabu_requests_waiting", Help: "Requests that wait for messages.",
	}, func() float64 { return float64(e.News.Readers()) }))
}
