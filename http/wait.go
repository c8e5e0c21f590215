package http

import (
	"context"
	"net/http"
	"strings"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

// wait is how long a request may wait for something to answer with: a parameter of nabu's
// own, whole seconds. Without it, or with 0, it does not wait.
func (q query) wait(highest int) (time.Duration, error) {
	text := q.text("wait")
	if text == "" {
		return 0, nil
	}
	if digits := strings.TrimPrefix(text, "-"); digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, badRequest("Invalid parameter", "wait must be an integer.")
	}
	n, fits := wholeNumber(text)
	if !fits || n < 0 || n > int64(highest) {
		return 0, domain.Errorf(domain.Invalid, "wait must be between 0 and %d", highest)
	}
	return time.Duration(n) * time.Second, nil
}

// claimWaiting claims messages, and waits for some if there are none. Waiting costs the
// database nothing: it is asked again when the queue has news, and at the end. A server
// that stops answers at once.
func (s *Server) claimWaiting(ctx context.Context, c *call, cmd commands.ClaimMessages, wait time.Duration) (taken []commands.Taken, err error) {
	turn, ok := s.News.Line(cmd.Queue, cmd.Limit)
	if !ok {
		return commands.Run(ctx, s.Executor, cmd)
	}
	looked := false
	// With a key it may get what was claimed before, and leave what it was called for.
	_, keyed := c.Request().Header[headerIdempotencyKey]
	defer func() { turn.Leave(len(taken), looked && !keyed) }()
	over := s.startWaiting(c, wait)
	defer over.Stop()
	look := func(ctx context.Context) (taken []commands.Taken, err error) {
		looked = false
		if err = s.stillSigned(c); err != nil {
			return nil, err
		}
		taken, err = commands.Run(ctx, s.Executor, cmd)
		looked = err == nil
		return taken, err
	}
	for again := commands.Passing(ctx); ; turn.Look() {
		if taken, err = look(again); err != nil || len(taken) > 0 {
			return taken, err
		}
		select {
		case <-turn.Wait():
		case <-over.C:
			turn.Look()
			return look(ctx)
		case <-s.stopping:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// listWaiting reads a page, and waits for one that is not empty.
func (s *Server) listWaiting(c *call, list projections.MessageList, wait time.Duration) (projections.MessagePage, error) {
	ctx := c.Request().Context()
	page, err := s.Views.Messages(ctx, list)
	if err != nil || len(page.Messages) > 0 {
		return page, err
	}
	heard, cancel, ok := s.News.Listen(list.Queue)
	if !ok {
		return page, nil
	}
	defer cancel()
	over := s.startWaiting(c, wait)
	defer over.Stop()
	for {
		if page, err = s.listAgain(c, list, true); err != nil || len(page.Messages) > 0 {
			return page, err
		}
		select {
		case <-heard:
		case <-over.C:
			return s.listAgain(c, list, false)
		case <-s.stopping:
			return page, nil
		case <-ctx.Done():
			return page, ctx.Err()
		}
	}
}

// listAgain reads a page for a request that waits. If it goes on to wait, it is told of what
// becomes free by itself.
func (s *Server) listAgain(c *call, list projections.MessageList, goesOn bool) (page projections.MessagePage, err error) {
	ctx := c.Request().Context()
	err = s.inTurn(ctx, func() (err error) {
		if err = s.stillSigned(c); err != nil {
			return err
		}
		if goesOn {
			// What becomes free after this is told, what was free before is seen.
			after, known, err := s.Views.NextFree(ctx, list.Queue)
			if err != nil {
				return err
			}
			if known {
				s.News.Expect(list.Queue, after)
			}
		}
		page, err = s.Views.Messages(ctx, list)
		return err
	})
	return page, err
}

// lookers is how many of those who were told of the same news ask the database at once.
// Everybody else's requests share its connections with them.
const lookers = 4

// inTurn does something of which many may want the same at this moment.
func (s *Server) inTurn(ctx context.Context, look func() error) error {
	select {
	case s.crowd <- struct{}{}:
		defer func() { <-s.crowd }()
		return look()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stillSigned refuses a request whose signature has ended or was taken back since it
// began to wait: what comes after that is not for its bearer.
func (s *Server) stillSigned(c *call) error {
	if c.caller.Signature == "" {
		return nil
	}
	_, err := s.authenticate(c.Request())
	return err
}

// startWaiting gives a request the time to wait on top of what every request has, and
// tells when it is over.
func (s *Server) startWaiting(c *call, wait time.Duration) *time.Timer {
	control, now := http.NewResponseController(c.Response()), time.Now()
	_ = control.SetReadDeadline(now.Add(wait + readTimeout)) // or the client would count as gone
	_ = control.SetWriteDeadline(now.Add(wait + writeTimeout))
	return time.NewTimer(wait)
}
