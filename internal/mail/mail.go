// Package mail hands mails to the operator's SMTP server, for subscribers that are
// mailto addresses. It connects to that server only.
package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	netmail "net/mail"
	"net/url"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// TLSMode says how the way to the SMTP server is protected.
type TLSMode string

// The modes.
const (
	StartTLS TLSMode = "starttls" // required; nothing is said without
	Implicit TLSMode = "tls"      // from the first byte on
	NoTLS    TLSMode = "none"     // for a server on this machine
)

// Config is where mails go.
type Config struct {
	Host           string // empty: no mail can be sent
	Port           int    // 0: the mode's usual one
	User, Password string // empty: none are given
	TLS            TLSMode
	RootCAs        *tls.Config   // nil: the system's certificates
	From           string        // the sender where a subscription names none
	Timeout        time.Duration // of a whole mail; 0: 10 s
}

// ErrAddress: the mail can never be sent, because of an address that it bears.
var ErrAddress = errors.New("no address to send mail to or from")

// ErrRefused: the SMTP server refuses the mail for good.
var ErrRefused = errors.New("the mail server refuses the mail")

// ErrLater: the SMTP server refuses the mail for now.
var ErrLater = errors.New("the mail server does not take the mail now")

// Mail is one mail of plain text.
type Mail struct {
	To            []string
	From, Subject string
	Text          string
	ID            string // of the Message-ID, without brackets; empty: none
	Header        map[string]string
}

// Address is what a mailto URI says.
type Address struct {
	To      []string
	Subject string
	// HasSubject: the URI has one, which may be empty.
	HasSubject bool
}

// ParseAddress reads a mailto URI: recipients separated by commas, and a subject. Other
// members are left alone: who subscribes an address must not add recipients or headers.
func ParseAddress(uri string) (Address, error) {
	u, err := url.Parse(uri)
	if err != nil || !strings.EqualFold(u.Scheme, "mailto") || u.Opaque == "" {
		return Address{}, fmt.Errorf("%w: %q is no mailto URI", ErrAddress, uri)
	}
	path, err := url.PathUnescape(u.Opaque)
	if err != nil {
		return Address{}, fmt.Errorf("%w: %q is no mailto URI", ErrAddress, uri)
	}
	var a Address
	for _, to := range strings.Split(path, ",") {
		parsed, err := netmail.ParseAddress(to)
		if err != nil || parsed.Name != "" {
			return Address{}, fmt.Errorf("%w: %q", ErrAddress, to)
		}
		a.To = append(a.To, parsed.Address)
	}
	// In a mailto URI a plus is a plus, not a space.
	query, _ := url.ParseQuery(strings.ReplaceAll(u.RawQuery, "+", "%2B"))
	for name, values := range query {
		if strings.EqualFold(name, "subject") {
			a.Subject, a.HasSubject = oneLine(values[0]), true
		}
	}
	return a, nil
}

// oneLine takes out what would begin another header.
func oneLine(text string) string {
	return strings.Map(func(char rune) rune {
		if char < ' ' || char == 0x7f {
			return ' '
		}
		return char
	}, text)
}

// Sender sends mails, each by a connection of its own.
type Sender struct {
	Config
}

// Configured tells whether there is a server to send mails to.
func (s *Sender) Configured() bool { return s.Host != "" }

// Server is the name and port of the SMTP server.
func (s *Sender) Server() string { return fmt.Sprintf("%s:%d", s.Host, s.Port) }

// Send hands one mail over. It fails with ErrAddress or ErrRefused where another try
// would be of no use, and with ErrLater where the server has answered that one may be.
func (s *Sender) Send(ctx context.Context, m Mail) error {
	timeout := s.Timeout
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	msg, err := s.message(m)
	if err != nil {
		return err
	}
	client, err := s.client(timeout)
	if err != nil {
		return fmt.Errorf("make the mail client: %w", err)
	}
	err = client.DialAndSendWithContext(ctx, msg)
	if refused, ok := errors.AsType[*gomail.SendError](err); ok {
		switch code := refused.ErrorCode(); {
		case code >= 500 && !refused.IsTemp():
			return fmt.Errorf("%w: %w", ErrRefused, err)
		case code >= 400:
			return fmt.Errorf("%w: %w", ErrLater, err)
		}
	}
	if err != nil {
		return fmt.Errorf("send mail: %w", err)
	}
	return nil
}

func (s *Sender) message(m Mail) (*gomail.Msg, error) {
	msg := gomail.NewMsg()
	from := m.From
	if from == "" {
		from = s.From
	}
	if err := msg.From(from); err != nil {
		return nil, fmt.Errorf("%w: from %q", ErrAddress, from)
	}
	if err := msg.To(m.To...); err != nil {
		return nil, fmt.Errorf("%w: to %q", ErrAddress, m.To)
	}
	msg.Subject(oneLine(m.Subject))
	msg.SetDate()
	if m.ID != "" {
		msg.SetMessageIDWithValue(m.ID)
	}
	for name, value := range m.Header {
		msg.SetGenHeader(gomail.Header(name), oneLine(value))
	}
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	return msg, nil
}

func (s *Sender) client(timeout time.Duration) (*gomail.Client, error) {
	options := []gomail.Option{gomail.WithTimeout(timeout), gomail.WithoutNoop()}
	switch s.TLS {
	case Implicit:
		options = append(options, gomail.WithSSLPort(false))
	case NoTLS:
		options = append(options, gomail.WithTLSPortPolicy(gomail.NoTLS))
	default:
		options = append(options, gomail.WithTLSPortPolicy(gomail.TLSMandatory))
	}
	if s.Port != 0 {
		options = append(options, gomail.WithPort(s.Port))
	}
	if s.User != "" {
		auth := gomail.SMTPAuthAutoDiscover
		if s.TLS == NoTLS {
			auth = gomail.SMTPAuthPlainNoEnc
		}
		options = append(options, gomail.WithSMTPAuth(auth), gomail.WithUsername(s.User), gomail.WithPassword(s.Password))
	}
	if s.RootCAs != nil {
		config := s.RootCAs.Clone()
		config.ServerName = s.Host
		options = append(options, gomail.WithTLSConfig(config))
	}
	return gomail.NewClient(s.Host, options...)
}
