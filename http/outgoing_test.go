package http

import (
	"io"
	"net"
	"testing"
)

// write writes an answer as the server does, and returns its client's end when the answer is
// under way.
func write(t *testing.T, o *outgoing) (client net.Conn, written <-chan error) {
	t.Helper()
	client, server := net.Pipe() // without any room in between
	t.Cleanup(func() { _ = client.Close() })
	done := make(chan error, 1)
	go func() {
		_, err := (&boundedConn{server, o}).Write(make([]byte, largeWrite))
		done <- err
	}()
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return client, done
}

// reads takes in the rest of an answer.
func reads(t *testing.T, client net.Conn, written <-chan error) {
	t.Helper()
	if _, err := io.ReadFull(client, make([]byte, largeWrite-1)); err != nil {
		t.Error(err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}

// Who does not read its answer keeps it as long as there is room for those of others.
func TestUnreadAnswersAreBounded(t *testing.T) {
	t.Parallel()
	o := &outgoing{most: 2 * largeWrite}
	_, first := write(t, o)
	second, secondWritten := write(t, o)
	third, thirdWritten := write(t, o)
	if err := <-first; err == nil {
		t.Error("the oldest answer was written")
	}
	reads(t, second, secondWritten)
	reads(t, third, thirdWritten)
	if o.bytes != 0 || o.oldest.Len() != 0 {
		t.Errorf("%d bytes of %d answers still count", o.bytes, o.oldest.Len())
	}
	// One answer goes out, however large it is.
	client, written := write(t, &outgoing{most: 1})
	reads(t, client, written)
}
