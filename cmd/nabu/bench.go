package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	stdhttp "net/http"

	"github.com/spf13/cobra"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/http"
	"nabu/internal/bench"
)

const benchHelp = `Measure how much nabu carries on this machine. Without --url a nabu of its own is
started, on a private PostgreSQL in a folder that is removed afterwards.

Scenarios:
  post        posts of one message
  post10      posts of ten messages
  list        pages of messages from all over a queue
  claim       claims of ten messages, and a delete for each message
  claimbulk   claims of ten messages, and one delete by ids
  cycle       posts, claims and deletes at once, and how long messages wait in between;
              from a minute on with each tenth of the time by itself
  emptyclaim  claims of a queue that is empty
  stats       the figures of a queue of 1000 messages, and of one of --fill
  depth       claims from a queue of 1000 messages, and from one of --fill
  heads       claims behind --fill messages that are claimed, or delayed
  purge       purges of ten messages and of --fill, while others post
  tasks       pages of 100 tasks and of --fill, and tasks made
  rebuild     the messages' read model made anew from --fill events, against a fold row by
              row, and how long others wait for it
  baseline    posts to a server that decodes and answers like nabu, and stores nothing
  rows        rows of such messages inserted into a table like the ledger's alone
  skiplocked  claims and deletes on one plain table, by SKIP LOCKED
  read        the ledger read with all columns and decoded, beside Rows.Scan alone
  replicas    post with one nabu, and with two and three on the same PostgreSQL
  delay       post with a millisecond of network between nabu and its PostgreSQL
  deliver     post while nobody, one and ten have subscribed, and see when it arrives
  events      external events told of 1, 10 and 500 at a time, and how long one takes to
              its host
  waits       cycle at a tenth of the posts that get answered, and baseline at that rate
  footprint   memory, and the time to the first answer
  endurance   cycle at half of what it can do, for sixty times --duration, with a
              snapshot held open for half of that
  table       all that nabu has to reach, with what is wanted, but for endurance

Claims, posts and deletes are checked: nothing acknowledged may be lost, nothing may be
in two live claims, and what was deleted must be gone.`

func newBench(environ environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure how much nabu carries on this machine",
		Long:  benchHelp,
		Args:  noArguments,
	}
	o := bench.Options{}
	f := c.Flags()
	f.StringSliceVar(&o.Scenarios, "scenario", []string{"baseline", "post"}, strings.Join(bench.Scenarios(), ", ")+"; several run in turn")
	server := f.String("url", "", "nabu to measure, such as http://127.0.0.1:8888; empty: one of its own")
	f.StringVar(&o.DatabaseURL, "database-url", "", "database for rows, skiplocked, replicas, delay, rebuild and snapshots; empty: that of the own nabu")
	f.IntVar(&o.Connections, "concurrency", 32, "connections")
	f.IntVar(&o.Queues, "queues", 1, "queues that are posted to in turn")
	f.IntVar(&o.Fill, "fill", 1000, "messages in the large queue of a scenario, or tasks")
	f.IntVar(&o.Page, "page", 20, "messages of a page")
	f.IntVar(&o.Body, "body", 256, "bytes of a message's body")
	f.Float64Var(&o.Rate, "rate", 0, "posts per second, planned ahead and counted from the plan; 0: as many as get answered")
	f.DurationVar(&o.HoldSnapshot, "hold-snapshot", 0, "time for which a transaction with a snapshot is held open beside cycle, from its second tenth on")
	f.IntVar(&o.Wait, "wait", 0, "seconds that the claims of cycle may wait for messages; 0: they are answered at once")
	f.DurationVar(&o.Duration, "duration", 10*time.Second, "time that is counted, of each run")
	f.DurationVar(&o.Warmup, "warmup", time.Second, "time before that")
	f.IntVar(&o.Runs, "runs", 3, "runs of each scenario; the median counts")
	f.BoolVar(&o.Encrypt, "encrypt", false, "have post, post10, claim and claimbulk work on queues that encrypt, of an own nabu")
	form := addForm(f)
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if err := checkBench(&o, *server); err != nil {
			return misused(err)
		}
		if o.Binary, err = os.Executable(); err != nil {
			return fmt.Errorf("find the program: %w", err)
		}
		o.Environ = forChildren(environ)
		o.ReadStored, o.ReadDecoded = readStored, readDecoded
		if isTerminal(c.ErrOrStderr()) {
			o.Progress = func(text string) { c.PrintErrln(text) }
		}
		return runBench(c, o, *form)
	}
	return c
}

func checkBench(o *bench.Options, server string) error {
	for _, name := range o.Scenarios {
		if !slices.Contains(bench.Scenarios(), name) {
			same := func(name string) string { return name }
			return fmt.Errorf("unknown scenario %q%s", name, suggestion(name, bench.Scenarios(), same))
		}
	}
	encrypting := []string{"baseline", "post", "post10", "claim", "claimbulk"}
	for _, name := range o.Scenarios {
		if o.Encrypt && (server != "" || !slices.Contains(encrypting, name)) {
			return fmt.Errorf("--encrypt is for %s, and an own nabu", strings.Join(encrypting, ", "))
		}
	}
	if o.HoldSnapshot != 0 && !slices.Contains(o.Scenarios, "cycle") {
		return errors.New("--hold-snapshot is for the scenario cycle")
	}
	if o.Wait != 0 && !slices.Contains(o.Scenarios, "cycle") {
		return errors.New("--wait is for the scenario cycle")
	}
	if o.Wait < 0 || o.Wait > 20 { // more is not allowed to claims by default
		return fmt.Errorf("--wait must be between 0 and 20, not %d", o.Wait)
	}
	if server != "" {
		u, err := url.Parse(server)
		if err != nil || u.Scheme != "http" || u.Port() == "" {
			return fmt.Errorf("--url has to be like http://127.0.0.1:8888, not %q", server)
		}
		o.Address = u.Host
	}
	for _, number := range []struct {
		flag       string
		value, min int
	}{
		{"concurrency", o.Connections, 1}, {"queues", o.Queues, 1}, {"fill", o.Fill, 1},
		{"page", o.Page, 1}, {"runs", o.Runs, 1}, {"body", o.Body, bench.MinBody},
	} {
		if number.value < number.min {
			return fmt.Errorf("--%s must be at least %d, not %d", number.flag, number.min, number.value)
		}
	}
	return nil
}

func runBench(c *cobra.Command, o bench.Options, f form) error {
	report, err := bench.Run(c.Context(), o)
	write := report.WriteTable
	if f == asJSON {
		write = report.WriteJSON
	}
	return errors.Join(err, write(c.OutOrStdout()), report.Err())
}

// readStored reads the whole ledger undecoded.
func readStored(ctx context.Context, db *sql.DB) (events int, err error) {
	for _, err := range eventstore.ReadStored(ctx, db, eventstore.Selection{}) {
		if err != nil {
			return 0, err
		}
		events++
	}
	return events, nil
}

// readDecoded reads the whole ledger as projections do.
func readDecoded(ctx context.Context, db *sql.DB) (events int, err error) {
	for _, err := range eventstore.ReadAll(ctx, db, 0, math.MaxInt64) {
		if err != nil {
			return 0, err
		}
		events++
	}
	return events, nil
}

// forChildren is the environment of the programs that a bench starts: the settings
// of the nabu on this machine are not theirs, but PostgreSQL's programs are.
func forChildren(environ environment) environment {
	var kept environment
	for _, entry := range environ {
		if !strings.HasPrefix(entry, variablePrefix) || strings.HasPrefix(entry, variablePrefix+"PG_BIN=") {
			kept = append(kept, entry)
		}
	}
	return kept
}

// newBenchBaseline is the server that the bench's scenario baseline starts.
func newBenchBaseline(environ environment) *cobra.Command {
	return &cobra.Command{
		Use:    "bench-baseline",
		Hidden: true,
		Args:   noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			tuneCollector(environ)
			var listening net.ListenConfig
			listener, err := listening.Listen(c.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			server := &stdhttp.Server{Handler: http.Baseline(domain.DefaultLimits())}
			log := slog.New(slog.NewJSONHandler(c.OutOrStdout(), nil))
			log.Info(bench.ReadyMessage, "url", "http://"+listener.Addr().String())
			return serveUntil(c.Context(), server, listener)
		},
	}
}

// serveUntil serves until ctx ends.
func serveUntil(ctx context.Context, server *stdhttp.Server, listener net.Listener) error {
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { stopped <- server.Close() })
	err := server.Serve(listener)
	if stop() {
		return err
	}
	return <-stopped
}
