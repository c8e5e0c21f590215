// Package http takes requests in and gives answers out, in the dialect of the API
// that was asked. It must never decide anything by itself: changes go to commands,
// questions to the views, and both learn the caller's project from here and from
// nowhere else.
package http

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"nabu/commands"
	"nabu/domain"
	"nabu/internal/policy"
	"nabu/internal/signedurl"
	"nabu/projections"
)

// What a slow, or hostile, peer may cost.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 120 * time.Second
	maxHeaderBytes    = 64 << 10
)

// Views are the questions that handlers ask.
type Views interface {
	Queue(ctx context.Context, id domain.QueueID) (metadata domain.Metadata, exists bool, err error)
	Queues(ctx context.Context, list projections.QueueList) ([]projections.QueueItem, error)
	CountQueues(ctx context.Context, project string) (int, error)
	Messages(ctx context.Context, list projections.MessageList) (projections.MessagePage, error)
	MessagesByID(ctx context.Context, queue domain.QueueID, ids []domain.MessageID) ([]projections.Message, error)
	Bodies(ctx context.Context, places []domain.Place) (map[domain.Place]string, error)
	Open(ctx context.Context, project string, messages []projections.Message) ([]projections.Message, error)
	Claim(ctx context.Context, ref domain.ClaimRef) (claim projections.Claim, exists bool, err error)
	NextFree(ctx context.Context, queue domain.QueueID) (after time.Duration, known bool, err error)
	Stats(ctx context.Context, id domain.QueueID) (projections.Stats, error)
	Subscriptions(ctx context.Context, list projections.SubscriptionList) ([]projections.Subscription, error)
	Subscription(ctx context.Context, queue domain.QueueID, id domain.SubscriptionID) (s projections.Subscription, exists bool, err error)
	Sharing(ctx context.Context, id domain.QueueID, digest string) (projections.Sharing, error)
	PostingsEnd(ctx context.Context, queue domain.QueueID) (version int64, err error)
	Postings(ctx context.Context, queue domain.QueueID, after int64) (projections.Postings, error)
	Tasks(ctx context.Context, list projections.TaskList) ([]projections.Task, error)
	Task(ctx context.Context, id domain.TaskID) (t projections.Task, exists bool, err error)
	UserMessages(ctx context.Context, list projections.UserMessageList) ([]projections.UserMessage, error)
	UserMessage(ctx context.Context, id domain.UserMessageID, project string, all bool) (m projections.UserMessage, exists bool, err error)
	NewUserMessages(ctx context.Context, list projections.UserMessageList, after int64) (page []projections.UserMessage, reached int64, err error)
	LastUserMessage(ctx context.Context) (position int64, err error)
	ImageTasks(ctx context.Context, image, owner string, all bool) ([]projections.Task, error)
	Servers(ctx context.Context, list projections.ServerList) ([]domain.Server, error)
	Server(ctx context.Context, id domain.ServerID) (s domain.Server, exists bool, err error)
	Time(ctx context.Context) (time.Time, error)
}

// Pinger is the database, as far as its being there is asked for.
type Pinger interface {
	PingContext(ctx context.Context) error
}

// Config is what a server is made of.
type Config struct {
	Executor *commands.Executor
	// News is what the executor tells its news, for requests that wait; nil: none waits.
	News     *commands.News
	Views    Views
	Database Pinger
	// Fits tells whether the database still has the tables that this nabu reads; its error is
	// shown to those who operate nabu. nil: it has.
	Fits   func(ctx context.Context) error
	Limits domain.Limits
	// Auth tells who a request comes from; nil: NoAuth.
	Auth Authenticator
	// Policy is who may do what; nil: the one of a nabu whose operator has none.
	Policy *policy.Policy
	// SigningKey is what signed URLs are signed with. Servers over one database must have
	// the same one.
	SigningKey signedurl.Key
	// AnyClientID takes any text of 10 to 36 characters as Client-ID, not only UUIDs
	// (Zaqar's client_id_uuid_safe=off).
	AnyClientID bool
	// DeleteWithClaim: messages are deleted by ids only with the ids of the claims that
	// hold them (Zaqar's message_delete_with_claim_id).
	DeleteWithClaim bool
	// Checksums adds the checksum of its body to each message (Zaqar's
	// enable_checksum).
	Checksums bool
	// Subscriptions are the rules for them; without types: those of SubscriberTypes.
	Subscriptions domain.SubscriptionRules
	// Images are the rules of the Image API.
	Images Images
	// Volumes are the rules of the Block Storage API.
	Volumes Volumes
	// Computes are the rules of the Compute API; without a service project: the domain's.
	Computes Computes
	// WebSockets bounds what connections may cost.
	WebSockets WebSockets
	Log        *slog.Logger
	// LogRequests writes a line for each request. Failures of nabu's own are logged
	// in any case.
	LogRequests bool
	// Registry is where the server's own metrics are registered; nil: they are kept
	// but nobody reads them.
	Registry prometheus.Registerer
	// Metrics answers GET /metrics; nil: there is no such route.
	Metrics http.Handler
}

// Server answers requests.
type Server struct {
	Config
	echo   *echo.Echo
	server *http.Server
	// alone are for listeners at which one API stands alone.
	alone      map[string]*http.Server
	taskSchema *taskSchema
	dialects   map[string]*dialect // by route, if it is not Zaqar's
	rules      map[routeKey]string // that routes are guarded by
	metrics    *metrics
	operations operations
	sockets    sockets
	outgoing   outgoing
	draining   atomic.Bool
	stopping   chan struct{} // closed when nobody is to wait any more
	stop       func()
	crowd      chan struct{} // has room for those who may look, see inTurn
	// idleTransfer is how long what is passed on may stand still.
	idleTransfer time.Duration
}

// New makes a server that is ready to serve.
func New(cfg Config) *Server {
	if cfg.Auth == nil {
		cfg.Auth = NoAuth{}
	}
	if cfg.Policy == nil {
		cfg.Policy = policy.Default()
	}
	if len(cfg.Subscriptions.Types) == 0 {
		cfg.Subscriptions.Types = domain.SubscriberTypes
	}
	if cfg.Computes.Events.ServiceProject == "" {
		cfg.Computes.Events = domain.DefaultEventRules()
	}
	cfg.WebSockets, cfg.Volumes = cfg.WebSockets.withDefaults(), cfg.Volumes.withDefaults()
	s := &Server{Config: cfg, echo: echo.New(), rules: map[routeKey]string{}, dialects: map[string]*dialect{}, metrics: newMetrics(cfg.Registry), operations: newOperations(), stopping: make(chan struct{}), crowd: make(chan struct{}, lookers), outgoing: outgoing{most: maxUnread}}
	s.idleTransfer = idleTransfer
	s.taskSchema = newTaskSchema(cfg.Images.Tasks)
	s.stop = sync.OnceFunc(func() { close(s.stopping) })
	s.metrics.addActions(cfg.Registry, s.operations, s.sockets.count)
	s.echo.IPExtractor = echo.ExtractIPDirect()
	s.echo.Logger.SetOutput(io.Discard) // nabu logs by itself
	s.echo.HTTPErrorHandler = s.writeError
	s.echo.Use(s.edge)
	s.addRoutes()
	s.server = s.serving(s.Handler())
	s.alone = map[string]*http.Server{
		ImageAPI: s.serving(s.AloneHandler(imagePrefix)), VolumeAPI: s.serving(s.AloneHandler(volumePrefix)),
		ComputeAPI: s.serving(s.AloneHandler(computePrefix)),
	}
	return s
}

// serving is what answers on listeners by a handler.
func (s *Server) serving(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// "OPTIONS *" is no route either.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
	}
}

// Handler answers requests without a listener of its own.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.echo.ServeHTTP(w, withKnownMethod(withPlainPath(r)))
	})
}

// withKnownMethod gives requests with methods that no route has one method to be
// routed by: echo finds no path's answer to a method that it was never told of.
func withKnownMethod(r *http.Request) *http.Request {
	if r.Method == http.MethodOptions || slices.Contains(knownMethods, r.Method) {
		return r
	}
	other := *r
	other.Method = anyOtherMethod
	return &other
}

// withPlainPath makes echo route by the decoded path: what needlessly escapes a
// letter means the same route. An escaped slash is no separator, so a path with one
// is routed as it came; no name and no id may hold a "%".
func withPlainPath(r *http.Request) *http.Request {
	if r.URL.RawPath == "" || strings.Contains(strings.ToUpper(r.URL.RawPath), "%2F") {
		return r
	}
	plain, url := *r, *r.URL
	url.RawPath = ""
	plain.URL = &url
	return &plain
}

// Serve answers what comes in on a listener until Shutdown.
func (s *Server) Serve(l net.Listener) error { return serve(s.server, s.outgoing.bounded(l)) }

// ServeAlone is Serve for a listener at which an API stands alone, at the root: ImageAPI,
// VolumeAPI or ComputeAPI.
func (s *Server) ServeAlone(api string, l net.Listener) error {
	return serve(s.alone[api], s.outgoing.bounded(l))
}

func serve(s *http.Server, l net.Listener) error {
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown says that the server is not ready any more, takes no further
// connections, and waits for the requests under way, no longer than ctx. Requests that
// wait for messages are answered at once, and WebSockets are closed.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.stop()
	closed := make(chan error, 1)
	go func() { closed <- s.sockets.shutdown(ctx) }()
	ended := []error{s.server.Shutdown(ctx)}
	for _, its := range s.alone {
		ended = append(ended, its.Shutdown(ctx))
	}
	return errors.Join(append(ended, <-closed)...)
}

// edge is around every request, whether it has a route or not: it names the
// request, turns errors and panics into answers, and keeps count.
func (s *Server) edge(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		began := time.Now()
		c.Response().Header()[headerRequestID] = []string{newRequestID()}
		if err := recovering(next, c); err != nil {
			discardBody(c.Request())
			c.Error(err)
		}
		s.account(c, time.Since(began))
		return nil
	}
}

// maxDiscarded is how much is read of a body that is of no use any more; bytes.
const maxDiscarded = 8 << 20

// discardBody takes in what a client still sends of a refused request. If the
// connection closed on it, the client would see that and not the answer. Who waits
// to be told to go on needs no such care.
func discardBody(r *http.Request) {
	if r.ContentLength == 0 || r.Header.Get("Expect") != "" {
		return
	}
	_, _ = io.CopyN(io.Discard, r.Body, maxDiscarded)
}

// watched are the routes that programs which watch nabu ask every few seconds.
var watched = []string{"/healthz", "/readyz", "/metrics"}

// account keeps count of a request that was answered.
func (s *Server) account(c echo.Context, took time.Duration) {
	status := c.Response().Status
	route := s.metrics.route(c.Path(), c.Request().Method)
	route.observe(status, took)
	if route.operation != nil {
		route.operation.record(status, took, requestID(c))
	}
	if s.LogRequests {
		level := slog.LevelInfo
		if slices.Contains(watched, c.Path()) {
			level = slog.LevelDebug
		}
		caller, _ := c.Get(callerKey).(Caller) // nobody, where nobody is asked who they are
		s.Log.LogAttrs(c.Request().Context(), level, "request",
			slog.String("request_id", requestID(c)),
			caller.logged(),
			slog.String("method", c.Request().Method),
			slog.String("path", c.Request().URL.Path),
			slog.Int("status", status),
			slog.Int64("bytes", c.Response().Size),
			slog.Float64("seconds", took.Seconds()),
			slog.String("from", c.RealIP()))
	}
}
