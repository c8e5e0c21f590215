package main

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"strconv"
	"syscall"
	"testing"
	"time"

	"nabu/internal/bench"
	"nabu/internal/eventually"
	"nabu/internal/netproxy"
	"nabu/internal/postgres"
)

// beginPrivate is one nabu with a PostgreSQL of its own.
func beginPrivate(t *testing.T) *tortured {
	t.Helper()
	w := &tortured{T: t, config: postgres.Config{DataDir: newDataDir(t), Program: "a test"}}
	return w.begin([]string{"--data-dir", w.config.DataDir})
}

// killAlone kills nabu; its PostgreSQL goes with it. Whoever looks after nabu starts it.
func killAlone(w *tortured, _ int) {
	pauseUpTo(300 * time.Millisecond)
	w.nabus[0].Kill()
	w.serve(0)
}

// beginReplicas is three nabus on one PostgreSQL.
func beginReplicas(t *testing.T) *tortured {
	t.Helper()
	return beginOnServer(t, newDataDir(t), nil, 3)
}

// beginSingle is one nabu on a PostgreSQL that somebody else runs.
func beginSingle(t *testing.T) *tortured {
	t.Helper()
	return beginOnServer(t, newDataDir(t), nil, 1)
}

// beginOnServer starts a PostgreSQL and some nabus, which can be told apart there by
// their names.
func beginOnServer(t *testing.T, dataDir string, settings map[string]string, replicas int) *tortured {
	t.Helper()
	w := &tortured{T: t, config: postgres.Config{DataDir: dataDir, Program: "a test", Settings: settings}}
	w.startServer()
	t.Cleanup(func() { _ = w.server.Stop(context.Background()) })
	var args [][]string
	for i := range replicas {
		args = append(args, w.databaseArgs(map[string]string{"application_name": strconv.Itoa(i)}))
	}
	return w.begin(args...)
}

// databaseArgs lead a nabu to the database, with some changes of the way.
func (w *tortured) databaseArgs(changes map[string]string) []string {
	w.Helper()
	app, err := postgres.With(w.database(postgres.App), changes)
	owner, err2 := postgres.With(w.database(postgres.Owner), changes)
	if err := errors.Join(err, err2); err != nil {
		w.Fatal(err)
	}
	return []string{"--database-url", app, "--direct-database-url", owner}
}

// killReplica kills one of several; the others have to go on meanwhile.
func killReplica(w *tortured, _ int) {
	victim := rand.IntN(len(w.nabus))
	pauseUpTo(200 * time.Millisecond)
	w.nabus[victim].Kill()
	w.load.answersOf(20, w.others(victim)...)
	w.serve(victim)
}

func (w *tortured) others(than int) (others []*answering) {
	for i, nabu := range w.load.nabus {
		if i != than {
			others = append(others, nabu)
		}
	}
	return others
}

// stopHolder stops the replica that is just holding the ledger's lock. The others have
// to get it, and the stopped one has to find its way back.
func stopHolder(w *tortured, _ int) {
	admin := w.admin()
	defer func() { _ = admin.Close() }()
	var stopped *bench.Process
	var victim int
	eventually.Holds(w.T, "a replica can be stopped while it holds the lock", func() bool {
		holder, backend := w.holder(admin)
		if backend == 0 {
			return false
		}
		process := w.nabus[holder]
		w.signal(process, syscall.SIGSTOP)
		if again, same := w.holder(admin); again != holder || same != backend {
			w.signal(process, syscall.SIGCONT) // it was quicker
			return false
		}
		victim, stopped = holder, process
		return true
	})
	w.load.answersOf(20, w.others(victim)...)
	w.signal(stopped, syscall.SIGCONT)
}

func (w *tortured) signal(to *bench.Process, what syscall.Signal) {
	w.Helper()
	if err := syscall.Kill(to.PID(), what); err != nil {
		w.Fatal(err)
	}
}

// holder finds the replica that holds the ledger's lock and is to speak next, and its
// backend; 0: there is none.
func (w *tortured) holder(admin *sql.DB) (replica, backend int) {
	w.Helper()
	err := admin.QueryRow(`
SELECT a.application_name::int, a.pid
FROM pg_locks l
JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.classid::bigint << 32 | l.objid::bigint = 7881299347898367
    AND a.state = 'idle in transaction' AND a.application_name IN ('0', '1', '2')`).Scan(&replica, &backend)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		w.Fatal(err)
	}
	return replica, backend
}

func (w *tortured) admin() *sql.DB {
	w.Helper()
	admin, err := postgres.Open(w.database(postgres.Admin), 1)
	if err != nil {
		w.Fatal(err)
	}
	return admin
}

// terminateBackends ends sessions of the nabus, whatever they are at.
func terminateBackends(w *tortured, _ int) {
	admin := w.admin()
	defer func() { _ = admin.Close() }()
	for range 10 {
		pauseUpTo(60 * time.Millisecond)
		if _, err := admin.Exec(`
SELECT pg_terminate_backend(pid)
FROM (SELECT pid FROM pg_stat_activity WHERE application_name IN ('0', '1', '2') ORDER BY random() LIMIT 2) a`); err != nil {
			w.Fatal(err)
		}
	}
}

// stopPostgres does what pg_ctl -m immediate does, and starts PostgreSQL again.
func stopPostgres(w *tortured, _ int) {
	pauseUpTo(300 * time.Millisecond)
	if err := syscall.Kill(w.server.PID(), syscall.SIGQUIT); err != nil {
		w.Fatal(err)
	}
	<-w.server.Done()
	w.restartServer()
}

// restartServer starts a PostgreSQL that has ended by itself.
func (w *tortured) restartServer() {
	w.Helper()
	if err := w.server.Stop(context.Background()); err != nil {
		w.Fatal(err)
	}
	w.startServer()
}

// beginBehindNetwork is two nabus, with a network between one of them and PostgreSQL.
func beginBehindNetwork(t *testing.T) *tortured {
	t.Helper()
	w := &tortured{T: t, config: postgres.Config{DataDir: newDataDir(t), Program: "a test"}}
	w.startServer()
	t.Cleanup(func() { _ = w.server.Stop(context.Background()) })
	network := networkBefore(t, w.database(postgres.App))
	host, port := network.Host()
	w.network = network
	return w.begin(
		w.databaseArgs(map[string]string{"host": host, "port": port}),
		w.databaseArgs(nil))
}

// networkBefore is a network before the server of a database.
func networkBefore(t *testing.T, database string) *netproxy.Proxy {
	t.Helper()
	kind, address, err := postgres.Address(database)
	if err != nil {
		t.Fatal(err)
	}
	network, err := netproxy.Start(kind, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = network.Close() })
	return network
}

// troubleNetwork resets all connections, lets them stall for a while, or both. Long
// enough a stall, and nabu gives a batch up.
func troubleNetwork(w *tortured, round int) {
	pauseUpTo(200 * time.Millisecond)
	stall := 500 * time.Millisecond
	if round%5 == 4 {
		stall = answerPatience + time.Second
	}
	switch round % 3 {
	case 0:
		for range 5 {
			w.network.Reset()
			pauseUpTo(50 * time.Millisecond)
		}
		return
	case 1:
		w.network.Stall()
		w.stay(stall)
	case 2:
		w.network.Stall()
		w.stay(stall)
		w.network.Reset()
	}
	w.network.Flow()
}

// stay lets a state last for a while, in which the others have to go on.
func (w *tortured) stay(d time.Duration) {
	w.Helper()
	w.load.answersOf(5, w.others(0)...)
	time.Sleep(d)
}

// pauseUpTo lets the next blow fall at any moment.
func pauseUpTo(d time.Duration) { time.Sleep(rand.N(d)) }
