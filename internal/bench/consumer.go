package bench

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// consumer is one connection's claims, and what it does with what it gets.
type consumer struct {
	from   *supply // nil: whatever there is
	how    consuming
	topUp  *poster // posts as many as were deleted; nil: nobody does
	claims []byte  // the request
	single string  // the path of one message, up to its id
	many   string  // the path of several, up to their ids

	asked   asked  // what the request under way is
	request []byte // if it is no claim
	claimID []byte // of the last claim
	ids     []byte // of its messages, one behind the other
	waits   []time.Duration

	log        []handout // all that it was handed
	dealt      int       // how many of them it has dealt with
	behind     []int32   // the next number that each of the posters may have
	disordered int       // messages that came after a later one of the same poster
}

// consuming is what consumers do.
type consuming struct {
	limit  int // messages of a claim
	delete deleting
	// wait is how long a claim that finds nothing may wait for something, whole seconds; 0: it
	// is answered at once, and made again a moment later.
	wait int
	// timed is what is of interest: how long claims take, or how long messages had
	// waited when they were handed out.
	timed timed
}

type deleting int

const (
	deleteEach  deleting = iota // with a request for each message
	deleteByIDs                 // with a request for all of a claim
	deleteNothing
)

type timed int

const (
	timeClaims timed = iota
	timeWaits
)

type asked int

const (
	askedToClaim asked = iota
	askedToDelete
	askedToPost
)

// handout is a message that was handed out by a claim, and what became of it.
type handout struct {
	poster, number int32
	end            end
}

type end int8

const (
	kept    end = iota // it was not asked to be deleted
	deleted            // acknowledged
	unsure             // asked for, and not acknowledged
)

// claimTen is what most consumers do.
func claimTen(d deleting, t timed) consuming { return consuming{limit: 10, delete: d, timed: t} }

// claimBody: no claim ends while a bench runs, nor makes it a message live longer.
const claimBody = `{"ttl":1800,"grace":60}`

// addConsumer adds one to those that take messages from the first queue.
func (p *Posted) addConsumer(from *supply, how consuming) *consumer {
	path := "/v2/queues/" + p.queue(0)
	c := &consumer{
		from: from, how: how,
		claims: requestText("POST", fmt.Sprintf("%s/claims?limit=%d", path, how.limit), reader, claimBody),
		single: "DELETE " + path + "/messages/",
		many:   "DELETE " + path + "/messages?ids=",
	}
	if how.wait > 0 {
		c.claims = requestText("POST", fmt.Sprintf("%s/claims?limit=%d&wait=%d", path, how.limit, how.wait), reader, claimBody)
	}
	p.consumers = append(p.consumers, c)
	return c
}

func (c *consumer) next(from time.Time) []byte {
	pending := len(c.log) - c.dealt
	switch {
	case pending > 0 && c.how.delete == deleteByIDs:
		c.asked = askedToDelete
		return c.deletion(c.many, c.ids[len(c.ids)-pending*idLength:], ',')
	case pending > 0:
		c.asked = askedToDelete
		return c.deletion(c.single, c.ids[len(c.ids)-pending*idLength:][:idLength], 0)
	case c.topUp != nil && c.asked == askedToDelete:
		c.asked = askedToPost
		return c.topUp.next(from)
	case !c.from.take(c.how.limit):
		return nil
	}
	c.asked = askedToClaim
	return c.claims
}

// deletion is the request that deletes messages: several, or one with its claim.
func (c *consumer) deletion(path string, ids []byte, between byte) []byte {
	c.request = append(c.request[:0], path...)
	for i := 0; i < len(ids); i += idLength {
		if i > 0 {
			c.request = append(c.request, between)
		}
		c.request = append(c.request, ids[i:i+idLength]...)
	}
	if between == 0 {
		c.request = append(append(c.request, "?claim_id="...), c.claimID...)
	}
	return append(append(c.request, requestHeader(reader)...), "\r\n"...)
}

func (c *consumer) answered(r response, err error) (outcome, error) {
	switch c.asked {
	case askedToPost:
		came, err := c.topUp.answered(r, err)
		c.from.give(came.messages)
		return outcome{untimed: true}, err
	case askedToDelete:
		return c.answeredDeletion(r, err)
	}
	if err == nil && r.status == http.StatusNoContent {
		c.from.give(c.how.limit)
		return outcome{}, errNothing
	}
	if err := wanted(r, err, "POST claims", http.StatusCreated); err != nil {
		return outcome{}, err
	}
	handed, err := c.read(r.body)
	c.from.give(c.how.limit - handed)
	if c.how.delete == deleteNothing {
		c.dealt = len(c.log)
	}
	return outcome{untimed: c.how.timed == timeWaits, times: c.waits}, err
}

func (c *consumer) answeredDeletion(r response, err error) (outcome, error) {
	of := c.log[c.dealt:]
	if c.how.delete == deleteEach {
		of = of[:1]
	}
	c.dealt += len(of)
	became := deleted
	if err = wanted(r, err, "DELETE messages", http.StatusNoContent); err != nil {
		became = unsure
	}
	for i := range of {
		of[i].end = became
	}
	return outcome{messages: len(of), untimed: true}, err
}

var (
	messagesPart = []byte("/messages/")
	claimPart    = []byte("?claim_id=")
	stampPart    = []byte(`"n":"`)
)

// read takes the messages out of a claim's answer and tells how many there are. It
// relies on the order of an item's members: its href comes before its body.
func (c *consumer) read(body []byte) (messages int, err error) {
	now := time.Now()
	c.ids, c.waits = c.ids[:0], c.waits[:0]
	for {
		id, rest, found := after(body, messagesPart, idLength)
		if !found {
			break
		}
		claim, rest, claimed := after(rest, claimPart, idLength)
		text, rest, stamped := after(rest, stampPart, len(stampPlace))
		s, err := readStamp(text)
		if !claimed || !stamped || err != nil {
			return messages, errors.New("a claim's answer without claim ids or without the bench's bodies")
		}
		c.claimID = append(c.claimID[:0], claim...)
		c.ids = append(c.ids, id...)
		c.hand(s)
		if c.how.timed == timeWaits {
			c.waits = append(c.waits, s.age(now))
		}
		messages, body = messages+1, rest
	}
	if messages == 0 || messages > c.how.limit {
		return messages, fmt.Errorf("a claim of %d messages was answered with %d", c.how.limit, messages)
	}
	return messages, nil
}

// after is what follows the first occurrence of a part, and the rest.
func after(text, part []byte, length int) (found, rest []byte, ok bool) {
	at := bytes.Index(text, part)
	if at < 0 || len(text) < at+len(part)+length {
		return nil, nil, false
	}
	found = text[at+len(part):][:length]
	return found, text[at+len(part)+length:], true
}

// hand notes a message that was handed out.
func (c *consumer) hand(s stamp) {
	c.log = append(c.log, handout{poster: int32(s.connection), number: int32(s.number)})
	for len(c.behind) <= s.connection {
		c.behind = append(c.behind, 0)
	}
	if int32(s.number) < c.behind[s.connection] {
		c.disordered++
	}
	c.behind[s.connection] = max(c.behind[s.connection], int32(s.number)+1)
}
