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

// ErrOpen: the subscriber, or its host, has not answered lately and is left alone. No
// attempt was made.
var ErrOpen = errors.New("the subscriber is left alone for a while")

// Bounds of what one host is asked at a time.
const (
	DefaultPerHost = 10
	maxHosts       = 10_000 // that are remembered
	maxSilent      = 10_000 // subscribers of one host that are remembered
)

// Postman delivers parcels to webhooks and mail addresses. Of one host only so many
// parcels are under way at a time. One that cannot be connected to is left alone for a
// while, and so is a subscriber that is connected to and does not answer: what one
// subscriber does tells nothing of the others on its host. Subscribers that did not answer
// the last time share half of their host's calls, so that any number of them leaves the
// other half to those that do. It is safe for concurrent use.
type Postman struct {
	Webhooks *webhook.Sender
	Mails    *mail.Sender
	PerHost  int              // calls to one host at a time; 0: DefaultPerHost
	Now      func() time.Time // nil: this machine's clock

	mu    sync.Mutex
	hosts map[string]*host
}

// host is a machine that is called, with a port.
type host struct {
	*line
	used   time.Time
	silent map[string]silence // subscribers that did not answer the last time
}

// silence is what is known of a subscriber that does not answer.
type silence struct {
	calls int       // in a row
	until time.Time // it is left alone
}

// Open counts the hosts and the single subscribers that are left alone.
func (p *Postman) Open() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for _, h := range p.hosts {
		if h.breaker.State() != gobreaker.StateClosed {
			n++
		}
		for _, its := range h.silent {
			if its.until.After(now) {
				n++
			}
		}
	}
	return n
}

// Deliver makes one attempt. It fails with ErrOpen, or when ctx ends, and then none was
// made, or one that may be made again.
func (p *Postman) Deliver(ctx context.Context, parcel Parcel) (webhook.Result, error) {
	h := p.host(hostOf(parcel.Subscriber))
	its := p.silence(h, parcel.Subscriber)
	if h.breaker.State() == gobreaker.StateOpen || its.until.After(p.now()) {
		return webhook.Result{}, ErrOpen
	}
	leave, err := h.enter(ctx, its.calls > 0)
	if err != nil {
		return webhook.Result{}, err
	}
	defer leave()
	done, err := h.breaker.Allow()
	if err != nil {
		return webhook.Result{}, ErrOpen
	}
	result := p.send(ctx, parcel)
	if ctx.Err() != nil && result.Outcome != webhook.Delivered {
		done(errCutOff)
		return webhook.Result{}, ctx.Err()
	}
	if result.Unreachable {
		done(errUnreachable)
	} else {
		done(nil)
		p.heard(h, parcel.Subscriber, result.Unanswered)
	}
	return result, nil
}

// silence is for how long a subscriber has not answered.
func (p *Postman) silence(h *host, subscriber string) silence {
	p.mu.Lock()
	defer p.mu.Unlock()
	return h.silent[subscriber]
}

// heard takes note of whether a subscriber has answered.
func (p *Postman) heard(h *host, subscriber string, unanswered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !unanswered {
		delete(h.silent, subscriber)
		return
	}
	its := h.silent[subscriber]
	if its.calls++; its.calls >= breakerTrips {
		its.until = p.now().Add(breakerRests)
	}
	if len(h.silent) >= maxSilent { // who still does not answer is soon found out again
		clear(h.silent)
	}
	h.silent[subscriber] = its
}

func (p *Postman) now() time.Time {
	if p.Now == nil {
		return time.Now()
	}
	return p.Now()
}

// host is what is known of a host.
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
	h := &host{line: newLine(name, most), used: now, silent: map[string]silence{}}
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
