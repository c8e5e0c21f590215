package http

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

// idleTransfer is how long a request or its answer may stand still on its way through.
const idleTransfer = 60 * time.Second

// passOn gives requests to the real service as they came, without the prefix, and its
// answers to the clients. Images take longer than other requests may, so there is no end as
// long as they move.
func (s *Server) passOn(prefix string, upstream *url.URL) echo.HandlerFunc {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.DisableCompression = true // what is sent passes as it is
	proxy := middleware.ProxyWithConfig(middleware.ProxyConfig{
		Balancer:       middleware.NewRoundRobinBalancer([]*middleware.ProxyTarget{{URL: upstream}}),
		Transport:      transport,
		ModifyResponse: answerMoves,
	})(nil)
	return func(c echo.Context) error {
		came := c.Request()
		if leadsUp(came.URL.Path) {
			return echo.ErrNotFound
		}
		defer c.SetRequest(came) // for the log
		c.SetRequest(s.upstreamRequest(c, prefix))
		c.Response().Before(func() { keepLast(c.Response().Header(), headerRequestID) })
		return proxy(c)
	}
}

// leadsUp tells whether a path may lead out of where the real service stands: there may be
// others at the same address.
func leadsUp(path string) bool {
	return slices.Contains(strings.FieldsFunc(path, func(char rune) bool { return char == '/' || char == '\\' }), "..")
}

// upstreamRequest is a request as the real service gets it. One that its client gave no name
// bears nabu's, so that both logs tell of the same.
func (s *Server) upstreamRequest(c echo.Context, prefix string) *http.Request {
	m := &moving{http.NewResponseController(c.Response())}
	r := c.Request().Clone(withMoving(c.Request().Context(), m))
	r.URL.Path = "/" + strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, prefix), "/")
	if r.URL.RawPath != "" {
		r.URL.RawPath = "/" + strings.TrimPrefix(strings.TrimPrefix(r.URL.RawPath, prefix), "/")
	}
	r.Header.Del(echo.HeaderUpgrade) // no way past the proxy
	if r.Header.Get(headerRequestID) == "" {
		r.Header.Set(headerRequestID, requestID(c))
	}
	m.read(false)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &movingBody{r.Body, m.read}
	} else {
		m.read(true)
	}
	return r
}

// keepLast keeps one value of a header: the real service's if it has sent any.
func keepLast(header http.Header, name string) {
	if values := header[name]; len(values) > 1 {
		header[name] = values[len(values)-1:]
	}
}

// answerMoves gives the answer time for as long as it moves.
func answerMoves(r *http.Response) error {
	m := movingOf(r.Request.Context())
	m.write(false)
	r.Body = &movingBody{r.Body, m.write}
	return nil
}

type movingKey struct{}

func withMoving(ctx context.Context, m *moving) context.Context {
	return context.WithValue(ctx, movingKey{}, m)
}

func movingOf(ctx context.Context) *moving { return ctx.Value(movingKey{}).(*moving) }

// moving puts off the ends that the server has set to a request.
type moving struct{ connection *http.ResponseController }

// read puts off the end of the request, or takes it away when all of it is there. Whatever
// cannot be set is as it was.
func (m *moving) read(done bool) {
	end := time.Now().Add(idleTransfer)
	if done {
		end = time.Time{}
	}
	_ = m.connection.SetReadDeadline(end)
	m.write(done)
}

// write puts off the end of the answer.
func (m *moving) write(bool) { _ = m.connection.SetWriteDeadline(time.Now().Add(idleTransfer)) }

// movingBody is a body that tells when it moves.
type movingBody struct {
	io.ReadCloser
	moves func(done bool)
}

func (b *movingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.moves(err != nil)
	return n, err
}
