package bench

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"
)

// answerWith is the address of a server that gives the same answer to each line
// with which a request ends.
func answerWith(t *testing.T, answer string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { _ = listener.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			lines := bufio.NewScanner(c)
			for lines.Scan() {
				if lines.Text() == "" {
					if _, err := c.Write([]byte(answer)); err != nil {
						break
					}
				}
			}
			_ = c.Close()
		}
	}()
	return listener.Addr().String()
}

func TestTheClientReadsAnswers(t *testing.T) {
	long := strings.Repeat("0123456789", 10_000)
	tests := map[string]struct {
		answer string
		status int
		body   string
		fails  bool
	}{
		"with a length":       {"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello", 201, "hello", false},
		"in lower case":       {"HTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhello", 200, "hello", false},
		"longer than buffers": {"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + long, 200, long, false},
		"without a body":      {"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", 204, "", false},
		"in chunks":           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", 200, "hello world", false},
		"no HTTP":             {"220 mail\r\n\r\n", 0, "", true},
		"a bad length":        {"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", 0, "", true},
		"a bad chunk":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\n", 0, "", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := newConn(answerWith(t, test.answer), 10*time.Second)
			defer c.close()
			for range 3 { // over the same connection, if it is good
				r, err := c.do(getRequest("/"))
				if (err != nil) != test.fails {
					t.Fatalf("error %v", err)
				}
				if err == nil && (r.status != test.status || string(r.body) != test.body) {
					t.Fatalf("status %d and %d bytes of body, not %d and %d", r.status, len(r.body), test.status, len(test.body))
				}
			}
		})
	}
}
