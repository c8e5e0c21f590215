package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nabu/internal/postgres"
	"nabu/internal/sealing"
)

const (
	variablePrefix = "NABU_"
	// configFlag and configVariable name the file. They are no settings: a file
	// cannot name itself.
	configFlag     = "config"
	configVariable = variablePrefix + "CONFIG"
	usualFile      = "/etc/nabu/nabu.yaml"
)

// layer is one place that values come from.
type layer struct {
	values *koanf.Koanf
	origin func(setting) string
	folder string // from which its files are named; empty: where nabu was started
}

// sources tells for each key where its value comes from.
type sources map[string]string

// Settings that commands beside the service go by, as keys or, with a star, their beginnings.
var (
	wayToDatabase = []string{"data_dir", "pg_bin", "database_url", "direct_database_url"}
	policyFiles   = []string{"policy_file", "legacy_defaults"}
)

// addSettings gives a command a flag for each setting, in their order. Its help shows those
// that it goes by, or all if none are named; it takes the others as well, for all commands
// read the same file and the same environment.
func addSettings(c *cobra.Command, goesBy ...string) {
	flags := c.Flags()
	flags.SortFlags = false
	flags.String(configFlag, "", "YAML file with settings (default "+usualFile+", if it is there)")
	for _, s := range settings {
		value := &flagValue{text: s.fallback, kind: s.kind()}
		f := flags.VarPF(value, s.flag(), "", s.help)
		if value.kind == "bool" {
			f.NoOptDefVal = "true"
		}
		f.Hidden = len(goesBy) > 0 && !slices.ContainsFunc(goesBy, s.isOf)
	}
	if len(goesBy) > 0 {
		c.Long = cmp.Or(c.Long, c.Short+".") + "\n\nAll settings of nabu serve are taken as well."
	}
}

// isOf tells whether the setting has a key, or one that begins as a key with a star does.
func (s setting) isOf(key string) bool {
	beginning, several := strings.CutSuffix(key, "*")
	return s.key == key || several && strings.HasPrefix(s.key, beginning)
}

// flagValue keeps what stands on the command line, to be read like any layer.
type flagValue struct{ text, kind string }

func (v *flagValue) String() string     { return v.text }
func (v *flagValue) Set(s string) error { v.text = s; return nil }
func (v *flagValue) Type() string       { return v.kind }

// loadConfig reads all layers: flags before environment before file before
// defaults. It fails on any key that it does not know and any value that breaks a
// rule, and names them all; then the configuration has the log's format alone, as far as
// it is known.
func loadConfig(flags *pflag.FlagSet, environ environment) (config, sources, error) {
	layers, err := readLayers(flags, environ)
	if err != nil {
		return config{}, nil, misconfigured(err)
	}
	var c config
	from := sources{}
	var problems []error
	for _, s := range settings {
		text, origin, err := pick(s, layers)
		if err == nil && (text != "" || s.fallback != "") {
			err = s.put(&c, text)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s (%s) %w", s.key, origin, err))
		}
		from[s.key] = origin
	}
	if len(problems) == 0 {
		followMaxima(&c, from)
		path, _ := settingsFile(flags, environ)
		incomplete := complete(&c, environ)
		problems = append(problems, placed(incomplete, from), placed(c.readPolicy(filepath.Dir(path)), from))
		if incomplete == nil {
			problems = append(problems, placed(check(c), from))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return config{LogFormat: c.LogFormat}, nil, misconfigured(err)
	}
	return c, from, nil
}

// fromDefault is the place of a value that nobody has set.
const fromDefault = "default"

// followMaxima lowers the defaults that exceed a maximum that somebody has set. What somebody
// has set itself stays, to be refused.
func followMaxima(c *config, from sources) {
	for _, s := range settings {
		if s.follows == "" || from[s.key] != fromDefault {
			continue
		}
		its := s.field(c).(*int)
		for _, most := range settings {
			if most.key != s.follows {
				continue
			}
			if bound := *most.field(c).(*int); *its > bound {
				*its, from[s.key] = bound, fromDefault+", as "+most.key
			}
		}
	}
}

// placedError is an error about a setting, with the place that its value comes from.
type placedError struct {
	error
	key, origin string
}

func (e *placedError) Error() string {
	return e.key + " (" + e.origin + ")" + strings.TrimPrefix(e.error.Error(), e.key)
}

func (e *placedError) Unwrap() error { return e.error }

// placed adds the place to an error that begins with the name of a setting.
func placed(err error, from sources) error {
	if err == nil {
		return nil
	}
	key := err.Error()
	if end := strings.IndexAny(key, " :"); end >= 0 {
		key = key[:end]
	}
	if origin, known := from[key]; known {
		return &placedError{err, key, origin}
	}
	return err
}

// pick takes a setting's value from the first layer that has one.
func pick(s setting, layers []layer) (text, origin string, err error) {
	for _, l := range layers {
		if !l.values.Exists(s.key) {
			continue
		}
		switch value := l.values.Get(s.key).(type) {
		case nil:
			return "", l.origin(s), errors.New("has no value")
		case string:
			if s.path && value != "" {
				value, err = whole(l.folder, value)
			}
			return value, l.origin(s), err
		case int, int64, uint64, float64, bool:
			return fmt.Sprint(value), l.origin(s), nil
		case map[string]any:
			if s.group {
				text, err := json.Marshal(value)
				return string(text), l.origin(s), err
			}
			return "", l.origin(s), fmt.Errorf("must be a %s, not a group", s.kind())
		default:
			if s.group {
				return "", l.origin(s), errors.New("must be a group, or one as JSON, not a list")
			}
			return "", l.origin(s), fmt.Errorf("must be a %s, not a list or a group", s.kind())
		}
	}
	return s.fallback, fromDefault, nil
}

// whole is the whole path of a file that is named from a folder.
func whole(folder, path string) (string, error) {
	if filepath.IsAbs(path) {
		return path, nil
	}
	return filepath.Abs(filepath.Join(folder, path))
}

// complete fills in the defaults that depend on something.
func complete(c *config, environ environment) (err error) {
	if c.DataDir == "" {
		if c.DataDir, err = postgres.DefaultDataDir(environ.get, os.Geteuid(), runtime.GOOS); err != nil {
			return fmt.Errorf("data_dir: %w", err)
		}
	}
	if c.DirectDatabaseURL == "" {
		c.DirectDatabaseURL = c.DatabaseURL
	}
	if c.Images.rules, err = c.Images.taskRules(); err != nil {
		return err
	}
	if c.Volumes.rules, err = c.Volumes.userMessageRules(); err != nil {
		return err
	}
	if c.EncryptionKeysFile != "" {
		if c.masters, err = sealing.ReadMasters(c.EncryptionKeysFile); err != nil {
			return fmt.Errorf("encryption_keys_file: %w", err)
		}
		c.Limits.Encryption = true
	}
	if c.SignedURLSecretKeyFile == "" {
		return nil
	}
	if c.SignedURLSecretKey != "" {
		return errors.New("signed_url_secret_key and signed_url_secret_key_file: only one of the two may be set")
	}
	if c.SignedURLSecretKey, err = readSecret(c.SignedURLSecretKeyFile); err != nil {
		return fmt.Errorf("signed_url_secret_key_file: %w", err)
	}
	return nil
}

// readSecret is the text in a file, without the line's end that editors leave behind.
func readSecret(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return secret, nil
}

// check looks at what concerns several settings at once.
func check(c config) error {
	if err := c.Limits.Check(); err != nil {
		return err
	}
	if err := c.Images.rules.Check(); err != nil {
		return err
	}
	if err := c.Volumes.rules.Check(); err != nil {
		return err
	}
	if err := c.eventRules().Check(c.Limits); err != nil {
		return err
	}
	if err := c.checkAddresses(); err != nil {
		return err
	}
	if c.Computes.ForwardTo == "" && c.Computes.ForwardTokenFile != "" {
		return errors.New("forward_token_file is of no use without forward_to")
	}
	if c.DatabaseURL == "" && c.DirectDatabaseURL != "" {
		return errors.New("direct_database_url is of no use without database_url")
	}
	return nil
}

// readLayers reads flags, environment and file, the first one counting most.
func readLayers(flags *pflag.FlagSet, environ environment) ([]layer, error) {
	fromFlags, fromEnvironment := koanf.New("."), koanf.New(".")
	err := fromFlags.Load(posflag.ProviderWithFlag(flags, ".", nil, settingOfFlag), nil)
	if err != nil {
		return nil, fmt.Errorf("read the flags: %w", err)
	}
	err = fromEnvironment.Load(env.Provider(".", env.Opt{
		Prefix:        variablePrefix,
		TransformFunc: settingOfVariable,
		EnvironFunc:   func() []string { return environ },
	}), nil)
	if err != nil {
		return nil, fmt.Errorf("read the environment: %w", err)
	}
	path, fromFile, err := readFile(flags, environ)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		unknownKeys(fromEnvironment, "", func(key string) string { return variablePrefix + strings.ToUpper(key) }),
		unknownKeys(fromFile, path+": ", func(key string) string { return key }))
	if err != nil {
		return nil, err
	}
	return []layer{
		{fromFlags, func(s setting) string { return "flag --" + s.flag() }, ""},
		{fromEnvironment, func(s setting) string { return "environment " + s.variable() }, ""},
		{fromFile, func(setting) string { return "file " + path }, filepath.Dir(path)},
	}, nil
}

// settingOfFlag leaves out the flags that nobody set and those that are no settings.
func settingOfFlag(f *pflag.Flag) (string, any) {
	if _, isSetting := f.Value.(*flagValue); !isSetting || !f.Changed {
		return "", nil
	}
	return strings.ReplaceAll(f.Name, "-", "_"), f.Value.String()
}

// settingOfVariable leaves out what is empty, which is how many tools write "not
// set", and what Kubernetes adds for services whose name begins with nabu.
func settingOfVariable(name, value string) (string, any) {
	if value == "" || name == configVariable || serviceLink.MatchString(name+"="+value) {
		return "", nil
	}
	return strings.ToLower(strings.TrimPrefix(name, variablePrefix)), value
}

var serviceLink = regexp.MustCompile(
	`^NABU_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)=|^NABU_(\w+_)?PORT=\w+://`)

// settingsFile is the file of the settings, which need not be there if nobody named it.
func settingsFile(flags *pflag.FlagSet, environ environment) (path string, named bool) {
	path = flags.Lookup(configFlag).Value.String()
	if path == "" {
		path = environ.get(configVariable)
	}
	if path == "" {
		return usualFile, false
	}
	return path, true
}

func readFile(flags *pflag.FlagSet, environ environment) (path string, values *koanf.Koanf, err error) {
	values = koanf.New(".")
	path, named := settingsFile(flags, environ)
	if path, err = whole("", path); err != nil {
		return path, nil, err
	}
	err = values.Load(file.Provider(path), yaml.Parser())
	if errors.Is(err, fs.ErrNotExist) && !named {
		return path, values, nil
	}
	if _, cannot := errors.AsType[*fs.PathError](err); cannot {
		return path, nil, fmt.Errorf("read the settings: %w", err)
	}
	if err != nil {
		return path, nil, fmt.Errorf("the file %s is not YAML; a setting is a line such as \"listen: 127.0.0.1:8888\", with a colon, without [sections]: %w", path, err)
	}
	return path, values, nil
}

// unknownKeys tells which keys of a layer are no settings, and what was meant.
func unknownKeys(values *koanf.Koanf, place string, name func(string) string) error {
	var problems []error
	for _, key := range slices.Sorted(maps.Keys(values.Raw())) {
		if !slices.ContainsFunc(settings, func(s setting) bool { return s.key == key }) {
			problems = append(problems, fmt.Errorf("%sunknown setting %s%s", place, name(key), suggestion(key, settingKeys(), name)))
		}
	}
	return errors.Join(problems...)
}

func settingKeys() []string {
	keys := make([]string, len(settings))
	for i, s := range settings {
		keys[i] = s.key
	}
	return keys
}

// environment is a process's environment, as os.Environ gives it.
type environment []string

// get is the value of a variable; empty if there is none.
func (e environment) get(name string) string {
	for _, entry := range slices.Backward(e) {
		if key, value, _ := strings.Cut(entry, "="); key == name {
			return value
		}
	}
	return ""
}
