package main

import (
	"fmt"
	"math"
	"path/filepath"
	"time"
)

// workerConfig are the settings of nabu worker.
type workerConfig struct {
	Endpoint         string
	Dir              string
	ClaimTTL         time.Duration
	Wait             time.Duration
	ProgressInterval time.Duration
	MetricsListen    string
	MaxBytes         int
	Tries            int
	Timeout          time.Duration
	Silence          time.Duration
}

var workerSettings = []setting{
	{
		key: "worker_endpoint", fallback: "http://127.0.0.1:8888", rule: webURL,
		help:  "nabu that nabu worker works for; both its APIs answer there",
		field: func(c *config) any { return &c.Worker.Endpoint },
	}, {
		key: "worker_dir", path: true,
		help:  "folder of nabu worker, for downloads and, where there is no image service, for images; empty: worker in the usual place for data",
		field: func(c *config) any { return &c.Worker.Dir },
	}, {
		key: "worker_claim_ttl", fallback: "5m", rule: lasting(time.Minute, 12*time.Hour),
		help:  "how long a task waits for a worker that has died; a live one renews its claim three times as often",
		field: func(c *config) any { return &c.Worker.ClaimTTL },
	}, {
		key: "worker_wait", fallback: "20s", rule: lasting(0, time.Hour),
		help:  "how long a worker lets the server wait for a task; at most the server's max_wait",
		field: func(c *config) any { return &c.Worker.Wait },
	}, {
		key: "worker_progress_interval", fallback: "1m", rule: lasting(time.Second, time.Hour),
		help:  "time between two reports of a task's progress",
		field: func(c *config) any { return &c.Worker.ProgressInterval },
	}, {
		key: "worker_metrics_listen", rule: address,
		help:  "address and port at which nabu worker shows its metrics; empty: nowhere",
		field: func(c *config) any { return &c.Worker.MetricsListen },
	}, {
		key: "import_max_bytes", fallback: "107374182400", rule: between(1, math.MaxInt),
		help:  "most bytes of an image that is imported",
		field: func(c *config) any { return &c.Worker.MaxBytes },
	}, {
		key: "import_tries", fallback: "10", rule: between(1, 1000),
		help:  "how often one image is asked for when its server fails or the connection is cut",
		field: func(c *config) any { return &c.Worker.Tries },
	}, {
		key: "import_timeout", fallback: "5h", rule: positive,
		help:  "how long one import may take",
		field: func(c *config) any { return &c.Worker.Timeout },
	}, {
		key: "import_silence", fallback: "1m", rule: positive,
		help:  "how long an image's server may send nothing before the connection counts as cut",
		field: func(c *config) any { return &c.Worker.Silence },
	},
}

// lasting is a rule for durations of whole seconds; put has seen that it is one.
func lasting(low, high time.Duration) func(string) error {
	return func(text string) error {
		if d, _ := time.ParseDuration(text); d < low || d > high || d%time.Second != 0 {
			return fmt.Errorf("must be between %s and %s, in whole seconds, not %s", low, high, d)
		}
		return nil
	}
}

// workerDir is the folder of nabu worker.
func (c config) workerDir() string {
	if c.Worker.Dir != "" {
		return c.Worker.Dir
	}
	return filepath.Join(c.DataDir, "worker")
}
