package bench

import (
	"errors"
	"time"
)

// stamp is what a message's body tells: which connection sent it as its how many-th,
// and when it should have gone out.
type stamp struct {
	connection, number int
	sent               int64 // microseconds since 1970
}

// stampPlace is what a stamp is written over.
const stampPlace = "0000-0000000000-0000000000000000"

// The stamp's numbers in it.
const (
	connectionEnd = 4
	numberAt      = connectionEnd + 1
	numberEnd     = numberAt + 10
	sentAt        = numberEnd + 1
)

func (s stamp) write(place []byte) {
	number(place[:connectionEnd], s.connection)
	number(place[numberAt:numberEnd], s.number)
	number(place[sentAt:len(stampPlace)], int(s.sent))
}

// number writes a number over a place, with zeros in front.
func number(place []byte, n int) {
	for i := len(place) - 1; i >= 0; i-- {
		place[i] = byte('0' + n%10)
		n /= 10
	}
}

// readStamp reads a stamp, which may have something behind it.
func readStamp(text []byte) (s stamp, err error) {
	if len(text) < len(stampPlace) {
		return s, errNoStamp
	}
	for i := range stampPlace {
		isDigit := text[i] >= '0' && text[i] <= '9'
		if stampPlace[i] == '0' && !isDigit || stampPlace[i] == '-' && text[i] != '-' {
			return s, errNoStamp
		}
	}
	sent := readNumber(text[sentAt:len(stampPlace)])
	return stamp{readNumber(text[:connectionEnd]), readNumber(text[numberAt:numberEnd]), int64(sent)}, nil
}

var errNoStamp = errors.New("a body without the bench's stamp")

func readNumber(digits []byte) int {
	n := 0
	for _, c := range digits {
		n = n*10 + int(c-'0')
	}
	return n
}

// age is how long ago the message should have gone out.
func (s stamp) age(now time.Time) time.Duration {
	return time.Duration(now.UnixMicro()-s.sent) * time.Microsecond
}
