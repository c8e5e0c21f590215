package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"nabu/internal/bench"
	"nabu/internal/netproxy"
	"nabu/internal/postgres"
)

// The torture: the real program under a steady load, while one kind of thing goes wrong
// over and over. After each round the service has to answer again by itself, every
// acknowledged message has to be there exactly once or rightly gone, and nobody may hold
// what somebody else holds. NABU_TORTURE=10m makes it last so long, one fault after the
// other; otherwise each takes a few rounds, all at once.

const tortureVariable = "NABU_TORTURE"

// fault is one kind of thing that goes wrong.
type fault struct {
	name   string
	rounds int // in a short run
	// begin builds what is to be tortured.
	begin func(t *testing.T) *tortured
	// strike makes it go wrong once. When it returns, nothing is broken any more that
	// nabu could not mend by itself.
	strike func(w *tortured, round int)
}

func faults() []fault {
	return []fault{
		{"kill -9 of nabu and its PostgreSQL", 4, beginPrivate, killAlone},
		{"kill -9 of one of three replicas", 5, beginReplicas, killReplica},
		{"SIGSTOP of the replica that holds the lock", 3, beginReplicas, stopHolder},
		{"pg_terminate_backend at random", 4, beginReplicas, terminateBackends},
		{"immediate stop of PostgreSQL", 3, beginSingle, stopPostgres},
		{"a network that resets and stalls", 5, beginBehindNetwork, troubleNetwork},
		{"a full disk", 2, beginOnSmallDisk, fillDisk},
	}
}

func TestTorture(t *testing.T) {
	var line sync.Mutex // of the report
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			until, limited := tortureTime(t)
			if !limited {
				t.Parallel()
			}
			w := f.begin(t)
			began, round := time.Now(), 0
			var v verdict
			for limited && time.Since(began) < until || !limited && round < f.rounds {
				w.load.answersOf(30, w.load.nabus...)
				f.strike(w, round)
				w.load.answersOf(30, w.load.nabus...)
				w.load.silence(func() { v = w.check() })
				round++
			}
			w.load.stop()
			if t.Failed() {
				return
			}
			line.Lock()
			defer line.Unlock()
			fmt.Printf("%-44s %4d rounds, %7d acknowledged, %d lost, %d doubled, %6.2f s without an answer at most\n",
				f.name, round, v.acknowledged, v.lost, v.doubled, w.load.longest.Seconds())
		})
	}
}

// tortureTime is how long each fault is to go on, if somebody has said so.
func tortureTime(t *testing.T) (each time.Duration, limited bool) {
	t.Helper()
	text := os.Getenv(tortureVariable)
	if text == "" {
		return 0, false
	}
	long, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", tortureVariable, err)
	}
	return long / time.Duration(len(faults())), true
}

// tortured is one or several nabus on one PostgreSQL, and those who use them.
type tortured struct {
	*testing.T
	config  postgres.Config // of the PostgreSQL
	server  *postgres.Server
	network *netproxy.Proxy // before it, for the first nabu
	args    [][]string      // of each nabu
	nabus   []*bench.Process
	load    *tormented
	ledger  *ledgered
}

// database is the connection string of a role, whoever runs the server now.
func (w *tortured) database(role string) string {
	w.Helper()
	if w.server != nil {
		return w.server.URL(role, postgres.Database)
	}
	attached, err := postgres.Attach(context.Background(), w.config)
	if err != nil {
		w.Fatal(err)
	}
	if !attached.Attached() {
		_ = attached.Stop(context.Background())
		w.Fatal("nabu does not run its PostgreSQL")
	}
	return attached.URL(role, postgres.Database)
}

// startServer starts the PostgreSQL that the nabus share, or starts it again.
func (w *tortured) startServer() {
	w.Helper()
	server, err := postgres.Start(context.Background(), w.config)
	if err != nil {
		w.Fatal(err)
	}
	w.server = server
}

// serve starts a nabu with some arguments, or starts it again where it was.
func (w *tortured) serve(i int) {
	w.Helper()
	listen := "127.0.0.1:0"
	if w.nabus[i] != nil {
		listen = w.nabus[i].Address
	}
	args := append([]string{"serve", "--listen", listen, "--log-format", "json"}, w.args[i]...)
	p, err := bench.StartProcess(context.Background(), built(w.T), cleanEnviron(), args...)
	if err != nil {
		w.Fatal(err)
	}
	w.nabus[i] = p
}

// begin starts the nabus and then the load.
func (w *tortured) begin(args ...[]string) *tortured {
	w.Helper()
	w.args, w.nabus, w.ledger = args, make([]*bench.Process, len(args)), newLedgered()
	w.Cleanup(func() {
		for _, nabu := range w.nabus {
			if nabu != nil {
				nabu.Kill()
			}
		}
	})
	pace := 5 * time.Millisecond
	if _, limited := tortureTime(w.T); !limited {
		pace = 20 * time.Millisecond // the faults share the machine with each other
	}
	var addresses []string
	for i := range args {
		w.serve(i)
		addresses = append(addresses, w.nabus[i].Address)
	}
	w.load = torment(w.T, pace, addresses...)
	return w
}
