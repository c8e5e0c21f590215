package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"nabu/domain"
	"nabu/eventstore"
)

// eventLine is an event as one line for people.
func eventLine(e eventstore.StoredEvent) string {
	who := e.Origin.Actor
	if who == "" {
		who = "-"
	}
	request, _, _ := strings.Cut(strings.TrimPrefix(e.Origin.RequestID, "req-"), "-") // enough to tell requests apart
	if request == "" {
		request = "-"
	}
	return oneLine(fmt.Sprintf("%8d  %s  %-26s  %s  by %s  req %s  %s", e.Position,
		e.RecordedAt.UTC().Format("2006-01-02 15:04:05.000000"), e.Type, e.Stream, who, request, eventText(e)))
}

// eventText is what an event says. One that this nabu does not know says its data.
func eventText(stored eventstore.StoredEvent) string {
	event, err := eventstore.Decode(stored.Type, stored.Data, stored.Bodies)
	if err != nil {
		return string(stored.Data)
	}
	switch e := event.(type) {
	case domain.QueueCreated:
		return e.Metadata.Text()
	case domain.QueueMetadataChanged:
		return e.Metadata.Text()
	case domain.MessagesPosted:
		return messagesText(stored.Bodies) + " from client " + e.Client
	case domain.MessagesClaimed:
		return fmt.Sprintf("claim %s for %d s of %s", e.Claim, e.TTL, idsText(e.Messages, claimedID))
	case domain.ClaimRenewed:
		return fmt.Sprintf("claim %s for %d s of %s", e.Claim, e.TTL, idsText(e.Messages, claimedID))
	case domain.ClaimReleased:
		return fmt.Sprintf("claim %s of %s", e.Claim, idsText(e.Messages, messageID))
	case domain.MessagesDeleted:
		return idsText(e.Messages, func(m domain.DeletedMessage) uuid.UUID { return m.ID })
	case domain.MessagesPopped:
		return idsText(e.Messages, messageID)
	case domain.MessagesMovedOut:
		return "to " + e.To + ": " + idsText(e.Messages, messageID)
	case domain.MessagesMovedIn:
		return "from " + e.From + ": " + idsText(e.Messages, func(m domain.MovedMessage) uuid.UUID { return m.ID })
	case domain.MessagesSwept:
		return sweptText(e)
	case domain.DeliveriesAttempted:
		return deliveriesText(e)
	}
	return cmp.Or(serverText(event), taskText(event), subscriptionText(event), userMessageText(event))
}

func claimedID(m domain.ClaimedMessage) uuid.UUID { return m.ID }

func messageID(m domain.MessageAt) uuid.UUID { return m.ID }

func messagesText(bodies []string) string {
	return count(len(bodies), "message") + ": " + strings.Join(bodies, ", ")
}

func idsText[M any](messages []M, id func(M) uuid.UUID) string {
	ids := make([]string, len(messages))
	for i, m := range messages {
		ids[i] = id(m).String()
	}
	return messagesText(ids)
}

// deliveriesText is what each attempt has led to.
func deliveriesText(e domain.DeliveriesAttempted) string {
	if len(e.Attempts) == 0 {
		return fmt.Sprintf("nothing to deliver up to place %d", e.Cursor)
	}
	parts := make([]string, len(e.Attempts))
	for i, a := range e.Attempts {
		parts[i] = attemptText(a)
	}
	return strings.Join(parts, "; ")
}

// onlyOf is what an event says of one message: a report on deliveries tells of many.
func onlyOf(message domain.MessageID, e eventstore.StoredEvent) eventstore.StoredEvent {
	event, err := eventstore.Decode(e.Type, e.Data, e.Bodies)
	attempted, isReport := event.(domain.DeliveriesAttempted)
	if err != nil || !isReport {
		return e
	}
	attempted.Attempts = slices.DeleteFunc(attempted.Attempts, func(a domain.DeliveryAttempt) bool { return a.Message != message })
	if data, err := json.Marshal(attempted); err == nil {
		e.Data = data
	}
	return e
}

func attemptText(a domain.DeliveryAttempt) string {
	what := a.Message.String()
	if a.Owes != "" {
		what = "the question to " + string(a.Owes)
	}
	text := what + " " + string(a.Outcome)
	if a.Number > 0 && !a.Started.IsZero() {
		text += fmt.Sprintf(", attempt %d at %s took %d ms", a.Number, a.Started.UTC().Format("15:04:05.000"), a.Took)
	}
	if a.Status > 0 {
		text += fmt.Sprintf(", status %d", a.Status)
	}
	if a.Error != "" {
		text += ", " + a.Error
	}
	if !a.Due.IsZero() {
		text += ", due " + a.Due.UTC().Format("15:04:05.000")
	}
	return text
}

func sweptText(e domain.MessagesSwept) string {
	var parts []string
	if n := len(e.Expired); n > 0 {
		parts = append(parts, fmt.Sprintf("what has expired in %s of places", count(n, "range")))
	}
	if e.Upto > 0 {
		parts = append(parts, fmt.Sprintf("all up to place %d", e.Upto))
	}
	if n := len(e.Claims); n > 0 {
		parts = append(parts, count(n, "claim"))
	}
	if e.Counted > 0 {
		parts = append(parts, fmt.Sprintf("counted up to place %d", e.Counted))
	}
	if e.Over {
		parts = append(parts, "nothing is left")
	}
	return strings.Join(parts, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// oneLine leaves out what would break a line or steer a terminal: clients choose many of
// these texts.
func oneLine(text string) string {
	return strings.Map(func(char rune) rune {
		if !unicode.IsPrint(char) {
			return ' '
		}
		return char
	}, text)
}

// cutTo shortens a line to so many characters; 0: it does not.
func cutTo(width int, line string) string {
	if width == 0 {
		return line
	}
	chars := []rune(line)
	if len(chars) <= width {
		return line
	}
	return string(chars[:width-1]) + "…"
}

// terminalWidth is how many characters a line of a terminal has; 0: it is none.
func terminalWidth(out io.Writer) int {
	f, isFile := out.(*os.File)
	if !isFile {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}
