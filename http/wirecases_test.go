package http

import (
	"fmt"
	"strings"
)

const (
	wireHead    = "Host: x\r\nClient-ID: " + ours + "\r\nX-Project-Id: " + mine + "\r\n"
	wireMessage = `{"messages": [{"body": "wire"}]}`
)

// asks is a request without a body. Its lines are headers besides the usual ones.
func asks(line string, lines ...string) string {
	return line + "\r\n" + wireHead + strings.Join(append(lines, ""), "\r\n") + "\r\n"
}

// posts is a request to post a message, with headers besides the usual ones, and a body.
func posts(body string, lines ...string) string {
	return asks("POST /v2/queues/q/messages HTTP/1.1", lines...) + body
}

func lengthOf(body string) string { return fmt.Sprintf("Content-Length: %d", len(body)) }

const (
	getOwn  = "GET /v2/queues/own HTTP/1.1"
	chunked = "Transfer-Encoding: chunked"
)

// smuggled is a request that hides behind another.
var smuggled = asks("PUT /v2/queues/smuggled HTTP/1.1", "Content-Length: 0")

// chunk is a chunk of a body.
func chunk(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }

// wireCases are those of requests, by what is wrong.
func wireCases() map[string]map[string]wireCase {
	return map[string]map[string]wireCase{
		"lines":    lineCases(),
		"targets":  targetCases(),
		"headers":  headerCases(),
		"bodies":   bodyCases(),
		"hidden":   hiddenCases(),
		"chunks":   chunkCases(),
		"pipes":    pipeCases(),
		"upgrades": upgradeCases(),
	}
}

// one is a case of a GET with another line.
func one(line string, status int, then after) wireCase {
	return wireCase{asks(line), []int{status}, then, 0}
}

func lineCases() map[string]wireCase {
	return map[string]wireCase{
		"a proper one":        one(getOwn, 200, goesOn),
		"nothing":             {"", nil, waits, 0},
		"an empty line":       {"\r\n", []int{400}, closes, 0},
		"empty lines first":   {"\r\n\r\n" + asks(getOwn), []int{400}, closes, 0},
		"one word":            one("GET", 400, closes),
		"HTTP/0.9":            {"GET /v2/queues/own\r\n", []int{400}, closes, 0},
		"HTTP/0.9 by version": one("GET /v2/queues/own HTTP/0.9", 505, closes),
		"HTTP/1.2":            one("GET /v2/queues/own HTTP/1.2", 200, goesOn),
		"HTTP/2.0":            one("GET /v2/queues/own HTTP/2.0", 505, closes),
		"HTTP/11":             one("GET /v2/queues/own HTTP/11", 400, closes),
		"HTTP/1.10":           one("GET /v2/queues/own HTTP/1.10", 400, closes),
		"http/1.1":            one("GET /v2/queues/own http/1.1", 400, closes),
		"HTTP/-1.1":           one("GET /v2/queues/own HTTP/-1.1", 400, closes),
		"another protocol":    one("GET /v2/queues/own ICY/1.1", 400, closes),
		"words after":         one(getOwn+" x", 400, closes),
		"a space after":       one(getOwn+" ", 400, closes),
		"two spaces":          one("GET  /v2/queues/own HTTP/1.1", 400, closes),
		"tabs":                one("GET\t/v2/queues/own\tHTTP/1.1", 400, closes),
		"a space first":       one(" GET /v2/queues/own HTTP/1.1", 400, closes),
		"bare LF":             {strings.ReplaceAll(asks(getOwn), "\r\n", "\n"), []int{200}, goesOn, 0},
		"bare CR":             {strings.ReplaceAll(asks(getOwn), "\r\n", "\r") + "\n", []int{400}, waits, 0},
		"a method of letters": one("get /v2/queues/own HTTP/1.1", 405, goesOn),
		"a bad method":        one("G(T /v2/queues/own HTTP/1.1", 400, closes),
		"a long method":       one(strings.Repeat("M", 5000)+" /v2/queues/own HTTP/1.1", 405, goesOn),
		"an HTTP/2 preface":   {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", []int{404}, closes, 0},
		"a TLS hello":         {tlsHello(), []int{400}, waits, 0},
		"binary":              {strings.Repeat("\x00\xff\n", 100), []int{400}, closes, 0},
		"SMTP":                {"EHLO x\r\n", []int{400}, closes, 0},
		"a PROXY line":        {"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n" + asks(getOwn), []int{400}, closes, 0},
	}
}

func targetCases() map[string]wireCase {
	return map[string]wireCase{
		"a space in the path": one("GET /v2/queues/o wn HTTP/1.1", 400, closes),
		"NUL":                 one("GET /v2/queues/\x00own HTTP/1.1", 400, closes),
		"a control byte":      one("GET /v2/queues/\x1bown HTTP/1.1", 400, closes),
		"DEL":                 one("GET /v2/queues/\x7fown HTTP/1.1", 400, closes),
		"no UTF-8":            one("GET /v2/queues/\xff\xfe HTTP/1.1", 400, goesOn),
		"escaped NUL":         one("GET /v2/queues/%00 HTTP/1.1", 400, goesOn),
		"escaped no UTF-8":    one("GET /v2/queues/%ff HTTP/1.1", 400, goesOn),
		"escaped surrogates":  one("GET /v2/queues/%ed%a0%80 HTTP/1.1", 400, goesOn),
		"escaped newline":     one("GET /v2/queues/own%0d%0aX:%20y HTTP/1.1", 400, goesOn),
		"a bad escape":        one("GET /v2/queues/%zz HTTP/1.1", 400, closes),
		"half an escape":      one("GET /v2/queues/own% HTTP/1.1", 400, closes),
		"a bad query":         one("GET /v2/queues?marker=%zz&limit=%&%=1;2 HTTP/1.1", 400, goesOn),
		"no UTF-8 asked":      one("GET /v2/queues?marker=%ff%fe\xff HTTP/1.1", 200, goesOn),
		"NUL asked":           one("GET /v2/queues?marker=%00 HTTP/1.1", 200, goesOn),
		"dots":                one("GET /v2/queues/../queues/own HTTP/1.1", 404, goesOn),
		"escaped dots":        one("GET /v2/queues/%2e%2e/queues/own HTTP/1.1", 404, goesOn),
		"two slashes":         one("GET //v2//queues//own HTTP/1.1", 404, goesOn),
		"an escaped slash":    one("GET /v2/queues%2Fown HTTP/1.1", 404, goesOn),
		"a backslash":         one(`GET /v2\queues\own HTTP/1.1`, 404, goesOn),
		"needless escapes":    one("GET /%76%32/queues/%6fwn HTTP/1.1", 200, goesOn),
		"a fragment":          one("GET /v2/queues/own#x HTTP/1.1", 400, goesOn),
		"no path":             one("GET ?x HTTP/1.1", 400, closes),
		"a path without root": one("GET v2/queues/own HTTP/1.1", 400, closes),
		"an asterisk":         one("GET * HTTP/1.1", 404, goesOn),
		"OPTIONS *":           one("OPTIONS * HTTP/1.1", 404, goesOn),
		"TRACE":               one("TRACE /v2/queues/own HTTP/1.1", 405, goesOn),
		"TRACE nothing":       one("TRACE / HTTP/1.1", 405, goesOn),
		"a whole URL":         one("GET http://other.example/v2/queues/own HTTP/1.1", 200, goesOn),
		"a URL of a file":     one("GET file:///v2/queues/own HTTP/1.1", 200, goesOn),
		"a URL without path":  one("GET http://x HTTP/1.1", 404, goesOn),
		"a URL without host":  one("GET http:///v2/queues/own HTTP/1.1", 200, goesOn),
		"a URL with a user":   one("GET http://a:b@x/v2/queues/own HTTP/1.1", 200, goesOn),
		"a URL of letters":    one("GET http:v2/queues/own HTTP/1.1", 404, goesOn),
		"a bad URL":           one("GET http://[::1/v2 HTTP/1.1", 400, closes),
		"an authority":        one("GET x:80 HTTP/1.1", 404, goesOn),
		"CONNECT":             one("CONNECT x:80 HTTP/1.1", 404, goesOn),
		"CONNECT a path":      one("CONNECT /v2/queues/own HTTP/1.1", 405, goesOn),
		"CONNECT nothing":     one("CONNECT  HTTP/1.1", 404, goesOn),
		"a long path":         one("GET /v2/queues/"+strings.Repeat("q", 60_000)+" HTTP/1.1", 400, goesOn),
		"a longer path":       one("GET /v2/queues/"+strings.Repeat("q", 100_000)+" HTTP/1.1", 431, closes),
		"a long query":        one("GET /v2/queues?marker="+strings.Repeat("q", 60_000)+" HTTP/1.1", 200, goesOn),
		"many parameters":     one("GET /v2/queues?"+strings.Repeat("a=b&", 15_000)+" HTTP/1.1", 200, goesOn),
		"many slashes":        one("GET "+strings.Repeat("/", 60_000)+" HTTP/1.1", 404, goesOn),
	}
}

func headerCases() map[string]wireCase {
	with := func(line string, status int, then after) wireCase {
		return wireCase{asks(getOwn, line), []int{status}, then, 0}
	}
	hosted := func(hosts ...string) string {
		return strings.Replace(asks(getOwn), "Host: x\r\n", strings.Join(append(hosts, ""), "\r\n"), 1)
	}
	return map[string]wireCase{
		"a folded line":          with("X-A: b\r\n c", 200, goesOn),
		"a folded project":       {"GET /v2/queues/own HTTP/1.1\r\nHost: x\r\nClient-ID: " + ours + "\r\nX-Project-Id:\r\n " + others + "x\r\n\r\n", []int{200}, goesOn, 0},
		"a fold first":           {getOwn + "\r\n X-A: b\r\n" + wireHead + "\r\n", []int{400}, closes, 0},
		"a space in a name":      with("X-A : b", 400, closes),
		"a name of nothing":      with(": b", 400, closes),
		"no colon":               with("X-A", 400, closes),
		"a bad name":             with("X(A): b", 400, closes),
		"a name that is no text": with("X-\xff: b", 400, closes),
		"NUL in a name":          with("X-\x00A: b", 400, closes),
		"NUL":                    with("X-A: \x00", 400, closes),
		"a bare CR":              with("X-A: a\rX-Project-Id: "+others, 400, closes),
		"a control byte":         with("X-A: \x01", 400, closes),
		"DEL":                    with("X-A: \x7f", 400, closes),
		"bytes":                  with("X-A: \xff\xfe", 200, goesOn),
		"a user of bytes":        with("X-User-Id: \xff", 400, goesOn),
		"an underscore":          with("X_Project_Id: "+others, 200, goesOn),
		"two projects":           with("X-Project-Id: "+others, 200, goesOn),
		"a long line":            with("X-A: "+strings.Repeat("a", 50_000), 200, goesOn),
		"a longer line":          with("X-A: "+strings.Repeat("a", 100_000), 431, closes),
		"an endless line":        with("X-A: "+strings.Repeat("a", 3_000_000), 431, closes),
		"a long name":            with(strings.Repeat("X", 50_000)+": a", 200, goesOn),
		"thousands":              with(strings.Repeat("X: \r\n", 10_000)+"X: ", 200, goesOn),
		"thousands of names":     with(manyNames(4_000), 200, goesOn),
		"too many":               with(manyNames(20_000), 431, closes),
		"bare LF":                with("X-A: b\nX-B: c", 200, goesOn),
		"a closing one":          with("Connection: close", 200, closes),
		"an odd connection":      with("Connection: X-Project-Id, Client-ID, \x01", 400, closes),
		"what passes hops":       with("Connection: X-Project-Id, keep-alive", 200, goesOn),
		"an upgrade":             with("Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", 200, goesOn),
		"an expectation":         with("Expect: 200-ok", 417, closes),
		"no host":                {hosted(), []int{400}, closes, 0},
		"two hosts":              {hosted("Host: x", "Host: x"), []int{400}, closes, 0},
		"an empty host":          {hosted("Host: "), []int{200}, goesOn, 0},
		"a host with a space":    {hosted("Host: a b"), []int{400}, closes, 0},
		"a host with a path":     {hosted("Host: x/v2"), []int{400}, closes, 0},
		"a host of bytes":        {hosted("Host: \xff"), []int{400}, closes, 0},
		"a host's quote":         {hosted(`Host: x"><script>`), []int{400}, closes, 0},
		"a host's port":          {hosted("Host: x:99999"), []int{200}, goesOn, 0},
		"a host's long name":     {hosted("Host: " + strings.Repeat("h", 50_000)), []int{200}, goesOn, 0},
		"HTTP/1.0":               {"GET /v2/queues/own HTTP/1.0\r\n" + wireHead + "\r\n", []int{200}, closes, 0},
		"HTTP/1.0 without host":  {strings.Replace(hosted(), "1.1", "1.0", 1), []int{200}, closes, 0},
		"HTTP/1.0 that goes on":  {strings.Replace(asks(getOwn, "Connection: keep-alive"), "1.1", "1.0", 1), []int{200}, goesOn, 0},
		"HTTP/1.0 refused":       {"GET /v2/none/x HTTP/1.0\r\n" + wireHead + "\r\n", []int{404}, closes, 0},
		"HTTP/1.0 post":          {"POST /v2/queues/q/messages HTTP/1.0\r\n" + wireHead + lengthOf(wireMessage) + "\r\n\r\n" + wireMessage, []int{201}, closes, 1},
		"HTTP/1.0 list":          {strings.Replace(asks("GET /v2/queues?detailed=true HTTP/1.1"), "1.1", "1.0", 1), []int{200}, closes, 0},
		"HTTP/1.0 measures":      {strings.Replace(asks("GET /metrics HTTP/1.1"), "1.1", "1.0", 1), []int{404}, closes, 0},
		"half a header":          {getOwn + "\r\nHost: x\r\nX-Pro", []int{400}, waits, 0},
		"a header without end":   {getOwn + "\r\n" + wireHead, []int{400}, waits, 0},
	}
}

func manyNames(n int) string {
	var names strings.Builder
	for i := range n {
		fmt.Fprintf(&names, "X-%d: a\r\n", i)
	}
	return names.String() + "X-Last: a"
}
