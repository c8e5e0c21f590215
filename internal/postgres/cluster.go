package postgres

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/lib/pq"
)

// The roles of a database of nabu's.
const (
	Admin = "nabu_admin" // the private server's superuser
	Owner = "nabu_owner" // owns the ledger; migrations run as this role
	App   = "nabu_app"   // serves: adds to the ledger and owns the read models
)

// Database is the private server's database.
const Database = "nabu"

// rolesSQL makes the roles that are missing, and may run at every start.
//
//go:embed roles.sql
var rolesSQL string

// cluster is a server's folder and what stands around it in the data folder.
type cluster struct {
	dataDir string
	account account
}

func (c cluster) dir() string        { return filepath.Join(c.dataDir, "postgres") }
func (c cluster) lockFile() string   { return filepath.Join(c.dataDir, "nabu.lock") }
func (c cluster) socketFile() string { return filepath.Join(c.dataDir, "postgres.socket") }
func (c cluster) startLog() string   { return filepath.Join(c.dataDir, "postgres.start.log") }
func (c cluster) hbaFile() string    { return filepath.Join(c.dataDir, "postgres.hba.conf") }
func (c cluster) identFile() string  { return filepath.Join(c.dataDir, "postgres.ident.conf") }

// make runs initdb in a folder beside the final one, which takes its name when it is
// complete: one that was cut short is made again. The folder's name is new each time,
// because an initdb that outlived its nabu may still clean up what it knows as its own.
func (c cluster) make(ctx context.Context, p programs, sync bool) error {
	if rest, err := os.ReadDir(c.dir()); err == nil && len(rest) > 0 {
		return fmt.Errorf("folder %s is not empty and not PostgreSQL's: nabu makes its server's folder itself, so move this one away", c.dir())
	}
	c.removeUnfinished()
	unfinished, err := os.MkdirTemp(c.dataDir, unfinishedPattern)
	if err != nil {
		return err
	}
	if err := c.account.own(unfinished); err != nil {
		return err
	}
	if err := c.initdb(ctx, p, unfinished, sync); err != nil {
		_ = os.RemoveAll(unfinished)
		return err
	}
	if err := os.Rename(unfinished, c.dir()); err != nil {
		return err
	}
	return syncDir(c.dataDir)
}

const unfinishedPattern = "postgres.new-*"

// removeUnfinished removes what killed starts left, which never was in use. What
// resists, because something still writes there, is for the next start.
func (c cluster) removeUnfinished() {
	dirs, _ := filepath.Glob(filepath.Join(c.dataDir, unfinishedPattern))
	for _, dir := range dirs {
		_ = os.RemoveAll(dir)
	}
}

// walSegment is the size of the WAL's files, in MB. While one is made, which is to write it full of
// zeros and to flush it, nobody can commit: of PostgreSQL's own 16 MB that is 50 ms now and then.
const walSegment = "--wal-segsize=1"

func (c cluster) initdb(ctx context.Context, p programs, dir string, sync bool) error {
	args := []string{"-D", dir, "-U", Admin, "-E", "UTF8", "--locale=C", "--data-checksums",
		"--auth-local=peer", "--auth-host=reject", "--no-instructions", walSegment}
	if !sync {
		args = append(args, "--no-sync")
	}
	cmd := exec.Command(p.path("initdb"), args...)
	cmd.Dir = dir
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c.account.credential()}
	tie(cmd, syscall.SIGKILL)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	run, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	select {
	case <-run.ended:
	case <-ctx.Done():
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-run.ended
		return ctx.Err()
	}
	if run.err != nil {
		return fmt.Errorf("initdb: %w\n%s", run.err, strings.TrimSpace(said.String()))
	}
	return nil
}

// writeAccess writes who may connect: through the socket, and only the accounts that
// run the server and nabu, as any of nabu's roles. No password exists. The files
// stand outside of the cluster, where only nabu writes.
func (c cluster) writeAccess(users []string) error {
	hba := "local all all peer map=nabu\n" +
		"local replication " + Admin + " peer map=nabu\n" +
		"host all all all reject\n"
	var ident strings.Builder
	for _, user := range users {
		for _, role := range []string{Admin, Owner, App} {
			fmt.Fprintf(&ident, "nabu %q %s\n", user, role)
		}
	}
	return errors.Join(c.writeFile(c.hbaFile(), hba), c.writeFile(c.identFile(), ident.String()))
}

// writeFile writes a file that the server can read.
func (c cluster) writeFile(path, text string) error {
	mode := fs.FileMode(0o600)
	if c.account.switched {
		mode = 0o644
	}
	unfinished := path + ".new"
	if err := os.WriteFile(unfinished, []byte(text), mode); err != nil {
		return err
	}
	if err := os.Chmod(unfinished, mode); err != nil { // whatever the umask
		return err
	}
	return os.Rename(unfinished, path)
}

// arguments is the command line of the server. What nabu relies on is said here, where
// nothing in the cluster's own configuration can undo it.
func (c cluster) arguments(socketDir string, changes map[string]string) []string {
	set := map[string]string{
		"listen_addresses":        "",
		"port":                    defaultPort,
		"unix_socket_directories": `"` + strings.ReplaceAll(socketDir, `"`, `""`) + `"`,
		"hba_file":                c.hbaFile(),
		"ident_file":              c.identFile(),
		"cluster_name":            "nabu",

		// What was answered with success is on the disk.
		"fsync":              "on",
		"synchronous_commit": "on",
		"full_page_writes":   "on",

		"max_connections": "100",
		"shared_buffers":  buffers(memlimit.FromCgroup, memlimit.FromSystem),

		// A steady stream of appends would otherwise force a checkpoint, and with it
		// a burst of full pages, every few seconds.
		"max_wal_size":       "2GB",
		"checkpoint_timeout": "15min",
		// So much of the WAL is used again instead of being made anew.
		"min_wal_size": "256MB",

		// The tables of the queues change all over within seconds; an autovacuum that
		// comes by once a minute does not keep up. Nor may it be as fast as it can: with
		// what an old snapshot had kept from it, it wrote until nobody could commit.
		"autovacuum_naptime":           "10s",
		"autovacuum_vacuum_cost_delay": "1ms",
		"autovacuum_vacuum_cost_limit": "300",

		// nabu's statements are short: compiling one takes longer than running it.
		"jit": "off",

		"timezone":     "UTC",
		"log_timezone": "UTC",

		// One file for each day of the week, begun anew when its day comes round.
		"logging_collector":        "on",
		"log_directory":            "log",
		"log_filename":             "postgres-%a.log",
		"log_rotation_age":         "1d",
		"log_rotation_size":        "0",
		"log_truncate_on_rotation": "on",
		"log_line_prefix":          "%m [%p] %q%u@%d %a ",
	}
	if runtime.GOOS == "linux" {
		// What vacuum and others write beside a checkpoint, the system is told to write out
		// soon: the flush at the end of the checkpoint waited for 0.2 s, and commits behind
		// it. Elsewhere PostgreSQL has no cheap way to say so, and leaves it.
		set["backend_flush_after"] = "512kB"
	}
	maps.Copy(set, changes)
	args := []string{"-D", c.dir()}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		args = append(args, "-c", name+"="+set[name])
	}
	return args
}

// What PostgreSQL keeps of the tables in memory of its own: a share of what there is, within
// bounds; bytes. Its manual has a quarter for a machine that is its own.
const (
	buffersShare = 8 // an n-th
	leastBuffers = 128 << 20
	mostBuffers  = 1 << 30
)

// buffers is how much that is, with as much memory as the tightest of the limits that are
// known leaves.
func buffers(limits ...memlimit.Provider) string {
	bytes := uint64(math.MaxUint64)
	for _, limit := range limits {
		if its, err := limit(); err == nil && its > 0 { // or there is no such limit
			bytes = min(bytes, its)
		}
	}
	if bytes == math.MaxUint64 {
		bytes = 0
	}
	return fmt.Sprintf("%dMB", min(max(bytes/buffersShare, leastBuffers), mostBuffers)>>20)
}

// CreateDatabase makes a database with the rights of nabu's roles in it, unless it is
// there. An empty template is PostgreSQL's own.
func CreateDatabase(ctx context.Context, admin *sql.DB, name, template string) error {
	var exists bool
	err := admin.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, name).Scan(&exists)
	if err != nil {
		return fmt.Errorf("look for database %s: %w", name, err)
	}
	if template == "" {
		template = "template1"
	}
	database := pq.QuoteIdentifier(name)
	var statements []string
	if !exists {
		statements = append(statements, "CREATE DATABASE "+database+" OWNER "+Owner+" TEMPLATE "+pq.QuoteIdentifier(template))
	}
	statements = append(statements,
		"REVOKE ALL ON DATABASE "+database+" FROM PUBLIC",
		"GRANT CONNECT, TEMPORARY, CREATE ON DATABASE "+database+" TO "+App)
	for _, statement := range statements {
		if _, err := admin.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("create database %s: %w", name, err)
		}
	}
	return nil
}

// compressWAL has PostgreSQL write pages in its WAL at less than half the size, where its
// programs have LZ4; what they have besides would cost the writers too much. It is a setting
// of the database, since others of the same version may not have it, which a setting of the
// server would keep from starting. After a proper stop they start with this one; WAL that is
// left of a crash can be read only by programs that have LZ4.
func compressWAL(ctx context.Context, admin *sql.DB, database string) error {
	var can bool
	err := admin.QueryRowContext(ctx, `SELECT coalesce('lz4' = ANY (enumvals), false) FROM pg_settings
		WHERE name = 'wal_compression'`).Scan(&can)
	change := " RESET wal_compression"
	if can {
		change = " SET wal_compression = 'lz4'"
	}
	if err == nil {
		_, err = admin.ExecContext(ctx, "ALTER DATABASE "+pq.QuoteIdentifier(database)+change)
	}
	if err != nil {
		return fmt.Errorf("compress the WAL of database %s: %w", database, err)
	}
	return nil
}

// CreateRoles makes nabu's roles, unless they are there.
func CreateRoles(ctx context.Context, admin *sql.DB) error {
	if _, err := admin.ExecContext(ctx, rolesSQL); err != nil {
		return fmt.Errorf("create roles: %w", err)
	}
	return nil
}

// environment is what PostgreSQL's programs see of ours: where programs and libraries
// are, and nothing that would change their settings or tell them a secret.
func environment() []string {
	env := []string{"LC_ALL=C", "TZ=UTC"}
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LD_PRELOAD", "NSS_WRAPPER_PASSWD", "NSS_WRAPPER_GROUP"} {
		if value, given := os.LookupEnv(name); given {
			env = append(env, name+"="+value)
		}
	}
	return env
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
