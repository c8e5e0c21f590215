package imaging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"nabu/internal/outbound"
)

// Bounds of a fetch that nobody has to choose.
const (
	maxRedirects  = 5
	dialPatience  = 10 * time.Second
	headPatience  = 30 * time.Second // for an answer's head
	maxRetryAfter = time.Minute
	maxHead       = 64 << 10 // bytes of an answer's head
)

// Fetcher gets images from the web. It is safe for concurrent use.
type Fetcher struct {
	Filter *outbound.Filter
	// MaxBytes is the greatest size of an image.
	MaxBytes int64
	// Tries is how often one image is asked for, the first time included.
	Tries int
	// Silence is how long a server may send nothing before the connection counts as cut.
	Silence time.Duration
	// FirstDelay is the time before the second try; it doubles with each one.
	FirstDelay time.Duration
}

// Fetched is what was got.
type Fetched struct {
	Size   int64
	SHA512 string // hexadecimal
}

// Watch is told how a fetch goes on.
type Watch struct {
	Copied func(bytes int64)                    // that there are
	Again  func(why error, after time.Duration) // it is tried
}

// Fetch gets an image into an empty file, verifies its checksums, and tells on the way how it goes
// on. Where a connection is cut it goes on behind the last byte, if the
// server lets it. What it fails with is a Refusal when the cause lies outside.
func (f *Fetcher) Fetch(ctx context.Context, from string, to *os.File, wanted []Checksum, watch Watch) (Fetched, error) {
	for _, c := range wanted {
		if err := c.check(); err != nil {
			return Fetched{}, err
		}
	}
	u, err := url.Parse(from)
	if err != nil {
		return Fetched{}, Refusef("import_from is no URL that can be read.")
	}
	if err := f.Filter.CheckURL(u); err != nil {
		return Fetched{}, doesNotPass(u, err)
	}
	d := &download{Fetcher: f, from: u, to: to, sums: newSums(wanted), copied: watch.Copied, total: -1}
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval, delays.MaxInterval, delays.Multiplier = f.FirstDelay, time.Minute, 2
	_, err = backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, d.try(ctx) },
		backoff.WithBackOff(delays), backoff.WithMaxTries(uint(f.Tries)), backoff.WithMaxElapsedTime(0), backoff.WithNotify(watch.Again))
	if ctx.Err() != nil {
		return Fetched{}, context.Cause(ctx)
	}
	if failed, cut := errors.AsType[*outside](err); cut {
		return Fetched{}, because(Refusef("The image could not be fetched: %s.", failed.text), failed.cause)
	}
	if err != nil {
		return Fetched{}, err
	}
	if d.size == 0 {
		return Fetched{}, Refusef("The image is empty.")
	}
	if err := d.sums.verify(wanted); err != nil {
		return Fetched{}, err
	}
	return Fetched{Size: d.size, SHA512: d.sums.value("sha512")}, nil
}

// doesNotPass is Glance's text, but for a password.
func doesNotPass(from *url.URL, why error) error {
	return because(Refusef("URI for legacy import task does not pass filtering: %s", told(from)), why)
}

// told is a URL as its user reads it: without a password, and not longer than a task's message
// can be.
func told(u *url.URL) string {
	const most = 2000
	text := []rune(u.Redacted())
	if len(text) > most {
		text = append(text[:most], '…')
	}
	return string(text)
}

// outside is a failure that another try may mend.
type outside struct {
	text  string
	cause error // nil: the text is all
}

func (o *outside) Error() string { return o.text }

// download is one image on its way.
type download struct {
	*Fetcher
	from   *url.URL
	to     *os.File
	sums   sums
	copied func(int64)

	size      int64  // bytes that are there
	total     int64  // bytes that there will be; -1: unknown
	validator string // names this very content for If-Range; empty: nothing does
}

// try makes one request for what is missing. What it fails with for good is permanent.
func (d *download) try(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	header := http.Header{"User-Agent": {"nabu"}, "Accept-Encoding": {"identity"}}
	if d.size > 0 && d.validator != "" {
		header.Set("Range", fmt.Sprintf("bytes=%d-", d.size))
		header.Set("If-Range", d.validator)
	}
	answer, err := d.open(ctx, header)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if err := d.begin(answer); err != nil {
		return err
	}
	silence := time.AfterFunc(d.Silence, func() { cancel(&outside{text: "its server fell silent"}) })
	defer silence.Stop()
	return d.read(ctx, answer.Body, silence)
}

// begin decides by the answer's head whether it goes on or starts anew.
func (d *download) begin(answer *http.Response) error {
	switch answer.StatusCode {
	case http.StatusPartialContent:
		if whole, is := goesOn(answer.Header.Get("Content-Range"), d.size, d.total); is && d.size > 0 {
			d.total = whole // the first answer may not have said it
			return nil
		}
		d.validator = "" // it does not do what it says
		return &outside{text: "its server answered with other bytes than it was asked for"}
	case http.StatusOK:
		return d.restart(answer)
	case http.StatusRequestedRangeNotSatisfiable:
		d.validator = ""
	}
	return refusedStatus(answer)
}

// restart takes an answer that begins with the first byte.
func (d *download) restart(answer *http.Response) error {
	if answer.ContentLength > d.MaxBytes {
		return backoff.Permanent(tooBig(d.MaxBytes))
	}
	if err := d.to.Truncate(0); err != nil {
		return backoff.Permanent(fmt.Errorf("empty the file of a download: %w", err))
	}
	if _, err := d.to.Seek(0, io.SeekStart); err != nil {
		return backoff.Permanent(fmt.Errorf("go to the beginning of a download: %w", err))
	}
	d.sums.reset()
	d.size, d.total, d.validator = 0, answer.ContentLength, validatorOf(answer.Header)
	return nil
}

// validatorOf is what names the content byte for byte: a strong ETag, else its date.
func validatorOf(header http.Header) string {
	if tag := header.Get("ETag"); strings.HasPrefix(tag, `"`) {
		return tag
	}
	return header.Get("Last-Modified")
}

// goesOn tells whether a Content-Range begins where the file ends, and is of the same content,
// and how many bytes that has.
func goesOn(contentRange string, from, total int64) (whole int64, is bool) {
	var first, last int64
	if n, err := fmt.Sscanf(contentRange, "bytes %d-%d/%d", &first, &last, &whole); err != nil || n != 3 {
		return 0, false
	}
	return whole, first == from && last == whole-1 && (total < 0 || whole == total)
}

func tooBig(most int64) error {
	return Refusef("The image is bigger than the %s that are allowed.", bytesText(most))
}

// bytesText is a number of bytes in the greatest unit that divides it.
func bytesText(n int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; n >= 1024 && n%1024 == 0 && i < len(units)-1; i++ {
		n /= 1024
	}
	return fmt.Sprintf("%d %s", n, units[i])
}

// refusedStatus is what it means that there is no image in the answer.
func refusedStatus(answer *http.Response) error {
	text := "its server answered " + strings.TrimSpace(fmt.Sprintf("%d %s", answer.StatusCode, http.StatusText(answer.StatusCode)))
	switch status := answer.StatusCode; {
	case status == http.StatusTooManyRequests, status >= 500:
		seconds := answer.Header.Get("Retry-After")
		if after, err := time.ParseDuration(seconds + "s"); err == nil && after > 0 {
			return &waiting{outside{text: text}, backoff.RetryAfterError{Duration: min(after, maxRetryAfter)}}
		}
		return &outside{text: text}
	case status == http.StatusRequestTimeout, status == http.StatusRequestedRangeNotSatisfiable:
		return &outside{text: text}
	}
	return backoff.Permanent(Refusef("The image could not be fetched: %s.", text))
}

// waiting is an outside failure that says when to come back.
type waiting struct {
	outside
	after backoff.RetryAfterError
}

func (w *waiting) Unwrap() []error { return []error{&w.outside, &w.after} }

// read copies to the end, or as far as the connection leads.
func (d *download) read(ctx context.Context, body io.Reader, silence *time.Timer) error {
	into := d.sums.to(d.to)
	buffer := make([]byte, 256<<10)
	for {
		n, err := body.Read(buffer)
		silence.Reset(d.Silence)
		if d.size+int64(n) > d.MaxBytes {
			return backoff.Permanent(tooBig(d.MaxBytes))
		}
		if _, writing := into.Write(buffer[:n]); writing != nil {
			return backoff.Permanent(fmt.Errorf("write a download: %w", writing))
		}
		d.size += int64(n)
		d.copied(d.size)
		switch {
		case err == io.EOF && d.total >= 0 && d.size < d.total, err != nil && err != io.EOF:
			if silent, ok := errors.AsType[*outside](context.Cause(ctx)); ok {
				return silent
			}
			return &outside{"the connection was cut", err}
		case err == io.EOF:
			return nil
		}
	}
}

// open follows redirects to an answer. Each hop has a transport of its own: a connection that
// one hop was allowed must not serve another.
func (d *download) open(ctx context.Context, header http.Header) (*http.Response, error) {
	to, private := d.from, true
	for range maxRedirects + 1 {
		answer, from, err := d.get(ctx, to, header, private)
		if err != nil {
			return nil, d.failed(err, to)
		}
		next, again := redirect(answer, to)
		if !again {
			return answer, nil
		}
		_ = answer.Body.Close()
		if next == nil {
			return nil, backoff.Permanent(d.misled(errors.New("its Location cannot be read")))
		}
		if err := d.Filter.CheckURL(next); err != nil {
			return nil, backoff.Permanent(d.misled(err))
		}
		// Whoever is outside does not send nabu around inside.
		private = private && from.IsPrivate()
		to = next
	}
	return nil, backoff.Permanent(Refusef("The image could not be fetched: redirected more than %d times.", maxRedirects))
}

// misled: the text does not tell where a redirect leads, which may be a secret of its server.
// The log does.
func (d *download) misled(why error) error {
	return because(Refusef("URI for legacy import task does not pass filtering: %s is redirected to where nothing may be fetched from", told(d.from)), why)
}

// get makes one request, and tells which address answers.
func (d *download) get(ctx context.Context, to *url.URL, header http.Header, private bool) (*http.Response, netip.Addr, error) {
	guard := d.Filter.Guard(to.Hostname(), private)
	dialer := &net.Dialer{Timeout: dialPatience, Control: guard.Control, Resolver: d.Filter.Resolver}
	transport := &http.Transport{
		Proxy:             nil, // one from the environment would dial in our place, unguarded
		DialContext:       dialer.DialContext,
		DisableKeepAlives: true, DisableCompression: true,
		TLSHandshakeTimeout: dialPatience, ResponseHeaderTimeout: headPatience, MaxResponseHeaderBytes: maxHead,
	}
	var from netip.Addr
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		if peer, err := netip.ParseAddrPort(got.Conn.RemoteAddr().String()); err == nil {
			from = peer.Addr().Unmap()
		}
	}})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, to.String(), nil)
	if err != nil {
		return nil, from, fmt.Errorf("%w: %s", outbound.ErrRefused, to.Redacted())
	}
	request.Header = header.Clone()
	if user := to.User; user != nil {
		password, _ := user.Password()
		request.SetBasicAuth(user.Username(), password)
	}
	// A client would read where a redirect leads before anybody could refuse it.
	answer, err := transport.RoundTrip(request)
	return answer, from, err
}

// redirect is where an answer sends its reader on to; nil: nowhere that can be read.
func redirect(answer *http.Response, from *url.URL) (next *url.URL, again bool) {
	switch answer.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, false
	}
	location := answer.Header.Get("Location")
	if location == "" { // it would lead to itself
		return nil, false
	}
	next, err := from.Parse(location)
	if err != nil {
		return nil, true
	}
	return next, true
}

// failed is what it means that there was no answer.
func (d *download) failed(err error, to *url.URL) error {
	if errors.Is(err, outbound.ErrRefused) {
		if to == d.from {
			return backoff.Permanent(doesNotPass(d.from, err))
		}
		return backoff.Permanent(d.misled(err))
	}
	if _, unknown := errors.AsType[*net.DNSError](err); unknown {
		return &outside{"its host has no address", err}
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return &outside{"its server did not answer in time", err}
	}
	return &outside{"its server could not be reached", err}
}
