package pgproxy

import (
	"encoding/binary"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// Stuck is a session that has carried out a simple query, and has then sent one and a
// half of the messages that another takes, and no more. The server must let its user in by peer
// authentication.
func Stuck(t testing.TB, serverURL, query string) net.Conn {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", filepath.Join(socketFolder(t, serverURL), ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	const protocol3 = "\x00\x03\x00\x00"
	user, database := u.User.Username(), strings.TrimPrefix(u.Path, "/")
	send(t, conn, message("", protocol3+"user\x00"+user+"\x00database\x00"+database+"\x00\x00"))
	untilReady(t, conn)
	send(t, conn, message("Q", query+"\x00"))
	untilReady(t, conn)
	// Behind a Parse the server is in the middle of a request, which ends with a Sync.
	send(t, conn, message("P", "\x00SELECT 1\x00\x00\x00"))
	send(t, conn, message("B", "\x00\x00\x00\x00\x00\x00\x00\x00")[:6])
	return conn
}

// message is a message of the protocol: its type, if it has one, its length and text.
func message(kind, text string) []byte {
	out := []byte(kind)
	out = binary.BigEndian.AppendUint32(out, uint32(4+len(text)))
	return append(out, text...)
}

func send(t testing.TB, conn net.Conn, data []byte) {
	t.Helper()
	if _, err := conn.Write(data); err != nil {
		t.Fatal(err)
	}
}

// untilReady reads until the server is ready for the next query.
func untilReady(t testing.TB, conn net.Conn) {
	t.Helper()
	for {
		answer, err := readMessage(conn)
		if err != nil {
			t.Fatal(err)
		}
		switch answer[0] {
		case 'E':
			t.Fatalf("the server says %q", answer[5:])
		case 'Z':
			return
		}
	}
}
