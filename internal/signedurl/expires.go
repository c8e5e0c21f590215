package signedurl

import (
	"regexp"
	"strconv"
	"time"
)

// layout is how the end of a grant is written where it is signed: UTC, no zone.
const layout = "2006-01-02T15:04:05"

// FormatExpires writes the end of a grant as it is signed. What is left of its second is
// cut off.
func FormatExpires(at time.Time) string { return at.UTC().Format(layout) }

// moment is a date of ISO 8601 with as much of a time behind it as the writer liked.
var moment = regexp.MustCompile(`^(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?|(\d{2})(\d{2}))` +
	`(?:[ T](\d{2})(?::?(\d{2})(?::?(\d{1,2})(?:[.,]\d+)?)?)?(Z|([+-])(\d{2})(?::?(\d{2}))?)?)?$`)

// ParseExpires reads a moment as ISO 8601 writes it. Without a zone it is UTC; what is
// missing of the date is 1, and of the time 0. The fraction of a second is dropped. A bare
// number is none.
func ParseExpires(text string) (at time.Time, ok bool) {
	part := moment.FindStringSubmatch(text)
	if part == nil || text == part[1]+part[4]+part[5] {
		return time.Time{}, false
	}
	number := func(i, missing int) int {
		n, err := strconv.Atoi(part[i]) // digits, if there is something
		if err != nil {
			return missing
		}
		return n
	}
	year, month, day := number(1, 0), number(2, number(4, 1)), number(3, number(5, 1))
	hour, minute, second := number(6, 0), number(7, 0), number(8, 0)
	at = time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	if at.Month() != time.Month(month) || at.Day() != day || at.Hour() != hour || at.Minute() != minute || at.Second() != second {
		return time.Time{}, false // such as 31 February
	}
	hours, minutes := number(11, 0), number(12, 0)
	if hours > 23 || minutes > 59 {
		return time.Time{}, false
	}
	offset := time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
	if part[10] == "-" {
		offset = -offset
	}
	at = at.Add(-offset)
	return at, at.Year() >= 1 && at.Year() <= 9999
}
