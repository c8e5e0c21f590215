// Command host-agent gets the external events of one compute host out of nabu and has
// something done with each. It is an example: what is done is up to the program that it
// calls.
//
//	go run ./docs/examples/host-agent --nabu http://127.0.0.1:8888 --host compute1 --do ./refresh
//
// Each event goes to the program's standard input, as the JSON object that nabu posted. An
// event whose program ends well is deleted; any other is claimed again when its claim has
// expired, after a minute. Events are worked off in order, so one whose program fails holds up
// all behind it, until it has expired: after an hour, unless nabu's event_ttl says otherwise.
// With --tries it is given up after so many, which is logged, and deleted. Nabu delivers at least once, so the agent keeps the ids of what it has done in a
// journal, and deletes what comes again.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

func main() {
	nabu := flag.String("nabu", "http://127.0.0.1:8888", "where nabu is")
	host, _ := os.Hostname()
	flag.StringVar(&host, "host", host, "the host whose events are wanted, as the compute service calls it")
	journal := flag.String("journal", "host-agent.journal", "file with the ids of what was done")
	do := flag.String("do", "", "program that gets each event; empty: print them")
	tries := flag.Int("tries", 0, "how often the program gets an event before it is given up; 0: as long as the event lives")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *nabu, host, *journal, *do, *tries); err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal("host-agent: ", err)
	}
}

func run(ctx context.Context, nabu, host, journal, do string, tries int) error {
	if tries < 0 {
		return fmt.Errorf("--tries must not be below 0")
	}
	endpoint, err := url.Parse(nabu)
	if err != nil {
		return fmt.Errorf("--nabu: %w", err)
	}
	done, err := openJournal(journal)
	if err != nil {
		return err
	}
	defer func() { _ = done.Close() }()
	a := &agent{
		nabu: endpoint, host: host, token: os.Getenv("OS_TOKEN"), client: newClientID(), done: done, wait: claimWait, pause: errorPause,
		tries: tries,
		act:   func(ctx context.Context, e event) error { return act(ctx, do, e) },
		log:   func(err error) { log.Print(err) },
	}
	return a.run(ctx)
}

// act hands an event to a program.
func act(ctx context.Context, program string, e event) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if program == "" {
		_, err := fmt.Printf("%s\n", text)
		return err
	}
	c := exec.CommandContext(ctx, program)
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(text), os.Stdout, os.Stderr
	return c.Run()
}
