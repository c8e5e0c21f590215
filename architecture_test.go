// Package nabu holds nothing but the test of nabu's shape.
package nabu

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mayImport is the shape of nabu: what each folder may use of the others. Folders
// below internal stand for one outside thing each and use none of the upper ones,
// but for the test databases, which have to be migrated.
var mayImport = map[string][]string{
	"domain":              {},
	"eventstore":          {"domain", "internal/pgarray", "internal/pgrows"},
	"commands":            {"domain", "eventstore", "internal/postgres", "internal/sealing"},
	"projections":         {"domain", "eventstore", "internal/pgarray", "internal/pgrows", "internal/sealing"},
	"migrations":          {"projections", "internal/postgres"},
	"reactors":            {"domain", "eventstore", "commands", "projections", "internal/compute", "internal/mail", "internal/signedurl", "internal/webhook"},
	"http":                {"domain", "eventstore", "commands", "projections", "internal/jsonschema", "internal/policy", "internal/postgres", "internal/signedurl"},
	"internal/compute":    {},
	"internal/eventually": {},
	"internal/pgarray":    {},
	"internal/pgrows":     {},
	"internal/policy":     {},
	"internal/postgres":   {},
	"internal/jsonschema": {},
	"internal/mail":       {},
	"internal/netproxy":   {},
	"internal/webhook":    {"internal/outbound"},
	"internal/pgproxy":    {},
	"internal/sealing":    {"internal/pgarray", "internal/pgrows"},
	"internal/secrets":    {},
	"internal/signedurl":  {},
	"internal/pgtest":     {"migrations", "internal/postgres"},
	"internal/bench":      {"domain", "internal/netproxy", "internal/postgres"},
	"cmd/nabu":            {"*"},
	"internal/outbound":   {},
	"internal/imaging":    {"internal/outbound"},
	"internal/worker":     {"internal/imaging"},

	"docs/examples/host-agent":   {},
	"docs/examples/demo/outside": {},
}

// onlyIn names the folders, or the files, that know an outside library; nobody else
// does.
var onlyIn = map[string][]string{
	"github.com/labstack/echo":              {"http"},
	"github.com/lib/pq":                     {"eventstore", "projections", "internal/postgres", "internal/bench"},
	"github.com/ThreeDotsLabs/watermill":    {"eventstore/feed.go", "eventstore/feedreader.go", "reactors", "cmd/nabu"},
	"github.com/spf13/cobra":                {"cmd/nabu"},
	"github.com/knadh/koanf":                {"cmd/nabu"},
	"go.yaml.in/yaml":                       {"internal/policy"},
	"github.com/pressly/goose":              {"migrations"},
	"github.com/prometheus/client_golang":   {"http", "cmd/nabu"},
	"github.com/coder/websocket":            {"http"},
	"github.com/tinylib/msgp":               {"http"},
	"github.com/gophercloud/gophercloud/v2": {"internal/imaging", "internal/worker", "cmd/nabu"},
	"github.com/wneessen/go-mail":           {"internal/mail"},
	"github.com/santhosh-tekuri/jsonschema": {"internal/jsonschema"},
	"code.dny.dev/ssrf":                     {"internal/outbound", "internal/webhook"},
	"github.com/sony/gobreaker":             {"reactors"},
}

func TestArrowsPointOneWay(t *testing.T) {
	for folder, files := range sources(t) {
		allowed, known := mayImport[folder]
		if !known {
			t.Errorf("%s has no place in the map", folder)
			continue
		}
		for file, imports := range files {
			for _, path := range imports {
				ours, inside := strings.CutPrefix(path, "nabu/")
				if inside && !slices.Contains(allowed, ours) && !slices.Contains(allowed, "*") {
					t.Errorf("%s must not import %s", file, path)
				}
			}
		}
	}
}

func TestLibrariesStayWhereTheyBelong(t *testing.T) {
	for folder, files := range sources(t) {
		for file, imports := range files {
			for _, path := range imports {
				for library, places := range onlyIn {
					if strings.HasPrefix(path, library) && !slices.Contains(places, folder) && !slices.Contains(places, filepath.ToSlash(file)) {
						t.Errorf("%s must not import %s", file, path)
					}
				}
			}
		}
	}
}

// sources are the imports of each file of each folder, tests aside.
func sources(t *testing.T) map[string]map[string][]string {
	t.Helper()
	folders := map[string]map[string][]string{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && path != "." && (strings.HasPrefix(name, ".") || name == "tools" || name == "testdata") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		folder := filepath.ToSlash(filepath.Dir(path))
		if folders[folder] == nil {
			folders[folder] = map[string][]string{}
		}
		for _, spec := range file.Imports {
			folders[folder][path] = append(folders[folder][path], strings.Trim(spec.Path.Value, `"`))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return folders
}
