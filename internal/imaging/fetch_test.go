package imaging

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"nabu/internal/outbound"
)

// content is an image of some reads.
var content = bytes.Repeat([]byte("0123456789abcdef"), 64<<10)

// library is a server of images that can be told to be bad.
type library struct {
	*httptest.Server
	mu     sync.Mutex
	asked  []http.Header
	answer http.HandlerFunc
}

func newLibrary(t *testing.T, answer http.HandlerFunc) *library {
	l := &library{answer: answer}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.asked = append(l.asked, r.Header.Clone())
		l.mu.Unlock()
		l.answer(w, r)
	}))
	t.Cleanup(l.Close)
	return l
}

// times is how often it was asked.
func (l *library) times() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.asked)
}

func (l *library) header(i int, name string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked[i].Get(name)
}

// port is that of a server on this machine.
func port(t *testing.T, address string) uint16 {
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(n)
}

// fetcher gets images from 127.0.0.1, and from nowhere else on this machine.
func fetcher(t *testing.T, ports ...uint16) *Fetcher {
	return &Fetcher{
		Filter:   &outbound.Filter{AllowPorts: append(ports, 80), AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}},
		MaxBytes: 2 << 20, Tries: 4, Silence: time.Minute, FirstDelay: time.Millisecond,
	}
}

// quiet wants to hear nothing.
var quiet = Watch{Copied: func(int64) {}, Again: func(error, time.Duration) {}}

// TestEachTryThatFailsIsToldOf but the last, which is the answer.
func TestEachTryThatFailsIsToldOf(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	defer server.Close()
	file, err := os.Create(t.TempDir() + "/image")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var told []string
	_, err = fetcher(t, port(t, server.URL)).Fetch(t.Context(), server.URL, file, nil, Watch{
		Copied: quiet.Copied, Again: func(why error, _ time.Duration) { told = append(told, why.Error()) },
	})
	if err == nil || len(told) != 3 || !strings.Contains(told[0], "502") {
		t.Errorf("it fails with %v, and told of %q", err, told)
	}
}

// fetch gets an image, and what is in the file then.
func fetch(t *testing.T, f *Fetcher, from string, wanted ...Checksum) (Fetched, []byte, error) {
	t.Helper()
	file, err := os.Create(t.TempDir() + "/image")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	got, fetching := f.Fetch(t.Context(), from, file, wanted, quiet)
	bytes, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return got, bytes, fetching
}

// serve answers with the content, as whole servers do.
func serve(etag string, modified time.Time) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if etag != "" {
			w.Header().Set("ETag", etag)
		}
		http.ServeContent(w, r, "image", modified, bytes.NewReader(content))
	}
}

// cut sends the head and some bytes of an answer, and closes the connection.
func cut(w http.ResponseWriter, status int, header map[string]string, length int, part []byte) {
	for name, value := range header {
		w.Header().Set(name, value)
	}
	w.Header().Set("Content-Length", strconv.Itoa(length))
	w.WriteHeader(status)
	_, _ = w.Write(part)
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func sum512(content []byte) string {
	sum := sha512.Sum512(content)
	return hex.EncodeToString(sum[:])
}

func TestFetch(t *testing.T) {
	l := newLibrary(t, serve("", time.Time{}))
	md5Sum := md5.Sum(content)
	right := []Checksum{{"sha512", strings.ToUpper(sum512(content))}, {"md5", hex.EncodeToString(md5Sum[:])}}
	got, there, err := fetch(t, fetcher(t, port(t, l.URL)), l.URL+"/x.raw", right...)
	if err != nil || got.Size != int64(len(content)) || got.SHA512 != sum512(content) || !bytes.Equal(there, content) {
		t.Errorf("%+v, %d bytes, %v", got, len(there), err)
	}
	if l.header(0, "Range") != "" || l.header(0, "Accept-Encoding") != "identity" {
		t.Errorf("asked with %v", l.asked[0])
	}
}

func TestWhatCannotBeFetched(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	tests := map[string]struct {
		answer http.HandlerFunc
		from   string // empty: the library
		wanted Checksum
		says   string
		tries  int
	}{
		"nothing there":      {answer: http.NotFound, says: "could not be fetched: its server answered 404 Not Found.", tries: 1},
		"not for everybody":  {answer: status(403), says: "answered 403 Forbidden", tries: 1},
		"an odd status":      {answer: status(299), says: "answered 299", tries: 1},
		"not modified":       {answer: status(304), says: "answered 304", tries: 1},
		"trouble":            {answer: status(503), says: "answered 503 Service Unavailable", tries: 4},
		"too many":           {answer: status(429), says: "answered 429", tries: 4},
		"empty":              {answer: status(200), says: "is empty", tries: 1},
		"a part unasked":     {answer: status(206), says: "other bytes than it was asked for", tries: 4},
		"round and round":    {answer: to("/again"), says: "redirected more than 5 times", tries: 6},
		"redirected, not to": {answer: status(302), says: "answered 302 Found", tries: 1},
		"far too long":       {from: "http://127.0.0.2/" + strings.Repeat("x", 100_000), says: strings.Repeat("x", 1000) + "…"},
		"redirected nowhere": {answer: to("http://[::"), says: "does not pass filtering", tries: 1},
		"no server":          {from: closed.URL, says: "could not be reached"},
		"another port":       {from: "http://127.0.0.1:1/x", says: "URI for legacy import task does not pass filtering: http://127.0.0.1:1/x"},
		"this machine":       {from: "http://127.0.0.2/x", says: "does not pass filtering"},
		"the metadata":       {from: "http://169.254.169.254/latest", says: "does not pass filtering"},
		"no URL":             {from: "http://[::", says: "no URL that can be read"},
		"a file":             {from: "file:///etc/passwd", says: "does not pass filtering"},
		"a password":         {from: "ftp://me:secret@images.example/x", says: "filtering: ftp://me:xxxxx@images.example/x"},
		"a wrong checksum":   {answer: serve("", time.Time{}), wanted: Checksum{"sha512", sum512(nil)}, says: "The image's sha512 is " + sum512(content), tries: 1},
		"no checksum":        {wanted: Checksum{"md5", "xyz"}, says: "is no md5 in hexadecimal digits"},
		"an odd checksum":    {wanted: Checksum{"crc", "00"}, says: `os_hash_algo "crc" is not supported`},
		"said to be too big": {answer: func(w http.ResponseWriter, _ *http.Request) { cut(w, 200, nil, 3<<20, nil) }, says: "bigger than the 2 MiB that are allowed", tries: 1},
		"too big":            {answer: endless, says: "bigger than the 2 MiB that are allowed", tries: 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLibrary(t, test.answer)
			from := test.from
			if from == "" {
				from = l.URL + "/x"
			}
			wanted := []Checksum{test.wanted}
			if test.wanted.Algorithm == "" {
				wanted = nil
			}
			_, _, err := fetch(t, fetcher(t, port(t, l.URL), port(t, closed.URL)), from, wanted...)
			wantRefusal(t, err, test.says)
			if n := l.times(); n != test.tries {
				t.Errorf("asked %d times, not %d", n, test.tries)
			}
		})
	}
}

// TestTheLogLearnsTheReason of a refusal. The user does not: how it looks inside is not
// for him.
func TestTheLogLearnsTheReason(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		from   string // empty: the library
		reason string
	}{
		"another port":       {from: "http://127.0.0.1:1/x", reason: "the address is refused: port 1"},
		"this machine":       {from: "http://127.0.0.2/x", reason: "denied by: 127.0.0.0/8"},
		"redirected inside":  {answer: to("http://169.254.169.254/"), reason: "denied by: 169.254.0.0/16"},
		"redirected nowhere": {answer: to("http://[::"), reason: "its Location cannot be read"},
		"no server":          {from: closed.URL, reason: "connection refused"},
		"cut":                {answer: func(w http.ResponseWriter, _ *http.Request) { cut(w, 200, nil, len(content), content[:9]) }, reason: "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLibrary(t, test.answer)
			_, _, err := fetch(t, fetcher(t, port(t, l.URL), port(t, closed.URL)), cmp.Or(test.from, l.URL+"/x"))
			refusal, refused := errors.AsType[*Refusal](err)
			if !refused || !strings.Contains(err.Error(), refusal.Text+": ") || !strings.Contains(err.Error(), test.reason) || strings.Contains(refusal.Text, test.reason) {
				t.Errorf("the log says %q", err)
			}
		})
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func to(location string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusFound)
	}
}

func endless(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := w.Write(content); err != nil {
			return
		}
	}
}

// TestRedirectsPassTheSameFilter: nobody is sent to this machine, to the metadata or from
// outside into a private network.
func TestRedirectsPassTheSameFilter(t *testing.T) {
	l := newLibrary(t, serve("", time.Time{}))
	n := port(t, l.URL)
	for location, passes := range map[string]bool{
		l.URL + "/x":                            true,
		fmt.Sprintf("http://127.0.0.2:%d/x", n): false, fmt.Sprintf("http://[::1]:%d/x", n): false,
		fmt.Sprintf("http://localhost:%d/x", n): true, // which is 127.0.0.1 too
		"http://169.254.169.254/":               false, "http://10.0.0.1/": false, "http://192.168.1.1/": false, "http://[fd00::1]/": false,
		"http://2130706433/": false, "http://0177.1/": false, "ftp://images.example/x": false, "file:///etc/passwd": false,
		"http://127.0.0.1:1/": false,
	} {
		sender := newLibrary(t, to(location))
		f := fetcher(t, n, port(t, sender.URL))
		_, there, err := fetch(t, f, sender.URL+"/secret-path")
		if passes != (err == nil && bytes.Equal(there, content)) {
			t.Errorf("to %s: %v", location, err)
		}
		if !passes {
			wantRefusal(t, err, "is redirected to where nothing may be fetched from")
		}
	}
}

// TestAHostThatIsNamed may be anywhere; another spelling of its address is not named.
func TestAHostThatIsNamed(t *testing.T) {
	l := newLibrary(t, serve("", time.Time{}))
	n := port(t, l.URL)
	f := fetcher(t, n)
	f.Filter = &outbound.Filter{AllowPorts: []uint16{n}, AllowHosts: []string{"localhost"}}
	if _, _, err := fetch(t, f, fmt.Sprintf("http://localhost:%d/x", n)); err != nil {
		t.Error(err)
	}
	_, _, err := fetch(t, f, l.URL+"/x")
	wantRefusal(t, err, "does not pass filtering")
}

// TestAConnectionThatIsCut: the rest is asked for if the server can say that it is the same
// content, else everything.
func TestAConnectionThatIsCut(t *testing.T) {
	const half = 300_000
	date := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	stamp := date.Format(http.TimeFormat)
	tests := map[string]struct {
		first, then  http.HandlerFunc
		asks, ifs    string // Range and If-Range of the second request
		says         string
		requestCount int
	}{
		"with an ETag": {cutAfter(half, map[string]string{"ETag": `"v1"`}), serve(`"v1"`, date), "bytes=300000-", `"v1"`, "", 2},
		"with a date":  {cutAfter(half, map[string]string{"Last-Modified": stamp}), serve("", date), "bytes=300000-", stamp, "", 2},
		"with a weak ETag": {
			cutAfter(half, map[string]string{"ETag": `W/"v1"`, "Last-Modified": stamp}), serve("", date), "bytes=300000-", stamp, "", 2,
		},
		"with nothing to go by": {cutAfter(half, nil), serve("", date), "", "", "", 2},
		"changed meanwhile":     {cutAfter(half, map[string]string{"ETag": `"v0"`}), serve(`"v1"`, date), "bytes=300000-", `"v0"`, "", 2},
		"without ranges": {
			cutAfter(half, map[string]string{"ETag": `"v1"`}),
			func(w http.ResponseWriter, r *http.Request) { r.Header.Del("Range"); serve("", date)(w, r) }, "bytes=300000-", `"v1"`, "", 2,
		},
		"another part": {cutAfter(half, map[string]string{"ETag": `"v1"`}), shifted(half + 1), "bytes=300000-", `"v1"`, "", 3},
		"no such part": {cutAfter(half, map[string]string{"ETag": `"v1"`}), status(416), "bytes=300000-", `"v1"`, "", 3},
		"trouble for a while": {
			cutAfter(half, map[string]string{"ETag": `"v1"`}), status(502), "bytes=300000-", `"v1"`, "", 3,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answers := []http.HandlerFunc{test.first, test.then, serve(`"v1"`, date)}
			var l *library
			l = newLibrary(t, func(w http.ResponseWriter, r *http.Request) { answers[min(l.times(), 3)-1](w, r) })
			got, there, err := fetch(t, fetcher(t, port(t, l.URL)), l.URL+"/x", Checksum{"sha512", sum512(content)})
			wantRefusal(t, err, test.says)
			if !bytes.Equal(there, content) || got.Size != int64(len(content)) {
				t.Errorf("got %d bytes of %d", len(there), len(content))
			}
			if n := l.times(); n != test.requestCount {
				t.Fatalf("asked %d times", n)
			}
			if asks, ifs := l.header(1, "Range"), l.header(1, "If-Range"); asks != test.asks || ifs != test.ifs {
				t.Errorf("asked for %q if %q", asks, ifs)
			}
		})
	}
}

func cutAfter(n int, header map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { cut(w, 200, header, len(content), content[:n]) }
}

// shifted answers with a part that nobody asked for.
func shifted(from int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content)))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(content[from:])
	}
}

// TestAConnectionThatIsCutForEver ends, and says why.
func TestAConnectionThatIsCutForEver(t *testing.T) {
	l := newLibrary(t, func(w http.ResponseWriter, r *http.Request) {
		from := 0
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err != nil {
			cut(w, 200, map[string]string{"ETag": `"v1"`}, len(content), content[:10])
		}
		about := fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content))
		cut(w, 206, map[string]string{"Content-Range": about}, len(content)-from, content[from:from+10])
	})
	_, there, err := fetch(t, fetcher(t, port(t, l.URL)), l.URL+"/x")
	wantRefusal(t, err, "could not be fetched: the connection was cut")
	if l.times() != 4 || !bytes.Equal(there, content[:40]) {
		t.Errorf("asked %d times for %d bytes", l.times(), len(there))
	}
}

// TestARestThatIsCut: only the answer with the rest tells how much there is, and has no
// length of its own.
func TestARestThatIsCut(t *testing.T) {
	const half = 300_000
	l := newLibrary(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		if from := 0; r.Header.Get("Range") != "" {
			if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content)))
			w.WriteHeader(http.StatusPartialContent)
			part := content[from:min(from+half, len(content))]
			_, _ = w.Write(part[:len(part)/2])
			_ = http.NewResponseController(w).Flush() // so it is sent in chunks, and seems whole
			_, _ = w.Write(part[len(part)/2:])
			return
		}
		_, _ = w.Write(content[:half])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	got, there, err := fetch(t, fetcher(t, port(t, l.URL)), l.URL+"/x")
	if err != nil || got.Size != int64(len(content)) || !bytes.Equal(there, content) || l.times() != 4 {
		t.Errorf("%d bytes of %d, asked %d times: %v", got.Size, len(content), l.times(), err)
	}
}

// TestAServerThatFallsSilent counts as a cut connection.
func TestAServerThatFallsSilent(t *testing.T) {
	l := newLibrary(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(content[:10])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	f := fetcher(t, port(t, l.URL))
	f.Silence = 20 * time.Millisecond
	_, _, err := fetch(t, f, l.URL+"/x")
	wantRefusal(t, err, "its server fell silent")
	if l.times() != 4 {
		t.Errorf("asked %d times", l.times())
	}
}

// TestAFetchThatIsCalledOff ends with what called it off.
func TestAFetchThatIsCalledOff(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	l := newLibrary(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(content[:10])
		_ = http.NewResponseController(w).Flush()
		cancel(io.ErrNoProgress)
		<-r.Context().Done()
	})
	file, err := os.Create(t.TempDir() + "/image")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if _, err = fetcher(t, port(t, l.URL)).Fetch(ctx, l.URL, file, nil, quiet); err != io.ErrNoProgress {
		t.Error(err)
	}
}

// TestProgressIsTold: the number of bytes that are there only grows.
func TestProgressIsTold(t *testing.T) {
	l := newLibrary(t, serve("", time.Time{}))
	file, err := os.Create(t.TempDir() + "/image")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var told []int64
	_, err = fetcher(t, port(t, l.URL)).Fetch(t.Context(), l.URL, file, nil, Watch{
		Copied: func(n int64) { told = append(told, n) }, Again: quiet.Again,
	})
	if err != nil || !slices.IsSorted(told) || len(told) < 2 || told[len(told)-1] != int64(len(content)) {
		t.Errorf("%v, %v", told, err)
	}
}
