package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	stdhttp "net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	openstackconfig "github.com/gophercloud/gophercloud/v2/openstack/config"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"nabu/domain"
	"nabu/internal/imaging"
	"nabu/internal/worker"
)

func newWorker(environ environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "worker",
		Short: "Do import tasks: fetch images, check and store them",
		Long: `Do import tasks: claim them from the queue tasks.import, fetch their images, check
and store them, and report. It needs no database, only the address of a nabu
(worker_endpoint), and may run on any machine, as often as is wanted.

Images go to the image service at image_endpoint, with the credentials of the OS_
variables or of OS_CLOUD in clouds.yaml, or else into a folder below worker_dir.
When it is told to end it finishes what it has begun, for as long as shutdown_timeout
allows, and gives the rest back.`,
		Args: noArguments,
	}
	name := c.Flags().String("name", "", "what the worker is called in its reports; empty: a name of its own")
	concurrency := c.Flags().Int("concurrency", 2, "how many tasks are done at once, 1 to 100")
	once := c.Flags().Bool("once", false, "end when there is no task, with an error if the server cannot be asked")
	addSettings(c, "log_*", "worker_*", "import_*", "image_endpoint", "service_project_id", "data_dir", "shutdown_timeout")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *concurrency < 1 || *concurrency > 100 {
			return misused(fmt.Errorf("%s: --concurrency must be between 1 and 100, not %d", c.CommandPath(), *concurrency))
		}
		if len(*name) > domain.MaxTaskWorker {
			return misused(fmt.Errorf("%s: --name must not be longer than %d bytes", c.CommandPath(), domain.MaxTaskWorker))
		}
		cfg, _, err := loadConfig(c.Flags(), environ)
		log := newLog(cfg, c.OutOrStdout())
		if err == nil {
			w := working{config: cfg, environ: environ, log: log}
			w.wanted = worker.Config{Name: workerName(*name), Concurrency: *concurrency, Once: *once}
			err = w.run(c.Context())
		}
		logEnd(log, err)
		return err
	}
	return c
}

// workerName is a name that no other worker has, if none is given: two with one name would
// take each other's reports for their own.
func workerName(given string) string {
	if given != "" {
		return given
	}
	host, err := os.Hostname()
	if err != nil {
		host = "worker"
	}
	return host[:min(len(host), 64)] + "-" + strings.ToLower(rand.Text()[:6])
}

// working is a nabu worker.
type working struct {
	config
	environ environment
	log     *slog.Logger
	wanted  worker.Config
}

// run works until ctx ends.
func (w *working) run(ctx context.Context) (err error) {
	filter, err := w.Images.importFilter()
	if err != nil {
		return misconfigured(err)
	}
	cfg := w.wanted
	cfg.Log, cfg.Partial = w.log.With("worker", cfg.Name), filepath.Join(w.workerDir(), "partial")
	cfg.ClaimTTL, cfg.Wait, cfg.ProgressEvery = w.Worker.ClaimTTL, w.Worker.Wait, w.Worker.ProgressInterval
	cfg.Timeout, cfg.Drain = w.Worker.Timeout, w.ShutdownTimeout
	if cfg.Once {
		cfg.Wait = 0
	}
	cfg.Fetcher = &imaging.Fetcher{
		Filter: filter, MaxBytes: int64(w.Worker.MaxBytes), Tries: w.Worker.Tries, Silence: w.Worker.Silence, FirstDelay: time.Second,
	}
	// While there is only noauth, nabu is told who asks.
	cfg.Client = worker.NewClient(&gophercloud.ProviderClient{}, w.Worker.Endpoint, map[string]string{
		"X-Project-Id": w.Images.ServiceProjectID, "X-User-Id": cfg.Name, "X-Roles": "service",
	})
	if cfg.Store, err = w.store(ctx); err != nil {
		return err
	}
	m := newWorkerMetrics()
	cfg.Observe = m.observe
	shown, err := m.show(ctx, w.Worker.MetricsListen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shown()) }()
	worker, err := worker.New(cfg)
	if err != nil {
		return misconfigured(err)
	}
	cfg.Log.Info("works", "endpoint", w.Worker.Endpoint, "concurrency", cfg.Concurrency, "version", version())
	err = worker.Run(ctx)
	cfg.Log.Info("stopped")
	return err
}

// store is where images go.
func (w *working) store(ctx context.Context) (imaging.Store, error) {
	endpoint := w.Images.Endpoint
	if endpoint == "" {
		endpoint = w.Images.Upstream
	}
	if endpoint == "" {
		folder, err := imaging.OpenFolder(filepath.Join(w.workerDir(), "images"))
		if err != nil {
			return nil, misconfigured(fmt.Errorf("worker_dir: %w", err))
		}
		return folder, nil
	}
	provider, err := authenticated(ctx, w.environ)
	if err != nil {
		return nil, misconfigured(fmt.Errorf("log in to OpenStack: %w", err))
	}
	return &imaging.Service{Client: &gophercloud.ServiceClient{
		ProviderClient: provider, Endpoint: strings.TrimSuffix(endpoint, "/") + "/v2/", Type: "image",
	}}, nil
}

// authenticated is the way to OpenStack's services that the usual variables describe. Without
// any there is no token, for clouds that want none.
func authenticated(ctx context.Context, environ environment) (*gophercloud.ProviderClient, error) {
	if environ.get("OS_CLOUD") != "" {
		options, _, tls, err := clouds.Parse()
		if err != nil {
			return nil, err
		}
		options.AllowReauth = true
		return openstackconfig.NewProviderClient(ctx, options, openstackconfig.WithTLSConfig(tls))
	}
	if environ.get("OS_AUTH_URL") == "" {
		return &gophercloud.ProviderClient{}, nil
	}
	options, err := openstack.AuthOptionsFromEnv()
	if err != nil {
		return nil, err
	}
	options.AllowReauth = true
	return openstack.AuthenticatedClient(ctx, options)
}

// workerMetrics are those of nabu worker.
type workerMetrics struct {
	registry *prometheus.Registry
	tasks    *prometheus.CounterVec
	bytes    prometheus.Counter
	seconds  prometheus.Histogram
}

func newWorkerMetrics() *workerMetrics {
	m := &workerMetrics{
		registry: prometheus.NewRegistry(),
		tasks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "nabu_worker_tasks_total", Help: "Tasks that this worker claimed, by what it led to."}, []string{"outcome"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "nabu_worker_bytes_total", Help: "Bytes of images that this worker fetched."}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "nabu_worker_task_seconds", Help: "Time that a task took.", Buckets: prometheus.ExponentialBuckets(0.1, 3, 11)}),
	}
	m.registry.MustRegister(m.tasks, m.bytes, m.seconds)
	return m
}

// observe takes note of a task.
func (m *workerMetrics) observe(d worker.Done) {
	m.tasks.WithLabelValues(string(d.Outcome)).Inc()
	m.bytes.Add(float64(d.Bytes))
	m.seconds.Observe(d.Took.Seconds())
}

// show serves the metrics at an address, if there is one, until it is told to end.
func (m *workerMetrics) show(ctx context.Context, address string) (end func() error, err error) {
	if address == "" {
		return func() error { return nil }, nil
	}
	listener, err := listenAt(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("worker_metrics_listen: %w", err)
	}
	mux := stdhttp.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	server := &stdhttp.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	return func() error {
		err := server.Close()
		if serving := <-ended; !errors.Is(serving, stdhttp.ErrServerClosed) {
			err = errors.Join(err, serving)
		}
		return err
	}, nil
}
