package reactors

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"nabu/internal/mail"
	"nabu/internal/webhook"
)

// ErrOpen: the host of the subscriber has not answered lately, and is left alone. No
// attempt was made.
var ErrOpen = errors.New("the subscriber's host is left alone for a while")

// Bounds of what one host is asked at a time.
const (
	DefaultPerHost = 10
	breakerTrips   = 10               // unanswered calls in a row open the breaker
	breakerRests   = 10 * time.Second // for so long; then one call finds out
	maxHosts       = 10_000           // that are remembered
)

// Postman delivers parcels to webhooks and mail addresses. Of one host only so many
// parcels are under way at a time, and one that does not answer at all is left alone for a
// while. It is safe for concurrent use.
type Postman struct {
	Webhooks *webhook.Sender
	Mails    *mail.Sender
	PerHost  int // calls to one host at a time; 0: DefaultPerHost

	mu    sync.Mutex
	hosts map[string]*host
}

// host is a machine that is called, with a port.
type host struct {
	busy    chan struct{}
	breaker *gobreaker.TwoStepCircuitBreaker[webhook.Result]
	used    time.Time
}

// Open counts the hosts that are left alone.
func (p *Postman) Open() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.hosts {
		if h.breaker.State() != gobreaker.StateClosed {
			n++
		}
	}
	return n
}

// Deliver makes one attempt. It fails with ErrOpen, or when ctx ends, and then none was
// made, or one that may be made again.
func (p *Postman) Deliver(ctx context.Context, parcel Parcel) (webhook.Result, error) {
	h := p.host(hostOf(parcel.Subscriber))
	if h.breaker.State() == gobreaker.StateOpen {
		return webhook.Result{}, ErrOpen
	}
	select {
	case h.busy <- struct{}{}:
		defer func() { <-h.busy }()
	case <-ctx.Done():
		return webhook.Result{}, ctx.Err()
	}
	done, err := h.breaker.Allow()
	if err != nil {
		return webhook.Result{}, ErrOpen
	}
	result := p.send(ctx, parcel)
	if ctx.Err() != nil && result.Outcome != webhook.Delivered {
		done(nil) // it was cut off here, not there
		return webhook.Result{}, ctx.Err()
	}
	if result.Unreachable {
		done(errUnreachable)
	} else {
		done(nil)
	}
	return result, nil
}

var errUnreachable = errors.New("no answer")

// host is what is known of a host. What its answers say is its subscribers' business;
// that it does not answer is its own.
func (p *Postman) host(name string) *host {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if h := p.hosts[name]; h != nil {
		h.used = now
		return h
	}
	if p.hosts == nil {
		p.hosts = map[string]*host{}
	}
	for other, h := range p.hosts {
		if len(p.hosts) >= maxHosts && len(h.busy) == 0 && now.Sub(h.used) > breakerRests {
			delete(p.hosts, other)
		}
	}
	most := p.PerHost
	if most == 0 {
		most = DefaultPerHost
	}
	h := &host{busy: make(chan struct{}, most), used: now, breaker: gobreaker.NewTwoStepCircuitBreaker[webhook.Result](gobreaker.Settings{
		Name: name, Timeout: breakerRests,
		ReadyToTrip: func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= breakerTrips },
	})}
	p.hosts[name] = h
	return h
}

// hostOf is what a subscriber shares with others: a host and port, or the mail server.
func hostOf(subscriber string) string {
	u, err := url.Parse(subscriber)
	if err != nil || u.Host == "" {
		return "" // refused anyway, or a mail
	}
	return strings.ToLower(u.Host)
}

func (p *Postman) send(ctx context.Context, parcel Parcel) webhook.Result {
	if scheme, _, _ := strings.Cut(parcel.Subscriber, ":"); strings.EqualFold(scheme, "mailto") {
		return p.mail(ctx, parcel)
	}
	return p.Webhooks.Send(ctx, webhook.Call{
		URL: parcel.Subscriber, Body: []byte(parcel.Text), Header: parcel.Header, Fixed: parcel.Facts,
	})
}

func (p *Postman) mail(ctx context.Context, parcel Parcel) webhook.Result {
	if p.Mails == nil || !p.Mails.Configured() {
		return webhook.Result{Outcome: webhook.Dropped, Error: "this server has no smtp_host to send mails by"}
	}
	to, err := mail.ParseAddress(parcel.Subscriber)
	if err == nil {
		m := mail.Mail{
			To: to.To, From: parcel.From, Subject: parcel.Subject, Text: parcel.Text,
			ID: parcel.ID + "@nabu", Header: parcel.Facts,
		}
		if to.HasSubject {
			m.Subject = to.Subject
		}
		if parcel.Mail != "" {
			m.Text = parcel.Mail
		}
		err = p.Mails.Send(ctx, m)
	}
	switch {
	case err == nil:
		return webhook.Result{Outcome: webhook.Delivered}
	case errors.Is(err, mail.ErrAddress), errors.Is(err, mail.ErrRefused):
		return webhook.Result{Outcome: webhook.Dropped, Error: webhook.ErrorText(err)}
	}
	// One mailbox that is full says nothing of the server that all mails go by.
	return webhook.Result{Outcome: webhook.Retry, Error: webhook.ErrorText(err), Unreachable: !errors.Is(err, mail.ErrLater)}
}
