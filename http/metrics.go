package http

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count requests. Each route's counters are looked up once, not with every
// request.
type metrics struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	routes    map[routeKey]*routeMetrics
	others    *routeMetrics            // requests without a route
	actions   map[string]*routeMetrics // of frames on WebSockets
}

// routeKey is a route as echo reports it.
type routeKey struct{ address, method string }

// routeMetrics are those of one route.
type routeMetrics struct {
	path, method string
	requests     *prometheus.CounterVec
	byStatus     [600]atomic.Pointer[prometheus.Counter]
	duration     prometheus.Observer
	operation    *operation // nil: the health answer does not tell of it
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "nabu_http_requests_total",
			Help: "Requests answered, by route, method and status.",
		}, []string{"route", "method", "status"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "nabu_http_request_duration_seconds",
			Help:    "Time from a request's header to the end of its answer, by route and method.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5},
		}, []string{"route", "method"}),
		routes: map[routeKey]*routeMetrics{},
	}
	m.others = m.newRoute("other", "other")
	if registry != nil {
		registry.MustRegister(m.requests, m.durations)
	}
	return m
}

func (m *metrics) newRoute(path, method string) *routeMetrics {
	return &routeMetrics{
		path: path, method: method, requests: m.requests,
		duration: m.durations.WithLabelValues(path, method),
	}
}

// add makes a route known under an address. All addresses of a route count together.
func (m *metrics) add(address string, r route, operations operations) {
	var its *routeMetrics
	for key, other := range m.routes {
		if key.method == r.method && other.path == r.path {
			its = other
		}
	}
	if its == nil {
		its = m.newRoute(r.path, r.method)
		its.operation = operations[r.operation]
	}
	m.routes[routeKey{address, r.method}] = its
}

// onWebSocket stands for the route in the metrics of frames, whose action stands for the
// method.
const onWebSocket = "websocket"

// addActions makes the actions of frames known, and how many connections there are.
func (m *metrics) addActions(registry prometheus.Registerer, operations operations, connections func() int) {
	m.actions = map[string]*routeMetrics{"": m.newRoute(onWebSocket, "other"), authenticate: m.newRoute(onWebSocket, authenticate)}
	for name, a := range actions {
		m.actions[name] = m.newRoute(onWebSocket, name)
		m.actions[name].operation = operations[a.operation]
	}
	if registry != nil {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "nabu_websocket_connections",
			Help: "WebSockets that are open.",
		}, func() float64 { return float64(connections()) }))
	}
}

// action finds the metrics of a frame.
func (m *metrics) action(name string) *routeMetrics {
	if its, known := m.actions[name]; known {
		return its
	}
	return m.actions[""]
}

// route finds the metrics of a request by where echo has routed it.
func (m *metrics) route(address, method string) *routeMetrics {
	if its, known := m.routes[routeKey{address, method}]; known {
		return its
	}
	return m.others
}

func (r *routeMetrics) observe(status int, took time.Duration) {
	r.duration.Observe(took.Seconds())
	if status < 0 || status >= len(r.byStatus) {
		return
	}
	counter := r.byStatus[status].Load()
	if counter == nil {
		its := r.requests.WithLabelValues(r.path, r.method, strconv.Itoa(status))
		counter = &its
		r.byStatus[status].Store(counter)
	}
	(*counter).Inc()
}
