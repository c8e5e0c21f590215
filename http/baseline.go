package http

import (
	"net/http"
	"sync/atomic"

	"github.com/labstack/echo/v4"

	"nabu/domain"
)

// Baseline answers POST /v2/queues/:queue/messages with the same reading and writing
// as a server, and without anything in between: no checks, no database. What it
// reaches is what HTTP and JSON alone leave possible.
func Baseline(limits domain.Limits) http.Handler {
	var position atomic.Int64
	e := echo.New()
	e.POST("/v2/queues/:queue/messages", func(c echo.Context) error {
		buffer := getBuffer()
		defer putBuffer(buffer)
		body, err := readBody(c.Request(), limits.MaxMessagesPostSize, buffer)
		if err != nil {
			return err
		}
		messages, err := DecodePost(body, limits)
		if err != nil {
			return err
		}
		salts, at := newSalts(len(messages)), position.Add(1)
		ids := make([]domain.MessageID, len(messages))
		for i := range ids {
			ids[i] = domain.NewMessageID(domain.PlaceOf(at, i), salts[i])
		}
		return writePosted(c.Response(), domain.QueueID{Name: c.Param("queue")}, ids)
	})
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		if refusal, ok := asProblem(err); ok {
			writeProblem(c, refusal)
		}
	}
	return e
}
