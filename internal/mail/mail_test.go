package mail

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// server is a small SMTP server that keeps what it is told.
type server struct {
	net.Listener
	refuse map[string]string // what to answer instead, by the command's beginning
	mails  chan string
	auth   chan string
	tls    *tls.Config // nil: it cannot
	begin  bool        // TLS from the first byte on
}

func newServer(t *testing.T, refuse map[string]string) *server {
	t.Helper()
	return newProtectedServer(t, refuse, nil, false)
}

func newProtectedServer(t *testing.T, refuse map[string]string, certified *tls.Config, begin bool) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	s := &server{Listener: l, refuse: refuse, mails: make(chan string, 10), auth: make(chan string, 10), tls: certified, begin: begin}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s
}

func (s *server) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	if s.begin {
		c = tls.Server(c, s.tls)
	}
	say := func(text string) { _, _ = io.WriteString(c, text+"\r\n") }
	in := bufio.NewReader(c)
	say("220 here")
	for said := ""; ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		said += line + "\n"
		verb, rest, _ := strings.Cut(line, " ")
		refused := ""
		for begins, answer := range s.refuse {
			if strings.HasPrefix(line, begins) {
				refused = answer
			}
		}
		switch {
		case refused != "":
			say(refused)
		case verb == "EHLO" && s.tls != nil && !secure(c):
			say("250-here\r\n250 STARTTLS")
		case verb == "STARTTLS":
			say("220 go on")
			c = tls.Server(c, s.tls)
			in = bufio.NewReader(c)
			said = ""
		case verb == "EHLO":
			say("250-here\r\n250 AUTH PLAIN")
		case verb == "AUTH":
			s.auth <- rest
			say("235 welcome")
		case verb == "DATA":
			say("354 go on")
			for line != ".\r\n" {
				if line, err = in.ReadString('\n'); err != nil {
					return
				}
				said += line
			}
			s.mails <- said
			say("250 taken")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("250 yes")
		}
	}
}

func secure(c net.Conn) bool {
	_, is := c.(*tls.Conn)
	return is
}

func (s *server) sender() *Sender {
	addr := s.Addr().(*net.TCPAddr)
	return &Sender{Config{Host: "127.0.0.1", Port: addr.Port, TLS: NoTLS, From: "nabu@example.net", Timeout: 5 * time.Second}}
}

func TestAMailIsHandedOver(t *testing.T) {
	s := newServer(t, nil)
	sender := s.sender()
	sender.User, sender.Password = "me", "secret"
	err := sender.Send(t.Context(), Mail{
		To: []string{"who@example.net", "other@example.net"}, Subject: "two\r\nBcc: evil@example.net", Text: `{"body": "grün"}`,
		ID: "1@nabu", Header: map[string]string{"X-Nabu-Attempt": "2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	said := <-s.mails
	for _, want := range []string{
		"MAIL FROM:<nabu@example.net>", "RCPT TO:<who@example.net>", "RCPT TO:<other@example.net>",
		"Subject: two  Bcc: evil@example.net", "Message-ID: <1@nabu>", "X-Nabu-Attempt: 2", "Auto-Submitted: auto-generated",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is missing in\n%s", want, said)
		}
	}
	if strings.Contains(said, "\nBcc:") {
		t.Errorf("a header came in by the subject:\n%s", said)
	}
	plain := base64.StdEncoding.EncodeToString([]byte("\x00me\x00secret"))
	if auth := <-s.auth; auth != "PLAIN "+plain {
		t.Errorf("AUTH %s", auth)
	}
}

// TestWhatAnotherTryMayMend is told apart from what it may not.
func TestWhatAnotherTryMayMend(t *testing.T) {
	for name, c := range map[string]struct {
		refuse   map[string]string
		mail     Mail
		tls      TLSMode
		is, isnt error
	}{
		"no such recipient": {refuse: map[string]string{"RCPT": "550 unknown"}, is: ErrRefused},
		"come back later":   {refuse: map[string]string{"RCPT": "451 later"}, is: ErrLater, isnt: ErrRefused},
		"mailbox full":      {refuse: map[string]string{"RCPT": "452 full"}, is: ErrLater, isnt: ErrRefused},
		"bad sender":        {mail: Mail{From: "nobody"}, is: ErrAddress},
		"no TLS there":      {tls: StartTLS, isnt: ErrRefused},
		"no answer at all":  {refuse: map[string]string{"RCPT": "garbage"}, isnt: ErrLater},
	} {
		t.Run(name, func(t *testing.T) {
			sender := newServer(t, c.refuse).sender()
			if c.tls != "" {
				sender.TLS = c.tls
			}
			c.mail.To = []string{"who@example.net"}
			err := sender.Send(t.Context(), c.mail)
			if err == nil || c.is != nil && !errors.Is(err, c.is) || c.isnt != nil && errors.Is(err, c.isnt) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestTheWayIsProtected: by both kinds of TLS, and nothing is said to who cannot prove its
// name.
func TestTheWayIsProtected(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	for mode, begin := range map[TLSMode]bool{StartTLS: false, Implicit: true} {
		t.Run(string(mode), func(t *testing.T) {
			s := newProtectedServer(t, nil, server.TLS, begin)
			sender := s.sender()
			sender.TLS, sender.User, sender.Password = mode, "me", "secret"
			if err := sender.Send(t.Context(), Mail{To: []string{"who@example.net"}, Text: "x"}); err == nil || len(s.auth) > 0 || errors.Is(err, ErrRefused) {
				t.Errorf("a certificate of nobody: %v", err)
			}
			sender.RootCAs = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
			if err := sender.Send(t.Context(), Mail{To: []string{"who@example.net"}, Text: "x"}); err != nil {
				t.Fatal(err)
			}
			if said := <-s.mails; !strings.Contains(said, "RCPT TO:<who@example.net>") || len(s.auth) != 1 {
				t.Errorf("%s", said)
			}
		})
	}
}

func TestAServerThatIsSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s := &Sender{Config{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, TLS: NoTLS, From: "nabu@example.net", Timeout: 200 * time.Millisecond}}
	began := time.Now()
	if err := s.Send(t.Context(), Mail{To: []string{"who@example.net"}}); err == nil || time.Since(began) > 3*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

func TestMailtoURIs(t *testing.T) {
	for uri, want := range map[string]Address{
		"mailto:who@example.net":                          {To: []string{"who@example.net"}},
		"MAILTO:a@example.net,b@example.net":              {To: []string{"a@example.net", "b@example.net"}},
		"mailto:who@example.net?subject=":                 {To: []string{"who@example.net"}, HasSubject: true},
		"mailto:who@example.net?Subject=a+b%20c&cc=d@e.f": {To: []string{"who@example.net"}, Subject: "a+b c", HasSubject: true},
		"mailto:who%2Bx@example.net?subject=a%0D%0ABcc:x": {To: []string{"who+x@example.net"}, Subject: "a  Bcc:x", HasSubject: true},
	} {
		got, err := ParseAddress(uri)
		if err != nil || !slices.Equal(got.To, want.To) || got.Subject != want.Subject || got.HasSubject != want.HasSubject {
			t.Errorf("%s: %+v, %v", uri, got, err)
		}
	}
	for _, uri := range []string{"mailto:", "mailto:?subject=x", "mailto:nobody", "mailto:a@b.c,", "http://a@b.c", "mailto:a@b.c%0d%0aRCPT TO:<x@y.z>", "mailto:Who <a@b.c>"} {
		if got, err := ParseAddress(uri); !errors.Is(err, ErrAddress) {
			t.Errorf("%s: %+v, %v", uri, got, err)
		}
	}
}

// FuzzMailtoURIs: no recipient and no subject has what would be another line.
func FuzzMailtoURIs(f *testing.F) {
	f.Add("mailto:who@example.net?subject=a%0D%0Ab")
	f.Fuzz(func(t *testing.T, uri string) {
		a, err := ParseAddress(uri)
		if text := fmt.Sprint(a.To, a.Subject); err == nil && strings.ContainsAny(text, "\r\n") {
			t.Errorf("%q: %q", uri, text)
		}
	})
}
