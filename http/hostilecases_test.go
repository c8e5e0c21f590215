package http

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode/utf16"

	"nabu/domain"
)

// twist makes one thing of a request wrong.
type twist func(hostile) hostile

// twists are all things that can be wrong with a route's requests, one at a time.
func (p properRequest) twists(r route, w *city) (all []twist) {
	for _, body := range bodies(p.body) {
		all = append(all, func(h hostile) hostile { h.body = body; return h })
	}
	all = append(all, func(h hostile) hostile { h.chunked = true; return h })
	all = append(all, sizes(p.body)...)
	if p.body != "" {
		all = append(all, encodings(p.body)...)
	}
	for _, name := range strings.Split(r.path, "/") {
		if strings.HasPrefix(name, ":") {
			all = append(all, inPlaceOf(r.path, name, w)...)
			if !p.ofAnybody {
				its := w.path(r.path[:strings.Index(r.path, name)], w.own) + w.path(r.path[strings.Index(r.path, name):], w.foreign)
				all = append(all, func(h hostile) hostile { h.target = its; return h })
			}
		}
	}
	for _, query := range queries(p.asks) {
		all = append(all, func(h hostile) hostile { h.target += "?" + query; return h })
	}
	for _, line := range hostileHeaders {
		all = append(all, func(h hostile) hostile { return h.onlyWith(line) })
	}
	for _, line := range append(slices.Clone(properHeaders), hostileHeaders[:30]...) {
		all = append(all, func(h hostile) hostile { return h.with(line) })
		if name, _, _ := strings.Cut(line, ":"); name != "X-Roles" { // who states none has all
			all = append(all, func(h hostile) hostile { return h.without(name) })
		}
	}
	for _, host := range []string{"", "x:99999", "[::1]:80", "a\"b", "x/y", "<x>", strings.Repeat("h", 5000)} {
		all = append(all, func(h hostile) hostile { h.host = host; return h })
	}
	return append(all, streams()...)
}

// values take the place of each part of a JSON text.
var values = []string{
	`null`, `true`, `false`, `0`, `-1`, `-0`, `1.5`, `1e2`, `1e999`, `2147483648`, `9223372036854775807`, `9223372036854775808`,
	`-99999999999999999999999999`, `""`, `" "`, `"x"`, `"\u0000"`, `"\ud800"`, `"\udc00\ud800"`, `"\r\nSet-Cookie: a=b"`, `"%s%d%n"`, `"' OR 1=1 --"`,
	`"../../../etc/passwd"`, `"<script>alert(1)</script>"`, `"😀"`, "\"\u2028\x7f\"", `[]`, `{}`, `[null]`, `[[]]`, `[{}]`, `{"a": null}`, `{"": ""}`, `{"\u0000": 1}`,
	`{"a": 1, "a": 2}`, `"` + strings.Repeat("é", 2000) + `"`, "[1" + strings.Repeat(",1", 3000) + "]", nestedLists(600), nestedLists(11_000),
	`{` + strings.TrimSuffix(strings.Repeat(`"k": 1,`, 300), ",") + `}`,
}

func nestedLists(levels int) string { return strings.Repeat("[", levels) + strings.Repeat("]", levels) }

// bodies are those that a valid one can be spoilt to, and some that never were one.
func bodies(valid string) []string {
	all := append(slices.Clone(values), "", " ", "\x00", "\xff\xfe", "{", "}", "[", `"`, "NaN", "Infinity", "nul", "{'a': 1}", "{a: 1}", "[1,]", "/* */{}",
		"a=b&c=d", "<xml/>", "---\na: b\n", "\xef\xbb\xbf{}", "\"\xc3\"", "\"\xed\xa0\x80\"", "{\"\xff\": 1}", `"\x"`, "01", "+1", ".5", "\"\n\"")
	if valid == "" {
		return all[len(values)-6:]
	}
	dec := json.NewDecoder(strings.NewReader(valid))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		panic(valid)
	}
	spoil(value, "", "", func(body string) { all = append(all, body) })
	for _, part := range []int{1, 3, 5, 7} {
		all = append(all, valid[:len(valid)*part/8])
	}
	wide := new(bytes.Buffer)
	for _, unit := range utf16.Encode([]rune(valid)) {
		wide.Write([]byte{byte(unit), byte(unit >> 8)})
	}
	return append(all, "\xef\xbb\xbf"+valid, valid+"x", valid+valid, valid+"\x00", "\x00"+valid, "["+valid+"]", valid[:len(valid)-1]+"\xff"+valid[len(valid)-1:], wide.String())
}

// spoil puts each of the values in the place of each part of a value.
func spoil(value any, before, after string, yield func(string)) {
	for _, other := range values {
		yield(before + other + after)
	}
	switch its := value.(type) {
	case map[string]any:
		names := slices.Sorted(maps.Keys(its))
		for i, name := range names {
			rest := ""
			for j, another := range names {
				if j != i {
					rest += "," + spelled(another) + ":" + spelled(its[another])
				}
			}
			yield(before + "{" + strings.TrimPrefix(rest, ",") + "}" + after)
			yield(before + "{" + spelled(name) + ":null," + spelled(name) + ":" + spelled(its[name]) + rest + "}" + after)
			yield(before + "{" + spelled(strings.ToUpper(name)) + ":" + spelled(its[name]) + rest + "}" + after)
			yield(before + `{"unknown": 1,` + spelled(name) + ":" + spelled(its[name]) + rest + "}" + after)
			spoil(its[name], before+"{"+spelled(name)+":", rest+"}"+after, yield)
		}
	case []any:
		for i := range its {
			first, last := spelled(its[:i]), spelled(its[i+1:])
			first, last = strings.TrimSuffix(first, "]"), strings.TrimPrefix(last, "[")
			if i > 0 {
				first += ","
			}
			if i+1 < len(its) {
				last = "," + last
			}
			spoil(its[i], before+first, last+after, yield)
		}
	}
}

func spelled(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// sizes are bodies as long as any API takes them, and one byte longer.
func sizes(valid string) (all []twist) {
	for _, most := range []int{maxClaimBody, maxComputeBody, domain.DefaultLimits().MaxMessagesPostSize, maxServerHostsBody} {
		for _, length := range []int{most, most + 1} {
			for _, chunked := range []bool{false, true} {
				all = append(all, func(h hostile) hostile {
					h.body, h.chunked = valid+strings.Repeat(" ", length-len(valid)), chunked
					return h
				})
			}
		}
	}
	return all
}

// encodings say of a body that it is something else, or make it that.
func encodings(valid string) (all []twist) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(valid))
	_ = z.Close()
	for _, line := range []string{
		"Content-Type:", "Content-Type: text/plain", "Content-Type: application/x-www-form-urlencoded", "Content-Type: multipart/form-data; boundary=x",
		"Content-Type: application/json; charset=utf-16", `Content-Type: application/json; charset="`, "Content-Type: application/xml", "Content-Type: application/msgpack",
		"Content-Type: ;", "Content-Type: a/b/c", "Content-Type: \xff", "Content-Type: APPLICATION/JSON;;;", "Content-Type: application/json, text/plain",
		"Content-Type: application/" + strings.Repeat("j", 9000), "Content-Encoding: gzip", "Content-Encoding: br, deflate", "Content-MD5: x", "Content-Range: bytes 0-1/2",
	} {
		all = append(all, func(h hostile) hostile { return h.onlyWith(line) }, func(h hostile) hostile { return h.with(line) },
			func(h hostile) hostile { h.body = packed.String(); return h.onlyWith(line) })
	}
	return all
}

// inPlaceOf are paths with something else in place of one name.
func inPlaceOf(path, name string, w *city) (all []twist) {
	its := lastPart(w.path(strings.SplitAfter(path, name)[0], w.own))
	for _, value := range []string{
		"", ".", "..", "%2e%2e", "%2F", "a%2Fb", "..%2f..%2fx", "%00", "%ff", "%c0%af", "%ed%a0%80", "%C3%BC", "%F0%9F%98%80", "\xc3\xbc", strings.Repeat("x", 64), strings.Repeat("x", 65),
		strings.Repeat("x", 255), strings.Repeat("x", 256), strings.Repeat("y", 9000), strings.Repeat("%C3%A9", 300), "*", ":queue", "a%20b", "a+b", "a;b", "'", "%22", "%5C", "%0d%0aX-A:%20b", "-1", "0", "99999999999999999999",
		"null", "true", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "%7B" + its + "%7D", "urn:uuid:" + its, strings.ToUpper(its),
		strings.ReplaceAll(its, "-", ""), its + "0", its + "%20", its + "%00", its + "/", its + "/x", its + "//", "/" + its, its + ";x=1", its + "%3Fa=b", "%s%25d", "%25s%25n", "<script>", others,
	} {
		all = append(all, func(h hostile) hostile {
			h.target = w.path(strings.Replace(path, name, "\x00", 1), w.own)
			h.target = strings.Replace(h.target, "\x00", value, 1)
			return h
		})
	}
	return all
}

// queries are query strings for what a route may be asked, and for what it may not.
func queries(names []string) (all []string) {
	for _, name := range append([]string{"nope"}, names...) {
		name = strings.ReplaceAll(name, "~", "%7E")
		for _, value := range []string{
			"", "0", "-1", "1", "1.5", "1e3", "%2B1", "+1", "21", "1001", "2147483648", "9223372036854775807", "9223372036854775808", "-9223372036854775809",
			strings.Repeat("9", 400), "x", "%00", "%ff", "%zz", "%", "%C3%BC", "%F0%9F%98%80", "true", "True", "yes", "null", "asc", "desc", "id:asc,id:desc", "created_at:x", "a,b,,c", strings.Repeat("a,", 200),
			"00000000-0000-0000-0000-000000000000", "00000000-0004-8000-916a-741ef947a175", theirs, "'%20OR%201=1--", "%22", "%5C", "%0d%0aX:y", "<script>", "%25s%25d", strings.Repeat("q", 9000), "[]", "%25", "_", "%25%25_",
		} {
			all = append(all, name+"="+value)
		}
		all = append(all, name, name+"=1&"+name+"=2", name+"[]=1", name+"=1;"+name+"=2", "&&"+name+"=1&=&", strings.Repeat(name+"=1&", 500), strings.ToUpper(name)+"=1", name+"%00=1")
	}
	return append(all, "=", "&", "%", "%ff=%ff", "?", "a=b?c", strings.Repeat("&", 2000))
}

// hostileHeaders are headers that are none, or say what nobody should believe.
var hostileHeaders = []string{
	"Client-ID:", "Client-ID: x", "Client-ID: " + strings.Repeat("c", 20_000), "Client-ID: \xff", "Client-ID: {" + ours + "}", "Client-ID: 00000000-0000-0000-0000-000000000000",
	"X-Project-Id:", "X-Project-Id: " + others + "x", "X-Project-Id: " + strings.Repeat("p", 256), "X-Project-Id: " + strings.Repeat("p", 9000), "X-Project-Id: \xff", "X-Project-Id: ü", "X-Project-Id: ../x", "X-Project-Id: %00", "X-Project-Id: a b",
	"X-Roles:", "X-Roles: ,", "X-Roles: \xff", "X-Roles: " + strings.Repeat("r,", 5000), "X-Roles: nobody",
	"X-User-Id:", "X-User-Id: " + strings.Repeat("u", 257), "X-User-Id: \xff", "X-User-Id: ü",
	"X-Auth-Token:", "X-Auth-Token: :", "X-Auth-Token: ann:" + mine, "X-Auth-Token: " + strings.Repeat("t", 20_000), "X-Auth-Token: \xff:\xff", "X-Service-Token: x",
	"Accept:", "Accept: text/html", "Accept: text/html, application/json;q=0.5", "Accept: */*;q=0", "Accept: ;;;", "Accept: \xff", "Accept: application/json;q=x", "Accept: " + strings.Repeat("a/b,", 2000), "Accept: application/xml", "Accept: text/plain;q=NaN", "Accept: a",
	"Accept-Language:", "Accept-Language: de", "Accept-Language: *;q=0", "Accept-Language: xx-YY-zz;q=1e999,;,", "Accept-Language: \xff", "Accept-Language: " + strings.Repeat("de,", 3000),
	"Accept-Encoding: gzip", "Accept-Charset: utf-16", "Authorization: Basic x", "Cookie: a=b",
	"OpenStack-API-Version:", "OpenStack-API-Version: volume", "OpenStack-API-Version: volume 3.0", "OpenStack-API-Version: volume 3.3, compute 2.1", "OpenStack-API-Version: volume 99999999999.9", "OpenStack-API-Version: volume latest, compute latest",
	"OpenStack-API-Version: volume \xff, compute \xff", "OpenStack-API-Version: volume " + strings.Repeat("3", 9000), "OpenStack-API-Version: volume 3.72, compute 2.105", "OpenStack-API-Version: volume -1.0, compute 02.1", "X-OpenStack-Nova-API-Version: 2.9999", "X-OpenStack-Nova-API-Version: \xff",
	"If-Match: *", "If-None-Match: *", "If-Modified-Since: x", "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT", "If-Range: x", "Range: bytes=0-0", "Range: bytes=9-1,-,x", "Expect: x", "Expect: 100-continue",
	"X-OpenStack-Request-ID:", "X-OpenStack-Request-ID: x", "X-OpenStack-Request-ID: req-" + theirs, "X-OpenStack-Request-ID: " + strings.Repeat("r", 65), "X-OpenStack-Request-ID: " + strings.Repeat("r", 9000), "X-OpenStack-Request-ID: \xff\xfe", "X-OpenStack-Request-ID: a\tb",
	"X-OpenStack-Request-ID: req-\x01", "X-Compute-Request-Id: x", "Idempotency-Key:", "Idempotency-Key: k", "Idempotency-Key: \xff", "Idempotency-Key: " + strings.Repeat("k", 256), "Idempotency-Key: a b",
	"URL-Signature:", "URL-Signature: x", "URL-Signature: \xff", "URL-Expires: x", "URL-Methods: GET", "URL-Paths: /v2/queues/q/messages", "URL-Signature: " + strings.Repeat("0", 64),
	"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: \"><script>", "X-Forwarded-Proto: https", "X-Real-IP: x", "Forwarded: for=x", "X-HTTP-Method-Override: DELETE", "X-Original-URL: /metrics", "X-Rewrite-URL: /metrics",
	"Connection: close", "Connection: Upgrade", "Upgrade: h2c", "Upgrade: websocket", "HTTP2-Settings: x", "TE: trailers", "Trailer: X-Roles", "Origin: null", "Last-Event-ID: x", "Max-Forwards: 0", "Content-Length: 5", "Transfer-Encoding: gzip", "X\x00: y", ": y", "X-Empty:",
}

// streams are requests for events as they come, and for WebSockets.
func streams() (all []twist) {
	for _, last := range []string{"", "0", "-1", "x", "9223372036854775807", "9223372036854775808", "\xff", strings.Repeat("1", 9000)} {
		all = append(all, func(h hostile) hostile { return h.onlyWith("Accept: text/event-stream").with("Last-Event-ID: " + last) })
	}
	for _, lines := range [][]string{
		{}, {"Sec-WebSocket-Version: 12"}, {"Sec-WebSocket-Version: 13"}, {"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x"},
		{"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="},
		{"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Origin: http://evil.example"},
		{"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Origin: \xff"},
	} {
		all = append(all, func(h hostile) hostile {
			for _, line := range append([]string{"Connection: Upgrade", "Upgrade: websocket"}, lines...) {
				h = h.with(line)
			}
			return h
		})
	}
	return all
}
