package http

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/labstack/echo/v4"
)

// hostileVariable makes the siege a large one: each route gets everything that can be wrong
// with a request, and then so many requests with several wrong things at once.
const hostileVariable = "NABU_HOSTILE"

// everyNth of the wrong things a route gets in the small siege, each route others.
const everyNth = 4

// hostile is a request that means no good.
type hostile struct {
	method, target string
	host           string   // empty: x
	headers        []string // "Name: value"; a later one of a name stands beside the first
	body           string
	chunked        bool
}

// text is the request as it is sent.
func (h hostile) text() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s HTTP/1.1\r\nHost: %s\r\n", h.method, h.target, cmp.Or(h.host, "x"))
	for _, line := range h.headers {
		out.WriteString(line + "\r\n")
	}
	switch {
	case h.chunked && h.body != "":
		fmt.Fprintf(&out, "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(h.body), h.body)
	case h.chunked:
		out.WriteString("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	case h.body != "":
		fmt.Fprintf(&out, "Content-Length: %d\r\n\r\n%s", len(h.body), h.body)
	default:
		out.WriteString("\r\n")
	}
	return out.String()
}

// without is the request without its headers of a name.
func (h hostile) without(name string) hostile {
	h.headers = slices.DeleteFunc(slices.Clone(h.headers), func(line string) bool {
		its, _, _ := strings.Cut(line, ":")
		return strings.EqualFold(its, name)
	})
	return h
}

// with is the request with one more header.
func (h hostile) with(line string) hostile {
	h.headers = append(slices.Clone(h.headers), line)
	return h
}

// onlyWith is the request with a header in place of those of its name.
func (h hostile) onlyWith(line string) hostile {
	name, _, _ := strings.Cut(line, ":")
	return h.without(name).with(line)
}

// siege is a server under attack, and what has come of it.
type siege struct {
	*api
	city     *city
	path     string // of the route that the last request has found
	position int64  // of the ledger's end
	answers  *answersByRoute
}

// answersByRoute counts answers by API, route and status.
type answersByRoute struct {
	mu      sync.Mutex
	counts  map[string]map[int]int
	asked   int
	failed  int // 5xx
	leaking int
}

func (n *answersByRoute) count(route string, status int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.counts[route] == nil {
		n.counts[route] = map[int]int{}
	}
	n.counts[route][status]++
	n.asked++
	if status >= 500 {
		n.failed++
	}
}

func (n *answersByRoute) leak() {
	n.mu.Lock()
	n.leaking++
	n.mu.Unlock()
}

// String is a line for each route.
func (n *answersByRoute) String() string {
	var out strings.Builder
	for _, route := range slices.Sorted(maps.Keys(n.counts)) {
		all, statuses := 0, ""
		for _, status := range slices.Sorted(maps.Keys(n.counts[route])) {
			all += n.counts[route][status]
			statuses += fmt.Sprintf("  %d×%d", status, n.counts[route][status])
		}
		fmt.Fprintf(&out, "\n%-72s %6d %s", route, all, statuses)
	}
	fmt.Fprintf(&out, "\n%d requests, 5xx: %d, leaks: %d", n.asked, n.failed, n.leaking)
	return out.String()
}

// TestHostile sends each route of the router what its clients would never send. Nothing is
// answered as nabu's own failure or tells of the inside or of other projects, what is refused
// is refused in the words of its API, and changes nothing.
func TestHostile(t *testing.T) {
	if os.Getenv(replicasVariable) != "" {
		t.Skip("what is wrong with a request is seen by whoever gets it")
	}
	t.Parallel()
	answers := &answersByRoute{counts: map[string]map[int]int{}}
	t.Run("routes", func(t *testing.T) {
		for _, api := range []string{messagingAPI, ImageAPI, VolumeAPI, ComputeAPI} {
			t.Run(api, func(t *testing.T) {
				t.Parallel()
				newSiege(t, answers).attackAPI(api)
			})
		}
		t.Run("addresses", func(t *testing.T) {
			t.Parallel()
			newSiege(t, answers).attackAddresses()
		})
		t.Run("frames", func(t *testing.T) {
			t.Parallel()
			newSiege(t, answers).attackFrames()
		})
	})
	t.Log(answers)
	if answers.asked < 10_000 && !t.Failed() {
		t.Errorf("only %d requests were sent", answers.asked)
	}
}

// hostilePolicy lets members have tasks, so that the walls between projects are met and not
// the rule.
const hostilePolicy = `{"tasks_api_access": ""}`

func newSiege(t *testing.T, answers *answersByRoute) *siege {
	t.Helper()
	a := newAPI(t, withPolicy(t, hostilePolicy), func(cfg *Config) {
		cfg.Limits.MaxWait = 0
		cfg.Metrics = http.NotFoundHandler()
	})
	s := &siege{api: a, answers: answers}
	a.server.echo.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			s.path = c.Path()
			return next(c)
		}
	})
	s.city = newCity(a)
	s.head()
	return s
}

// attackAPI sends each route of an API everything that may be wrong with it.
func (s *siege) attackAPI(name string) {
	for _, table := range s.server.tables() {
		if table.api != name {
			continue
		}
		for i, r := range table.routes {
			route := r.method + " " + r.path
			proper, known := properRequests[route]
			if !known {
				s.Fatalf("%s has no proper request in the tests", route)
			}
			s.prepare(r.path)
			request := proper.request(r, s.city)
			if got := s.attack(name+" "+route, request); got.Code >= 400 && got.Code != proper.refused {
				s.Fatalf("%s: the proper request is refused: %d %s", route, got.Code, got.Body)
			}
			s.attackRoute(name+" "+route, r, proper, i)
		}
	}
}

func (s *siege) attackRoute(route string, r route, proper properRequest, number int) {
	changed := true
	send := func(wrong ...twist) {
		if changed {
			s.prepare(r.path)
		}
		request := proper.request(r, s.city)
		for _, its := range wrong {
			request = its(request)
		}
		got := s.attack(route, request)
		changed = got.Code < 400 && proper.consumes
	}
	all := proper.twists(r, s.city)
	more, large := s.large()
	for i, its := range all {
		if large || (i+number)%everyNth == 0 {
			send(its)
		}
	}
	random := rand.New(rand.NewPCG(uint64(number), 1))
	for range more {
		send(all[random.IntN(len(all))], all[random.IntN(len(all))], all[random.IntN(len(all))])
	}
}

// large tells whether the siege is a large one, and how many mixed requests a route gets then.
func (s *siege) large() (more int, large bool) {
	text := os.Getenv(hostileVariable)
	more, err := strconv.Atoi(cmp.Or(text, "0"))
	if err != nil {
		s.Fatalf("%s must be a number: %v", hostileVariable, err)
	}
	return more, text != ""
}

// attackAddresses sends every address that the router knows every method.
func (s *siege) attackAddresses() {
	addresses := map[string]bool{}
	for key := range s.server.rules {
		addresses[key.address] = true
	}
	changing := []string{"PUT", "POST", "PATCH", "DELETE"}
	for _, address := range slices.Sorted(maps.Keys(addresses)) {
		changed := true
		for _, method := range append([]string{"OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "X-" + strings.Repeat("X", 300)}, knownMethods...) {
			for _, body := range []string{"", "{}", "\xff"} {
				if changed {
					s.prepare(address)
				}
				target := s.city.path(strings.Replace(address, "*", "a/b", 1), s.city.own)
				got := s.attack("every address", hostile{method: method, target: target, headers: properHeaders, body: body})
				changed = got.Code < 300 && slices.Contains(changing, method)
			}
		}
	}
}

// breaking is a recorder that ends a stream when it has begun.
type breaking struct {
	*httptest.ResponseRecorder
	end func()
}

func (b *breaking) Flush() {
	b.ResponseRecorder.Flush()
	b.end()
}

// attack sends a request and looks at what comes back.
func (s *siege) attack(route string, h hostile) *httptest.ResponseRecorder {
	s.Helper()
	w := httptest.NewRecorder()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(h.text())))
	if err != nil { // net/http sends it away before nabu sees it
		w.Code = http.StatusBadRequest
		return w
	}
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	s.path = ""
	before := s.position
	s.server.Handler().ServeHTTP(&breaking{w, cancel}, r.WithContext(ctx))
	s.answers.count(route, w.Code)
	for _, wrong := range s.wrongWith(h, w) {
		s.Errorf("%s: %s\n%.600q\n%d %v\n%.1000s", route, wrong, h.text(), w.Code, w.Header(), w.Body)
	}
	if after := s.head(); w.Code >= 400 && after != before {
		s.Errorf("%s: %.600q was refused with %d, and %d events were recorded", route, h.text(), w.Code, after-before)
	}
	return w
}

// head is the last position of the ledger.
func (s *siege) head() int64 {
	s.Helper()
	if err := s.DB().QueryRowContext(s.Context(), `SELECT coalesce(max(position), 0) FROM events`).Scan(&s.position); err != nil {
		s.Fatal(err)
	}
	return s.position
}

// prepare makes what a path names anew.
func (s *siege) prepare(path string) {
	s.Helper()
	s.city.make(path)
	s.head()
}

// wrongWith is what is wrong with an answer.
func (s *siege) wrongWith(h hostile, w *httptest.ResponseRecorder) (wrong []string) {
	if w.Code >= 500 || w.Code < 200 {
		wrong = append(wrong, "the status is "+strconv.Itoa(w.Code)+"\n"+s.log.String())
	}
	if id := w.Header().Get(headerRequestID); !isPlainUUID(strings.TrimPrefix(id, requestIDPrefix)) {
		wrong = append(wrong, "the request has no name: "+id)
	}
	var all strings.Builder
	for name, values := range w.Header() {
		for _, value := range values {
			if all.WriteString(value + "\n"); strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				wrong = append(wrong, fmt.Sprintf("the header %s is %q", name, value))
			}
		}
	}
	all.Write(w.Body.Bytes())
	if told := s.city.tells(all.String(), h.text()); told != "" {
		s.answers.leak()
		wrong = append(wrong, "it tells of "+told)
	}
	if problem := s.badlySaid(h, w); problem != "" {
		wrong = append(wrong, problem)
	}
	return wrong
}

// badlySaid tells whether an answer is not in the form of its API.
func (s *siege) badlySaid(h hostile, w *httptest.ResponseRecorder) string {
	kind, body := w.Header().Get(headerContentType), w.Body.String()
	if strings.HasPrefix(kind, "application/json") && body != "" && !json.Valid(w.Body.Bytes()) {
		return "the body is no JSON"
	}
	if w.Code < 400 || s.path == "/metrics" {
		return ""
	}
	if !utf8.ValidString(body) {
		return "the body is no UTF-8"
	}
	form, known := map[*dialect]func(int, string, string) bool{zaqar: isZaqars, glance: isGlances, namedFaults: isNamed}[s.dialectOf(s.path)]
	if !known || !form(w.Code, kind, body) {
		return "the error is not in the form of its API, at " + s.path
	}
	return ""
}

func (s *siege) dialectOf(path string) *dialect {
	if its, other := s.server.dialects[path]; other {
		return its
	}
	return zaqar
}

func isZaqars(status int, kind, body string) bool {
	if status == http.StatusNotAcceptable {
		return body == ""
	}
	var p struct{ Title, Description string }
	return kind == "application/json" && json.Unmarshal([]byte(body), &p) == nil && p.Title != ""
}

func isGlances(status int, kind, body string) bool {
	begins := strconv.Itoa(status) + " "
	switch kind {
	case "application/json":
		var p struct{ Message, Code, Title string }
		return json.Unmarshal([]byte(body), &p) == nil && strings.HasPrefix(p.Code, begins) && p.Title != ""
	case "text/html; charset=UTF-8":
		return strings.HasPrefix(body, "<html>\n <head>\n  <title>"+begins) && !strings.Contains(body, "<script")
	}
	return kind == "text/plain; charset=UTF-8" && strings.HasPrefix(body, begins)
}

func isNamed(status int, kind, body string) bool {
	if kind == "text/plain; charset=UTF-8" {
		return status == http.StatusNotFound && strings.HasPrefix(body, "404 Not Found\n")
	}
	var p map[string]struct {
		Code    int
		Message string
	}
	if kind != "application/json" || json.Unmarshal([]byte(body), &p) != nil || len(p) != 1 {
		return false
	}
	its, named := p[faultName(status)]
	return named && its.Code == status && its.Message != ""
}

// inside is what an answer must not show of nabu. They are texts, since each answer is
// searched for all of them.
var inside = []string{
	"goroutine ", ".go:", "runtime error", "panic", "nil pointer", "SELECT ", "INSERT ", "SQLSTATE", "pq: ", "pgx", "violates", `relation "`,
	"*domain.", "domain.Err", "commands.", "projections.", "eventstore.", "*json.", "json: ", "*errors.", "*http.", "*url.", "strconv", `parse "`, "net/http", "encoding/",
	"unmarshal", "invalid character", "context canceled", "%!", "/root/", "/home/", "/tmp/", "/work",
}
