package http

import (
	"maps"
	"slices"
	"testing"

	"github.com/anishathalye/porcupine"
)

// deed is what one request did to one message, saw what it was told.
type deed struct {
	what, message string
	claim         string // that the request named
	live          bool   // that claim is not over
	survivors     map[string]bool
}

type saw struct {
	status int
	claim  string
}

// oneMessage is the life of a message: not there yet, "free", "gone", or the claim
// that holds it.
var oneMessage = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := map[string][]porcupine.Operation{}
		for _, o := range history {
			id := o.Input.(deed).message
			parts[id] = append(parts[id], o)
		}
		return slices.Collect(maps.Values(parts))
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		return possible(state.(string), input.(deed), output.(saw))
	},
}

// possible tells whether what was seen is possible, and what the message is afterwards.
func possible(state string, d deed, s saw) (bool, any) {
	held := state != "" && state != "free" && state != "gone"
	if d.what == "post" {
		return state == "", "free"
	}
	if state == "" {
		return false, state
	}
	switch d.what {
	case "claim":
		return state == "free", s.claim
	case "pop":
		return state == "free", "gone"
	case "renew":
		return state == d.claim && s.status == 204, state
	case "release":
		return state == d.claim && s.status == 204, "free"
	case "expire":
		if held && !d.survivors[state] {
			return true, "free"
		}
		return true, state
	case "get":
		if state == "gone" {
			return s.status == 404, state
		}
		return s.status == 200 && held == (s.claim != "") && (!held || s.claim == state), state
	case "delete":
		switch {
		case state == "gone":
			return s.status == 204, state
		case d.claim == state, d.claim == "" && !held:
			return s.status == 204, "gone"
		case d.claim == "", d.live && held:
			return s.status == 403, state
		}
		return s.status == 400, state
	}
	return false, state
}

// TestBadHistoriesAreFound: the check of TestClaimers can fail.
func TestBadHistoriesAreFound(t *testing.T) {
	t.Parallel()
	type step struct {
		deed
		saw
		call, end int64
	}
	post := step{deed{"post", "m", "", false, nil}, saw{201, ""}, 0, 1}
	claim := func(id string, call, end int64) step {
		return step{deed{"claim", "m", "", false, nil}, saw{201, id}, call, end}
	}
	of := func(what, claim string, status int, call, end int64) step {
		return step{deed{what, "m", claim, true, nil}, saw{status, ""}, call, end}
	}
	tests := map[string]struct {
		steps []step
		good  bool
	}{
		"one claim after the other": {[]step{post, claim("c", 2, 3), of("release", "c", 204, 4, 5), claim("d", 6, 7)}, true},
		"released meanwhile":        {[]step{post, claim("c", 2, 3), of("release", "c", 204, 4, 8), claim("d", 5, 6)}, true},
		"in two live claims":        {[]step{post, claim("c", 2, 3), claim("d", 4, 5)}, false},
		"in two at the same time":   {[]step{post, claim("c", 2, 5), claim("d", 3, 4)}, false},
		"claimed, then released":    {[]step{post, claim("c", 2, 3), claim("d", 4, 5), of("release", "c", 204, 6, 7)}, false},
		"claimed after its end":     {[]step{post, claim("c", 2, 3), of("delete", "c", 204, 4, 5), claim("d", 6, 7)}, false},
		"popped out of a claim":     {[]step{post, claim("c", 2, 3), of("pop", "", 200, 4, 5)}, false},
		"refused to its holder":     {[]step{post, claim("c", 2, 3), of("delete", "c", 403, 4, 5)}, false},
		"lost":                      {[]step{post, of("get", "", 404, 2, 3)}, false},
		"claimed before it was":     {[]step{claim("c", 0, 1), {post.deed, post.saw, 2, 3}}, false},
	}
	for name, test := range tests {
		history := []porcupine.Operation{}
		for i, s := range test.steps {
			history = append(history, porcupine.Operation{ClientId: i, Input: s.deed, Output: s.saw, Call: s.call, Return: s.end})
		}
		if got := porcupine.CheckOperations(oneMessage, history); got != test.good {
			t.Errorf("%s is linearizable: %t", name, got)
		}
	}
}
