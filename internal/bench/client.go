package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// conn is one connection of the load generator. It knows as little of HTTP as it
// can: the generator shares the machine with what it measures.
type conn struct {
	address string
	timeout time.Duration
	net     net.Conn
	in      *bufio.Reader
	body    []byte // of a response that does not fit the reader's buffer
}

// response is an answer. The body is only good until the next request.
type response struct {
	status int
	body   []byte
}

func newConn(address string, timeout time.Duration) *conn {
	return &conn{address: address, timeout: timeout, in: bufio.NewReaderSize(nil, 32<<10)}
}

// do sends a request, as it stands on the wire, and reads the answer. After an
// error the next request opens a new connection.
func (c *conn) do(request []byte) (response, error) {
	r, err := c.exchange(request)
	if err != nil {
		c.close()
	}
	return r, err
}

func (c *conn) exchange(request []byte) (response, error) {
	if c.net == nil {
		n, err := net.DialTimeout("tcp", c.address, c.timeout)
		if err != nil {
			return response{}, err
		}
		c.net = n
		c.in.Reset(n)
	}
	if err := c.net.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return response{}, err
	}
	if _, err := c.net.Write(request); err != nil {
		return response{}, err
	}
	return c.read()
}

func (c *conn) close() {
	if c.net != nil {
		_ = c.net.Close()
		c.net = nil
	}
}

// read takes one response off the connection.
func (c *conn) read() (response, error) {
	var r response
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return r, err
	}
	if len(line) < 12 {
		return r, fmt.Errorf("no status line: %q", line)
	}
	if r.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return r, fmt.Errorf("no status line: %q", line)
	}
	length, closing, err := c.readHeader()
	if err != nil {
		return r, err
	}
	switch {
	case r.status == 204 || r.status == 304:
	case length == chunked:
		r.body, err = c.readChunks()
	case length > 0:
		r.body, err = c.readBody(length)
	}
	if closing {
		c.close()
	}
	return r, err
}

// chunked is the length of a body that comes in chunks.
const chunked = -1

func (c *conn) readHeader() (length int, closing bool, err error) {
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return 0, false, err
		}
		if len(line) <= 2 {
			return length, closing, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 {
				return 0, false, fmt.Errorf("bad Content-Length: %q", value)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			length = chunked
		case bytes.EqualFold(name, []byte("Connection")):
			closing = bytes.EqualFold(bytes.TrimSpace(value), []byte("close"))
		}
	}
}

func (c *conn) readBody(length int) ([]byte, error) {
	if length <= c.in.Size() {
		body, err := c.in.Peek(length)
		if err != nil {
			return nil, err
		}
		_, err = c.in.Discard(length)
		return body, err
	}
	c.body = grow(c.body[:0], length)
	_, err := io.ReadFull(c.in, c.body)
	return c.body, err
}

func (c *conn) readChunks() ([]byte, error) {
	c.body = c.body[:0]
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		size, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
		if err != nil {
			return nil, errors.New("bad chunk")
		}
		from := len(c.body)
		c.body = grow(c.body, int(size))
		if _, err := io.ReadFull(c.in, c.body[from:]); err != nil {
			return nil, err
		}
		if _, err := c.in.Discard(2); err != nil {
			return nil, err
		}
		if size == 0 {
			return c.body, nil
		}
	}
}

// grow makes a slice longer by n bytes.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) < n {
		b = append(make([]byte, 0, 2*(len(b)+n)), b...)
	}
	return b[:len(b)+n]
}
