package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/http"
	"nabu/internal/bench"
	"nabu/internal/sealing"
	"nabu/internal/secrets"
	"nabu/internal/signedurl"
	"nabu/projections"
)

func newServe(environ environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the service",
		Args:  noArguments,
	}
	addSettings(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, _, err := loadConfig(c.Flags(), environ)
		log := newLog(cfg, c.OutOrStdout())
		if err == nil {
			tuneCollector(environ)
			err = serve(c.Context(), cfg, environ, quieten(log))
		}
		logEnd(log, err)
		return err
	}
	return c
}

// service is a running nabu, its parts in the order of starting.
type service struct {
	config
	log      *slog.Logger
	database *database
	keys     *sealing.Keys
	executor *commands.Executor
	reactors *reacting
	awake    atomic.Pointer[reacting] // whom the executor tells of commits
	server   *http.Server
	served   chan error // gets how serving ended, once
}

// serve runs the service until ctx ends or a part of it fails, and stops it.
func serve(ctx context.Context, cfg config, environ environment, log *slog.Logger) error {
	if err := checkExposure(ctx, cfg); err != nil {
		return err
	}
	if cfg.AuthStrategy == noAuth && (cfg.InsecureNoAuth || cfg.Env == production) {
		log.Warn("with auth_strategy noauth nabu believes whatever a request says of its project, user and roles", "insecure_noauth", cfg.InsecureNoAuth, "env", cfg.Env)
	}
	if file, err := os.Stat(cfg.EncryptionKeysFile); err == nil && file.Mode().Perm()&0o077 != 0 {
		log.Warn("others than its owner may use encryption_keys_file", "file", cfg.EncryptionKeysFile, "mode", file.Mode().Perm().String())
	}
	// First, so that a second start by mistake changes nothing. Who asks already waits.
	listener, err := cfg.listen(ctx)
	if err != nil {
		return err
	}
	db, err := openDatabase(ctx, cfg, environ, log)
	if err != nil && ctx.Err() != nil {
		log.Info("stopped before it was ready", "because", context.Cause(ctx), "error", err)
		return listener.Close()
	}
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	s := &service{config: cfg, log: log, database: db, served: make(chan error, 1)}
	if err := s.start(ctx, listener); err != nil {
		return errors.Join(err, listener.Close(), s.stop(ctx))
	}
	select {
	case <-ctx.Done():
		log.Info("stopping", "because", context.Cause(ctx))
	case err = <-s.served:
		s.served <- nil // for stop, which waits for the end of serving
		err = fmt.Errorf("serve: %w", err)
	case <-db.lost():
		err = db.private.Err()
	}
	if err != nil {
		log.Error("stopping because of a failure", "error", err)
	}
	return errors.Join(s.stop(ctx), err) // the reason comes last, where people look
}

// start brings up everything above the database.
func (s *service) start(ctx context.Context, listener listeners) error {
	if err := sealing.Check(ctx, s.database.read, s.masters); errors.Is(err, sealing.ErrMasters) {
		return misconfigured(fmt.Errorf("encryption_keys_file: %w", err))
	} else if err != nil {
		return err
	}
	s.keys = sealing.NewKeys(s.database.read, s.masters, s.log)
	m, news := newMetrics(s.database), commands.NewNews()
	s.executor = s.newExecutor(news, m)
	m.watch(s.executor)
	m.registry.MustRegister(newConsumerMetrics(s.database.read, s.log), newUpMetric(s.database.read))
	signingKey, err := s.signingKey(ctx)
	if err != nil {
		return err
	}
	notifier, err := newNotifier(s.config, listener.addrs(), s.database, s.executor, signingKey, s.keys, m.registry, s.log)
	if err != nil {
		return err
	}
	forwarder, err := s.forwarder(s.executor, s.database.read, s.log)
	if err != nil {
		return err
	}
	if forwarder != nil {
		m.registry.MustRegister(newForwardMetrics(&projections.Views{DB: s.database.read}, s.log))
	}
	if s.reactors, err = react(ctx, s.database, s.executor, s.Images.ServiceProjectID, notifier, forwarder, s.log); err != nil {
		return err
	}
	s.awake.Store(s.reactors)
	return s.answer(listener, news, signingKey, m)
}

// newExecutor starts the executor. What it writes wakes the reactors, once there are some.
func (s *service) newExecutor(news *commands.News, m *metrics) *commands.Executor {
	return commands.NewExecutor(commands.Config{
		News: news, Recent: &eventstore.Recent{},
		DB: s.database.write, Ahead: s.database.ahead, Prepare: !s.database.pooled, Loader: projections.States{}, Projector: projections.Inlines{},
		Limits: s.Limits, Tasks: s.Images.rules, UserMessages: s.Volumes.rules, Keys: s.keys, Log: s.log,
		Observe: func(r commands.BatchReport) {
			m.observe(r)
			if reactors := s.awake.Load(); reactors != nil && r.Way != commands.NoWay {
				reactors.wake(r.Head)
				reactors.sweeper.Posted(r.Posted)
			}
		},
	})
}

// answer begins to answer requests.
func (s *service) answer(listener listeners, news *commands.News, signingKey signedurl.Key, m *metrics) error {
	images, err := s.Images.images()
	if err != nil {
		return err
	}
	volumes, err := s.Volumes.volumes()
	if err != nil {
		return err
	}
	computes, err := s.computes()
	if err != nil {
		return err
	}
	s.server = http.New(http.Config{
		Images: images, Volumes: volumes, Computes: computes,
		Executor: s.executor, News: news, Views: &projections.Views{DB: s.database.read, Keys: s.keys}, Database: s.database.read,
		Fits:   func(ctx context.Context) error { return projections.CheckFit(ctx, s.database.read) },
		Policy: s.policy, SigningKey: signingKey, Limits: s.Limits, AnyClientID: s.ClientIDUUIDSafe != strict,
		DeleteWithClaim: s.MessageDeleteWithClaimID, Checksums: s.EnableChecksum,
		Subscriptions: domain.SubscriptionRules{Types: strings.Split(s.SubscriberTypes, ","), Confirm: s.RequireConfirmation},
		WebSockets:    http.WebSockets{Max: s.WebSocketConnections, Origins: splitList(s.WebSocketOrigins)},
		Log:           s.log, LogRequests: s.LogRequests,
		Registry: m.registry, Metrics: promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}),
	})
	go func() { s.served <- listener.serve(s.server) }()
	for _, its := range listener.alone {
		s.log.Info("serving the "+its.name+" by itself", "url", "http://"+its.Addr().String())
	}
	s.log.Info(bench.ReadyMessage, "url", "http://"+listener.Addr().String(), "version", version(),
		"auth_strategy", s.AuthStrategy, "policy_file", cmp.Or(s.PolicyFile, "none"))
	return nil
}

// signingKey is what signed URLs are signed with: the operator's, or one that all nabus on
// the database have.
func (s *service) signingKey(ctx context.Context) (signedurl.Key, error) {
	if s.SignedURLSecretKey != "" {
		return signedurl.Key(s.SignedURLSecretKey), nil
	}
	return secrets.Key(ctx, s.database.read, secrets.SignedURLs)
}

// stop ends all parts in the reverse order. Requests under way are answered, and
// what was accepted is committed, as long as the time allows.
func (s *service) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.ShutdownTimeout)
	defer cancel()
	// A part of the time is the database's.
	draining, drained := context.WithTimeout(ctx, s.ShutdownTimeout*3/4)
	defer drained()
	var problems []error
	if s.server != nil {
		if err := s.server.Shutdown(draining); err != nil {
			problems = append(problems, fmt.Errorf("finish the requests under way: %w", err))
		}
		problems = append(problems, <-s.served)
	}
	if s.reactors != nil {
		problems = append(problems, s.reactors.stop())
	}
	if s.executor != nil {
		problems = append(problems, s.executor.Close(draining))
	}
	s.keys.Forget()
	problems = append(problems, s.database.close(ctx))
	err := errors.Join(problems...)
	if err == nil {
		s.log.Info("stopped")
	}
	return err
}

// checkExposure refuses to let everybody in who can reach the machine.
func checkExposure(ctx context.Context, cfg config) error {
	if cfg.AuthStrategy != noAuth || cfg.InsecureNoAuth {
		return nil
	}
	err := checkOwn(ctx, "listen", cfg.Listen)
	for _, a := range cfg.aloneAddresses() {
		if err == nil {
			err = checkOwn(ctx, a.key, a.address)
		}
	}
	return err
}

// checkOwn refuses an address that other machines can reach.
func checkOwn(ctx context.Context, key, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return misconfigured(fmt.Errorf("%s: %w", key, err))
	}
	if host != "" {
		addresses, err := net.DefaultResolver.LookupIPAddr(ctx, host)
		if err != nil {
			return misconfigured(fmt.Errorf("%s: %w", key, err))
		}
		if allLoopback(addresses) {
			return nil
		}
	}
	return misconfigured(fmt.Errorf(`with auth_strategy noauth anybody who can reach %s may do anything.
Listen on 127.0.0.1, or allow it with --insecure-noauth (insecure_noauth: true)`, address))
}

func allLoopback(addresses []net.IPAddr) bool {
	for _, a := range addresses {
		if !a.IP.IsLoopback() {
			return false
		}
	}
	return len(addresses) > 0
}
