package http

import (
	"cmp"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// microversion is a version of an API within its major version, such as 3.71.
type microversion struct{ major, minor int }

func (v microversion) String() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

func (v microversion) compare(other microversion) int {
	return cmp.Or(cmp.Compare(v.major, other.major), cmp.Compare(v.minor, other.minor))
}

// atLeast tells whether a minor version has been reached.
func (v microversion) atLeast(minor int) bool { return v.minor >= minor }

// headerMicroversion names the version that a client asks for, and the one that it got.
const headerMicroversion = "Openstack-Api-Version"

// The header's and an older one's name as they are written in Vary.
const varyMicroversion = "OpenStack-API-Version"

// microversions are the versions that an API serves, and how clients ask for one.
type microversions struct {
	service string // as the header has it: "volume", "compute"
	// older is a header that says the version alone, and counts if the other one is not
	// there; empty: there is none.
	older    string
	min, max microversion
}

// choose finds the version that a request is to be answered by, and tells it in the answer:
// the least one if the client asks for none, or for one of another service. An answer
// without a version goes with a header that cannot be read.
func (m microversions) choose(request, answer http.Header) (microversion, error) {
	answer.Add("Vary", varyMicroversion)
	if m.older != "" {
		answer.Add("Vary", m.older)
	}
	asked, given := m.asked(request)
	v := m.min
	if given && strings.EqualFold(asked, "latest") {
		v = m.max
	} else if given {
		parts := microversionForm.FindStringSubmatch(asked)
		if parts == nil {
			return v, namedFault(http.StatusBadRequest,
				"API Version String %s is of invalid format. Must be of format MajorNum.MinorNum.", asked)
		}
		v.major, _ = strconv.Atoi(parts[1]) // too large a number is out of bounds anyway
		v.minor, _ = strconv.Atoi(parts[2])
	}
	m.tell(answer, v)
	if v.compare(m.min) < 0 || v.compare(m.max) > 0 {
		return v, namedFault(http.StatusNotAcceptable,
			"Version %s is not supported by the API. Minimum is %v and maximum is %v.", cmp.Or(asked, v.String()), m.min, m.max)
	}
	return v, nil
}

// tell names the version in an answer.
func (m microversions) tell(answer http.Header, v microversion) {
	answer.Set(headerMicroversion, m.service+" "+v.String())
	if m.older != "" {
		answer.Set(m.older, v.String())
	}
}

var microversionForm = regexp.MustCompile(`^([1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})$`)

// asked is the version that a request names for the service: that of the first entry of the
// list which holds its name.
func (m microversions) asked(request http.Header) (version string, given bool) {
	for entry := range strings.SplitSeq(strings.Join(request[headerMicroversion], ","), ",") {
		if words := strings.Fields(entry); slices.Contains(words, m.service) {
			return readable(strings.Join(words[1:], " ")), true
		}
	}
	if m.older != "" {
		if version := strings.TrimSpace(request.Get(m.older)); version != "" {
			return readable(version), true
		}
	}
	return "", false
}
