package worker

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"nabu/internal/imaging"
	"nabu/internal/outbound"
)

// raw is an image of many reads.
var raw = bytes.Repeat([]byte("raw bytes. "), 300_000)

// qcow2 is the smallest header that counts, and some clusters.
var qcow2 = func() []byte {
	image := make([]byte, 256<<10)
	copy(image, "QFI\xfb\x00\x00\x00\x03")
	image[23], image[103] = 16, 104 // cluster bits, the header's length
	return image
}()

// backed is a qcow2 with a backing file.
var backed = func() []byte {
	image := bytes.Clone(qcow2)
	image[14], image[19] = 2, 11
	return image
}()

// site serves images; what it does with a path can be told.
type site struct {
	*httptest.Server
	answers map[string]http.HandlerFunc
}

func newSite(t *testing.T, answers map[string]http.HandlerFunc) *site {
	s := &site{answers: answers}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer := s.answers[r.URL.Path]; answer != nil {
			answer(w, r)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func serve(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

// gated serves the first half of an image, and the rest when the gate is opened.
func gated(content []byte, gate <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		_, _ = w.Write(content[:len(content)/2])
		_ = http.NewResponseController(w).Flush()
		select {
		case <-gate:
			_, _ = w.Write(content[len(content)/2:])
		case <-r.Context().Done():
		}
	}
}

// bench is a nabu, a site and a folder of images, at which workers can be put.
type bench struct {
	t      *testing.T
	nabu   *nabu
	site   *site
	folder string
	mu     sync.Mutex
	done   []Outcome
}

func newBench(t *testing.T, answers map[string]http.HandlerFunc) *bench {
	t.Parallel()
	return &bench{t: t, nabu: newNabu(t), site: newSite(t, answers), folder: t.TempDir()}
}

// running is a worker at work.
type running struct {
	stop context.CancelFunc // as SIGTERM does
	over chan struct{}
	err  error // to be read when it is over
}

// at is what a worker is made of that can be in another process.
type at struct{ Name, Nabu, Site, Folder string }

func (a at) config() (Config, error) {
	store, err := imaging.OpenFolder(a.Folder)
	if err != nil {
		return Config{}, err
	}
	u, err := url.Parse(a.Site)
	if err != nil {
		return Config{}, err
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return Config{
		Client: NewClient(&gophercloud.ProviderClient{}, a.Nabu+"/", map[string]string{"X-Project-Id": "service"}),
		Name:   a.Name, Store: store, Partial: filepath.Join(a.Folder, "partial"), Concurrency: 1,
		ClaimTTL: time.Minute, RenewEvery: 5 * time.Millisecond, Wait: 20 * time.Second, ProgressEvery: 5 * time.Millisecond,
		Timeout: time.Minute, Drain: time.Minute,
		Fetcher: &imaging.Fetcher{
			Filter: &outbound.Filter{
				AllowPorts: []uint16{80, uint16(port)}, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
			},
			MaxBytes: 8 << 20, Tries: 4, Silence: time.Minute, FirstDelay: time.Millisecond,
		},
	}, err
}

// work runs a worker until the test's end.
func (b *bench) work(name string, change func(*Config)) *running {
	b.t.Helper()
	cfg, err := at{name, b.nabu.URL, b.site.URL, b.folder}.config()
	if err != nil {
		b.t.Fatal(err)
	}
	cfg.Log = slog.New(slog.NewTextHandler(b.t.Output(), nil))
	cfg.Observe = func(d Done) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.done = append(b.done, d.Outcome)
	}
	if change != nil {
		change(&cfg)
	}
	w, err := New(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{stop: cancel, over: make(chan struct{})}
	go func() {
		defer close(r.over)
		r.err = w.Run(ctx)
	}()
	b.t.Cleanup(r.end)
	return r
}

func (r *running) end() {
	r.stop()
	<-r.over
}

// post makes an import task.
func (b *bench) post(path, format, more string) string {
	return b.nabu.post(fmt.Sprintf(`{"import_from": %q, "import_from_format": %q, "image_properties": {%s}}`, b.site.URL+path, format, more))
}

// images are those in the folder, and nothing may be half there.
func (b *bench) images() (ids []string) {
	b.t.Helper()
	err := filepath.WalkDir(b.folder, func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch inside := filepath.Base(filepath.Dir(path)); {
		case err != nil || entry.IsDir():
		case inside == "partial":
			b.t.Errorf("%s is left", path)
		case filepath.Dir(path) == b.folder && !strings.Contains(name, "."):
			ids = append(ids, name)
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	slices.Sort(ids)
	return ids
}

// holds wants one image in the folder, of a task that succeeded.
func (b *bench) holds(done task, content []byte) {
	b.t.Helper()
	if done.status != "success" || !slices.Equal(b.images(), []string{done.image}) {
		b.t.Fatalf("%+v, and there are %v", done, b.images())
	}
	stored, err := os.ReadFile(filepath.Join(b.folder, done.image))
	if err != nil || !bytes.Equal(stored, content) {
		b.t.Errorf("%d bytes, %v", len(stored), err)
	}
}

func (b *bench) outcomes() []Outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.done)
}

func TestImagesAreMade(t *testing.T) {
	sum := sha512.Sum512(raw)
	checksum := fmt.Sprintf(`, "os_hash_algo": "sha512", "os_hash_value": %q`, hex.EncodeToString(sum[:]))
	for name, test := range map[string]struct {
		path, format, more string
		content            []byte
	}{
		"raw":              {"/raw", "raw", `"name": "x"` + checksum, raw},
		"qcow2":            {"/qcow2", "qcow2", `"disk_format": "qcow2"`, qcow2},
		"behind redirects": {"/here", "raw", ``, raw},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, map[string]http.HandlerFunc{
				"/raw": serve(raw), "/qcow2": serve(qcow2), "/here": http.RedirectHandler("/there", http.StatusFound).ServeHTTP,
				"/there": http.RedirectHandler("/raw", http.StatusTemporaryRedirect).ServeHTTP,
			})
			id := b.post(test.path, test.format, test.more)
			w := b.work("w1", nil)
			b.holds(b.nabu.ended(t, id), test.content)
			w.end()
			if got := b.outcomes(); !slices.Equal(got, []Outcome{Succeeded}) {
				t.Errorf("it went %v", got)
			}
		})
	}
}

func TestTasksThatFail(t *testing.T) {
	for name, test := range map[string]struct {
		path, format, more, says string
	}{
		"nothing there":       {"/nothing", "raw", ``, "The image could not be fetched: its server answered 404 Not Found."},
		"a wrong format":      {"/qcow2", "raw", ``, "The image is not raw as declared: its content is qcow2."},
		"a backing file":      {"/backed", "qcow2", ``, "The image has a backing file, which is not allowed: it must be complete in itself."},
		"too big":             {"/big", "raw", ``, "The image is bigger than the 8 MiB that are allowed."},
		"a wrong checksum":    {"/raw", "raw", `"checksum": "d41d8cd98f00b204e9800998ecf8427e"`, "The image's md5 is"},
		"sent to the machine": {"/machine", "raw", ``, "is redirected to where nothing may be fetched from"},
		"sent inside":         {"/inside", "raw", ``, "is redirected to where nothing may be fetched from"},
		"sent to secrets":     {"/secrets", "raw", ``, "is redirected to where nothing may be fetched from"},
		"a property":          {"/raw", "raw", `"size": 3`, `image_properties: "size" is read-only.`},
		"no archive":          {"/raw", "raw", `"container_format": "ova"`, `Container format "ova" is not supported`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, map[string]http.HandlerFunc{
				"/raw": serve(raw), "/qcow2": serve(qcow2), "/backed": serve(backed), "/big": serve(make([]byte, 8<<20+1)),
				"/machine": http.RedirectHandler("http://127.0.0.2/", http.StatusFound).ServeHTTP,
				"/inside":  http.RedirectHandler("http://10.1.2.3/", http.StatusFound).ServeHTTP,
				"/secrets": http.RedirectHandler("http://169.254.169.254/latest/meta-data/", http.StatusFound).ServeHTTP,
			})
			id := b.post(test.path, test.format, test.more)
			b.work("w1", nil)
			done := b.nabu.ended(t, id)
			if done.status != "failure" || !strings.Contains(done.text, test.says) || len(b.images()) > 0 {
				t.Errorf("%+v, and there are %v", done, b.images())
			}
		})
	}
}

// TestWhatNobodyCouldForesee is told to the log and not to the user.
func TestWhatNobodyCouldForesee(t *testing.T) {
	b := newBench(t, map[string]http.HandlerFunc{"/raw": serve(raw)})
	id := b.post("/raw", "raw", "")
	b.work("w1", func(c *Config) { c.Store = broken{c.Store} })
	if done := b.nabu.ended(t, id); done.text != "Task failed due to Internal Error" {
		t.Errorf("%+v", done)
	}
}

// broken is a store that takes nothing.
type broken struct{ imaging.Store }

func (broken) Put(context.Context, imaging.Image) (string, error) {
	return "", fs.ErrPermission
}

func TestTasksThatTakeTooLong(t *testing.T) {
	b := newBench(t, map[string]http.HandlerFunc{"/raw": gated(raw, nil)})
	id := b.post("/raw", "raw", "")
	b.work("w1", func(c *Config) { c.Timeout = 50 * time.Millisecond })
	if done := b.nabu.ended(t, id); done.text != "The image could not be made within 50ms." {
		t.Errorf("%+v", done)
	}
}

// TestProgressIsReported in Glance's words, and the claim is renewed meanwhile.
func TestProgressIsReported(t *testing.T) {
	gate := make(chan struct{})
	b := newBench(t, map[string]http.HandlerFunc{"/raw": gated(raw, gate)})
	id := b.post("/raw", "raw", "")
	b.work("w1", nil)
	b.nabu.until(t, "progress and renewals", func() bool {
		return slices.Contains(b.nabu.tasks[id].progress, "Copied 1 MiB") && b.nabu.asked("PATCH") > 2
	})
	close(gate)
	b.holds(b.nabu.ended(t, id), raw)
}

// asked is how often something was asked for.
func (n *nabu) asked(method string) (times int) {
	for _, call := range n.calls {
		if strings.HasPrefix(call, method+" ") {
			times++
		}
	}
	return times
}

// TestACutConnectionIsGoneOnWith, from the byte where it was cut.
func TestACutConnectionIsGoneOnWith(t *testing.T) {
	var first sync.Once
	ranges := make(chan string, 9)
	b := newBench(t, map[string]http.HandlerFunc{"/raw": func(w http.ResponseWriter, r *http.Request) {
		first.Do(func() {
			w.Header().Set("ETag", `"v1"`)
			w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
			_, _ = w.Write(raw[:1_000_000])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
		ranges <- r.Header.Get("Range")
		serve(raw)(w, r)
	}})
	id := b.post("/raw", "raw", "")
	b.work("w1", nil)
	b.holds(b.nabu.ended(t, id), raw)
	if got := <-ranges; got != "bytes=1000000-" {
		t.Errorf("asked for %q", got)
	}
}
