package sealing

import (
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// TestXAESGivesTheStandardsAnswers: the vectors of C2SP's specification.
func TestXAESGivesTheStandardsAnswers(t *testing.T) {
	t.Parallel()
	nonce := []byte("ABCDEFGHIJKLMNOPQRSTUVWX")
	for _, test := range []struct {
		key         byte
		about, want string
	}{
		{1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		x, err := newXAES([]byte(strings.Repeat(string(rune(test.key)), keySize)))
		if err != nil {
			t.Fatal(err)
		}
		got := x.derive(nonce).Seal(nil, nonce[nonceSize/2:], []byte("XAES-256-GCM"), []byte(test.about))
		if hex.EncodeToString(got) != test.want {
			t.Errorf("key %d: %x, want %s", test.key, got, test.want)
		}
	}
}

func masters(t testing.TB, text string) *Masters {
	t.Helper()
	m, err := ParseMasters(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const (
	oldLine = "old MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	newLine = "new MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="
)

// TestSealedBodiesOpenWhereTheyBelong, byte for byte, and nowhere else, and not when a
// single bit of them is another.
func TestSealedBodiesOpenWhereTheyBelong(t *testing.T) {
	t.Parallel()
	m := masters(t, oldLine)
	queue := Queue{"p", "q", 7}
	key, err := m.make(queue)
	if err != nil {
		t.Fatal(err)
	}
	other, err := m.make(queue)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		body, id := rapid.String().Draw(rt, "body"), uuid.New()
		sealed := key.Seal(id, body)
		if got, err := key.Open("p", id, sealed); err != nil || got != body {
			rt.Fatalf("%q opens as %q, %v", body, got, err)
		}
		if key.Seal(id, body) == sealed {
			rt.Fatal("sealed twice it is the same")
		}
		raw := []byte(sealed)
		i := rapid.IntRange(1, len(raw)-3).Draw(rt, "changed") // the last digit has bits that mean nothing
		if raw[i] = 'A'; raw[i] == sealed[i] {
			raw[i] = 'B'
		}
		for what, open := range map[string]func() (string, error){
			"changed":            func() (string, error) { return key.Open("p", id, string(raw)) },
			"for another id":     func() (string, error) { return key.Open("p", uuid.New(), sealed) },
			"in another project": func() (string, error) { return key.Open("p2", id, sealed) },
			"by another key":     func() (string, error) { return other.Open("p", id, sealed) },
			"cut":                func() (string, error) { return key.Open("p", id, sealed[:len(sealed)/2]) },
			"without anything":   func() (string, error) { return key.Open("p", id, "") },
		} {
			if got, err := open(); !errors.Is(err, errDamaged) || got != "" {
				rt.Fatalf("%s it opens as %q, %v", what, got, err)
			}
		}
	})
}

// TestWrappedKeysOpenWhereTheyBelong: only by the master key that wraps them and only as
// what they were made for; rotation changes the one and not the other.
func TestWrappedKeysOpenWhereTheyBelong(t *testing.T) {
	t.Parallel()
	m := masters(t, oldLine)
	key, err := m.make(Queue{"p", "q", 7})
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.New()
	sealed := key.Seal(id, "1")
	tests := map[string]func(k *DataKey){
		"another queue's number": func(k *DataKey) { k.Queue.Number++ },
		"another project's":      func(k *DataKey) { k.Queue.Project = "p2" },
		"another key's":          func(k *DataKey) { k.ID = uuid.New() },
		"nothing":                func(k *DataKey) { k.wrapped = nil },
	}
	for name, change := range tests {
		stored := &DataKey{ID: key.ID, Queue: key.Queue, Master: key.Master, wrapped: key.wrapped}
		change(stored)
		if err := m.unwrap(stored); !errors.Is(err, errDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	stored := &DataKey{ID: key.ID, Queue: key.Queue, Master: key.Master, wrapped: key.wrapped}
	if err := masters(t, newLine).unwrap(stored); !errors.Is(err, errNoMaster) {
		t.Errorf("without its master key: %v", err)
	}
	if err := masters(t, newLine+"\n"+oldLine).rewrap(stored); err != nil || stored.Master != "new" {
		t.Fatalf("rotated to %s: %v", stored.Master, err)
	}
	if err := masters(t, newLine).unwrap(stored); err != nil {
		t.Fatal(err)
	}
	if got, err := stored.Open("p", id, sealed); err != nil || got != "1" {
		t.Errorf("after the rotation a body opens as %q, %v", got, err)
	}
}

func TestParseMasters(t *testing.T) {
	t.Parallel()
	made, err := NewMaster("made")
	if err != nil {
		t.Fatal(err)
	}
	m := masters(t, "# the first is active\n\n  "+newLine+"  \n"+oldLine+"\n"+made+"\n")
	if m.Active() != "new" || len(m.keys) != 3 {
		t.Errorf("active is %s of %d", m.Active(), len(m.keys))
	}
	for name, test := range map[string]struct{ text, says string }{
		"nothing":     {"# none\n", "no master key"},
		"no key":      {"id", "line 1"},
		"a short key": {oldLine + "\nid c2hvcnQ=", "line 2"},
		"no base64":   {"id not-base64-secret", "line 1"},
		"a bad id":    {"i:d MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "line 1"},
		"an id twice": {oldLine + "\n" + oldLine, "twice"},
	} {
		_, err := ParseMasters(test.text)
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "c2hv")) {
			t.Errorf("%s: a key is shown: %v", name, err)
		}
	}
	if _, err := NewMaster("an id"); err == nil {
		t.Error("an id with a space is taken")
	}
}

// TestKeysAreForgotten a minute after one was unwrapped, whether anybody asks or not.
func TestKeysAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := NewKeys(nil, masters(t, oldLine), slog.New(slog.DiscardHandler))
		key, err := keys.Make(Queue{"p", "q", 7})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			keys.remember(map[uuid.UUID]*DataKey{key.ID: key})
			time.Sleep(knownLife - time.Nanosecond)
			if keys.Known(key.ID) == nil {
				t.Fatal("forgotten too early")
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if keys.Known(key.ID) != nil || len(keys.known) > 0 {
				t.Fatal("still known")
			}
		}
		many := map[uuid.UUID]*DataKey{}
		for range maxKnown + 10 {
			many[uuid.New()] = key
		}
		if keys.remember(many); len(keys.known) != maxKnown {
			t.Errorf("%d are known", len(keys.known))
		}
		keys.Forget()
	})
}

// BenchmarkSeal is what a body costs where the executor decides, and BenchmarkOpen where a
// reader gets it.
func BenchmarkSeal(b *testing.B) {
	benchmark(b, func(k *DataKey, id uuid.UUID, body, _ string) { k.Seal(id, body) })
}

func BenchmarkOpen(b *testing.B) {
	benchmark(b, func(k *DataKey, id uuid.UUID, _, sealed string) {
		if _, err := k.Open("p", id, sealed); err != nil {
			b.Fatal(err)
		}
	})
}

func benchmark(b *testing.B, do func(k *DataKey, id uuid.UUID, body, sealed string)) {
	key, err := masters(b, oldLine).make(Queue{"p", "q", 7})
	if err != nil {
		b.Fatal(err)
	}
	for name, size := range map[string]int{"100B": 100, "1kB": 1000, "100kB": 100_000} {
		b.Run(name, func(b *testing.B) {
			body, id := strings.Repeat("x", size), uuid.New()
			sealed := key.Seal(id, body)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				do(key, id, body, sealed)
			}
		})
	}
}
