package eventstore

import (
	"bytes"

	"github.com/google/uuid"

	"nabu/domain"
)

// The events that there are most of are read without encoding/json, which takes eight times
// as long. Only the very text that encode writes for them is: members in their order, no
// space, no escapes. Whatever else stands in the ledger is left to decodeData, so this is
// a matter of speed alone.

// exact reads a text from its beginning to its end. Once something else than what is
// wanted was found, nothing more is read.
type exact struct {
	rest  []byte
	wrong bool
}

// skip passes over a text, if it comes next.
func (x *exact) skip(text string) bool {
	if x.wrong || len(x.rest) < len(text) || string(x.rest[:len(text)]) != text {
		return false
	}
	x.rest = x.rest[len(text):]
	return true
}

// want passes over a text, which must come next.
func (x *exact) want(text string) {
	if !x.skip(text) {
		x.wrong = true
	}
}

// done tells whether all was as wanted.
func (x *exact) done() bool { return !x.wrong && len(x.rest) == 0 }

// quoted is what stands between quotes: printable ASCII without escapes.
func (x *exact) quoted() []byte {
	x.want(`"`)
	if x.wrong {
		return nil
	}
	for i, char := range x.rest {
		switch {
		case char == '"':
			text := x.rest[:i]
			x.rest = x.rest[i+1:]
			return text
		case char == '\\' || char < ' ' || char > '~':
			x.wrong = true
			return nil
		}
	}
	x.wrong = true
	return nil
}

func (x *exact) text() string { return string(x.quoted()) }

// mostDigits is how many digits any int64 may have.
const mostDigits = 18

func (x *exact) number() (n int64) {
	digits := 0
	for digits < len(x.rest) && x.rest[digits] >= '0' && x.rest[digits] <= '9' {
		digits++
	}
	if digits == 0 || digits > mostDigits || digits > 1 && x.rest[0] == '0' {
		x.wrong = true
	}
	if x.wrong {
		return 0
	}
	for _, char := range x.rest[:digits] {
		n = 10*n + int64(char-'0')
	}
	x.rest = x.rest[digits:]
	return n
}

const uuidLength = 36

func (x *exact) id() uuid.UUID {
	text := x.quoted()
	id, err := uuid.ParseBytes(text)
	if err != nil || len(text) != uuidLength {
		x.wrong = true
	}
	return id
}

// queue reads what events of a queue begin with.
func (x *exact) queue() (project, name string, number int64) {
	x.want(`{"project":`)
	project = x.text()
	x.want(`,"queue":`)
	name = x.text()
	x.want(`,"number":`)
	return project, name, x.number()
}

// messages reads the messages that events of a queue end with, each by its own function.
func messages[M any](x *exact, one func(m *M)) []M {
	x.want(`,"messages":[`)
	list := make([]M, 0, bytes.Count(x.rest, []byte(`"id":`)))
	for !x.wrong {
		var m M
		x.want(`{"id":`)
		one(&m)
		x.want(`}`)
		list = append(list, m)
		if !x.skip(`,`) {
			break
		}
	}
	x.want(`]}`)
	return list
}

func exactPosted(data []byte) (e domain.MessagesPosted, ok bool) {
	x := exact{rest: data}
	e.Project, e.Queue, e.Number = x.queue()
	x.want(`,"client":`)
	e.Client = x.text()
	e.Messages = messages(&x, func(m *domain.PostedMessage) {
		m.ID = x.id()
		x.want(`,"ttl":`)
		m.TTL = int(x.number())
		if x.skip(`,"delay":`) {
			m.Delay = int(x.number())
		}
	})
	return e, x.done()
}

func exactClaimed(data []byte) (e domain.MessagesClaimed, ok bool) {
	x := exact{rest: data}
	e.Project, e.Queue, e.Number = x.queue()
	x.want(`,"claim":`)
	e.Claim = x.id()
	x.want(`,"ttl":`)
	e.TTL = int(x.number())
	x.want(`,"grace":`)
	e.Grace = int(x.number())
	e.Counted = x.skip(`,"counted":true`)
	e.Messages = messages(&x, func(m *domain.ClaimedMessage) {
		m.ID = x.id()
		x.want(`,"place":`)
		m.Place = domain.Place(x.number())
		m.Extended = x.skip(`,"extended":true`)
	})
	return e, x.done()
}

func exactDeleted(data []byte) (e domain.MessagesDeleted, ok bool) {
	x := exact{rest: data}
	e.Project, e.Queue, e.Number = x.queue()
	e.Messages = messages(&x, func(m *domain.DeletedMessage) {
		m.ID = x.id()
		x.want(`,"place":`)
		m.Place = domain.Place(x.number())
		if x.skip(`,"claim":`) {
			claim := x.id()
			m.Claim = &claim
		}
	})
	return e, x.done()
}
