// Package sealing keeps message bodies from whoever can read the database: it seals them
// with data keys, one for each queue, and keeps those in the database's schema secrets,
// wrapped by master keys that are in nabu's configuration alone. It must never write or
// log a key that is not wrapped, nor a body that is not sealed.
package sealing

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/google/uuid"
)

// Masters are the master keys of a configuration. The first wraps new data keys, the
// others open those that they have wrapped.
type Masters struct {
	active string
	keys   map[string]*xaes
}

// Active is the id of the master key that wraps new data keys.
func (m *Masters) Active() string { return m.active }

// ReadMasters reads a file of master keys: ParseMasters says what is in it.
func ReadMasters(path string) (*Masters, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ParseMasters(string(text))
}

var masterID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// ParseMasters reads master keys: on each line an id, a space, and 32 bytes in base64.
// Blank lines and those that begin with # are passed over. Errors name lines, and never
// what is on them.
func ParseMasters(text string) (*Masters, error) {
	m := &Masters{keys: map[string]*xaes{}}
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		id, encoded, _ := strings.Cut(line, " ")
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		switch {
		case !masterID.MatchString(id):
			return nil, fmt.Errorf("line %d: an id has 1 to 64 letters, digits, dots, dashes or underscores", n)
		case err != nil || len(key) != keySize:
			return nil, fmt.Errorf("line %d: behind the id must stand %d bytes in base64", n, keySize)
		case m.keys[id] != nil:
			return nil, fmt.Errorf("line %d: the id %s comes twice", n, id)
		}
		if m.keys[id], err = newXAES(key); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if m.active == "" {
			m.active = id
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read master keys: %w", err)
	}
	if m.active == "" {
		return nil, errors.New("there is no master key in it")
	}
	return m, nil
}

// NewMaster is a line for a file of master keys, with a new one.
func NewMaster(id string) (line string, err error) {
	if !masterID.MatchString(id) {
		return "", fmt.Errorf("an id has 1 to 64 letters, digits, dots, dashes or underscores, unlike %q", id)
	}
	return id + " " + base64.StdEncoding.EncodeToString(random(keySize)), nil
}

func random(n int) []byte {
	bytes := make([]byte, n)
	_, _ = rand.Read(bytes) // never fails
	return bytes
}

// Queue is a queue as data keys know it.
type Queue struct {
	Project, Name string
	Number        int64 // the position of the event that created it
}

// DataKey seals the bodies of one queue's messages. It does not change.
type DataKey struct {
	ID      uuid.UUID
	Queue   Queue
	Master  string // that wraps it
	wrapped []byte
	key     *xaes
	about   []byte // what every body that it seals belongs to
}

// make makes a data key for a queue.
func (m *Masters) make(q Queue) (*DataKey, error) {
	k := &DataKey{Queue: q, Master: m.active}
	var err error
	if k.ID, err = uuid.NewV7(); err != nil {
		return nil, fmt.Errorf("make the id of a data key: %w", err)
	}
	key := random(keySize)
	k.wrapped = m.keys[m.active].seal(key, aboutKey(k))
	return k, k.use(key)
}

// errNoMaster: the master key that wraps a data key is not configured.
var errNoMaster = errors.New("the master key is not configured")

// unwrap makes a data key usable.
func (m *Masters) unwrap(k *DataKey) error {
	key, err := m.reveal(k)
	if err != nil {
		return err
	}
	return k.use(key)
}

func (m *Masters) reveal(k *DataKey) ([]byte, error) {
	if m == nil || m.keys[k.Master] == nil {
		return nil, errNoMaster
	}
	key, err := m.keys[k.Master].open(k.wrapped, aboutKey(k))
	if err == nil && len(key) != keySize {
		err = errDamaged
	}
	return key, err
}

// rewrap wraps a data key by the active master key.
func (m *Masters) rewrap(k *DataKey) error {
	key, err := m.reveal(k)
	if err != nil {
		return err
	}
	k.wrapped = m.keys[m.active].seal(key, aboutKey(k))
	k.Master = m.active
	return nil
}

func (k *DataKey) use(key []byte) (err error) {
	k.about = aboutQueue("nabu body 1", k.Queue)
	k.key, err = newXAES(key)
	return err
}

// aboutQueue is associated data: a purpose and a queue, each as long as it says.
func aboutQueue(purpose string, q Queue) []byte {
	about := append([]byte(purpose), 0)
	about = binary.BigEndian.AppendUint32(about, uint32(len(q.Project)))
	about = append(about, q.Project...)
	return binary.BigEndian.AppendUint64(about, uint64(q.Number))
}

// aboutKey ties a wrapped key to its row.
func aboutKey(k *DataKey) []byte { return append(aboutQueue("nabu data key 1", k.Queue), k.ID[:]...) }

// aboutMessage ties a body to its message. A message that moves to another queue keeps
// its id, and its key says where it was posted.
func (k *DataKey) aboutMessage(id uuid.UUID) []byte {
	return append(append(make([]byte, 0, len(k.about)+len(id)), k.about...), id[:]...)
}

// Seal is a body as it is stored: base64 in quotes, so it is JSON like any body. What a
// client posts may look the same; a message tells by its key whether it is sealed.
func (k *DataKey) Seal(message uuid.UUID, body string) string {
	sealed := k.key.seal([]byte(body), k.aboutMessage(message))
	text := make([]byte, base64.RawStdEncoding.EncodedLen(len(sealed))+2)
	text[0], text[len(text)-1] = '"', '"'
	base64.RawStdEncoding.Encode(text[1:], sealed)
	return string(text)
}

// Open is the reverse of Seal, for a message in a project. It fails with errDamaged.
func (k *DataKey) Open(project string, message uuid.UUID, text string) (string, error) {
	if project != k.Queue.Project || len(text) < 2 {
		return "", errDamaged
	}
	sealed, err := base64.RawStdEncoding.DecodeString(text[1 : len(text)-1])
	if err != nil {
		return "", errDamaged
	}
	plain, err := k.key.open(sealed, k.aboutMessage(message))
	return string(plain), err
}
