package http

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"nabu/internal/eventually"
)

// handshake are the headers of a request for a WebSocket.
var handshake = []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}

// upgrade is a request for a WebSocket with a header in place of the one of its name.
func upgrade(line string) string {
	h := hostile{headers: handshake}.onlyWith(line)
	return asks("GET /v2 HTTP/1.1", h.headers...)
}

func upgradeCases() map[string]wireCase {
	whole := asks("GET /v2 HTTP/1.1", handshake...)
	refused := func(sends string, status int) wireCase { return wireCase{sends, []int{status}, goesOn, 0} }
	return map[string]wireCase{
		"no key":               refused(strings.Replace(whole, "Sec-WebSocket-Key", "X-Key", 1), 400),
		"an empty key":         refused(upgrade("Sec-WebSocket-Key: "), 400),
		"a short key":          refused(upgrade("Sec-WebSocket-Key: dGhl"), 400),
		"a key that is none":   refused(upgrade("Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!=="), 400),
		"two keys":             refused(asks("GET /v2 HTTP/1.1", append([]string{handshake[3]}, handshake...)...), 400),
		"no version":           refused(strings.Replace(whole, "Sec-WebSocket-Version", "X-Version", 1), 400),
		"another version":      refused(upgrade("Sec-WebSocket-Version: 8"), 400),
		"two versions":         refused(upgrade("Sec-WebSocket-Version: 13, 8"), 400),
		"another page":         refused(asks("GET /v2 HTTP/1.1", append([]string{"Origin: http://other.example"}, handshake...)...), 403),
		"an origin of nothing": refused(asks("GET /v2 HTTP/1.1", append([]string{"Origin: null"}, handshake...)...), 403),
		"no upgrade asked for": refused(strings.Replace(asks("GET /ws HTTP/1.1", handshake...), "Connection: Upgrade", "Connection: keep-alive", 1), 426),
		"to something else":    refused(strings.Replace(asks("GET /ws HTTP/1.1", handshake...), "websocket", "h2c", 1), 426),
		"of HTTP/1.0":          {strings.Replace(whole, "HTTP/1.1", "HTTP/1.0", 1), []int{400}, closes, 0},
		"by POST":              refused(strings.Replace(whole, "GET", "POST", 1), 405),
		"elsewhere":            refused(asks("GET /v2/queues/own HTTP/1.1", handshake...), 200),
		"with a bad length":    {asks("GET /v2 HTTP/1.1", append([]string{"Content-Length: -1"}, handshake...)...), []int{400}, closes, 0},
	}
}

// Bits of a frame's first byte.
const (
	lastFrame = 0x80
	reserved1 = 0x40
	moreText  = 0x0
	textFrame = 0x1
	bytesSent = 0x2
	closeSent = 0x8
	pingSent  = 0x9
	pongSent  = 0xa
)

// frameOf is a frame as clients send it.
func frameOf(first byte, payload string) string {
	head := []byte{first}
	switch n := len(payload); {
	case n < 126:
		head = append(head, 0x80|byte(n))
	case n < 1<<16:
		head = binary.BigEndian.AppendUint16(append(head, 0x80|126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, 0x80|127), uint64(n))
	}
	return string(head) + maskedBy(payload)
}

// maskedBy is a payload behind its mask.
func maskedBy(payload string) string {
	const mask = "\x12\x34\x56\x78"
	out := []byte(mask + payload)
	for i := range len(payload) {
		out[len(mask)+i] ^= mask[i%len(mask)]
	}
	return string(out)
}

func closing(code uint16, reason string) string {
	return frameOf(lastFrame|closeSent, string(binary.BigEndian.AppendUint16(nil, code))+reason)
}

// frameCase is what is sent on a WebSocket, and the frames that come back: statuses of
// answers, pongs and the code of a close.
type frameCase struct {
	sends   string
	comes   string
	records int64
}

const postFrame = `{"action": "message_post", "headers": {"Client-ID": "` + ours + `", "X-Project-ID": "` + mine + `"}, "body": {"queue_name": "q", "messages": [{"body": "wire"}]}}`

func frameCases() map[string]frameCase {
	post, rest := frameOf(lastFrame|textFrame, postFrame), closing(1000, "")
	first, second := frameOf(textFrame, postFrame[:50]), frameOf(lastFrame|moreText, postFrame[50:])
	return map[string]frameCase{
		"a proper one":              {post + rest, "201 close:1000", 1},
		"two":                       {post + post + rest, "201 201 close:1000", 2},
		"in two parts":              {first + second + rest, "201 close:1000", 1},
		"a ping in between":         {first + frameOf(lastFrame|pingSent, "x") + second + rest, "pong:x 201 close:1000", 1},
		"empty parts":               {frameOf(textFrame, "") + strings.Repeat(frameOf(moreText, ""), 1000) + frameOf(lastFrame|moreText, postFrame) + rest, "201 close:1000", 1},
		"a byte in a part":          {bytewise(postFrame) + rest, "201 close:1000", 1},
		"no last part":              {first + rest, "close:1000", 0},
		"a text in between":         {first + post, "close:1002", 0},
		"a part of nothing":         {second, "close:1002", 0},
		"reserved bits":             {frameOf(lastFrame|reserved1|textFrame, postFrame), "close:1002", 0},
		"another reserved bit":      {frameOf(lastFrame|0x10|textFrame, postFrame), "close:1002", 0},
		"a reserved kind":           {frameOf(lastFrame|0x3, postFrame), "close:1002", 0},
		"a reserved control":        {frameOf(lastFrame|0xb, ""), "close:1002", 0},
		"not masked":                {"\x81\x02{}", "", 0},
		"a ping in parts":           {frameOf(pingSent, "x"), "close:1002", 0},
		"a long ping":               {frameOf(lastFrame|pingSent, strings.Repeat("x", 126)), "close:1002", 0},
		"a pong for nothing":        {frameOf(lastFrame|pongSent, "x") + rest, "close:1000", 0},
		"a length of 2^63":          {"\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00" + maskedBy("x"), "", 0},
		"a length of 2^63-1":        {"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff" + maskedBy(strings.Repeat(" ", 9<<20)), "close:1009", 0},
		"too large":                 {frameOf(lastFrame|textFrame, strings.Repeat(" ", 1<<20)) + rest, "400 close:1000", 0},
		"much too large":            {frameOf(lastFrame|textFrame, strings.Repeat(" ", 9<<20)), "close:1009", 0},
		"much too large, in parts":  {strings.Repeat(frameOf(textFrame, strings.Repeat(" ", 1<<20)), 1) + strings.Repeat(frameOf(moreText, strings.Repeat(" ", 1<<20)), 9), "close:1009", 0},
		"no UTF-8":                  {frameOf(lastFrame|textFrame, strings.Replace(postFrame, "wire", "\xff", 1)) + rest, "400 close:1000", 0},
		"no JSON":                   {frameOf(lastFrame|textFrame, postFrame[1:]) + post + rest, "400 201 close:1000", 1},
		"nothing":                   {frameOf(lastFrame|textFrame, "") + rest, "400 close:1000", 0},
		"no MessagePack":            {frameOf(lastFrame|bytesSent, postFrame) + rest, "400 close:1000", 0},
		"a close of nothing":        {frameOf(lastFrame|closeSent, "") + post, "close:none", 0},
		"a close of a byte":         {frameOf(lastFrame|closeSent, "\x03"), "close:1002", 0},
		"a close without a meaning": {closing(999, ""), "close:1002", 0},
		"a close that none sends":   {closing(1005, ""), "close:1002", 0},
		"a close of 5000":           {closing(5000, ""), "close:1002", 0},
		"a close of one's own":      {closing(4000, "x"), "close:4000", 0},
		"a close that is no UTF-8":  {closing(1000, "\xff"), "close:1000", 0},
		"a post after a close":      {rest + post, "close:1000", 0},
		"half a frame":              {post[:len(post)-1], "", 0},
		"half a head":               {"\x81", "", 0},
		"HTTP":                      {smuggled, "close:1002", 0},
		"nothing at all":            {"", "", 0},
	}
}

// bytewise is a message of which each byte is a part.
func bytewise(text string) string {
	var all strings.Builder
	all.WriteString(frameOf(textFrame, text[:1]))
	for i := 1; i < len(text)-1; i++ {
		all.WriteString(frameOf(moreText, text[i:i+1]))
	}
	return all.String() + frameOf(lastFrame|moreText, text[len(text)-1:])
}

// TestTheWireFrames sends frames that no library would, some of them with the handshake.
func TestTheWireFrames(t *testing.T) {
	t.Parallel()
	w := newWire(t, nil)
	whole := asks("GET /v2 HTTP/1.1", handshake...)
	for name, its := range frameCases() {
		for _, atOnce := range []bool{false, true} {
			if atOnce && len(its.sends) > maxHeaderBytes {
				continue
			}
			c, sends := w.connect(name, whole[:len(whole)-2]), "\r\n"+its.sends
			if !atOnce {
				_, _ = io.WriteString(c, "\r\n")
				sends = its.sends
			}
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_, _ = io.WriteString(c, sends)
			}()
			response, err := http.ReadResponse(c.answers, nil)
			if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("%s: the handshake is answered with %v, %v", name, response, err)
			}
			w.besides()
			if its.comes == "" {
				<-sent
				_ = c.CloseWrite()
			}
			if comes := c.frames(); comes != its.comes {
				t.Errorf("%s: %q comes back, not %q", name, comes, its.comes)
			}
			_ = c.Close()
			<-sent
			eventually.Within(w, unnoticed, "the WebSocket's end", func() bool { return w.server.sockets.count() == 0 })
			c.recordedBesides(its.records)
		}
	}
	w.quiet()
}

// frames reads frames until the connection ends.
func (c *rough) frames() string {
	var all []string
	for {
		var head [2]byte
		if _, err := io.ReadFull(c.answers, head[:]); err != nil {
			return strings.Join(all, " ")
		}
		length := int(head[1])
		if length == 126 {
			var long [2]byte
			_, _ = io.ReadFull(c.answers, long[:])
			length = int(binary.BigEndian.Uint16(long[:]))
		}
		payload := make([]byte, length)
		if _, err := io.ReadFull(c.answers, payload); err != nil {
			return strings.Join(append(all, "half a frame"), " ")
		}
		all = append(all, frameShown(head[0]&^lastFrame, payload))
	}
}

// frameShown is a server's frame in short.
func frameShown(kind byte, payload []byte) string {
	switch {
	case kind == closeSent && len(payload) == 0:
		return "close:none"
	case kind == closeSent && len(payload) > 1:
		return "close:" + strconv.Itoa(int(binary.BigEndian.Uint16(payload)))
	case kind == pongSent:
		return "pong:" + string(payload)
	}
	var its struct{ Headers struct{ Status int } }
	if kind == bytesSent {
		text, err := jsonOf(payload)
		if err != nil {
			return err.Error()
		}
		payload = []byte(text)
	}
	if err := json.Unmarshal(payload, &its); err != nil {
		return fmt.Sprintf("kind %d: %q", kind, payload)
	}
	return strconv.Itoa(its.Headers.Status)
}
