package http

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"nabu/commands"
	"nabu/projections"
)

// streamPage is how many messages a stream reads at once.
const streamPage = 100

// wantsStream tells whether a client asks for events as they come, and not for a document.
func wantsStream(accept []string) bool {
	ranges, valid := mediaRanges(strings.Join(accept, ","))
	if !valid {
		return false
	}
	for _, r := range ranges {
		if r.major == "text" && r.minor == "event-stream" && r.quality > 0 {
			return likes(ranges, "application", "json") < r.quality
		}
	}
	return false
}

// streamUserMessages answers with the messages of a list as they are recorded, as events of
// the kind that browsers know. An event's id is its position in the history, so that a client
// which comes again with the last one misses nothing. It ends when the client goes, with the
// server, and with what the client has shown of itself.
func (s *Server) streamUserMessages(c *call, list projections.UserMessageList) error {
	ctx, project := c.Request().Context(), list.Project
	if list.All {
		project = ""
	}
	heard, cancel, ok := s.News.ListenToUserMessages(project)
	if !ok {
		return commands.ErrCrowded
	}
	defer cancel()
	after, err := s.streamFrom(c)
	if err != nil {
		return err
	}
	out := &userMessageStream{Server: s, call: c, list: list, after: after, language: s.speak(c), control: http.NewResponseController(c.Response())}
	out.list.Limit = streamPage
	out.begin()
	beat := time.NewTicker(s.Volumes.Heartbeat)
	defer beat.Stop()
	var over <-chan time.Time
	if !c.caller.Expires.IsZero() {
		timer := time.NewTimer(time.Until(c.caller.Expires))
		defer timer.Stop()
		over = timer.C
	}
	for {
		if err := out.catchUp(); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-heard:
		case <-beat.C:
			if err := out.write(": \n\n"); err != nil {
				return nil // the client has left
			}
		case <-over:
			return nil
		case <-s.stopping:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// streamFrom is the position behind which the client wants to hear of messages.
func (s *Server) streamFrom(c *call) (int64, error) {
	text := c.Request().Header.Get("Last-Event-Id")
	if text == "" {
		return s.Views.LastUserMessage(c.Request().Context())
	}
	position, err := strconv.ParseInt(text, 10, 64)
	if err != nil || position < 0 {
		return 0, namedFault(http.StatusBadRequest, "Last-Event-ID must be the id of an event of this stream.")
	}
	return position, nil
}

// userMessageStream is an answer that goes on.
type userMessageStream struct {
	*Server
	*call
	list     projections.UserMessageList
	after    int64
	language string
	control  *http.ResponseController
}

// begin lets the client know that it is heard.
func (o *userMessageStream) begin() {
	header := o.Response().Header()
	header.Set(headerContentType, "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no")                        // or a proxy keeps the events back
	_ = o.control.SetReadDeadline(time.Time{})                   // or the client would count as gone
	_ = o.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // what cannot be set is as it was
	o.Response().WriteHeader(http.StatusOK)
	_ = o.control.Flush()
}

// catchUp writes what is new. The server's connections are shared with everybody else's
// requests, so many streams that hear of the same do not ask all at once.
func (o *userMessageStream) catchUp() error {
	for {
		var page []projections.UserMessage
		var reached int64
		err := o.inTurn(o.Request().Context(), func() (err error) {
			page, reached, err = o.Views.NewUserMessages(o.Request().Context(), o.list, o.after)
			return err
		})
		if err != nil {
			return err
		}
		for _, m := range page {
			text, err := encodeUserMessages(o.userMessage(o.call, m.UserMessage, o.language))
			if err != nil {
				return err
			}
			if err := o.write(fmt.Sprintf("id: %d\nevent: user-message\ndata: %s\n\n", m.Position, text)); err != nil {
				return err
			}
		}
		o.after = reached
		if len(page) < o.list.Limit {
			return nil
		}
	}
}

func (o *userMessageStream) write(text string) error {
	_ = o.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := o.Response().Write([]byte(text)); err != nil {
		return err
	}
	return o.control.Flush()
}
